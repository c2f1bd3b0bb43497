"""EF-UNet: the sentence is drawn as a pseudo image, which a U-Net reads beside the image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import ClassicUNet, PseudoImageGenerator, scale_channels
from .checks import check_image
from .prompt import PromptEncoder

UNET_CHANNELS = (64, 128, 256, 512, 1024)
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
PSEUDO_MEAN, PSEUDO_STD = 0.5, 0.25


class Drawing(NamedTuple):
    """What a network made of B sentences.

    Attributes:
        text_vector: `(B, d)`, the projected sentence, before the image refines it.
        pseudo: `(B, in_channels, H, W)` in (0, 1), the pseudo image, of the image's size.
    """

    text_vector: Tensor
    pseudo: Tensor


class EFUNet(nn.Module):
    """A sentence drawn as a pseudo image, joined with the image by channels, and a U-Net on both ("early fusion").

    It standardizes by itself: the image by the mean and standard deviation of ImageNet, the pseudo image by 0.5 and
    0.25. Inference is one pass of the U-Net and needs no mask.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image and of the pseudo image; the statistics of other than 3 channels are the
            means of ImageNet's.
        width: factor on the channels 64 to 1024 of the U-Net; sentence and generator keep theirs.
        text_encoder: name or arguments of `TextEncoder`, or a ready one.
        max_tokens: tokens of a sentence at most.
        mask_padding: whether padded tokens are left out of the mean over the tokens; False is the paper's code.
        dropout: of whole channels of the decoder's maps, in [0, 1).
        vector_side: square root of d, the width of the projected sentence; its pseudo image has 8 times that side
            and is resized to the image. 28 is the paper's, for images of 224.
        use_text: False leaves the U-Net on the image alone, without any part that reads text.

    Attributes:
        prompt: the `PromptEncoder`, or None without text.
        vector_channels: d, 0 without text.
        feature_channels: channels of the U-Net's last decoder map.

    Raises:
        ValueError: if `vector_side` is below 1.

    Reference:
        Chai et al., "A text-image fusion method with data augmentation capabilities for referring medical image
        segmentation" (EF-UNet), 2025; BiCLIP, section 2.

    Differences from the paper:
        Any size that is a multiple of 32: the pseudo image is resized (bilinear). Padding is masked. Text encoder
        and switches are ours.
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        text_encoder: str | Mapping[str, Any] | nn.Module = "embedded",
        max_tokens: int = 32,
        mask_padding: bool = True,
        dropout: float = 0.0,
        vector_side: int = 28,
        use_text: bool = True,
    ) -> None:
        super().__init__()
        if vector_side < 1:
            raise ValueError(f"vector_side must be at least 1, got {vector_side}")
        self.in_channels = in_channels
        self.vector_channels = vector_side**2 if use_text else 0
        self.prompt: PromptEncoder | None = None
        self.generator: PseudoImageGenerator | None = None
        if use_text:
            self.prompt = PromptEncoder(
                text_encoder,
                channels=self.vector_channels,
                max_tokens=max_tokens,
                mask_padding=mask_padding,
            )
            # nothing reads the tokens
            self.prompt.token_projection = nn.Identity()
            self.generator = PseudoImageGenerator(self.vector_channels, in_channels)
        channels = [scale_channels(count, width) for count in UNET_CHANNELS]
        self.feature_channels = channels[0]
        self.unet = ClassicUNet(
            in_channels * (2 if use_text else 1), num_classes, channels=channels, dropout=dropout
        )
        mean, std = _statistics(in_channels)
        self.register_buffer("image_mean", mean, persistent=False)
        self.register_buffer("image_std", std, persistent=False)

    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Segment what the text names.

        Args:
            image: `(B, in_channels, H, W)` in [0, 1], H and W multiples of 32.
            text: `(B, 2, L)` token ids and attention mask with L <= `max_tokens`; None is the empty prompt.

        Returns:
            In evaluation, logits `(B, num_classes, H, W)`. In training, a dict with `logits` and, with text,
            `text_vector` and `pseudo` (`Drawing`).
        """
        check_image(image, self.in_channels)
        drawing = self.draw(image, text)
        logits = self.unet(self.fuse(image, None if drawing is None else drawing.pseudo))
        if not self.training:
            return logits
        return {"logits": logits, **({} if drawing is None else drawing._asdict())}

    def draw(self, image: Tensor, text: Tensor | None = None) -> Drawing | None:
        """Make the pseudo image.

        Args:
            image: as in `forward`.
            text: as in `forward`.

        Returns:
            The sentence's vector and its pseudo image; None for a network without text.
        """
        if self.prompt is None or self.generator is None:
            return None
        vector = self.prompt(text, image.shape[0])[1]
        pseudo = self.generator(self.refine(vector, image))
        # the identity where the sizes are equal
        return Drawing(vector, F.interpolate(pseudo, size=image.shape[2:], mode="bilinear"))

    def refine(self, vector: Tensor, image: Tensor) -> Tensor:
        """Return the text vectors `(B, d)` that are drawn; here they do not depend on the image."""
        del image
        return vector

    def fuse(self, image: Tensor, pseudo: Tensor | None) -> Tensor:
        """Standardize image and pseudo image and join them.

        Args:
            image: `(B, in_channels, H, W)` in [0, 1].
            pseudo: likewise, or None for a network without text.

        Returns:
            `(B, 2 in_channels, H, W)`, the image first, for `unet`; without text `(B, in_channels, H, W)`.
        """
        standardized = (image - self.image_mean) / self.image_std
        if pseudo is None:
            return standardized
        return torch.cat([standardized, ((pseudo - PSEUDO_MEAN) / PSEUDO_STD).to(standardized)], dim=1)


def _statistics(channels: int) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
    return (mean, std) if channels == len(mean) else (mean.mean(0, keepdim=True), std.mean(0, keepdim=True))

"""GuideDecoder (LanGuideMedSeg): the text guides the decoder alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import GuideDecoderBlock, SegmentationHead, scale_channels
from .checks import check_image
from .convnext import TINY_DEPTHS, ConvNextEncoder
from .prompt import PromptEncoder

GUIDING_TOKENS = (24, 12, 9)


class GuideDecoder(nn.Module):
    """ConvNeXt-Tiny and three text-guided decoder blocks at strides 32, 16 and 8.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image.
        width: factor on all channel counts; 1 is the paper.
        text_encoder: name or arguments of `TextEncoder`.
        max_tokens: most text tokens; shorter text is padded to it, because a convolution mixes the tokens.
        mask_padding: whether padded tokens count as zero; False is the paper's code.
        dropout: of attention weights, in [0, 1).
        pretrained: ConvNeXt weights, see `ConvNextEncoder`.
        depths: blocks of each ConvNeXt stage.
        layer_scale: first residual scale of a ConvNeXt that starts at random.
        residual_scale: first value of the learnt scale on what the text adds.

    Reference:
        Zhong et al., "Ariadne's Thread: using text prompts to improve segmentation of infected areas from
        chest X-ray images", 2023.

    Differences from the paper:
        Any size that is a multiple of 32. The paper trains a sentence projection that nothing reads; here one
        more linear layer takes it to the deepest features, where it is added to every pixel.
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        text_encoder: str | Mapping[str, Any] | nn.Module = "embedded",
        max_tokens: int = 24,
        mask_padding: bool = True,
        dropout: float = 0.0,
        pretrained: str | PathLike[str] | None = None,
        depths: Sequence[int] = TINY_DEPTHS,
        layer_scale: float = 0.1,
        residual_scale: float = 1.421,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.max_tokens = max_tokens
        self.encoder = ConvNextEncoder(
            in_channels, pretrained=pretrained, width=width, depths=depths, layer_scale=layer_scale
        )
        text_channels = scale_channels(768, width)
        self.prompt = PromptEncoder(
            text_encoder, channels=text_channels, max_tokens=max_tokens, mask_padding=mask_padding
        )
        channels = self.encoder.channels
        self.sentence_in = nn.Linear(text_channels, channels[3])
        self.decoder = nn.ModuleList(
            GuideDecoderBlock(
                channels[s],
                channels[s - 1],
                text_channels=text_channels,
                in_tokens=max_tokens,
                out_tokens=guiding,
                residual_scale=residual_scale,
                dropout=dropout,
            )
            for s, guiding in zip((3, 2, 1), GUIDING_TOKENS, strict=True)
        )
        self.head = SegmentationHead(channels[0], scale_channels(24, width), num_classes)

    def load_pretrained(self, name: str | PathLike[str]) -> None:
        """Start the image encoder from pretrained weights; see `ConvNextEncoder.load_pretrained`."""
        self.encoder.load_pretrained(name)

    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Segment what the text names.

        Args:
            image: `(B, in_channels, H, W)`, H and W multiples of 32.
            text: `(B, 2, L)` token ids and attention mask with L <= `max_tokens`; None is the empty prompt.

        Returns:
            In evaluation, logits `(B, num_classes, H, W)`; in training, a dict with `logits`.

        Raises:
            ValueError: if the text has more than `max_tokens` tokens.
        """
        check_image(image, self.in_channels)
        tokens, sentence, mask = self.prompt(text, image.shape[0])
        tokens = self._fixed_length(tokens, mask)
        *skips, features = self.encoder(image)
        features = features + self.sentence_in(sentence)[:, :, None, None]
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            features = block(features, skip, tokens)
        logits = self.head(features)
        return {"logits": logits} if self.training else logits

    def _fixed_length(self, tokens: Tensor, mask: Tensor) -> Tensor:
        # (B, L, D) -> (B, max_tokens, D)
        length = tokens.shape[1]
        if length > self.max_tokens:
            raise ValueError(
                f"text must have at most {self.max_tokens} tokens, got {length}: "
                "set the same max_tokens in preprocessing and network_def"
            )
        if self.prompt.mask_padding:
            tokens = tokens * mask[:, :, None].to(tokens.dtype)
        return F.pad(tokens, (0, 0, 0, self.max_tokens - length))

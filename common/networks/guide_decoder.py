"""GuideDecoder (LanGuideMedSeg): the text guides the decoder alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import GuideDecoderBlock, SegmentationHead, scale_channels
from ..layers.guide import GuideOutput
from .checks import check_image
from .convnext import TINY_DEPTHS, ConvNextEncoder
from .prompt import PromptEncoder
from .referring_pair import Encoding

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
        return_attention: whether training outputs hold `text_attention`.

    Attributes:
        token_channels: channels C of `image_tokens` and `text_tokens`, and of the deepest features.
        sentence_channels: width D of the projected sentence.

    Reference:
        Zhong et al., "Ariadne's Thread: using text prompts to improve segmentation of infected areas from
        chest X-ray images", 2023.

    Differences from the paper:
        Any size that is a multiple of 32. The paper trains a sentence projection that nothing reads; here one
        more linear layer takes it to the deepest features, where it is added to every pixel. Its text asks
        nothing of the image; `text_attention` takes the scores of the pixels' cross-attention and normalises
        them over the pixels for each text token.
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
        return_attention: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.return_attention = return_attention
        self.max_tokens = max_tokens
        self.encoder = ConvNextEncoder(
            in_channels, pretrained=pretrained, width=width, depths=depths, layer_scale=layer_scale
        )
        text_channels = scale_channels(768, width)
        self.prompt = PromptEncoder(
            text_encoder, channels=text_channels, max_tokens=max_tokens, mask_padding=mask_padding
        )
        channels = self.encoder.channels
        self.token_channels = channels[-1]
        self.sentence_channels = text_channels
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
            In evaluation, logits `(B, num_classes, H, W)`. In training, a dict with `logits`; `image_tokens`
            `(B, H * W / 1024, C)`, the pixels of the first block after its cross-attention; `text_tokens`
            `(B, 24, C)`, the text that they attend to; `text_mask` `(B, 24)`, all True: a convolution over the
            token axis has mixed all tokens, so that none of its results is padding. With `return_attention` also
            `text_attention` `(B, heads, 9, H / 8, W / 8)` of the last block, which mixes the text down to 9
            tokens, and `text_attention_mask` `(B, 9)`, all True for the same reason.

        Raises:
            ValueError: if the text has more than `max_tokens` tokens.
        """
        wanted = self.return_attention and self.training
        features, guided = self._guide(self.encode(image, text), return_attention=wanted)
        logits = self.head(features)
        if not self.training:
            return logits
        first, last = guided[0], guided[-1]
        outputs = {
            "logits": logits,
            "image_tokens": first.image_tokens,
            "text_tokens": first.text_tokens,
            "text_mask": _none_is_padding(first.text_tokens),
        }
        if last.text_attention is not None:
            outputs["text_attention"] = last.text_attention
            outputs["text_attention_mask"] = _none_is_padding(last.text_tokens)
        return outputs

    def encode(self, image: Tensor, text: Tensor | None = None) -> Encoding:
        """Run all but the decoder: the image encoder, which does not see the text, and the text encoder.

        Args:
            image: as in `forward`.
            text: as in `forward`.

        Returns:
            The stages' features, the tokens that guide the decoder, and the projected sentence.

        Raises:
            ValueError: as `forward`.
        """
        check_image(image, self.in_channels)
        tokens, sentence, mask = self.prompt(text, image.shape[0])
        tokens = self._fixed_length(tokens, mask)
        return Encoding(tuple(self.encoder(image)), tokens, sentence)

    def decode(self, encoding: Encoding) -> Tensor:
        """Run the decoder: `decode(encode(image, text))` are the logits of `forward`.

        Args:
            encoding: of `encode`, or cases of it.

        Returns:
            Logits `(B, num_classes, H, W)`.
        """
        return self.head(self._guide(encoding, return_attention=False)[0])

    def text_attention(self, image: Tensor, text: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Show from where in the image the text is looked at: `text_attention` of `forward`, in either mode.

        Neither the mode nor the statistics of the norms change. In training mode the norms use the batch's own
        statistics, so that the result equals that of `forward` but for dropout, the text encoder's included.

        Args:
            image: as in `forward`.
            text: as in `forward`.

        Returns:
            `(B, heads, 9, H / 8, W / 8)` weights that sum to 1 over the pixels, and the mask `(B, 9)` of their
            tokens, all True.

        Raises:
            ValueError: as `forward`.
        """
        with _without_tracking(self.decoder):
            last = self._guide(self.encode(image, text), return_attention=True)[1][-1]
        return last.text_attention, _none_is_padding(last.text_tokens)

    def _guide(self, encoding: Encoding, *, return_attention: bool) -> tuple[Tensor, list[GuideOutput]]:
        *skips, features = encoding.features
        features = features + self.sentence_in(encoding.sentence)[:, :, None, None]
        guided: list[GuideOutput] = []
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            wanted = return_attention and block is self.decoder[-1]
            guided.append(block.guide(features, encoding.guide, return_attention=wanted))
            features = block.upsample(guided[-1].features, skip)
        return features, guided

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


def _none_is_padding(tokens: Tensor) -> Tensor:
    return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


@contextmanager
def _without_tracking(module: nn.Module) -> Iterator[None]:
    """Let no batch norm take over the statistics of what passes; which statistics it uses stays the same."""
    norms = [layer for layer in module.modules() if isinstance(layer, (nn.BatchNorm2d, nn.SyncBatchNorm))]
    tracking = [norm for norm in norms if norm.track_running_stats]
    try:
        for norm in tracking:
            norm.track_running_stats = False
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True

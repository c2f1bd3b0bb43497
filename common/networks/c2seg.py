"""C2Seg: U-KAN whose feature maps look at the words and are looked at by them, at every scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import load_state, read_tensors
from ..layers import BidirectionalComplementaryAttention, DualAttention, KANLinear
from .checks import check_image, check_text
from .prompt import ready_text_encoder
from .ukan import CHANNELS, UKANDecoder, UKANEncoder, ukan_channels

KAN_LEVELS = {"cnn": 0, "hybrid": 2, "kan": 5}
FUSIONS = ("bcam", "duala", "off")
GATES = {"kan": KANLinear, "mlp": nn.Linear, "off": None}
PROJECTIONS = {"kan": KANLinear, "linear": nn.Linear}
SMALLEST_SIDE = 64
"""A deepest map of one pixel has no variance that batch norm could divide by in a batch of one."""


class C2Seg(nn.Module):
    """A hybrid encoder of convolutions and KAN blocks, BCAM with K-Gates on its feature maps, and U-KAN's decoder.

    A case without a sentence (no text, or nothing but the special tokens of the empty prompt) passes no fusion: its
    logits are those of the visual path alone, whatever the token ids are.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image.
        width: factor on `channels`, rounded to multiples of 8.
        channels: of the third to fifth level; the first two have an eighth and a quarter of the first number.
        text_encoder: name or arguments of `TextEncoder`, or a ready one; with `fusion` "off" none is built.
        max_tokens: tokens of a sentence at most.
        mask_padding: whether padded tokens are left out, by the text encoder and by the fusion.
        dropout: of what a KAN block adds, in [0, 1).
        encoder: "cnn", "hybrid" (the last two levels have KAN blocks) or "kan" (all five).
        fusion: "bcam", "duala" or "off", which leaves U-KAN alone and ignores the text.
        kgate: "kan", "mlp" or "off".
        bcam_proj: "kan" or "linear", the projections to keys and values.
        bcam_scales: levels that are fused, from 0 (half the image's size) to 4.
        fl_rescale: "P" or "none", see `common.layers.language_path`; read with BCAM alone.

    Attributes:
        encoder: maps an image to five feature maps.
        text_encoder: the `TextEncoder`, or None.

    Raises:
        ValueError: if a switch or a scale is unknown; the message names the argument.

    Reference:
        C2Seg, sections 3.1, 3.3 and 3.4; switches: tables 3 and 4 (a).

    Differences from the paper:
        The fused map is added to the feature map before it reaches the decoder, whose skips are additive as in
        U-KAN. Padding is masked. An image side below 64 pixels is padded by zeros.
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        channels: Sequence[int] = CHANNELS,
        text_encoder: str | Mapping[str, Any] | nn.Module = "embedded",
        max_tokens: int = 24,
        mask_padding: bool = True,
        dropout: float = 0.0,
        encoder: str = "hybrid",
        fusion: str = "bcam",
        kgate: str = "kan",
        bcam_proj: str = "kan",
        bcam_scales: Sequence[int] = (0, 1, 2, 3, 4),
        fl_rescale: str = "P",
    ) -> None:
        super().__init__()
        _check_choice("encoder", encoder, KAN_LEVELS)
        _check_choice("fusion", fusion, FUSIONS)
        _check_choice("kgate", kgate, GATES)
        _check_choice("bcam_proj", bcam_proj, PROJECTIONS)
        self.in_channels = in_channels
        self.mask_padding = mask_padding
        self.scales = _checked_scales(bcam_scales) if fusion != "off" else ()
        levels = ukan_channels(channels, width=width)
        self.encoder = UKANEncoder(
            levels, in_channels=in_channels, dropout=dropout, kan_levels=KAN_LEVELS[encoder]
        )
        self.decoder = UKANDecoder(levels, dropout=dropout)
        self.classify = nn.Conv2d(levels[0], num_classes, kernel_size=1)
        self.text_encoder = None
        if self.scales:
            self.text_encoder = ready_text_encoder(
                text_encoder, max_tokens=max_tokens, mask_padding=mask_padding
            )
            self._empty = self.text_encoder.empty_prompt(1)
            self._special_tokens = int(self._empty[:, 1].sum())
        options: dict[str, Any] = {"projection": PROJECTIONS[bcam_proj], "gate": GATES[kgate]}
        kind = DualAttention if fusion == "duala" else BidirectionalComplementaryAttention
        options |= {"fl_rescale": fl_rescale} if fusion == "bcam" else {}
        self.fusions = nn.ModuleList(kind(levels[scale], **options) for scale in self.scales)
        self.token_projections = nn.ModuleList(
            nn.Linear(self.text_encoder.hidden_size, levels[scale]) for scale in self.scales
        )

    def load_pretrained(self, name: str | PathLike[str]) -> None:
        """Start from what stage I left: the visual encoder, and a text encoder that the network keeps itself.

        Args:
            name: file that a pretraining with `ContrastiveEncoder` wrote.

        Raises:
            ValueError: if the file cannot be read, or is of another encoder, width or text encoder.
        """
        state = read_tensors(name)
        for part in ("encoder", "text_encoder"):
            module = getattr(self, part)
            if module is not None:
                given = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}
                load_state(module, given, source=str(name))

    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Segment what the text names.

        Args:
            image: `(B, in_channels, H, W)`, H and W multiples of 32.
            text: `(B, 2, L)` token ids and attention mask; None is the empty prompt.

        Returns:
            In evaluation, logits `(B, num_classes, H, W)`; in training, a dict with `logits`.
        """
        check_image(image, self.in_channels)
        height, width = image.shape[2:]
        missing = (0, max(SMALLEST_SIDE - width, 0), 0, max(SMALLEST_SIDE - height, 0))
        features = self._fuse(self.encoder(F.pad(image, missing)), text)
        logits = self.classify(self.decoder(features))[:, :, :height, :width]
        return {"logits": logits} if self.training else logits

    def _fuse(self, features: list[Tensor], text: Tensor | None) -> list[Tensor]:
        if self.text_encoder is None or (text is None and not self.training):
            return features
        batch_size = features[0].shape[0]
        if text is None:  # in training every parameter must take part, for the sake of several processes
            text = self._empty.to(features[0].device).expand(batch_size, -1, -1)
        check_text(text, batch_size)
        tokens, mask = self._tokens(text)
        fused = list(features)
        for scale, fusion, projection in zip(self.scales, self.fusions, self.token_projections, strict=True):
            fused[scale] = fusion(features[scale], projection(tokens), mask)
        return fused

    def _tokens(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Token features `(B, L, D)` and which of them count `(B, L)`: none of a case without a sentence."""
        encoded = self.text_encoder(text)
        # a frozen encoder may hand on another precision than the weights here
        tokens = encoded.tokens.to(self.token_projections[0].weight.dtype)
        spoken = (text[:, 1] != 0).sum(dim=1, keepdim=True) > self._special_tokens
        mask = encoded.padding_mask & spoken if self.mask_padding else spoken.expand(-1, text.shape[2])
        return tokens, mask


def _check_choice(name: str, value: Any, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _checked_scales(scales: Sequence[int]) -> tuple[int, ...]:
    chosen = tuple(sorted(scales))
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(5)):
        raise ValueError(
            f"bcam_scales must be different numbers from 0 to 4, at least one, got {list(scales)}: "
            "for no fusion at all set fusion to 'off'"
        )
    return chosen

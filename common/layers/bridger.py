"""The Bridger of MMI-UNet: image and text tokens of one encoder stage change each other."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Interactor


class BridgerOutput(NamedTuple):
    """What one Bridger hands on.

    Attributes:
        image: `(B, C, H, W)`, the stage's features plus what the text changed.
        text: `(B, L, D)`, the text tokens plus what the image changed.
        image_tokens: `(B, N, C)`, the image tokens after interaction, row by row.
        text_tokens: `(B, L, C)`, the text tokens after interaction.
        text_attention: `(B, heads, L, h, w)`, where each text token looks in the image (sums to 1 over h, w),
            or None.
    """

    image: Tensor
    text: Tensor
    image_tokens: Tensor
    text_tokens: Tensor
    text_attention: Tensor | None


class Bridger(nn.Module):
    """Bidirectional interaction of one stage's features with the text.

    `v = Conv(x)` at half the resolution and `t = Linear(text)`, both layer-normalised, pass at the same time
    through two Interactors, `v' = Int(v, t)` and `t' = Int(t, v)`; then `x + ConvTranspose(v')` and
    `text + Linear(t')` leave.

    Args:
        channels: width C of the image features.
        text_channels: width D of the text tokens.
        heads: attention heads of both Interactors.
        ffn_channels: hidden width of the Interactors' feed-forward part.
        dropout: of both Interactors, in [0, 1).

    Reference:
        Bui et al., "MMI-UNet", image-text matching module.

    Differences from the paper:
        Any stage size works: an odd side keeps its last row or column through the transposed convolution, as
        7 -> 3 -> 7 in the paper, and a side of 1 is padded by zeros to 2. Padded text can be left out of
        attention.
    """

    def __init__(
        self,
        channels: int,
        text_channels: int,
        *,
        heads: int = 8,
        ffn_channels: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.image_in = nn.Conv2d(channels, channels, kernel_size=2, stride=2, bias=False)
        self.text_in = nn.Linear(text_channels, channels)
        self.image_norm = nn.LayerNorm(channels)
        self.text_norm = nn.LayerNorm(channels)
        self.image_interactor = Interactor(channels, heads=heads, ffn_channels=ffn_channels, dropout=dropout)
        self.text_interactor = Interactor(channels, heads=heads, ffn_channels=ffn_channels, dropout=dropout)
        self.image_out = nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2, bias=False)
        self.text_out = nn.Linear(channels, text_channels)
        self.apply(_initialise)

    def forward(
        self, image: Tensor, text: Tensor, *, text_mask: Tensor | None = None, return_attention: bool = False
    ) -> BridgerOutput:
        """Let the features and the text of one stage interact.

        Args:
            image: `(B, C, H, W)`, any H, W >= 1.
            text: `(B, L, D)`.
            text_mask: `(B, L)` bool, True where a token is real; None lets padding take part.
            return_attention: also return where each text token looks.
        """
        height, width = image.shape[2:]
        padded = F.pad(image, (0, max(2 - width, 0), 0, max(2 - height, 0)))
        features = self.image_in(padded)
        rows, columns = features.shape[2:]
        # (B, C, h, w) -> (B, h * w, C)
        image_tokens = self.image_norm(features.flatten(2).transpose(1, 2))
        text_tokens = self.text_norm(self.text_in(text))
        image_result, _ = self.image_interactor(image_tokens, text_tokens, memory_mask=text_mask)
        text_result, weights = self.text_interactor(
            text_tokens, image_tokens, target_mask=text_mask, return_attention=return_attention
        )
        # (B, h * w, C) -> (B, C, h, w)
        change = image_result.transpose(1, 2).unflatten(2, (rows, columns))
        change = self.image_out(change, output_size=padded.shape[2:])[:, :, :height, :width]
        attention = None if weights is None else weights.unflatten(3, (rows, columns))
        return BridgerOutput(
            image + change, text + self.text_out(text_result), image_result, text_result, attention
        )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

"""The decoder block of GuideDecoder: text guides the features of one scale before they are up-sampled."""

from __future__ import annotations

from typing import NamedTuple

import torch
from monai.networks.blocks.unetr_block import UnetrUpBlock
from torch import Tensor, nn

from .attention import MultiHeadAttention
from .positions import sinusoidal_positions


class GuideOutput(NamedTuple):
    """What the text made of the features of one scale, before they are up-sampled.

    Attributes:
        features: `(B, C, H, W)`, the guided features.
        image_tokens: `(B, H * W, C)`, the same as tokens, row by row.
        text_tokens: `(B, out_tokens, C)`, the projected text that the pixels attend to.
        text_attention: `(B, heads, out_tokens, H, W)`, where each text token is looked at from (sums to 1 over
            H, W), or None.
    """

    features: Tensor
    image_tokens: Tensor
    text_tokens: Tensor
    text_attention: Tensor | None


class GuideDecoderBlock(nn.Module):
    """Self-attention of the pixels, cross-attention to the text, then up-sampling with the skip.

    `t = LeakyReLU(Linear(GELU(Conv1d(text))))` with the convolution over the token axis;
    `x <- x + LN(SelfAttention(LN(x)))`; `x <- x + s LN(CrossAttention(LN(x), t))`, both with sinusoidal positions
    on queries and keys.

    Args:
        in_channels: channels C of the coarse features.
        out_channels: channels of the skip and of the result.
        text_channels: width D of the text tokens.
        in_tokens: number of text tokens that come in.
        out_tokens: number of text tokens that guide.
        residual_scale: first value of the learnt `s`.
        dropout: of attention weights in training, in [0, 1).

    Reference:
        Zhong et al., "Ariadne's Thread: using text prompts to improve segmentation of infected areas from
        chest X-ray images", 2023, GuideDecoder.

    Differences from the paper:
        Positions are computed for the size at hand, so any image size works. Its attention runs over the text
        for each pixel; the same scores with a softmax over the pixels for each text token are ours.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        text_channels: int = 768,
        in_tokens: int = 24,
        out_tokens: int = 24,
        residual_scale: float = 1.421,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mix_tokens = nn.Sequential(nn.Conv1d(in_tokens, out_tokens, kernel_size=1), nn.GELU())
        self.text_in = nn.Sequential(nn.Linear(text_channels, in_channels), nn.LeakyReLU())
        self.self_norm_in = nn.LayerNorm(in_channels)
        self.self_attention = MultiHeadAttention(in_channels, 1, dropout=dropout)
        self.self_norm_out = nn.LayerNorm(in_channels)
        self.cross_norm_in = nn.LayerNorm(in_channels)
        self.cross_attention = MultiHeadAttention(in_channels, 4, dropout=dropout)
        self.cross_norm_out = nn.LayerNorm(in_channels)
        self.residual_scale = nn.Parameter(torch.tensor(residual_scale))
        self.upsample = UnetrUpBlock(2, in_channels, out_channels, 3, 2, "batch")

    def forward(self, features: Tensor, skip: Tensor, text: Tensor) -> Tensor:
        """Guide one scale.

        Args:
            features: `(B, C, H, W)`.
            skip: `(B, out, 2H, 2W)`.
            text: `(B, in_tokens, D)`, zero where it is padding that shall not count.

        Returns:
            `(B, out, 2H, 2W)`.
        """
        return self.upsample(self.guide(features, text).features, skip)

    def guide(self, features: Tensor, text: Tensor, *, return_attention: bool = False) -> GuideOutput:
        """Let the text into the features, at their own resolution.

        Args:
            features: `(B, C, H, W)`.
            text: `(B, in_tokens, D)`, zero where it is padding that shall not count.
            return_attention: also return from where each text token is looked at; changes nothing else.
        """
        rows, columns = features.shape[2:]
        # (B, C, H, W) -> (B, H * W, C)
        pixels = self._attend_to_pixels(features.flatten(2).transpose(1, 2))
        tokens = self.text_in(self.mix_tokens(text))
        query, key = _add_positions(self.cross_norm_in(pixels)), _add_positions(tokens)
        attended, _ = self.cross_attention(query, key, tokens)
        pixels = pixels + self.residual_scale * self.cross_norm_out(attended)
        attention = None
        if return_attention:
            attention = self.cross_attention.weights_over_queries(query, key).unflatten(3, (rows, columns))
        features = pixels.transpose(1, 2).unflatten(2, (rows, columns))
        return GuideOutput(features, pixels, tokens, attention)

    def _attend_to_pixels(self, pixels: Tensor) -> Tensor:
        normed = self.self_norm_in(pixels)
        located = _add_positions(normed)
        attended, _ = self.self_attention(located, located, normed)
        return pixels + self.self_norm_out(attended)


def _add_positions(tokens: Tensor) -> Tensor:
    positions = sinusoidal_positions(tokens.shape[1], tokens.shape[2], device=tokens.device)
    return tokens + positions.to(tokens.dtype)

"""Fixed positional encodings of token sequences."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal_positions(length: int, channels: int, *, device: torch.device | str | None = None) -> Tensor:
    """Sines and cosines of each position at geometrically spaced wavelengths.

    `P[n, 2k] = sin(n / 10000^(2k / C))`, `P[n, 2k + 1] = cos(n / 10000^(2k / C))`.

    Args:
        length: number of positions.
        channels: C, even.
        device: of the result.

    Returns:
        `(length, C)` float32 in [-1, 1].

    Raises:
        ValueError: if `channels` is odd.

    Reference:
        Vaswani et al., "Attention is all you need", 2017, section 3.5.
    """
    if channels % 2:
        raise ValueError(f"channels must be even, got {channels}")
    position = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    exponent = torch.arange(0, channels, 2, device=device, dtype=torch.float32) / channels
    angle = position * torch.exp(-math.log(10000.0) * exponent)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)

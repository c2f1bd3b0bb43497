"""Layers of Kolmogorov-Arnold networks: a linear layer whose every weight is a function, and a block of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .splines import ORDER, spline_linear

KAN_LAYERS = 3  # of a block
NOISE = 0.1


class KANLinear(nn.Module):
    r"""Sum of a learnt function of every input: a cubic spline on a fixed uniform grid, and a multiple of SiLU.

    .. math::
        y_o = \sum_i \Bigl( w^{base}_{oi} \, \text{SiLU}(x_i)
              + s_{oi} \sum_k w^{spline}_{oki} \, B_k(x_i) \Bigr)

    It has `10 * in * out` parameters on the usual grid of five intervals and no bias. Beyond three grid steps outside
    of the grid the splines are 0 and SiLU alone is left. The scalers are folded into the weights, so that every call
    is one matrix product (see `spline_linear` for what is kept of it).

    At the start the base weights and the scalers s are uniform in :math:`\pm 1/\sqrt{in}`, as the weights of
    `nn.Linear`, and the spline weights uniform in :math:`\pm 0.05 / \text{grid\_size}`: nearly a linear layer on SiLU.

    Args:
        in_channels: inputs.
        out_channels: outputs.
        grid_size: intervals of the grid, at least 1.
        grid_range: left and right end of the grid.

    Raises:
        ValueError: if a count is not positive or the range is empty.

    Reference:
        Liu et al., "KAN: Kolmogorov-Arnold networks", 2024; Li et al., "U-KAN makes strong backbone for medical image
        segmentation and generation", 2025.

    Differences from the paper:
        The grid is never moved to the data, as in U-KAN. The spline weights are drawn themselves; they are not fitted
        to noise on the grid.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid_size: int = 5,
        grid_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, grid_size) < 1:
            given = f"in_channels {in_channels}, out_channels {out_channels}, grid_size {grid_size}"
            raise ValueError(f"channels and grid_size must be at least 1, got {given}")
        if not grid_range[0] < grid_range[1]:
            raise ValueError(f"grid_range must be a lower and a higher end, got {tuple(grid_range)}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.grid_size = grid_size
        self.low, self.high = (float(end) for end in grid_range)
        self.base_weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.spline_weight = nn.Parameter(torch.empty(out_channels, grid_size + ORDER, in_channels))
        self.spline_scale = nn.Parameter(torch.empty(out_channels, in_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        bound = 1 / math.sqrt(self.in_channels)
        nn.init.uniform_(self.base_weight, -bound, bound)
        nn.init.uniform_(self.spline_scale, -bound, bound)
        bound = NOISE / (2 * self.grid_size)
        nn.init.uniform_(self.spline_weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Turn `(..., in_channels)` into `(..., out_channels)`.

        Raises:
            ValueError: if the last dimension is another.
        """
        if x.shape[-1] != self.in_channels:
            raise ValueError(f"x must have {self.in_channels} channels last, got shape {tuple(x.shape)}")
        # (out, bases, in), (out, 1, in) -> (out, (bases + 1) * in)
        spline = self.spline_weight * self.spline_scale.unsqueeze(1)
        weight = torch.cat([spline, self.base_weight.unsqueeze(1)], dim=1).flatten(1)
        if torch.is_autocast_enabled(x.device.type):
            weight = weight.to(torch.get_autocast_dtype(x.device.type))
        return spline_linear(x, weight, grid_size=self.grid_size, low=self.low, high=self.high)

    def extra_repr(self) -> str:
        """Sizes and grid, for printing."""
        grid = f"grid_size={self.grid_size}, grid_range=({self.low}, {self.high})"
        return f"{self.in_channels}, {self.out_channels}, {grid}"


class KANBlock(nn.Module):
    """Three KAN layers, each before a depth-wise convolution, added to what came in.

    LayerNorm over the channels, then three times KANLinear, 3 x 3 depth-wise convolution, BatchNorm, ReLU.

    Args:
        channels: of the features.
        dropout: of the values that are added, in [0, 1).

    Reference:
        Li et al., "U-KAN makes strong backbone for medical image segmentation and generation", 2025, tokenised KAN
        block.
    """

    def __init__(self, channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mixers = nn.ModuleList(KANLinear(channels, channels) for _ in range(KAN_LAYERS))
        self.convolutions = nn.ModuleList(_depthwise(channels) for _ in range(KAN_LAYERS))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Turn features `(B, C, H, W)` into others of the same shape."""
        tokens = self.norm(features.permute(0, 2, 3, 1))
        for mixer, convolution in zip(self.mixers, self.convolutions, strict=True):
            # (B, H, W, C) -> (B, C, H, W) -> (B, H, W, C): views, channels last in memory all along
            tokens = convolution(mixer(tokens).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return features + self.dropout(tokens).permute(0, 3, 1, 2)


def _depthwise(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )

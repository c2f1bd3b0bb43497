"""The U-Net of two convolutions per level, with its last decoder map at hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DoubleConv(nn.Sequential):
    """Twice 3 x 3 convolution - batch norm - ReLU, at one resolution.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the result.
        dropout: of whole channels of the result in training, in [0, 1).
    """

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.0) -> None:
        # a bias before a batch norm has no effect
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
        )


class ClassicUNet(nn.Module):
    """Max pooling down, transposed convolutions up, skips by concatenation, and a 1 x 1 convolution to logits.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the logits.
        channels: of each level, from the image's resolution down; at least two.
        dropout: of whole channels of the decoder's maps in training, in [0, 1).

    Attributes:
        head: the 1 x 1 convolution from `features` to logits.

    Raises:
        ValueError: if there are fewer than two levels.

    Reference:
        Ronneberger et al., "U-Net: convolutional networks for biomedical image segmentation", 2015.

    Differences from the paper:
        Zero padding keeps the size, and every convolution but the head is followed by batch norm, as in BiCLIP and
        EF-UNet.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(channels) < 2:
            raise ValueError(f"channels must be of at least 2 levels, got {list(channels)}")
        fine, coarse = list(channels[:-1]), list(channels[1:])
        levels = zip([in_channels, *fine], channels, strict=True)
        self.encoder = nn.ModuleList(DoubleConv(given, made) for given, made in levels)
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(reversed(fine), reversed(coarse), strict=True))
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(below, level, kernel_size=2, stride=2) for level, below in pairs
        )
        self.decoder = nn.ModuleList(DoubleConv(2 * level, level, dropout=dropout) for level, _ in pairs)
        self.head = nn.Conv2d(channels[0], num_classes, kernel_size=1)

    def features(self, image: Tensor) -> Tensor:
        """Return the last decoder map, `(B, channels[0], H, W)`.

        Args:
            image: `(B, in_channels, H, W)`; each level below the first halves the sides, which must allow it.
        """
        skips: list[Tensor] = []
        maps = image
        for level, convolve in enumerate(self.encoder):
            maps = convolve(self.pool(maps) if level else maps)
            skips.append(maps)
        maps = skips.pop()
        for upsample, convolve in zip(self.upsample, self.decoder, strict=True):
            maps = convolve(torch.cat([skips.pop(), upsample(maps)], dim=1))
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """Turn `(B, in_channels, H, W)` into logits `(B, num_classes, H, W)`."""
        return self.head(self.features(image))

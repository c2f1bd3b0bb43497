"""Decoder parts: up-sampling with a skip, and the sub-pixel segmentation head."""

from __future__ import annotations

import torch
from monai.networks.blocks.upsample import SubpixelUpsample
from torch import Tensor, nn


class UpBlock(nn.Module):
    """Double the resolution, join the skip, mix: ConvTranspose - concatenation - Conv3x3 - BatchNorm - ReLU.

    Args:
        in_channels: channels of the coarse features.
        out_channels: channels of the skip and of the result.
        dropout: of whole channels of the result in training, in [0, 1).

    Reference:
        Bui et al., "MMI-UNet", decoder.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * out_channels, out_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
        )

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Turn `(B, in, H, W)` and a skip `(B, out, 2H, 2W)` into `(B, out, 2H, 2W)`."""
        return self.mix(torch.cat([self.upsample(features), skip], dim=1))


class SegmentationHead(nn.Module):
    """Sub-pixel up-sampling by 4, then a 1 x 1 convolution to logits.

    Args:
        in_channels: channels of the features at a quarter of the image's resolution.
        hidden_channels: channels at full resolution.
        num_classes: channels of the logits.

    Reference:
        Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel convolutional
        neural network", 2016; initialised and smoothed as Aitken et al., "Checkerboard artifact free sub-pixel
        convolution", 2017.
    """

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int) -> None:
        super().__init__()
        self.upsample = SubpixelUpsample(2, in_channels, hidden_channels, scale_factor=4)
        self.classify = nn.Conv2d(hidden_channels, num_classes, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, C, H, W)` into logits `(B, num_classes, 4H, 4W)`."""
        return self.classify(self.upsample(features))

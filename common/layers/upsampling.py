"""Decoder parts: up-sampling with a skip, and the sub-pixel segmentation head."""

from __future__ import annotations

import torch
from monai.networks.utils import icnr_init
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 4


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

    Convolution to `16 * hidden` channels, pixel shuffle, average over 4 x 4, and the 1 x 1 convolution are all
    linear. So the two convolutions are multiplied into one before they meet the features: the same result and the
    same weights, at `num_classes / hidden_channels` of the work.

    Args:
        in_channels: channels of the features at a quarter of the image's resolution.
        hidden_channels: channels at full resolution.
        num_classes: channels of the logits.

    Reference:
        Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel
        convolutional neural network", 2016; initialised and smoothed as in Aitken et al., "Checkerboard
        artifact free sub-pixel convolution", 2017.
    """

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int) -> None:
        super().__init__()
        self.upsample = nn.Conv2d(in_channels, hidden_channels * SCALE**2, kernel_size=3, padding=1)
        icnr_init(self.upsample, SCALE)
        self.classify = nn.Conv2d(hidden_channels, num_classes, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, C, H, W)` into logits `(B, num_classes, 4H, 4W)`."""
        mixing = self.classify.weight.flatten(1)  # (K, hidden)
        parts = (self.classify.in_channels, SCALE**2)
        weight = torch.einsum("kh,hscij->kscij", mixing, self.upsample.weight.unflatten(0, parts)).flatten(
            0, 1
        )
        bias = torch.einsum("kh,hs->ks", mixing, self.upsample.bias.unflatten(0, parts)).flatten()
        # (B, C, H, W) -> (B, K * 16, H, W) -> (B, K, 4H, 4W)
        logits = F.pixel_shuffle(F.conv2d(features, weight, bias, padding=1), SCALE)
        smooth = F.avg_pool2d(F.pad(logits, (SCALE - 1, 0, SCALE - 1, 0)), SCALE, stride=1)
        return smooth + self.classify.bias[:, None, None]

"""Between sentences and pictures: the pseudo image that a text vector draws, and what is read from it again."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MAGNIFICATION = 8
"""The side of a pseudo image over the side of its vector, which is taken as a square."""


class PseudoImageGenerator(nn.Module):
    """Draw a text vector as an image: the vector as a square map, then three transposed convolutions to 8 times it.

    Args:
        vector_channels: d, a square number: 784 makes 224 x 224 pixels.
        out_channels: channels of the pseudo image.

    Raises:
        ValueError: if d is no square number.

    Reference:
        EF-UNet (Chai et al., "A text-image fusion method with data augmentation capabilities for referring medical
        image segmentation", 2025) and BiCLIP, section 2.1 and figure 1 (b).

    Differences from the paper:
        None; the layers are those of its code.
    """

    def __init__(self, vector_channels: int = 784, out_channels: int = 3) -> None:
        super().__init__()
        self.side = math.isqrt(max(vector_channels, 0))
        if self.side < 1 or self.side**2 != vector_channels:
            raise ValueError(f"vector_channels must be a square number such as 784, got {vector_channels}")
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(1, 16, kernel_size=4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(16, 8, kernel_size=4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(8, out_channels, kernel_size=4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, vector: Tensor) -> Tensor:
        """Turn `(B, d)` into `(B, out_channels, 8 sqrt(d), 8 sqrt(d))` in (0, 1)."""
        return self.layers(vector.unflatten(1, (1, self.side, self.side)))


class PseudoImageReader(nn.Module):
    """Read a text vector from a pseudo image: two 3 x 3 convolutions with ReLU, the mean over the pixels, Linear.

    Args:
        vector_channels: d.
        in_channels: channels of the pseudo image.

    Reference:
        BiCLIP, section 2.1, the image-to-text head :math:`h`.

    Differences from the paper:
        None; the channels 32 and 64 are those of its code.
    """

    def __init__(self, vector_channels: int = 784, in_channels: int = 3) -> None:
        super().__init__()
        self.layers = _two_convolutions(in_channels, 32, 64)
        self.project = nn.Linear(64, vector_channels)

    def forward(self, pseudo: Tensor) -> Tensor:
        """Turn `(B, in_channels, H, W)` into `(B, d)`."""
        return self.project(self.layers(pseudo).mean(dim=(2, 3)))


class TextRefinement(nn.Module):
    r"""Refine a text vector by what its image shows: the text half of bidirectional multimodal fusion (BMF).

    .. math:: t' = t + g_{BMF}([t; i])

    :math:`i` is the mean over the pixels of two 3 x 3 convolutions with ReLU on the image as it is, at full
    resolution; :math:`g_{BMF}` is Linear - LayerNorm - GELU - Linear.

    Args:
        vector_channels: d.
        in_channels: channels of the image.
        image_channels: of the two convolutions; the second is the width of :math:`i`.

    Reference:
        BiCLIP, section 2.1, equation 1.

    Differences from the paper:
        None; the layers are those of its code.
    """

    def __init__(
        self, vector_channels: int = 784, in_channels: int = 3, *, image_channels: tuple[int, int] = (64, 256)
    ) -> None:
        super().__init__()
        self.image_layers = _two_convolutions(in_channels, *image_channels)
        self.layers = nn.Sequential(
            nn.Linear(vector_channels + image_channels[1], vector_channels),
            nn.LayerNorm(vector_channels),
            nn.GELU(),
            nn.Linear(vector_channels, vector_channels),
        )

    def forward(self, vector: Tensor, image: Tensor) -> Tensor:
        """Turn vectors `(B, d)` and their images `(B, in_channels, H, W)` in [0, 1] into vectors `(B, d)`."""
        seen = self.image_layers(image).mean(dim=(2, 3))
        return vector + self.layers(torch.cat([vector, seen.to(vector.dtype)], dim=1))


class ConsistencyProjection(nn.Module):
    """Project a feature map to the vector in which two views are compared: mean over the pixels, Linear, LayerNorm.

    Args:
        in_channels: channels of the map.
        channels: width of the vector.

    Reference:
        BiCLIP, section 2.2, the projection head of IAC.

    Differences from the paper:
        It names pooling and a linear layer; LayerNorm is of its code.
    """

    def __init__(self, in_channels: int, channels: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_channels, channels), nn.LayerNorm(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, in_channels, H, W)` into `(B, channels)`."""
        return self.layers(features.mean(dim=(2, 3)))


def masked_image(image: Tensor, label: Tensor) -> Tensor:
    """Return the image with every pixel outside of the mask set to 0: what a pseudo image is to look like.

    Args:
        image: `(B, C, H, W)`.
        label: `(B, K, H, W)`; a pixel of which any channel exceeds 0.5 is inside.

    Returns:
        `(B, C, H, W)`, without a gradient.

    Raises:
        ValueError: if the two do not belong together.

    Reference:
        BiCLIP, section 2.1, "generated ground-truth signal".

    Differences from the paper:
        It does not say what the signal is; this is that of its code.
    """
    fits = image.ndim == label.ndim == 4 and len(image) == len(label) and image.shape[2:] == label.shape[2:]
    if not fits:
        raise ValueError(
            f"label must be (B, K, H, W) of the image's size, got {tuple(label.shape)} for an image "
            f"{tuple(image.shape)}: resize labels as text_safe_augmentation does"
        )
    return image.detach() * (label > 0.5).any(dim=1, keepdim=True).to(image)


def _two_convolutions(in_channels: int, middle: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, middle, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, out_channels, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
    )

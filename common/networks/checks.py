"""Checks of what goes into a network."""

from __future__ import annotations

import torch
from torch import Tensor


def check_image(image: Tensor, in_channels: int) -> None:
    """Check that a batch of images fits a network.

    Args:
        image: what should be `(B, in_channels, H, W)` with H and W multiples of 32.
        in_channels: channels that the network was built for.

    Raises:
        ValueError: if the rank, the channel count or the size does not fit.
    """
    if torch.jit.is_tracing():
        return
    if image.dim() != 4:
        raise ValueError(f"image must have shape (batch, channels, rows, columns), got {tuple(image.shape)}")
    if image.shape[1] != in_channels:
        raise ValueError(
            f"image must have {in_channels} channels, got {image.shape[1]}: "
            "repeat a single channel in preprocessing, or set in_channels"
        )
    height, width = image.shape[2:]
    if height % 32 or width % 32 or not height or not width:
        raise ValueError(
            f"image size must be a multiple of 32, got {height} x {width}: "
            "set image_size to a multiple of 32 in preprocessing"
        )


def check_text(text: Tensor, batch_size: int) -> None:
    """Check that a text tensor belongs to a batch of images.

    Args:
        text: what should be `(batch_size, 2, L)`: token ids, attention mask.
        batch_size: number of images.

    Raises:
        ValueError: if the shape does not fit.
        TypeError: if the tensor does not hold integers.
    """
    if torch.jit.is_tracing():
        return
    if text.dim() != 3 or text.shape[0] != batch_size or text.shape[1] != 2:
        raise ValueError(
            f"text must have shape ({batch_size}, 2, tokens): ids and attention mask of each image, "
            f"got {tuple(text.shape)}"
        )
    if text.is_floating_point():
        raise TypeError(f"text must hold integer token ids, got {text.dtype}")

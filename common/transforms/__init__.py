"""Transforms of cases: loading, preprocessing, augmentation, text and saving."""

from __future__ import annotations

from .dictionary import LoadImageAsDisplayedd, binary_mask
from .display import DisplayOrder
from .loading import load_image, spatial_size
from .preprocessing import ResizeImaged, StandardizeImaged, image_text_preprocessing
from .text import TokenizeTextd

__all__ = [
    "DisplayOrder",
    "LoadImageAsDisplayedd",
    "ResizeImaged",
    "StandardizeImaged",
    "TokenizeTextd",
    "binary_mask",
    "image_text_preprocessing",
    "load_image",
    "spatial_size",
]

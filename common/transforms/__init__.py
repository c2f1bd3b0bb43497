"""Transforms of cases: loading, preprocessing, augmentation, text and saving."""

from __future__ import annotations

from .augmentation import (
    RandAlignedAffined,
    RandIntensityd,
    RandMirrorWithSentenced,
    ResizeLabeld,
    flat_compose,
    text_safe_augmentation,
)
from .dictionary import LoadImageAsDisplayedd, binary_mask
from .display import DisplayOrder
from .loading import load_image, spatial_size
from .preprocessing import ResizeImaged, StandardizeImaged, image_text_preprocessing
from .saving import (
    MaskOnFileGridd,
    ProbabilityOnImaged,
    SaveImageMaskd,
    Thresholdd,
    save_mask,
    segmentation_postprocessing,
)
from .text import TokenizeTextd

__all__ = [
    "DisplayOrder",
    "LoadImageAsDisplayedd",
    "MaskOnFileGridd",
    "ProbabilityOnImaged",
    "RandAlignedAffined",
    "RandIntensityd",
    "RandMirrorWithSentenced",
    "ResizeImaged",
    "ResizeLabeld",
    "SaveImageMaskd",
    "StandardizeImaged",
    "Thresholdd",
    "TokenizeTextd",
    "binary_mask",
    "flat_compose",
    "image_text_preprocessing",
    "load_image",
    "save_mask",
    "segmentation_postprocessing",
    "spatial_size",
    "text_safe_augmentation",
]

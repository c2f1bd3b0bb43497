"""Transforms of cases: loading, preprocessing, augmentation, text and saving."""

from __future__ import annotations

from .augmentation import (
    RandAlignedAffined,
    RandIntensityd,
    ResizeLabeld,
    flat_compose,
    text_safe_augmentation,
)
from .corruption import (
    CORRUPTIONS,
    CorruptImaged,
    corrupt,
    corrupt_label,
    corruption_seed,
    parse_corruption,
    split_at_corruption,
    with_corruption,
)
from .dictionary import LoadImageAsDisplayedd, binary_mask
from .display import DisplayOrder
from .fused_augmentation import Fused, FusedAugmentation, affine_matrices
from .label_volumes import (
    LabelsOnFileGridd,
    RestoreLabelsd,
    SaveLabelVolumed,
    read_label_names,
    save_labels,
    volume_postprocessing,
)
from .loading import load_image, spatial_size
from .mixing import Mixed, PatchMix
from .preprocessing import ResizeImaged, ScaleToUnitd, StandardizeImaged, image_text_preprocessing
from .saving import (
    MaskOnFileGridd,
    ProbabilityOnImaged,
    SaveImageMaskd,
    Thresholdd,
    save_mask,
    segmentation_postprocessing,
)
from .sentence_augmentation import RandDropPositiond, RandMirrorWithSentenced
from .strong import MirrorAugmentation, StrongAugmentation
from .strong_intensity import StrongIntensity, motion_kernels
from .text import TokenizeTextd
from .views import StrongView, View
from .volume_loading import LoadVolumed, load_volume
from .volumes import FitVolumed, NormaliseVolumed, volume_preprocessing

__all__ = [
    "CORRUPTIONS",
    "CorruptImaged",
    "DisplayOrder",
    "FitVolumed",
    "Fused",
    "FusedAugmentation",
    "LabelsOnFileGridd",
    "LoadImageAsDisplayedd",
    "LoadVolumed",
    "MaskOnFileGridd",
    "MirrorAugmentation",
    "Mixed",
    "NormaliseVolumed",
    "PatchMix",
    "ProbabilityOnImaged",
    "RandAlignedAffined",
    "RandDropPositiond",
    "RandIntensityd",
    "RandMirrorWithSentenced",
    "ResizeImaged",
    "ResizeLabeld",
    "RestoreLabelsd",
    "SaveImageMaskd",
    "SaveLabelVolumed",
    "ScaleToUnitd",
    "StandardizeImaged",
    "StrongAugmentation",
    "StrongIntensity",
    "StrongView",
    "Thresholdd",
    "TokenizeTextd",
    "View",
    "affine_matrices",
    "binary_mask",
    "corrupt",
    "corrupt_label",
    "corruption_seed",
    "flat_compose",
    "image_text_preprocessing",
    "load_image",
    "load_volume",
    "motion_kernels",
    "parse_corruption",
    "read_label_names",
    "save_labels",
    "save_mask",
    "segmentation_postprocessing",
    "spatial_size",
    "split_at_corruption",
    "text_safe_augmentation",
    "volume_postprocessing",
    "volume_preprocessing",
    "with_corruption",
]

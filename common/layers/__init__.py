"""Layers that the networks are put together from."""

from __future__ import annotations

from .attention import Interactor, MultiHeadAttention, attention_weights, masked_mean, usable_keys
from .bridger import Bridger, BridgerOutput
from .classic_unet import ClassicUNet, DoubleConv
from .complementary_attention import (
    BidirectionalComplementaryAttention,
    DualAttention,
    KGate,
    language_path,
    vision_path,
)
from .dynamic_head import DynamicHead, dynamic_pointwise
from .guide import GuideDecoderBlock
from .kan import KANBlock, KANLinear
from .positions import sinusoidal_positions
from .pseudo_image import (
    ConsistencyProjection,
    PseudoImageGenerator,
    PseudoImageReader,
    TextRefinement,
    masked_image,
)
from .scaling import scale_channels
from .splines import cubic_basis, spline_features, spline_linear
from .upsampling import SegmentationHead, UpBlock

__all__ = [
    "BidirectionalComplementaryAttention",
    "Bridger",
    "BridgerOutput",
    "ClassicUNet",
    "ConsistencyProjection",
    "DoubleConv",
    "DualAttention",
    "DynamicHead",
    "GuideDecoderBlock",
    "Interactor",
    "KANBlock",
    "KANLinear",
    "KGate",
    "MultiHeadAttention",
    "PseudoImageGenerator",
    "PseudoImageReader",
    "SegmentationHead",
    "TextRefinement",
    "UpBlock",
    "attention_weights",
    "cubic_basis",
    "dynamic_pointwise",
    "language_path",
    "masked_image",
    "masked_mean",
    "scale_channels",
    "sinusoidal_positions",
    "spline_features",
    "spline_linear",
    "usable_keys",
    "vision_path",
]

"""Layers that the networks are put together from."""

from __future__ import annotations

from .attention import Interactor, MultiHeadAttention, attention_weights, masked_mean, usable_keys
from .bridger import Bridger, BridgerOutput
from .guide import GuideDecoderBlock
from .positions import sinusoidal_positions
from .scaling import scale_channels
from .upsampling import SegmentationHead, UpBlock

__all__ = [
    "Bridger",
    "BridgerOutput",
    "GuideDecoderBlock",
    "Interactor",
    "MultiHeadAttention",
    "SegmentationHead",
    "UpBlock",
    "attention_weights",
    "masked_mean",
    "scale_channels",
    "sinusoidal_positions",
    "usable_keys",
]

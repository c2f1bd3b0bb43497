"""Assembled networks, all with `forward(image, text=None)`."""

from __future__ import annotations

from .aligned import AlignedNetwork
from .backbones import build_backbone
from .convnext import ConvNextEncoder
from .guide_decoder import GuideDecoder
from .mmi_unet import MMIUNet
from .plain import AttentionUNet, DynUNet, PlainNetwork, SwinUNETR, UNet, UNetPlusPlus
from .prompt import PromptEncoder
from .zone_unet import ZoneUNet

__all__ = [
    "AlignedNetwork",
    "AttentionUNet",
    "ConvNextEncoder",
    "DynUNet",
    "GuideDecoder",
    "MMIUNet",
    "PlainNetwork",
    "PromptEncoder",
    "SwinUNETR",
    "UNet",
    "UNetPlusPlus",
    "ZoneUNet",
    "build_backbone",
]

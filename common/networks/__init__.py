"""Assembled networks, all with `forward(image, text=None)`."""

from __future__ import annotations

from .convnext import ConvNextEncoder
from .guide_decoder import GuideDecoder
from .mmi_unet import MMIUNet
from .plain import AttentionUNet, DynUNet, PlainNetwork, SwinUNETR, UNet, UNetPlusPlus
from .prompt import PromptEncoder
from .zone_unet import ZoneUNet

__all__ = [
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
]

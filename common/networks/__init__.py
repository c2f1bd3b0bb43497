"""Assembled networks, all with `forward(image, text=None)`."""

from __future__ import annotations

from .aligned import AlignedNetwork
from .backbones import build_backbone
from .c2seg import C2Seg
from .contrastive_encoder import ContrastiveEncoder
from .convnext import ConvNextEncoder
from .guide_decoder import GuideDecoder
from .mmi_unet import MMIUNet
from .parameters import ParameterCounts, count_parameters
from .plain import AttentionUNet, DynUNet, PlainNetwork, SwinUNETR, UNet, UNetPlusPlus
from .prompt import PromptEncoder
from .ukan import UKAN, UKANDecoder, UKANEncoder, ukan_channels
from .zone_unet import ZoneUNet

__all__ = [
    "UKAN",
    "AlignedNetwork",
    "AttentionUNet",
    "C2Seg",
    "ContrastiveEncoder",
    "ConvNextEncoder",
    "DynUNet",
    "GuideDecoder",
    "MMIUNet",
    "ParameterCounts",
    "PlainNetwork",
    "PromptEncoder",
    "SwinUNETR",
    "UKANDecoder",
    "UKANEncoder",
    "UNet",
    "UNetPlusPlus",
    "ZoneUNet",
    "build_backbone",
    "count_parameters",
    "ukan_channels",
]

"""Assembled networks, all with `forward(image, text=None)`."""

from __future__ import annotations

from .aligned import AlignedNetwork
from .backbones import build_backbone
from .biclip import BiCLIP
from .c2seg import C2Seg
from .contrastive_encoder import ContrastiveEncoder
from .convnext import ConvNextEncoder
from .deeplab import AtrousPyramid, DilatedResNet
from .discriminator import PatchDiscriminator
from .ef_unet import Drawing, EFUNet
from .fusion_training import FusionTraining
from .guide_decoder import GuideDecoder
from .mmi_unet import MMIUNet
from .parameters import ParameterCounts, count_parameters
from .plain import AttentionUNet, DynUNet, PlainNetwork, SwinUNETR, UNet, UNetPlusPlus
from .prompt import PromptEncoder
from .referring_pair import Encoding, ReferringPair
from .tcsa import TCSA
from .ukan import UKAN, UKANDecoder, UKANEncoder, ukan_channels
from .zone_unet import ZoneUNet

__all__ = [
    "TCSA",
    "UKAN",
    "AlignedNetwork",
    "AtrousPyramid",
    "AttentionUNet",
    "BiCLIP",
    "C2Seg",
    "ContrastiveEncoder",
    "ConvNextEncoder",
    "DilatedResNet",
    "Drawing",
    "DynUNet",
    "EFUNet",
    "Encoding",
    "FusionTraining",
    "GuideDecoder",
    "MMIUNet",
    "ParameterCounts",
    "PatchDiscriminator",
    "PlainNetwork",
    "PromptEncoder",
    "ReferringPair",
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

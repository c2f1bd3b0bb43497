"""Sentences: what they say, and how they are fed to a network."""

from __future__ import annotations

from .class_prompts import MODALITY_NAMES, PROMPTS, class_sentences
from .findings import Findings, read_findings
from .laterality import mirror_findings, mirror_sentence, translate_sentence
from .position_augmentation import PositionAugmentation, WordAugmentation
from .position_phrases import join_first_phrases, name_zones
from .sidecar import read_sidecar, sidecar_of
from .zones import LUNG_ZONES, POLYP_ZONES, zone_regions, zone_vector

__all__ = [
    "LUNG_ZONES",
    "MODALITY_NAMES",
    "POLYP_ZONES",
    "PROMPTS",
    "Findings",
    "PositionAugmentation",
    "WordAugmentation",
    "class_sentences",
    "join_first_phrases",
    "mirror_findings",
    "mirror_sentence",
    "name_zones",
    "read_findings",
    "read_sidecar",
    "sidecar_of",
    "translate_sentence",
    "zone_regions",
    "zone_vector",
]

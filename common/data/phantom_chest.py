"""Seeded chest-radiograph phantoms for tests and demonstrations.

Two lungs with ribs, heart, vessels and varying exposure; infections in zones that a sentence names, and
look-alike opacities of the same appearance in half of the zones that it does not name. Without the sentence
nothing tells one from the other.
"""

from __future__ import annotations

from .phantom_captions import CAPTION_VERSION, caption
from .phantom_case import LATERALITY, PhantomCase, occupied_zones, phantom_case
from .phantom_files import FORMATS, write_phantom_dataset, write_phantom_dicom, write_phantom_nifti
from .phantom_opacities import LEVELS, SIDES, ZONES

__all__ = [
    "CAPTION_VERSION",
    "FORMATS",
    "LATERALITY",
    "LEVELS",
    "SIDES",
    "ZONES",
    "PhantomCase",
    "caption",
    "occupied_zones",
    "phantom_case",
    "write_phantom_dataset",
    "write_phantom_dicom",
    "write_phantom_nifti",
]

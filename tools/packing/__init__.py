"""Packing a bundle into a folder and an archive that need nothing of the repository."""

from __future__ import annotations

from .archive import write_archive
from .card import Contents, packed_card, repository_only
from .configs import check_plain, merged_configs, packed_configs, with_moved_targets
from .golden import golden_of
from .layout import relaid
from .manifest import describe_data, file_table, manifest_differences
from .merging import merged
from .pack import STEPS, Packed, PackRequest, pack_bundle
from .proof import Proof, prove, prove_folder
from .sources import BundleSource, Overlay, PackError, read_source
from .weights import check_weights

__all__ = [
    "STEPS",
    "BundleSource",
    "Contents",
    "Overlay",
    "PackError",
    "PackRequest",
    "Packed",
    "Proof",
    "check_plain",
    "check_weights",
    "describe_data",
    "file_table",
    "golden_of",
    "manifest_differences",
    "merged",
    "merged_configs",
    "pack_bundle",
    "packed_card",
    "packed_configs",
    "prove",
    "prove_folder",
    "read_source",
    "relaid",
    "repository_only",
    "with_moved_targets",
    "write_archive",
]

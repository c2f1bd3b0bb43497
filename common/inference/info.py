"""What is known of a bundle: names, versions, weights, and what it may be shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import monai
import torch

from .. import __version__
from ..dicom.codes import SegmentCodes, class_codes

ANATOMIES = ("lung", "polyp", "auto")
DICOM_MODALITIES = {"flair": "MR", "t2": "MR"}  # contrasts that DICOM does not tell apart
CODES_OF_ANATOMY = {"lung": "pulmonary_infiltrate", "polyp": "polyp"}
_POLYP_DATA = ("polyp", "kvasir", "cvc", "colon")
_LUNG_DATA = ("qata", "covid", "mosmed", "chest", "lung", "phantom")


@dataclass(frozen=True)
class BundleInfo:
    """What every result says of the bundle that made it.

    Attributes:
        name: of the bundle's folder or manifest, such as "ssa_segmentation".
        version: of the bundle.
        title: its name for people.
        laterality: "image" or "patient": whose left the network's sentences mean.
        weights_sha256: of the file of weights; None for an untrained network.
        network: class of the network.
        image_size: rows and columns of the network's input.
        device: on which it runs.
        modalities: DICOM modalities that it may be shown; empty for any.
        segment_codes: what a segment is in DICOM: a name of `common.dicom.segment_code_names` or a mapping as
            `common.dicom.segment_codes` reads it; "" when the sentence's anatomy decides. Of a bundle with labels a
            mapping of these by name of the class, for classes that `common.dicom.class_codes` does not know.
        anatomy: "lung" (halves by thirds), "polyp" (3 x 3 grid) or "auto", by the words of each sentence.
        training_data: name of the data the weights were trained with; "" when it is not known.
        versions: of the project, MONAI and PyTorch that run.
        labels: name of every class by its number, "0" for the background, of a bundle that segments volumes into
            several classes and reads no sentence; empty for all others.
        contrasts: modalities as such a bundle's network calls them, "ct", "mr", "flair" or "t2".
    """

    name: str
    version: str
    title: str
    laterality: str
    weights_sha256: str | None
    network: str
    image_size: tuple[int, int]
    device: str
    modalities: tuple[str, ...] = ()
    segment_codes: str | Mapping[str, Any] = ""
    anatomy: str = "auto"
    training_data: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    contrasts: tuple[str, ...] = ()

    @property
    def algorithm_version(self) -> str:
        """Version and weights in at most 64 characters, as DICOM files name them."""
        weights = "untrained" if self.weights_sha256 is None else f"weights {self.weights_sha256[:12]}"
        return f"{self.version[:40]}, {weights}"

    def class_codes(self) -> tuple[SegmentCodes, ...]:
        """Return the codes of every class but the background, in the order of their numbers."""
        own = self.segment_codes if isinstance(self.segment_codes, Mapping) else None
        names = [self.labels[number] for number in sorted(self.labels, key=int)]
        return tuple(class_codes(name, own=own) for name in names[1:])

    def codes_for(self, anatomy: str) -> str | Mapping[str, Any]:
        """Return the segment's codes for a sentence of an anatomy, which counts where the bundle has none."""
        return self.segment_codes or CODES_OF_ANATOMY[anatomy]


def read_facts(folder: Path, config: Mapping[str, Any], overlays: Sequence[str]) -> dict[str, Any]:
    """Return what `BundleInfo` takes from a bundle's metadata, manifest and configuration.

    ``metadata.json`` may have ``modalities`` (a list), ``segment_codes`` and ``anatomy``; ``modalities`` and
    ``anatomy`` of the configuration go before. Where no anatomy is named, training data or overlays tell it.

    Args:
        folder: of the bundle.
        config: content of ``inference.json``, overlays merged.
        overlays: names of the overlays.

    Raises:
        ValueError: when a file is no JSON object or a key has another type; the file and the key are named.
    """
    metadata_file = folder / "configs" / "metadata.json"
    metadata, manifest = read_object(metadata_file), read_object(folder / "manifest.json")
    modalities = config.get("modalities") or metadata.get("modalities", [])
    if not isinstance(modalities, list) or not all(isinstance(name, str) for name in modalities):
        raise ValueError(
            f"{metadata_file} or inference.json: modalities must be a list of DICOM modalities, got {modalities!r}"
        )
    data = str((manifest.get("training_data") or {}).get("name", ""))
    named = [data, *overlays, *manifest.get("overlays", [])]
    labels = dict(config.get("labels") or {})
    anatomy = config.get("anatomy") or metadata.get("anatomy") or ("auto" if labels else anatomy_of(named))
    if anatomy not in ANATOMIES:
        raise ValueError(f"{metadata_file}: anatomy must be one of {ANATOMIES}, got {anatomy!r}")
    return {
        "name": str(manifest.get("bundle") or folder.name),
        "version": str(metadata.get("version", "unknown")),
        "title": str(metadata.get("name", folder.name)),
        "modalities": tuple(dict.fromkeys(DICOM_MODALITIES.get(name, name.upper()) for name in modalities)),
        "labels": labels,
        "contrasts": tuple(modalities) if labels else (),
        "segment_codes": metadata.get("segment_codes") or CODES_OF_ANATOMY.get(anatomy, ""),
        "anatomy": anatomy,
        "training_data": data,
        "versions": {"project": __version__, "monai": monai.__version__, "pytorch": torch.__version__},
    }


def anatomy_of(names: Sequence[str]) -> str:
    """Return the anatomy that names of data sets or overlays tell, "auto" when they tell none or both."""
    polyp = any(part in name.lower() for name in names for part in _POLYP_DATA)
    lung = any(part in name.lower() for name in names for part in _LUNG_DATA)
    if polyp == lung:
        return "auto"
    return "polyp" if polyp else "lung"


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, {} when there is no file.

    Raises:
        ValueError: when the file holds anything else.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be a readable JSON file, got {type(error).__name__}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content

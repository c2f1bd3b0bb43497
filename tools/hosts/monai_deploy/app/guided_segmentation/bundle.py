"""The packed bundle: found and checked before the host's libraries are imported, which takes seconds."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INFERENCE = Path("configs", "inference.json")
METADATA = Path("configs", "metadata.json")
WEIGHTS = Path("models", "model.pt")
_CONTRASTS = {"flair": "MR", "t2": "MR"}  # which DICOM does not tell apart
# Words of the metadata's "modality" and the DICOM modalities that they name.
_MODALITIES = (
    (r"radiograph|x-?ray", ("CR", "DX")),
    (r"\bct\b|computed tomograph", ("CT",)),
    (r"\bmri?\b|magnetic resonance", ("MR",)),
    (r"colonoscop|endoscop", ("ES",)),
    (r"ultraso", ("US",)),
)


@dataclass(frozen=True)
class PackedBundle:
    """A packed bundle that can be loaded.

    Attributes:
        folder: where it lies.
        modalities: DICOM modalities that it is for, at least one.
        classes: whether it segments volumes into classes and reads no sentence.
    """

    folder: Path
    modalities: tuple[str, ...]
    classes: bool = False


def open_bundle(model: Path) -> PackedBundle:
    """Check that a folder is a packed bundle with weights.

    Args:
        model: the packed folder, or a folder that holds nothing but one (as in an application package).

    Raises:
        ValueError: when there is no bundle, it is not packed, has no weights or names no modality.
    """
    folder = find_bundle(model).resolve()
    if not (folder / "scripts" / "common" / "inference").is_dir():
        raise ValueError(
            f"{folder} must be a packed bundle, got one without its code in scripts/: pack it first"
        )
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} must have weights, got no {WEIGHTS}: pack it with --weights")
    metadata = _object(folder / METADATA)
    inference = _object(folder / INFERENCE)
    listed = inference.get("modalities") or metadata.get("modalities")
    if listed:
        modalities = tuple(dict.fromkeys(_CONTRASTS.get(name, name.upper()) for name in listed))
    else:
        modalities = dicom_modalities(str(metadata.get("modality", "")))
    if not modalities:
        raise ValueError(f"modality in {folder / METADATA} must name a kind of image, got none that is known")
    return PackedBundle(folder, modalities, classes=bool(inference.get("labels")))


def find_bundle(model: Path) -> Path:
    """Return the bundle's folder: `model`, or the only one in it.

    Raises:
        ValueError: when there is none, or more than one.
    """
    if (model / INFERENCE).is_file():
        return model
    inside = [path.parents[1] for path in sorted(model.glob(f"*/{INFERENCE}"))]
    if len(inside) != 1:
        found = f"{len(inside)} of them" if inside else "none"
        raise ValueError(
            f"the model must be one packed bundle, a folder with {INFERENCE}, got {found} in {model}"
        )
    return inside[0]


def dicom_modalities(text: str) -> tuple[str, ...]:
    """Return the DICOM modalities that the words of the metadata's "modality" name.

    Args:
        text: such as "chest radiograph, CT slice, colonoscopy".
    """
    named = [codes for pattern, codes in _MODALITIES if re.search(pattern, text, re.IGNORECASE)]
    return tuple(code for codes in named for code in codes)


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be a readable JSON file, got {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content

"""The sentence that belongs to a series: where it is found, and whose left it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIDECARS = ("sentence.txt", "sentence.json")
SUFFIXES = (".txt", ".json")
GIVEN, NONE = "given", "none"


@dataclass(frozen=True)
class Sentence:
    """A sentence and where it comes from.

    Attributes:
        text: as found; "" when there is none.
        laterality: whose left it means, "patient" or "image".
        source: "given", "sidecar", "report", "image_comments", "study_description", "series_description" or "none".
    """

    text: str
    laterality: str
    source: str


def chosen_sidecar(folder: Path, files: Sequence[Path]) -> Path | None:
    """Return what `sentence_from_dicom` takes as the sidecar of a series that none was named for.

    Args:
        folder: of the study; a `sentence.txt` or `sentence.json` in it is the sidecar.
        files: of the series; a single image may have a `.txt` or `.json` beside it.
    """
    in_folder = [folder / name for name in SIDECARS if (folder / name).is_file()]
    if in_folder:
        return in_folder[0]
    return files[0] if len(files) == 1 else None


def check_sidecar(sidecar: Path | None) -> None:
    """Refuse a sidecar that was named and cannot be one.

    Args:
        sidecar: a file, or None.

    Raises:
        ValueError: when it is not there or neither `.txt` nor `.json`.
    """
    if sidecar is not None and not (sidecar.is_file() and sidecar.suffix.lower() in SUFFIXES):
        raise ValueError(f"the sidecar must be a .txt or .json file, got {sidecar}")


def found_sentence(header: Any, reports: Sequence[Any], *, sidecar: Path | None) -> tuple[str, str]:
    """Return the first sentence that says something, and its source: sidecar, reports, then attributes.

    Args:
        header: an image of the series, as a pydicom dataset.
        reports: structured reports, the best first.
        sidecar: a text or JSON file, or an image that one may lie beside.
    """
    from scripts.common.dicom import sentence_from_dicom
    from scripts.common.dicom.sentence import NO_SOURCE, SOURCES

    tries: list[dict[str, Any]] = [{"sources": SOURCES[:1], "sidecar": sidecar}]
    tries += [{"sources": SOURCES[1:2], "report": report} for report in reports]
    tries.append({"sources": SOURCES[2:]})
    for options in tries:
        text, source = sentence_from_dicom(header, **options)
        if source != NO_SOURCE:
            return text, source
    return "", NO_SOURCE

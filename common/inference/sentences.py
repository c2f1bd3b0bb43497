"""The sentence of a case: found in DICOM files, in the bundle's laterality, and what is uncertain about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset

from ..dicom.files import read_dataset
from ..dicom.laterality import patient_left, sentence_for_image, usual_laterality
from ..dicom.sentence import SOURCES, sentence_from_dicom
from ..text import read_findings
from ..text.laterality import LATERALITIES, translate_sentence
from .info import BundleInfo

MAX_SHOWN = 8  # words that could not be read, in one warning
UNKNOWN_DISPLAY = (
    "left and right of the sentence were exchanged for the picture, which does not say how the patient lies in it: the "
    "patient's left is taken to be on the right half; check a side marker"
)


class FoundSentence(NamedTuple):
    """A sentence for the network.

    Attributes:
        sentence: in the bundle's laterality; "" when none was found.
        source: where it was found: one of `common.dicom.sentence.SOURCES`, or "none".
        warning: what is uncertain about its sides; "" when nothing is.
    """

    sentence: str
    source: str
    warning: str


def sentence_for_file(
    image: str | Path | Sequence[str | Path],
    info: BundleInfo,
    *,
    sidecar: str | Path | None = None,
    report: str | Path | Dataset | None = None,
    sources: Sequence[str] = SOURCES,
) -> FoundSentence:
    """Find the sentence of a DICOM image and bring it into the laterality of a bundle.

    Args:
        image: a DICOM file, or the files of one series, whose first is asked.
        info: of the bundle.
        sidecar: a text or JSON file with the sentence, or the image's own path: the one beside it.
        report: a structured report on the image, or its file.
        sources: which to ask, in this order, as for `common.dicom.sentence_from_dicom`.

    Raises:
        ValueError: when the file is no DICOM file, a source is unknown, a sidecar cannot be read, or the report is
            about another study.
    """
    file = Path(image) if isinstance(image, (str, Path)) else Path(next(iter(image)))
    header = read_dataset(file, header=True)
    text, source = found_sentence(header, sidecar=sidecar, report=report, sources=sources)
    sentence, warning = in_laterality(
        text, usual_laterality(str(header.get("Modality") or "")), info.laterality, header=header
    )
    return FoundSentence(sentence, source, warning)


def found_sentence(
    header: Dataset,
    *,
    sidecar: str | Path | None = None,
    report: str | Path | Dataset | None = None,
    sources: Sequence[str] = SOURCES,
) -> tuple[str, str]:
    """Return the sentence of a DICOM image, as found, and its source; see `sentence_for_file`."""
    dataset = report if isinstance(report, Dataset) or report is None else read_dataset(report, header=True)
    return sentence_from_dicom(header, sources=sources, sidecar=sidecar, report=dataset)


def in_laterality(text: str, source: str, target: str, *, header: Dataset | None = None) -> tuple[str, str]:
    """Bring a sentence into a bundle's laterality.

    Args:
        text: any sentence.
        source: whose left it means, "image" or "patient".
        target: whose left the network reads.
        header: of the image, when it is DICOM.

    Returns:
        The sentence, and what is uncertain about its sides.

    Raises:
        ValueError: when a laterality is unknown.
    """
    for name in (source, target):
        if name not in LATERALITIES:
            raise ValueError(f"laterality must be image or patient, got {name!r}")
    if source == target or not text.strip():
        return text, ""
    if header is not None and source == "patient":
        return sentence_for_image(text, header, target=target)
    warning = "" if header is None else patient_left(header).warning
    return translate_sentence(text, source, target), warning


def sentence_warnings(sentence: str, *, anatomy: str = "auto") -> list[str]:
    """Say what of a sentence could not be read, and what in it contradicts itself.

    Args:
        sentence: as the network reads it.
        anatomy: "lung", "polyp" or "auto".
    """
    if not sentence.strip():
        return []
    findings = read_findings(sentence, anatomy=anatomy)
    warnings = [f"the sentence contradicts itself: {words}" for words in findings.contradictions]
    unknown = findings.unknown_words
    if unknown:
        more = f" and {len(unknown) - MAX_SHOWN} more" if len(unknown) > MAX_SHOWN else ""
        warnings.append(f"not understood in the sentence: {', '.join(unknown[:MAX_SHOWN])}{more}")
    return warnings

"""The sentence that comes with a DICOM image: beside it, in a report, or in its own attributes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from ..text import read_findings
from ..text.context import read_words
from ..text.lexicon import Kind
from ..text.sidecar import read_sidecar, sidecar_of

SOURCES = ("sidecar", "report", "image_comments", "study_description", "series_description")
NO_SOURCE = "none"
_KEYWORDS = {
    "image_comments": "ImageComments",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
}
# Sections of reports, best first: DCM codes and words of their headings.
_SECTIONS = (
    (("121073", "121072", "121077", "121076"), ("impression", "conclusion")),
    (("121071", "121070"), ("finding",)),
)
# Names of projections, body parts and contrast: they speak of sides, levels and absence without describing anything.
_NAMES = re.compile(
    r"\b(?:left|right|l|r|lt|rt)[\s,/-]+(?:lat(?:eral)?|anterior|posterior|oblique|decub\w*|side[\s-]+down)\b"
    r"|\b(?:left|right|l|r|lt|rt)?\W*(?:upper|lower)\W+(?:abdomen|extremit\w+|limb|leg|arm)\b"
    r"|\b(?:no|non|without|w/?o|with|w)\W*(?:i\W?v\W?|oral|any)?\W*contrast\b|\bnormal\W+dose\b",
    re.IGNORECASE,
)
_ALGORITHM = frozenset({"111001", "111003"})  # algorithm name and version: what carries them, no person said


def sentence_from_dicom(
    dataset: Dataset,
    *,
    sources: Sequence[str] = SOURCES,
    sidecar: str | Path | None = None,
    report: Dataset | None = None,
) -> tuple[str, str]:
    """Find the sentence that describes a DICOM image.

    The sources are asked in order; the first whose text says something about findings, their side, zones or
    absence wins. Names such as "CHEST PA" or "L LATERAL" say nothing. The text is never logged.

    Args:
        dataset: the image, or a structured report, which is its own report.
        sources: which of "sidecar", "report", "image_comments", "study_description" and "series_description"
            to ask, in this order.
        sidecar: a text file with the sentence, or a JSON file with it, see `common.text.read_sidecar`; a DICOM
            file's path stands for the `.txt` or `.json` beside it. Nobody's sidecar is looked for without it.
        report: a structured report on the image.

    Returns:
        The sentence, whose left is the patient's, and its source; `("", "none")` when no source says anything.

    Raises:
        ValueError: when a source is unknown, a sidecar cannot be read, or the report is about another study.
    """
    unknown = [name for name in sources if name not in SOURCES]
    if unknown:
        raise ValueError(f"sources must be of {SOURCES}, got {unknown}")
    _check_report(dataset, report)
    readers: Mapping[str, Callable[[], Iterator[str]]] = {
        "sidecar": lambda: _sidecar_texts(sidecar),
        "report": lambda: _report_texts(dataset if report is None else report),
        **{name: _attribute_reader(dataset, keyword) for name, keyword in _KEYWORDS.items()},
    }
    for name in sources:
        accepted = _is_no_name if name.endswith("_description") else says_something
        for text in readers[name]():
            if accepted(text):
                return text, name
    return "", NO_SOURCE


def says_something(text: str) -> bool:
    """Tell whether a text says anything about findings: zones, a side, a count or their absence.

    Args:
        text: any text.

    Returns:
        False for names of examinations, projections and body parts.
    """
    described = text if _names_finding(text) else _NAMES.sub(" ", text)
    findings = read_findings(described)
    return bool(findings.zones or findings.negated or findings.side or findings.count)


def _is_no_name(text: str) -> bool:
    """Whether a description of a study or series is more than its name, such as "CHEST PA LEFT"."""
    placed = {token.kind for token in read_words(text)} >= {Kind.SIDE, Kind.ORGAN}
    return says_something(text) and (_names_finding(text) or placed)


def _names_finding(text: str) -> bool:
    return any(token.kind is Kind.FINDING for token in read_words(text))


def report_text(report: Dataset) -> str:
    """Return what a structured report says in words: its best section.

    The impression or conclusion when it says something, else the findings, else the first text that does.

    Args:
        report: any structured report (Basic Text, Enhanced, Comprehensive, Comprehensive 3D).

    Returns:
        The texts of that section, joined by spaces; "" when none says anything.
    """
    return next((text for text in _report_texts(report) if says_something(text)), "")


def _check_report(dataset: Dataset, report: Dataset | None) -> None:
    if report is None:
        return
    if "ContentSequence" not in report:
        raise ValueError(
            f"report must be a structured report, got modality {report.get('Modality') or 'unknown'}"
        )
    studies = {str(each.get("StudyInstanceUID") or "") for each in (dataset, report)} - {""}
    if len(studies) > 1:
        raise ValueError("report must be about the study of the image, got one of another study")


def _attribute_reader(dataset: Dataset, keyword: str) -> Callable[[], Iterator[str]]:
    def read() -> Iterator[str]:
        value = dataset.get(keyword)
        if value:
            yield _tidy(str(value))

    return read


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _report_texts(report: Dataset) -> Iterator[str]:
    """Yield a report's sections, best first, then every single text."""
    texts = list(_content_texts(report, ()))
    for codes, words in _SECTIONS:
        yield _tidy(" ".join(text for path, text in texts if _in_section(path, codes, words)))
    yield from (_tidy(text) for _, text in texts)


_Heading = tuple[str, str]  # code value and meaning


def _content_texts(item: Dataset, path: tuple[_Heading, ...]) -> Iterator[tuple[tuple[_Heading, ...], str]]:
    """Yield every text of the tree with the headings above it, its own last; what algorithms say is left out."""
    children = [(_heading(child), child) for child in item.get("ContentSequence") or ()]
    if any(value in _ALGORITHM for (value, _), _ in children):
        return
    for heading, child in children:
        below = (*path, heading)
        if child.get("ValueType") == "TEXT" and child.get("TextValue"):
            yield below, str(child.TextValue)
        yield from _content_texts(child, below)


def _heading(item: Dataset) -> _Heading:
    names = item.get("ConceptNameCodeSequence")
    name = names[0] if names else Dataset()
    return str(name.get("CodeValue", "")), str(name.get("CodeMeaning", ""))


def _in_section(path: Sequence[_Heading], codes: Sequence[str], words: Sequence[str]) -> bool:
    return any(value in codes or any(word in meaning.lower() for word in words) for value, meaning in path)


def _sidecar_texts(sidecar: str | Path | None) -> Iterator[str]:
    path = None if sidecar is None else sidecar_of(sidecar)
    if path is not None:
        yield read_sidecar(path)["text"]

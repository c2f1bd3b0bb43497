"""What a segment shows, as codes: SNOMED CT by name from `codes.json`, or a bundle's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from .output import import_highdicom

CODES_FILE = Path(__file__).with_name("codes.json")
MAX_LABEL = 64  # characters of the value representation LO
_REQUIRED = ("label", "category", "type")
_OPTIONAL = ("anatomy", "modifier")


@dataclass(frozen=True)
class CodedTerm:
    """A coded concept.

    Args:
        value: code, such as "39607008".
        scheme: coding scheme designator, such as "SCT".
        meaning: the concept in words, such as "Lung".
    """

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        if not all(isinstance(part, str) and part for part in (self.value, self.scheme, self.meaning)):
            got = (self.value, self.scheme, self.meaning)
            raise ValueError(f"a code must be three texts (value, scheme, meaning), got {got}")


_TISSUE = CodedTerm("85756007", "SCT", "Tissue")


@dataclass(frozen=True)
class SegmentCodes:
    """Description of one segment of a DICOM segmentation.

    Args:
        label: name shown by viewers, at most 64 characters.
        category: segmented property category, of CID 7150.
        type: segmented property type, of CID 7151 or another.
        anatomy: anatomic region, or None where the type tells it.
        modifier: modifier of the type, such as a side, or None.

    Reference:
        DICOM PS3.3, C.8.20.4 (Segment Description Macro).
    """

    label: str
    category: CodedTerm
    type: CodedTerm
    anatomy: CodedTerm | None = None
    modifier: CodedTerm | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.label) <= MAX_LABEL:
            raise ValueError(f"label must have 1 to {MAX_LABEL} characters, got {len(self.label)}")


def segment_codes(codes: str | Mapping[str, Any] | SegmentCodes) -> SegmentCodes:
    """Return the description of a segment from its name, from what a JSON file holds, or as it is.

    Args:
        codes: a name in `codes.json` ("pulmonary_infiltrate", "polyp" …), or a mapping with `label`,
            `category` and `type`, and optionally `anatomy` and `modifier`, each code `[value, scheme, meaning]`.

    Raises:
        ValueError: when the name is unknown or the mapping is not of this form.
    """
    if isinstance(codes, SegmentCodes):
        return codes
    if isinstance(codes, str):
        known = _known_codes()
        if codes not in known:
            raise ValueError(f"codes must be one of {sorted(known)} or a mapping, got {codes!r}")
        return known[codes]
    return _from_mapping(codes)


def listed_segment_codes(codes: Any) -> tuple[SegmentCodes, ...]:
    """Return the descriptions of one or several segments.

    Args:
        codes: what `segment_codes` takes, or a sequence of it with one for each segment.

    Raises:
        ValueError: when there are none, or one is not as `segment_codes` wants it.
    """
    listed = [codes] if isinstance(codes, (str, Mapping, SegmentCodes)) else list(codes)
    if not listed:
        raise ValueError("codes must describe at least one segment, got none")
    return tuple(segment_codes(each) for each in listed)


def class_codes(name: str, *, own: Mapping[str, Any] | None = None) -> SegmentCodes:
    """Return the description of a class of voxels by its name, which becomes its label.

    Args:
        name: such as "right kidney"; the name of `codes.json` is the same in small letters with underscores.
        own: what `segment_codes` takes by name of the class, which goes before.

    Returns:
        Of a name that is not known, the codes of any tissue: see `is_uncoded`.

    Raises:
        ValueError: when the name has more than 64 characters, or its own codes are not as `segment_codes` wants them.
    """
    if own and name in own:
        found = segment_codes(own[name])
    else:
        known = _known_codes().get(re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"))
        found = known or SegmentCodes("Tissue", category=_TISSUE, type=_TISSUE)
    return replace(found, label=name)


def is_uncoded(codes: SegmentCodes) -> bool:
    """Whether nothing but its label tells what a segment shows."""
    return codes.type == _TISSUE


def coded(term: CodedTerm) -> Dataset:
    """Return a term as highdicom's coded concept."""
    concept = import_highdicom().sr.CodedConcept
    return concept(value=term.value, scheme_designator=term.scheme, meaning=term.meaning)


def segment_code_names() -> tuple[str, ...]:
    """Return the names that `segment_codes` knows."""
    return tuple(_known_codes())


@lru_cache(maxsize=1)
def _known_codes() -> dict[str, SegmentCodes]:
    entries = json.loads(CODES_FILE.read_text(encoding="utf-8"))
    return {name: _from_mapping(entry) for name, entry in entries.items()}


def _from_mapping(entry: Mapping[str, Any]) -> SegmentCodes:
    if not isinstance(entry, Mapping) or not set(_REQUIRED) <= set(entry) <= {*_REQUIRED, *_OPTIONAL}:
        got = sorted(entry) if isinstance(entry, Mapping) else type(entry).__name__
        raise ValueError(f"codes must have {_REQUIRED} and may have {_OPTIONAL}, got {got}")
    terms = {name: _term(name, entry[name]) for name in (*_REQUIRED[1:], *_OPTIONAL) if name in entry}
    return SegmentCodes(label=str(entry["label"]), **terms)


def _term(name: str, code: Sequence[str]) -> CodedTerm:
    if isinstance(code, str) or len(code) != 3:
        raise ValueError(f"{name} must be a code [value, scheme, meaning], got {code!r}")
    return CodedTerm(*code)

"""What a sentence says and what a mask shows, as little maps of the zones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from common.metrics.text_mask_consistency import MIN_SHARE
from common.text.findings import Findings, read_findings
from common.text.zones import zone_regions

Zone = tuple[str, str]
_LEVELS = ("upper", "middle", "lower")
_COLUMNS = {"lung": ("left", "right"), "polyp": ("left", "center", "right")}
LONGEST_TEXT = 600


@dataclass(frozen=True)
class Reading:
    """A sentence and the reader's findings, in words.

    Attributes:
        text: the sentence, shortened when it is very long.
        zones: the zones in words, in the order of the grid.
        side: the side, or None.
        count: the number, or None.
        negated: whether it says that there is nothing.
        contradictions: what does not fit together.
        unknown_words: what could not be read.
        findings: the findings themselves; None for a missing sentence.
    """

    text: str
    zones: tuple[str, ...]
    side: str | None
    count: int | None
    negated: bool
    contradictions: tuple[str, ...]
    unknown_words: tuple[str, ...]
    findings: Findings | None


@lru_cache(maxsize=4096)
def read_sentence(text: str) -> Reading:
    """Read a sentence; an empty one has no findings."""
    if not text.strip():
        return Reading("", (), None, None, False, (), (), None)
    findings = read_findings(text)
    shown = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} … ({len(text)} characters)"
    ordered = sorted(findings.zones, key=lambda zone: (zone[0] != "left", zone[0], _LEVELS.index(zone[1])))
    return Reading(
        text=shown,
        zones=tuple(f"{side} {level}" for side, level in ordered),
        side=findings.side,
        count=findings.count,
        negated=findings.negated,
        contradictions=tuple(findings.contradictions),
        unknown_words=tuple(word[:40] for word in findings.unknown_words[:12]),
        findings=findings,
    )


def zone_map(zones: Iterable[Zone], *, anatomy: str, laterality: str) -> list[list[bool]]:
    """Lay zones out as they lie in the picture.

    Args:
        zones: (side, level) pairs in the sentence's laterality.
        anatomy: "lung" (two columns) or "polyp" (three).
        laterality: "image" puts left in the first column, "patient" in the last.

    Returns:
        Three rows, top first, of two or three cells, the left of the display first.
    """
    named = set(zones)
    columns = _COLUMNS[anatomy] if laterality == "image" else _COLUMNS[anatomy][::-1]
    return [[(side, level) in named for side in columns] for level in _LEVELS]


def occupied(mask: np.ndarray, *, anatomy: str, laterality: str) -> frozenset[Zone]:
    """The zones that hold a fair share of a mask.

    Args:
        mask: `(rows, columns)` bool.
        anatomy: "lung" or "polyp".
        laterality: "image" or "patient".

    Returns:
        The zones in the sentence's laterality, by the rule of the text–mask consistency.
    """
    regions = zone_regions(*mask.shape, anatomy=anatomy, laterality=laterality)
    least = max(MIN_SHARE * int(mask.sum()), 1)
    return frozenset(zone for zone, region in regions.items() if int(mask[region].sum()) >= least)

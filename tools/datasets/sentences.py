"""What the captions of a data set say, and whether the masks agree on which side is left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from common.text.findings import Findings, read_findings

LONG_CAPTION = 2000
READ_CHARACTERS = 5000
MIN_ONE_SIDED = 10
CLEAR_SHARE = 0.75


@dataclass
class CaptionReport:
    """Counts over the captions of a data set, gathered one case at a time."""

    distinct: set[str] = field(default_factory=set)
    missing: int = 0
    long: int = 0
    contradictory: int = 0
    unknown_words: Counter[str] = field(default_factory=Counter)
    anatomies: Counter[str] = field(default_factory=Counter)
    _read: dict[str, Findings] = field(default_factory=dict)

    def add(self, text: str | None, *, anatomy: str) -> Findings | None:
        """Count one caption and return what it says; ``None`` for an empty one."""
        if not text:
            self.missing += 1
            return None
        self.distinct.add(text)
        self.long += len(text) > LONG_CAPTION
        findings = self._findings(text[:READ_CHARACTERS], anatomy)
        self.contradictory += bool(findings.contradictions)
        self.unknown_words.update(findings.unknown_words)
        self.anatomies[findings.anatomy] += 1
        return findings

    def _findings(self, text: str, anatomy: str) -> Findings:
        if text not in self._read:
            self._read[text] = read_findings(text, anatomy=anatomy)
        return self._read[text]


@dataclass
class LateralityMeasurement:
    """On captions that name one side: in which half of the image does the mask lie?"""

    one_sided: int = 0
    image_side: int = 0

    def add(self, findings: Findings | None, mask: np.ndarray | None) -> None:
        """Count a case if its caption names one side only and its mask lies more on one half.

        Args:
            findings: what the caption says.
            mask: foreground, shape `(rows, cols)`.
        """
        side = _one_side(findings)
        if side is None or mask is None:
            return
        columns = mask.sum(axis=0)
        middle = mask.shape[1] / 2
        left = int(columns[: int(np.ceil(middle))].sum())  # columns x < W/2
        right = int(columns.sum()) - left
        if left == right:
            return
        self.one_sided += 1
        self.image_side += (left > right) == (side == "left")

    @property
    def share(self) -> float | None:
        """Share of the counted cases whose "left" is the left half of the image."""
        return self.image_side / self.one_sided if self.one_sided else None

    def decide(self, default: str) -> tuple[str, str | None]:
        """Return the laterality and, where the measurement does not settle it, a warning."""
        share = self.share
        if share is None or self.one_sided < MIN_ONE_SIDED:
            return default, (
                f"laterality was not measured ({self.one_sided} one-sided captions with a mask, "
                f"{MIN_ONE_SIDED} needed): '{default}' is assumed, say otherwise with --laterality"
            )
        measured = "image" if share >= 0.5 else "patient"
        if max(share, 1 - share) < CLEAR_SHARE:
            return measured, (
                f"laterality is unclear: 'left' is the left half of the image in only {share:.0%} of "
                f"{self.one_sided} one-sided captions; '{measured}' is stored, say otherwise with --laterality"
            )
        return measured, None


def _one_side(findings: Findings | None) -> str | None:
    if findings is None or findings.negated or findings.contradictions:
        return None
    sides = {side for side, _ in findings.zones} or {findings.side}
    return sides.pop() if sides in ({"left"}, {"right"}) else None

"""What the captions of a data set say, and whether the masks agree on which side is left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

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


class LateralityDecision(NamedTuple):
    """Whose left the captions mean (``image`` or ``patient``), how that is known, and any doubt."""

    laterality: str
    source: str
    doubt: str | None


@dataclass
class LateralityMeasurement:
    """On captions that name one side: in which half of the image does the mask lie?"""

    one_sided: int = 0
    image_side: int = 0

    def add(self, findings: Findings | None, mask: np.ndarray | None) -> None:
        """Count a case if its caption names one side only and its mask lies more on one half.

        Args:
            findings: what the caption says.
            mask: foreground, shape `(rows, cols)` or `(rows, cols, slices)`, as displayed.
        """
        side = _one_side(findings)
        if side is None or mask is None:
            return
        middle = -(-mask.shape[1] // 2)  # columns x < W/2
        left, right = int(mask[:, :middle].sum()), int(mask[:, middle:].sum())
        if left == right:
            return
        self.one_sided += 1
        self.image_side += (left > right) == (side == "left")

    @property
    def share(self) -> float | None:
        """Share of the counted cases whose "left" is the left half of the image."""
        return self.image_side / self.one_sided if self.one_sided else None

    def decide(self, default: str, *, told: str | None = None) -> LateralityDecision:
        """Decide whose left the captions mean.

        Args:
            default: laterality to assume where too little was measured.
            told: laterality that the user gave, which stands.

        Returns:
            The laterality, where it is from, and a warning where the measurement does not settle it.
        """
        share = self.share
        if told is not None:
            return LateralityDecision(told, "user", self._against(told))
        if share is None or self.one_sided < MIN_ONE_SIDED:
            return LateralityDecision(
                default,
                "assumed",
                f"laterality was not measured ({self.one_sided} one-sided captions with a mask, "
                f"{MIN_ONE_SIDED} needed): '{default}' is assumed, say otherwise with --laterality",
            )
        measured = "image" if share >= 0.5 else "patient"
        doubt = None
        if max(share, 1 - share) < CLEAR_SHARE:
            doubt = (
                f"laterality is unclear: 'left' is the left half of the image in only {share:.0%} of "
                f"{self.one_sided} one-sided captions; '{measured}' is stored, say otherwise with "
                "--laterality"
            )
        return LateralityDecision(measured, "measured", doubt)

    def _against(self, told: str) -> str | None:
        share = self.share
        if share is None or self.one_sided < MIN_ONE_SIDED:
            return None
        agreeing = share if told == "image" else 1 - share
        if agreeing > 1 - CLEAR_SHARE:
            return None
        return (
            f"laterality '{told}' was given, but only {agreeing:.0%} of {self.one_sided} one-sided captions "
            "agree with it on their masks"
        )


def _one_side(findings: Findings | None) -> str | None:
    if findings is None or findings.negated or findings.contradictions:
        return None
    sides = {side for side, _ in findings.zones} or {findings.side}
    return sides.pop() if sides in ({"left"}, {"right"}) else None

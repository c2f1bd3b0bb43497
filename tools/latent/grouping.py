"""Which cases belong together: those with the same sentence, or with sentences that name the same zones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from common.metrics import largest_groups
from common.text import LUNG_ZONES, POLYP_ZONES, Findings, read_findings

GROUPINGS = {"sentence": "sentences", "zones": "sets of zones"}
NO_FINDING = "no finding"


def group_names(sentences: Sequence[str], grouping: str, *, anatomy: str = "auto") -> list[str | None]:
    """Name the group of each case.

    Args:
        sentences: one a case, not blank.
        grouping: "sentence", the sentence as it is, or "zones", the zones that it names.
        anatomy: of the sentences, as for `read_findings`.

    Returns:
        One name a case; None for a sentence whose zones cannot be read.

    Raises:
        ValueError: if the grouping is unknown.
    """
    if grouping not in GROUPINGS:
        raise ValueError(f"grouping must be one of {', '.join(GROUPINGS)}, got {grouping!r}")
    if grouping == "sentence":
        return [sentence.strip() for sentence in sentences]
    return [_zones(read_findings(sentence, anatomy=anatomy)) for sentence in sentences]


def choose_cases(names: Sequence[str | None], *, groups: int, what: str) -> dict[str, list[int]]:
    """Choose the cases that are measured.

    Args:
        names: group of each case, see `group_names`.
        groups: number of groups that "largest" keeps, >= 2.
        what: what a group is, in the plural, as errors say it.

    Returns:
        Places of the cases: "repeated", of all groups with at least two cases, and "largest", of the most frequent.

    Raises:
        ValueError: if `groups` is below 2, or fewer groups have two cases.
    """
    if groups < 2:
        raise ValueError(f"groups must be at least 2, got {groups}: one group has nothing to lie apart from")
    counts = Counter(name for name in names if name is not None)
    repeated = {name for name, count in counts.items() if count > 1}
    if len(repeated) < groups:
        raise ValueError(
            f"groups must be at most the number of {what} that occur twice, got {groups} where {len(names)} cases have "
            f"{len(repeated)}: choose a larger section with --section, or fewer groups (at least 2) with --groups"
        )
    return {
        "repeated": [place for place, name in enumerate(names) if name in repeated],
        "largest": largest_groups(names, count=groups),
    }


def _zones(findings: Findings) -> str | None:
    """Such as "left lower, right all"; None when no zone is named and no finding denied."""
    if not findings.zones:
        return NO_FINDING if findings.negated else None
    order = POLYP_ZONES if findings.anatomy == "polyp" else LUNG_ZONES
    levels: dict[str, list[str]] = {}
    for side, level in (zone for zone in order if zone in findings.zones):
        levels.setdefault(side, []).append(level)
    return ", ".join(
        f"{side} {'all' if len(named) == 3 else ' '.join(named)}" for side, named in levels.items()
    )

"""Whether a mask agrees with its sentence on side, zones and count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..text.findings import Findings, read_findings
from ..text.zones import zone_regions
from .overlap import as_binary

MIN_SHARE = 0.01
MIN_COMPONENT = 0.001


@dataclass(frozen=True)
class Consistency:
    """Agreement of one mask with one sentence; None where the sentence does not say.

    Attributes:
        side: 1 when the mask lies on exactly the named sides, else 0.
        zones: Jaccard index of the zones that the mask occupies and the named ones, in [0, 1].
        count: 1 when the mask has as many components as named, else 0.
    """

    side: float | None = None
    zones: float | None = None
    count: float | None = None

    def columns(self, suffix: str) -> dict[str, float | None]:
        """Return the three values under ``side_<suffix>``, ``zones_<suffix>`` and ``count_<suffix>``."""
        return {f"side_{suffix}": self.side, f"zones_{suffix}": self.zones, f"count_{suffix}": self.count}


def text_mask_consistency(
    mask: Any,
    findings: Findings | None,
    *,
    laterality: str = "image",
    min_share: float = MIN_SHARE,
    min_component: float = MIN_COMPONENT,
) -> Consistency:
    """Compare a mask with what its sentence says.

    Lungs: a zone (and a side) is occupied when at least `min_share` of the mask's pixels lie in it. Polyps: a
    cell (and a side) is occupied when the centre of a component's bounding box lies in it, for a polyp is
    named by its place, not by its extent. Side: the occupied sides are exactly the named ones. Zones: Jaccard
    index of the occupied and the named zones. Count: the components (diagonal neighbours belong together) of
    at least `min_component` of the image are as many as named. A sentence that denies every finding names no
    side, no zone and zero components.

    The halves and thirds of the *image* stand for the zones. Real lungs are not that regular ("upper" lies
    around 0.28 of the height in QaTa-COV19, "middle" around 0.50, "lower" around 0.59), so even true masks
    stay below 1: read a prediction's score beside the true mask's.

    Args:
        mask: binary, `(rows, cols)`, or `(rows, cols, slices)`, whose slices are added up for side and zones.
        findings: what the sentence says; None for no sentence.
        laterality: ``"image"`` (left is the left half of the image) or ``"patient"`` (left is the right
            half).
        min_share: smallest share of the mask's pixels (lungs) that occupies a zone, in [0, 1).
        min_component: smallest component that counts, as a share of the image's pixels, in [0, 1).

    Returns:
        The three agreements.

    Raises:
        ValueError: if the mask is not binary or has no 2 or 3 dimensions, or a share or the laterality is
            unknown.
    """
    for name, share in (("min_share", min_share), ("min_component", min_component)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} must be in [0, 1), got {share}.")
    binary = as_binary(mask)
    if binary.ndim not in (2, 3):
        raise ValueError(f"mask must have 2 or 3 dimensions (no channel), got {binary.ndim}.")
    if findings is None:
        return Consistency()
    shares = zone_shares(binary, anatomy=findings.anatomy, laterality=laterality, min_component=min_component)
    count = count_components(binary, min_component=min_component) if named_count(findings) is not None else 0
    return consistency_of(findings, shares=shares, count=count, min_share=min_share)


def consistency_of(
    findings: Findings, *, shares: Mapping[tuple[str, str], float], count: int, min_share: float = MIN_SHARE
) -> Consistency:
    """Compare what is known of a mask with what its sentence says; see `text_mask_consistency`.

    Args:
        findings: what the sentence says.
        shares: of the mask in every zone, from `zone_shares` with the anatomy of the findings.
        count: components of the mask, from `count_components`.
        min_share: smallest share that occupies a zone, in [0, 1).
    """
    expected = named_count(findings)
    return Consistency(
        side=_side_agreement(shares, findings, min_share),
        zones=_zone_agreement(shares, findings, min_share),
        count=None if expected is None else float(count == expected),
    )


def findings_of(sentence: str | None) -> Findings | None:
    """Read a sentence; None for a missing or blank one."""
    if sentence is None or not sentence.strip():
        return None
    return read_findings(sentence)


def named_sides(findings: Findings) -> frozenset[str] | None:
    """Return the sides that a sentence names, in its own laterality.

    Args:
        findings: of the sentence.

    Returns:
        Some of ``left``, ``right``, ``center``; empty when every finding is denied; None when it does not
        say.
    """
    if findings.zones:
        return frozenset(side for side, _ in findings.zones)
    if findings.negated:
        return frozenset()
    if findings.side is None:
        return None
    return frozenset({"left", "right"}) if findings.side == "bilateral" else frozenset({findings.side})


def named_count(findings: Findings) -> int | None:
    """Return how many components a sentence names; 0 when every finding is denied, None when it does not say."""
    return 0 if findings.negated and not findings.zones else findings.count


def count_components(mask: Any, *, min_component: float = MIN_COMPONENT) -> int:
    """Count the connected components of a mask; pixels that touch at a corner belong together.

    Args:
        mask: binary array of any number of dimensions.
        min_component: smallest component that counts, as a share of the image's pixels, in [0, 1).

    Returns:
        The number of components.
    """
    _, large = _labelled(as_binary(mask), min_component)
    return int(large.sum())


def _labelled(binary: np.ndarray, min_component: float) -> tuple[np.ndarray, np.ndarray]:
    """The components, numbered from 1, and which of them are large enough."""
    labelled, _ = ndimage.label(binary, structure=np.ones((3,) * binary.ndim))
    return labelled, np.bincount(labelled.ravel())[1:] >= min_component * binary.size


def _components(binary: np.ndarray, min_component: float) -> list[tuple[slice, ...]]:
    """Bounding boxes of the components that are large enough."""
    labelled, large = _labelled(binary, min_component)
    return [box for box, enough in zip(ndimage.find_objects(labelled), large, strict=True) if enough]


def zone_shares(
    binary: np.ndarray, *, anatomy: str, laterality: str, min_component: float = MIN_COMPONENT
) -> dict[tuple[str, str], float]:
    """Return the share of the mask's pixels (lungs) or of its components' centres (polyps) in each zone.

    Args:
        binary: boolean, `(rows, cols)` or `(rows, cols, slices)`, whose slices are added up.
        anatomy: ``"lung"`` or ``"polyp"``.
        laterality: ``"image"`` or ``"patient"``, whose left the zones mean.
        min_component: smallest component that counts (polyps), as a share of the image's pixels.
    """
    if anatomy == "polyp":
        weights = np.zeros(binary.shape[:2])
        for rows, cols, *_ in _components(binary, min_component):
            weights[(rows.start + rows.stop - 1) // 2, (cols.start + cols.stop - 1) // 2] += 1
    else:
        weights = binary.sum(axis=2) if binary.ndim == 3 else binary
    total = max(float(weights.sum()), 1.0)
    regions = zone_regions(*weights.shape, anatomy=anatomy, laterality=laterality)
    return {zone: float(weights[region].sum()) / total for zone, region in regions.items()}


def _side_agreement(
    shares: Mapping[tuple[str, str], float], findings: Findings, min_share: float
) -> float | None:
    named = named_sides(findings)
    if named is None:
        return None
    by_side: dict[str, float] = {}
    for (side, _), share in shares.items():
        by_side[side] = by_side.get(side, 0.0) + share
    return float(_present(by_side, min_share) == named)


def _zone_agreement(
    shares: Mapping[tuple[str, str], float], findings: Findings, min_share: float
) -> float | None:
    if not findings.zones and not findings.negated:
        return None
    occupied = _present(shares, min_share)
    union = occupied | findings.zones
    return len(occupied & findings.zones) / len(union) if union else 1.0


def _present(shares: Mapping[Any, float], min_share: float) -> set[Any]:
    return {name for name, share in shares.items() if share > 0 and share >= min_share}

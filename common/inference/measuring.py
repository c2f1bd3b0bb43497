"""What a mask measures, and whether it contradicts its sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from ..metrics.text_mask_consistency import (
    MIN_SHARE,
    Consistency,
    consistency_of,
    count_components,
    findings_of,
    named_sides,
    zone_shares,
)
from ..metrics.volumes import column_name
from ..text.findings import Findings, read_findings
from ..text.lexicon import LEVELS
from .result import Segmentation

MM3_PER_ML = 1000.0
CONVENTIONS = {
    "image": "left and right are the halves of the picture as displayed",
    "patient": "left and right are the patient's: the patient's left is the right half of the displayed picture",
}
NO_SPACING = "the image has no pixel spacing"
NO_SLICE_SPACING = "the image has no spacing in all three directions"
DETECTOR = "in the plane of the detector (Imager Pixel Spacing): the area in the patient is smaller"
_COLUMNS = ("left", "center", "right")
DIGITS = 6  # of decimals in a row

Zone = tuple[str, str]  # side and level


@dataclass(frozen=True)
class CaseMeasures:
    """What is known of one segmented case.

    Attributes:
        id: name of the case.
        area_mm2: of a picture, in mm²; None for volumes and without a spacing.
        volume_ml: of a volume, in ml; None for pictures and without a spacing.
        size_note: why area or volume are unknown, or what they are to be read with; "" when there is nothing to say.
        spacing_kind: "patient", "detector" or "unknown".
        share: part of all pixels, 0 to 1.
        side: where the mask lies, in the bundle's laterality: "left", "right", "center", "bilateral", several joined
            by "+", or None for an empty mask.
        zones: those that the mask occupies, such as "lower left"; of volumes none: their levels are slices.
        count: number of findings.
        mean_probability: inside the mask; None when it is empty.
        side_agreement: 1 when the mask lies on exactly the named sides, else 0; None where the sentence says nothing.
        zones_agreement: Jaccard index of the occupied and the named zones.
        count_agreement: 1 when there are as many findings as named, else 0.
        contradiction: whether mask and sentence cannot both be right.
        reasons: why.
        text: the sentence as given.
        sentence: as the network read it.
        given_laterality: whose left `text` means.
        laterality: whose left `sentence`, `side` and `zones` mean.
        convention: the same in words.
        model: name of the bundle.
        version: of the bundle.
        weights_sha256: of its weights; None when untrained.
        warnings: of the result.
    """

    id: str
    area_mm2: float | None
    volume_ml: float | None
    size_note: str
    spacing_kind: str
    share: float
    side: str | None
    zones: tuple[str, ...]
    count: int
    mean_probability: float | None
    side_agreement: float | None
    zones_agreement: float | None
    count_agreement: float | None
    contradiction: bool
    reasons: tuple[str, ...]
    text: str
    sentence: str
    given_laterality: str
    laterality: str
    convention: str
    model: str
    version: str
    weights_sha256: str | None
    warnings: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """Return a flat dictionary for CSV or JSON; lists are joined by "; ", numbers have six decimals."""
        return {name: _flat(value) for name, value in asdict(self).items()}


def measures(segmentation: Segmentation) -> CaseMeasures:
    """Measure the mask of a case and compare it with its sentence.

    Sides and zones are those of the picture's halves and thirds in the bundle's laterality. A side or zone is
    occupied when 1 % of the mask lies in it (polyps: the centre of a component). Of a volume, shown axially, only
    the sides are compared: its levels are slices, not rows.

    Args:
        segmentation: the case.
    """
    mask, info = segmentation.mask > 0, segmentation.info
    findings = findings_of(segmentation.sentence)
    if findings is not None and info.anatomy != "auto":
        findings = read_findings(segmentation.sentence, anatomy=info.anatomy)
    anatomy = anatomy_of_case(info.anatomy, findings)
    shares = zone_shares(mask, anatomy=anatomy, laterality=info.laterality)
    count = count_components(mask)
    agreement = Consistency() if findings is None else consistency_of(findings, shares=shares, count=count)
    occupied = tuple(zone for zone, share in shares.items() if share > 0 and share >= MIN_SHARE)
    flat = mask.ndim == 2
    reasons = contradictions(mask, findings, occupied, levels=flat)
    area, volume, note = size(segmentation)
    probability = segmentation.probability
    return CaseMeasures(
        id=segmentation.id,
        area_mm2=area,
        volume_ml=volume,
        size_note=note,
        spacing_kind=str(segmentation.meta.get("spacing_kind", "unknown")),
        share=float(mask.mean()),
        side=side_name({side for side, _ in occupied}, anatomy=anatomy),
        zones=tuple(f"{level} {side}" for side, level in occupied) if flat else (),
        count=count,
        mean_probability=float(probability[mask].mean()) if mask.any() and probability.size else None,
        **_agreement(agreement, levels=flat),
        contradiction=bool(reasons),
        reasons=reasons,
        text=segmentation.text,
        sentence=segmentation.sentence,
        given_laterality=segmentation.given_laterality,
        laterality=info.laterality,
        convention=CONVENTIONS[info.laterality],
        model=info.name,
        version=info.version,
        weights_sha256=info.weights_sha256,
        warnings=segmentation.warnings,
    )


def class_volumes(segmentation: Segmentation) -> dict[str, float | None]:
    """Return the volume of every class but the background in ml, as ``ml_<class>``; None without a spacing.

    Args:
        segmentation: of a bundle with labels; of any other nothing is returned.
    """
    spacing = np.asarray(segmentation.meta.get("spacing", [np.nan] * 3), dtype=float)
    voxel = float(spacing.prod()) / MM3_PER_ML
    known = len(spacing) == 3 and np.isfinite(voxel) and voxel > 0
    labels = segmentation.info.labels
    counts = np.bincount(segmentation.mask.ravel(), minlength=len(labels)) if labels else ()
    return {
        f"ml_{column_name(name)}": round(float(counts[int(number)]) * voxel, DIGITS) if known else None
        for number, name in labels.items()
        if int(number)
    }


def anatomy_of_case(named: str, findings: Findings | None) -> str:
    """Return "lung" or "polyp": what the bundle is for, else what the sentence speaks of, else lungs."""
    if named != "auto":
        return named
    return "lung" if findings is None else findings.anatomy


def size(segmentation: Segmentation) -> tuple[float | None, float | None, str]:
    """Return area in mm² of a picture, volume in ml of a volume (the other is None), and a note on them."""
    mask, meta = segmentation.mask, segmentation.meta
    spacing = np.asarray(meta.get("spacing", [np.nan] * 3), dtype=float)[: mask.ndim]
    known = bool(np.isfinite(spacing).all() and (spacing > 0).all()) and len(spacing) == mask.ndim
    if not known:
        return None, None, NO_SPACING if mask.ndim == 2 else NO_SLICE_SPACING
    total = float(np.count_nonzero(mask)) * float(spacing.prod())
    if mask.ndim == 3:
        return None, total / MM3_PER_ML, ""
    return total, None, DETECTOR if meta.get("spacing_kind") == "detector" else ""


def side_name(sides: set[str], *, anatomy: str) -> str | None:
    """Return one word for the sides that a mask lies on."""
    if anatomy == "lung" and len(sides) == 2:
        return "bilateral"
    return "+".join(side for side in ("left", "center", "right") if side in sides) or None


def contradictions(
    mask: np.ndarray,
    findings: Findings | None,
    occupied: tuple[Zone, ...],
    *,
    levels: bool = True,
) -> tuple[str, ...]:
    """Say why a mask and its sentence cannot both be right; nothing where the sentence says nothing.

    A place contradicts when the mask lies neither there nor next to it: the other lung, the other end of a lung, the
    opposite side or end of the 3 x 3 grid. Thirds of a picture are no more exact than that: so
    defined, fewer than one in a hundred true masks of a sample of QaTa-COV19 contradict their sentences.

    Args:
        mask: the mask.
        findings: of the sentence, in the laterality of `occupied`; None for no sentence.
        occupied: the zones that the mask occupies.
        levels: whether upper, middle and lower are thirds of the rows.
    """
    if findings is None:
        return ()
    reasons = [f"the sentence contradicts itself: {words}" for words in findings.contradictions]
    denies = findings.negated and not findings.zones
    names_some = bool(findings.zones) or bool(findings.count)
    if denies and mask.any():
        reasons.append("the sentence denies findings, but the mask is not empty")
    elif names_some and not findings.negated and not mask.any():
        reasons.append("the sentence names findings, but the mask is empty")
    elif mask.any() and not denies:
        reasons += _misplaced(findings, occupied, levels=levels)
    return tuple(reasons)


def _misplaced(findings: Findings, occupied: tuple[Zone, ...], *, levels: bool) -> list[str]:
    """Compare places with the tolerance of a neighbour: true masks often reach no further (`contradictions`)."""
    sides = named_sides(findings)
    if not sides or not occupied:
        return []
    places = dict.fromkeys(f"{level} {side}" if levels else side for side, level in occupied)
    lies = f"but the mask lies {' and '.join(places)}"
    if not any(_close(_COLUMNS, a, b) for a in sides for b, _ in occupied):
        return [f"the sentence names {' and '.join(sorted(sides))}, {lies}"]
    if levels and findings.zones and not _near(findings.zones, occupied):
        named = (f"{level} {side}" for side, level in sorted(findings.zones))
        return [f"the sentence names {' and '.join(named)}, {lies}"]
    return []


def _near(named: Iterable[Zone], occupied: Iterable[Zone]) -> bool:
    """Whether some zone is a named one or its neighbour."""
    pairs = product(named, occupied)
    return any(_close(_COLUMNS, a[0], b[0]) and _close(LEVELS, a[1], b[1]) for a, b in pairs)


def _close(order: Sequence[str], first: str, second: str) -> bool:
    return abs(order.index(first) - order.index(second)) <= 1


def _agreement(agreement: Consistency, *, levels: bool) -> dict[str, float | None]:
    return {
        "side_agreement": agreement.side,
        "zones_agreement": agreement.zones if levels else None,
        "count_agreement": agreement.count,
    }


def _flat(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return "; ".join(map(str, value))
    return round(value, DIGITS) if isinstance(value, float) else value

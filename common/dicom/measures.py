"""Sizes of a segment: number of findings, area or volume, and what the numbers mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .reading import pixel_spacing
from .sources import SourceImages

MM3_PER_ML = 1000.0
_MEANINGS = {
    "patient": "Area from Pixel Spacing.",
    "detector": "Area in the plane of the detector, from Imager Pixel Spacing: the area in the patient is smaller.",
    "unknown": "Area unknown: the image has no pixel spacing.",
}


@dataclass(frozen=True)
class SegmentMeasures:
    """Sizes of one segment.

    Args:
        findings: number of separate parts (touching at a corner counts as joined).
        area_mm2: area in mm² for one image, None for several or without spacing.
        volume_ml: volume in ml for several images, None for one.
        share: part of all pixels, 0 to 1.
        spacing_kind: "patient", "detector" (in its plane, larger than in the patient) or "unknown".
        meaning: what area or volume were computed from, in words.
    """

    findings: int
    area_mm2: float | None
    volume_ml: float | None
    share: float
    spacing_kind: str
    meaning: str


def measure_segment(mask: np.ndarray, images: SourceImages) -> SegmentMeasures:
    """Measure one segment on the stored grid.

    Area is the number of pixels times the row and column distance; volume the sum of the areas of all frames,
    each times its extent: half the distance to either neighbour (at the ends, the whole distance to the one).

    Args:
        mask: `(frames, rows, columns)`, anything but 0 is the segment; frames in the order of `images`.
        images: the source images.

    Returns:
        The sizes.

    Raises:
        ValueError: when the mask does not have the shape of the images.
    """
    inside = np.asarray(mask) != 0
    if inside.shape != images.shape:
        raise ValueError(f"mask must have the shape of its source, {images.shape}, got {inside.shape}")
    share = float(inside.mean())
    if images.positions is None or images.spacing is None or images.shape[0] == 1:
        spacing, kind = (images.spacing, "patient") if images.spacing else pixel_spacing(images.first)
        area = None if spacing is None else float(inside.sum()) * spacing[0] * spacing[1]
        return SegmentMeasures(_parts(inside[0]), area, None, share, kind, _MEANINGS[kind])
    order, extents = _slices(images)
    pixel = images.spacing[0] * images.spacing[1]
    volume = float((inside[order].sum(axis=(1, 2)) * extents).sum()) * pixel / MM3_PER_ML
    meaning = "Volume from Pixel Spacing and the distances of the slices."
    return SegmentMeasures(_parts(inside[order]), None, volume, share, "patient", meaning)


def _parts(inside: np.ndarray) -> int:
    _, found = ndimage.label(inside, structure=np.ones((3,) * inside.ndim))
    return int(found)


def _slices(images: SourceImages) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of the frames along their normal and the extent of each in mm, in that order."""
    if images.positions is None or images.orientation is None:
        raise ValueError("images must have a geometry, got none")
    normal = np.cross(images.orientation[:3], images.orientation[3:])
    depth = images.positions @ normal
    order = np.argsort(depth, kind="stable")
    gaps = np.diff(depth[order])
    return order, (np.append(gaps[:1], gaps) + np.append(gaps, gaps[-1:])) / 2

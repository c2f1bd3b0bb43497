"""The coarse regions that sentences name, as ordered lists, vectors and masks."""

from __future__ import annotations

import numpy as np

from .findings import Findings
from .lexicon import LEVELS

LUNG_ZONES: tuple[tuple[str, str], ...] = tuple(
    (side, level) for side in ("left", "right") for level in LEVELS
)
POLYP_ZONES: tuple[tuple[str, str], ...] = tuple(
    (side, level) for side in ("left", "center", "right") for level in LEVELS
)
LATERALITIES = ("image", "patient")


def zones_of(anatomy: str) -> tuple[tuple[str, str], ...]:
    """Return the zones of an anatomy in order.

    Args:
        anatomy: "lung" (left then right, each upper, middle, lower) or "polyp" (left, center, right).

    Returns:
        Six or nine `(side, level)` pairs.

    Raises:
        ValueError: if the anatomy is unknown.
    """
    if anatomy not in ("lung", "polyp"):
        raise ValueError(f"anatomy must be 'lung' or 'polyp', got {anatomy!r}.")
    return LUNG_ZONES if anatomy == "lung" else POLYP_ZONES


def zone_vector(findings: Findings) -> list[float]:
    """Return 1 for each named zone and 0 for the others, in the order of the anatomy's zones.

    Args:
        findings: of a sentence.

    Returns:
        Six values (lungs) or nine (polyps).
    """
    return [float(zone in findings.zones) for zone in zones_of(findings.anatomy)]


def zone_regions(
    height: int, width: int, *, anatomy: str = "lung", laterality: str = "image"
) -> dict[tuple[str, str], np.ndarray]:
    """Return the pixels of each zone: halves (lungs) or thirds (polyps) of the width by thirds of the height.

    Pixel column x lies in the left half when x < width / 2; row y lies in the upper third when y < height / 3.
    The regions are disjoint and cover the image. In patient laterality "left" is drawn on the right.

    Args:
        height: rows, ≥ 1.
        width: columns, ≥ 1.
        anatomy: "lung" or "polyp".
        laterality: "image" (left is the left of the display) or "patient" (left is the patient's).

    Returns:
        For each zone, in order, a boolean array `(height, width)`; empty regions of tiny images are all False.

    Raises:
        ValueError: if a size is below 1, or the anatomy or the laterality is unknown.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, got {height} x {width}.")
    if laterality not in LATERALITIES:
        raise ValueError(f"laterality must be 'image' or 'patient', got {laterality!r}.")
    zones = zones_of(anatomy)
    sides = list(dict.fromkeys(side for side, _ in zones))
    drawn = sides if laterality == "image" else sides[::-1]
    columns = np.arange(width) * len(sides) // width
    rows = np.arange(height) * len(LEVELS) // height
    return {
        (side, level): (rows == LEVELS.index(level))[:, None] & (columns == drawn.index(side))[None, :]
        for side, level in zones
    }

"""Soft-edged, low-contrast opacities for the chest phantoms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from .phantom_anatomy import ChestAnatomy, Field, lung_field, picture_grid, smooth_noise, step

Zone = tuple[str, str]
SIDES = ("left", "right")
LEVELS = ("upper", "middle", "lower")
ZONES: tuple[Zone, ...] = tuple((side, level) for side in SIDES for level in LEVELS)
"""The six lung zones, sides as halves of the picture, levels as thirds of its height."""

_PLAN = 64
_GAP = 0.014
_SMALLEST_RADIUS = 0.036


@dataclass(frozen=True)
class Opacity:
    """One opacity, in fractions of the picture.

    `blobs` has rows of (x, y, radius); their union, roughened, is the outline. `softness` is the width of the
    edge, `contrast` the brightness added in the middle.
    """

    zone: Zone
    blobs: np.ndarray
    softness: float
    contrast: float
    seed: int


@lru_cache(maxsize=64)
def zone_window(zone: Zone, size: int) -> Field:
    """About the distance inwards from the border of a zone, less a small gap to the neighbouring zones.

    Args:
        zone: side (half of the picture) and level (third of its height).
        size: rows and columns of the picture.

    Returns:
        `(size, size)`, positive inside, in fractions of the picture; read-only, kept between calls.
    """
    x, y = picture_grid(size)
    third = LEVELS.index(zone[1])
    sideways = 0.5 - x if zone[0] == "left" else x - 0.5
    window = np.minimum(np.minimum(y - third / 3, (third + 1) / 3 - y), sideways) - _GAP
    window.flags.writeable = False
    return window


def sample_opacities(rng: np.random.Generator, anatomy: ChestAnatomy, zones: Iterable[Zone]) -> list[Opacity]:
    """Draw an opacity in each of the zones, all from one distribution.

    Args:
        rng: source of randomness; it is advanced.
        anatomy: the chest they lie in.
        zones: where to put them.

    Returns:
        One opacity a zone, in the order of the zones.

    Raises:
        ValueError: a zone has no room for an opacity.
    """
    inside = np.max([zone_window(zone, _PLAN) for zone in ZONES], axis=0) > 0
    room = ndimage.distance_transform_edt(inside & (lung_field(anatomy, _PLAN) > 0.5)) / _PLAN
    return [_sample_one(rng, room * (zone_window(zone, _PLAN) > 0), zone) for zone in zones]


def _sample_one(rng: np.random.Generator, room: Field, zone: Zone) -> Opacity:
    """Draw an opacity; `room` is the distance of each pixel to the border of lung or zone, 0 outside."""
    if room.max() < _SMALLEST_RADIUS:
        raise ValueError(f"zone {zone} must have room for an opacity, got {room.max():.3f} of the picture")
    rows, columns = np.nonzero(room >= max(0.5 * room.max(), _SMALLEST_RADIUS))
    pick = int(rng.integers(len(rows)))
    centre = np.array([columns[pick] + rng.random(), rows[pick] + rng.random()]) / _PLAN
    radius = float(
        np.clip(room[rows[pick], columns[pick]] * rng.uniform(0.9, 1.3), 1.2 * _SMALLEST_RADIUS, 0.11)
    )
    return Opacity(
        zone=zone,
        blobs=_sample_blobs(rng, centre, radius),
        softness=radius * rng.uniform(0.15, 0.28),
        contrast=rng.uniform(0.17, 0.32),
        seed=int(rng.integers(2**31)),
    )


def _sample_blobs(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    satellites = int(rng.integers(1, 4))
    angles = rng.uniform(0, 2 * np.pi, satellites)
    reach = radius * rng.uniform(0.6, 1.5, satellites)
    offsets = np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
    radii = radius * rng.uniform(0.45, 0.85, satellites)
    rows = np.column_stack([centre + offsets, radii])
    return np.vstack([[*centre, radius], rows]).astype(np.float32)


def render_opacity(opacity: Opacity, lung: Field) -> Field:
    """The share of its full contrast that an opacity reaches at each pixel.

    Args:
        opacity: what to draw.
        lung: `(size, size)` lung field in [0, 1]; the opacity stays inside it.

    Returns:
        `(size, size)` in [0, 1]; the outline of the infection is where it crosses 0.5.
    """
    size = lung.shape[0]
    x, y = picture_grid(size)
    distance = np.full((size, size), -np.inf, dtype=np.float32)
    for bx, by, radius in opacity.blobs:
        distance = np.maximum(distance, radius - np.hypot(x - bx, y - by))
    rough = smooth_noise(np.random.default_rng(opacity.seed), size, 18)
    distance = distance + 0.2 * opacity.blobs[0, 2] * rough
    window = zone_window(opacity.zone, size)
    return step(np.minimum(distance, window), opacity.softness) * lung


def opacity_texture(opacity: Opacity, size: int) -> Field:
    """Patchiness of the inside of an opacity: `(size, size)` factors of about 0.75 to 1.25."""
    return 1 + 0.22 * np.clip(smooth_noise(np.random.default_rng(opacity.seed + 1), size, 24), -1.5, 1.5)


def outline(shares: Iterable[Field], lung: Field) -> np.ndarray:
    """The mask of some opacities: where any reaches half of its contrast, without specks.

    Returns:
        `(size, size)` bool. Regions that touch only at a corner are joined, so that counting them with
        4 or 8 neighbours gives the same number.
    """
    mask = np.zeros(lung.shape, dtype=bool)
    smallest = max(4, round(0.0012 * lung.size))
    for share in shares:
        part = (share > 0.5) & (lung > 0.5)
        labels, count = ndimage.label(part)
        sizes = ndimage.sum_labels(part, labels, range(1, count + 1)) if count else ()
        keep = [index + 1 for index, pixels in enumerate(sizes) if pixels >= smallest]
        mask |= np.isin(labels, keep)
    return _join_corners(mask)


def _join_corners(mask: np.ndarray) -> np.ndarray:
    mask = mask.copy()
    while True:
        a, b, c, d = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
        falling, rising = a & d & ~b & ~c, b & c & ~a & ~d
        if not (falling.any() or rising.any()):
            return mask
        mask[:-1, 1:] |= falling
        mask[:-1, :-1] |= rising

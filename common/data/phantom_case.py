"""One chest phantom: image, infection mask, sentence, and the look-alike opacities that it does not name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .phantom_anatomy import ChestAnatomy, Field, lung_field, render_chest, sample_anatomy
from .phantom_captions import WORDINGS, caption
from .phantom_opacities import (
    ZONES,
    Opacity,
    Zone,
    opacity_texture,
    outline,
    render_opacity,
    sample_opacities,
)

LATERALITY = "image"
"""In the sentences "left" is the left half of the picture."""

_NORMAL_SHARE = 0.04
_NAMED_COUNTS = (0.35, 0.35, 0.20, 0.10)
_FREE_SHARE = 0.35
_SMALLEST = 32
_SMALLEST_SHARE = 0.015
_ATTEMPTS = 50


@dataclass(frozen=True)
class PhantomCase:
    """A chest phantom.

    Attributes:
        image: `(size, size)` uint8, rows × columns as displayed, bone bright.
        mask: `(size, size)` bool, the infections that the sentence names.
        sentence: the caption; "left" is the left half of the picture.
        zones: the zones that the sentence names and that the mask occupies.
        lookalike_mask: `(size, size)` bool, opacities of the same appearance that the sentence does not name.
        count: number of connected infected areas in the mask.
    """

    image: np.ndarray
    mask: np.ndarray
    sentence: str
    zones: frozenset[Zone]
    lookalike_mask: np.ndarray
    count: int


def phantom_case(
    seed: int | np.random.Generator,
    size: int = 96,
    *,
    zones: Iterable[Zone] | None = None,
    wording: str | None = None,
) -> PhantomCase:
    """Draw a chest radiograph in which only the sentence tells the infections from the look-alikes.

    Half of the zones that the sentence does not name get an opacity from the same distribution as the
    infections. About one case in 25 has look-alikes only, and its sentence says that there is no infection.

    Args:
        seed: a seed, or a generator that is advanced. A seed gives the same chest at every size.
        size: rows and columns, at least 32.
        zones: the zones to infect; drawn when None.
        wording: "lvit" or "free"; drawn when None.

    Returns:
        The case.

    Raises:
        ValueError: a size below 32, an unknown zone or wording.
    """
    if size < _SMALLEST:
        raise ValueError(f"size must be at least {_SMALLEST} pixels, got {size}")
    if wording is not None and wording not in WORDINGS:
        raise ValueError(f"wording must be one of {WORDINGS} or None, got {wording!r}")
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    named = _sample_zones(rng) if zones is None else frozenset(zones)
    if not named <= set(ZONES):
        raise ValueError(f"zones must be among {ZONES}, got {sorted(named - set(ZONES))}")
    if wording is None:
        wording = "free" if rng.random() < _FREE_SHARE else "lvit"
    for _ in range(_ATTEMPTS):
        case = _attempt(np.random.default_rng(rng.integers(2**63)), size, named, wording)
        if case is not None:
            return case
    raise ValueError(f"size must leave room for opacities in {sorted(named)}, got {size}")


def _sample_zones(rng: np.random.Generator) -> frozenset[Zone]:
    if rng.random() < _NORMAL_SHARE:
        return frozenset()
    count = 1 + int(rng.choice(len(_NAMED_COUNTS), p=_NAMED_COUNTS))
    return frozenset(ZONES[index] for index in rng.permutation(len(ZONES))[:count])


def _sample_lookalikes(rng: np.random.Generator, named: frozenset[Zone]) -> list[Zone]:
    """Half of the unnamed zones; an odd half is rounded up or down with equal chance."""
    unnamed = [zone for zone in ZONES if zone not in named]
    count = len(unnamed) // 2 + (len(unnamed) % 2 and int(rng.integers(2)))
    return [unnamed[index] for index in rng.permutation(len(unnamed))[:count]]


def _attempt(rng: np.random.Generator, size: int, named: frozenset[Zone], wording: str) -> PhantomCase | None:
    """One draw, or None when a zone had no room or an opacity vanished behind the lung's border."""
    anatomy = sample_anatomy(rng)
    lookalikes = _sample_lookalikes(rng, named)
    infected = [zone for zone in ZONES if zone in named]
    try:
        opacities = sample_opacities(rng, anatomy, [*infected, *lookalikes])
    except ValueError:
        return None
    lung = lung_field(anatomy, size)
    shares = [render_opacity(opacity, lung) for opacity in opacities]
    mask = outline(shares[: len(infected)], lung)
    distractors = outline(shares[len(infected) :], lung)
    if not (_fills(mask, named) and _fills(distractors, frozenset(lookalikes))):
        return None
    count = int(ndimage.label(mask)[1])
    sentence = caption(rng, named, count=count, wording=wording)
    image = _expose(rng, _draw(anatomy, lung, opacities, shares))
    return PhantomCase(image, mask, sentence, named, distractors, count)


def _fills(mask: np.ndarray, zones: frozenset[Zone]) -> bool:
    """Whether a mask lies in exactly these zones, with a fair share of its pixels in each."""
    shares = _zone_pixels(mask) / max(int(mask.sum()), 1)
    return all(
        (share >= _SMALLEST_SHARE) == (zone in zones) for zone, share in zip(ZONES, shares, strict=True)
    )


def _zone_pixels(mask: np.ndarray) -> np.ndarray:
    """Pixels of a square mask in each of the six zones."""
    rows, columns = np.nonzero(mask)
    thirds = (3 * rows + 1) // mask.shape[0]
    halves = (2 * columns + 1) // mask.shape[1]
    return np.bincount(3 * halves + thirds, minlength=len(ZONES))


def occupied_zones(mask: np.ndarray) -> frozenset[Zone]:
    """The zones of the picture (halves × thirds) in which a square mask has pixels."""
    pixels = _zone_pixels(mask)
    return frozenset(zone for zone, count in zip(ZONES, pixels, strict=True) if count)


def _draw(anatomy: ChestAnatomy, lung: Field, opacities: list[Opacity], shares: list[Field]) -> Field:
    picture = render_chest(anatomy, lung)
    for opacity, share in zip(opacities, shares, strict=True):
        picture = picture + opacity.contrast * share * opacity_texture(opacity, lung.shape[0])
    return picture


def _expose(rng: np.random.Generator, picture: Field) -> np.ndarray:
    """Blur, exposure, contrast curve, detector noise and 8-bit quantisation."""
    size = picture.shape[0]
    blur, gain, offset = rng.uniform(0.003, 0.008), rng.uniform(0.8, 1.12), rng.uniform(-0.05, 0.07)
    gamma, noise = rng.uniform(0.75, 1.4), rng.uniform(0.008, 0.024)
    picture = ndimage.gaussian_filter(picture, blur * size, truncate=3.0)
    exposed = np.clip(gain * picture + offset, 0, 1) ** gamma
    grain = rng.standard_normal(picture.shape).astype(np.float32)
    exposed = exposed + noise * grain * np.sqrt(0.3 + exposed)
    return np.rint(255 * np.clip(exposed, 0, 1)).astype(np.uint8)

"""Slices in space: their order, their distances, and everything that keeps them from being one volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAME_DIRECTION = 1e-3  # of direction cosines
SAME_SPACING = 1e-3  # relative
SAME_PLACE = 1e-3  # mm
EVEN = 0.02  # of the usual distance: how far slices may be from even before it is said
MISSING = 0.5  # of the usual distance: what is longer by more has a slice missing
EXAMPLES = 3  # files that an error names

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Slices that are one volume.

    Args:
        order: which of the given slices is first, second … along the normal of the planes.
        affine: 4 x 4, from (row, column, slice in that order) to RAS+ millimetres.
        warnings: what is uneven, in words.
    """

    order: tuple[int, ...]
    affine: np.ndarray
    warnings: tuple[str, ...] = ()


def stack_slices(
    positions: np.ndarray,
    orientations: np.ndarray,
    spacings: np.ndarray,
    *,
    names: Sequence[str],
    where: str,
    thickness: float = 1.0,
) -> Stack:
    """Put slices in order, or say why they are no volume.

    Args:
        positions: `(n, 3)` corner of every slice in mm (LPS).
        orientations: `(n, 6)` direction cosines of rows and columns.
        spacings: `(n, 2)` distances of rows and columns in mm.
        names: file of every slice, for messages.
        where: the folder or files, for messages.
        thickness: mm that a single slice is taken to have.

    Returns:
        The stack. A tilted gantry makes a sheared affine; uneven or missing slices are warned of.

    Raises:
        ValueError: when orientations or pixel spacings differ, slices lie in the same place, or more of them are
            missing than are there.

    Reference:
        DICOM PS3.3, C.7.6.2.1.1 (Image Position and Orientation).
    """
    _check_directions(orientations, names, where)
    if np.ptp(spacings / spacings[0], axis=0).max() > SAME_SPACING:
        kinds = sorted({f"{row:g} x {column:g}" for row, column in spacings.round(4)})
        raise ValueError(
            f"{where} must have one pixel spacing, got {', '.join(kinds)} mm: pass one volume alone"
        )
    across, down = orientations[0, :3], orientations[0, 3:]
    normal = np.cross(across, down)
    depths = positions @ normal
    order = np.argsort(depths, kind="stable")
    gaps = np.diff(depths[order])
    _check_places(gaps, [names[index] for index in order], where)
    step = normal * thickness
    if len(order) > 1:
        step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([down * spacings[0, 0], across * spacings[0, 1], step], axis=1)
    affine[:3, 3] = positions[order[0]]
    warnings = (*_uneven(gaps, where), *_shifted(positions[order], spacings[0]))
    return Stack(tuple(int(index) for index in order), LPS_TO_RAS @ affine, warnings)


def _check_directions(orientations: np.ndarray, names: Sequence[str], where: str) -> None:
    """Raise a ValueError that counts the slices of each orientation when there are several."""
    kinds: list[tuple[np.ndarray, list[str]]] = []
    for cosines, name in zip(orientations, names, strict=True):
        same = next((kind for kind in kinds if np.abs(kind[0] - cosines).max() <= SAME_DIRECTION), None)
        if same is None:
            kinds.append((cosines, [name]))
        else:
            same[1].append(name)
    if len(kinds) > 1:
        kinds.sort(key=lambda kind: -len(kind[1]))
        told = "; ".join(f"{len(members)} such as {members[0]}" for _, members in kinds[:EXAMPLES])
        raise ValueError(
            f"{where} must be slices of one orientation, got {len(kinds)} ({told}): leave out the localizers or pass"
            " one orientation alone"
        )


def _check_places(gaps: np.ndarray, names: Sequence[str], where: str) -> None:
    """Raise a ValueError when slices share their place, as those of several phases do, or gaps make no sense."""
    same = np.flatnonzero(gaps < SAME_PLACE)
    if same.size:
        places = len(names) - same.size
        pair = f"{names[same[0]]} and {names[same[0] + 1]}"
        pair = "" if names[same[0]] == names[same[0] + 1] else f" (such as {pair})"
        raise ValueError(
            f"{where} must have every slice once, got {len(names)} slices at {places} places{pair}: several phases,"
            " times or copies; pass one of them"
        )
    usual = _usual(gaps)
    missing = _missing(gaps)
    if missing > len(names):
        wide = int(np.argmax(gaps))
        raise ValueError(
            f"{where} must be slices of one volume, got {len(names)} with a distance of {gaps[wide]:.4g} mm after"
            f" {names[wide]} where {usual:.4g} mm is usual: pass the parts one by one, or fetch what is missing"
        )


def _usual(gaps: np.ndarray) -> float:
    """Return the lower median of the distances; 0 without any."""
    return float(np.sort(gaps)[(len(gaps) - 1) // 2]) if len(gaps) else 0.0


def _missing(gaps: np.ndarray) -> int:
    """Return how many slices would have to be added to make no distance longer than the usual one."""
    usual = _usual(gaps)
    wide = gaps[gaps > usual * (1 + MISSING)]
    return int(np.round(wide / usual - 1).sum()) if wide.size else 0


def _uneven(gaps: np.ndarray, where: str) -> list[str]:
    if len(gaps) < 2 or float(np.ptp(gaps)) <= EVEN * _usual(gaps):
        return []
    missing = _missing(gaps)
    told = f", as if {missing} were missing" if missing else ""
    return [
        f"the slices of {where} are {gaps.min():.4g} to {gaps.max():.4g} mm apart{told}: they are shown evenly, and"
        " places along them are not exact"
    ]


def _shifted(positions: np.ndarray, spacing: np.ndarray) -> list[str]:
    """Warn of corners that do not lie on one line, beyond a pixel."""
    if len(positions) < 3:
        return []
    along = positions[-1] - positions[0]
    along = along / np.linalg.norm(along)
    offsets = positions - positions[0]
    away = np.linalg.norm(offsets - np.outer(offsets @ along, along), axis=1).max()
    if away <= float(spacing.max()):
        return []
    return [f"the slices do not lie behind one another: they are up to {away:.4g} mm beside the line"]

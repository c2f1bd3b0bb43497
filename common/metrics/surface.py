"""Distances between the surfaces of two binary masks, in pixels or in mm, in 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import KDTree

from .overlap import as_binary


class SurfaceDistances(NamedTuple):
    """From every surface pixel of one mask to the nearest surface pixel of the other, both ways (float64)."""

    prediction_to_label: np.ndarray
    label_to_prediction: np.ndarray

    def percentile(self, percent: float) -> float:
        """Percentile (linear interpolation) of both directions pooled; 100 is the Hausdorff distance."""
        return float(np.percentile(np.concatenate(self), percent))

    def average(self) -> float:
        """Mean of the two directed means, so that both surfaces weigh the same whatever their length."""
        return float((self.prediction_to_label.mean() + self.label_to_prediction.mean()) / 2)


def surface_pixels(mask: Any) -> np.ndarray:
    """Mark the pixels of a mask that touch the background or the border of the grid with a face.

    It is the mask without its binary erosion of connectivity 1 (4 neighbours in 2-D, 6 in 3-D).

    Args:
        mask: binary array of any number of dimensions.

    Returns:
        A boolean array of the same shape.

    Raises:
        ValueError: if the mask is not binary.
    """
    binary = as_binary(mask)
    interior = binary.copy()
    for axis in range(binary.ndim):
        along = np.moveaxis(binary, axis, 0)
        inner = np.moveaxis(interior, axis, 0)
        inner[1:] &= along[:-1]
        inner[:-1] &= along[1:]
        inner[:1] = False
        inner[-1:] = False
    return binary & ~interior


def surface_distances(
    prediction: Any, label: Any, *, spacing: Sequence[float] | None = None
) -> SurfaceDistances | None:
    """Measure how far each surface is from the other.

    Args:
        prediction: binary mask `(rows, cols)` or `(rows, cols, slices)`.
        label: binary mask of the same shape.
        spacing: size of a pixel along rows, cols[, slices] in mm, each > 0; None measures in pixels.

    Returns:
        The directed distances, or None when either mask is empty: the distance is undefined then.

    Raises:
        ValueError: if the shapes differ, a mask is not binary, or the spacing does not fit.
    """
    predicted, true = as_binary(prediction, name="prediction"), as_binary(label, name="label")
    if predicted.shape != true.shape:
        raise ValueError(
            f"prediction and label must have the same shape, got {predicted.shape} and {true.shape}."
        )
    scale = _checked_spacing(spacing, predicted.ndim)
    if not predicted.any() or not true.any():
        return None
    predicted_points = _surface_points(predicted, scale)
    true_points = _surface_points(true, scale)
    return SurfaceDistances(_nearest(predicted_points, true_points), _nearest(true_points, predicted_points))


def hd95(prediction: Any, label: Any, *, spacing: Sequence[float] | None = None) -> float | None:
    """95th percentile of the pooled directed surface distances.

    Args:
        prediction: binary mask `(rows, cols)` or `(rows, cols, slices)`.
        label: binary mask of the same shape.
        spacing: size of a pixel along each axis in mm; None measures in pixels.

    Returns:
        The distance, or None when either mask is empty.

    Raises:
        ValueError: see `surface_distances`.

    Differences from other definitions:
        Equal to ``medpy.metric.hd95``. MONAI takes the larger of the two directed percentiles instead; both
        agree at the 100th percentile.
    """
    distances = surface_distances(prediction, label, spacing=spacing)
    return None if distances is None else distances.percentile(95)


def assd(prediction: Any, label: Any, *, spacing: Sequence[float] | None = None) -> float | None:
    """Average symmetric surface distance: the mean of the two directed means.

    Args:
        prediction: binary mask `(rows, cols)` or `(rows, cols, slices)`.
        label: binary mask of the same shape.
        spacing: size of a pixel along each axis in mm; None measures in pixels.

    Returns:
        The distance, or None when either mask is empty.

    Raises:
        ValueError: see `surface_distances`.

    Differences from other definitions:
        The mean of ``medpy.metric.asd`` both ways. ``medpy.metric.assd`` and MONAI's symmetric average pool
        the distances before the mean, so that the longer surface weighs more.
    """
    distances = surface_distances(prediction, label, spacing=spacing)
    return None if distances is None else distances.average()


def _checked_spacing(spacing: Sequence[float] | None, ndim: int) -> np.ndarray | None:
    if ndim not in (2, 3):
        raise ValueError(f"masks must have 2 or 3 dimensions (no channel), got {ndim}.")
    if spacing is None:
        return None
    scale = np.asarray(spacing, dtype=np.float64)
    if scale.shape != (ndim,) or not np.isfinite(scale).all() or not (scale > 0).all():
        raise ValueError(f"spacing must be {ndim} positive numbers in mm, one an axis, got {spacing}.")
    return scale


def _surface_points(mask: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Coordinates `(N, ndim)` of the surface, in pixels or mm, found inside the mask's bounding box."""
    corners = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        occupied = np.flatnonzero(mask.any(axis=others))
        corners.append((int(occupied[0]), int(occupied[-1]) + 1))
    box = mask[tuple(slice(start, stop) for start, stop in corners)]
    points = np.argwhere(surface_pixels(box)) + np.array([start for start, _ in corners])
    return points.astype(np.float64) if scale is None else points * scale


def _nearest(points: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Distance from each of `points` to the nearest of `surface`; exact."""
    tree = KDTree(surface, leafsize=16, balanced_tree=False)
    return np.asarray(tree.query(points, k=1)[0])

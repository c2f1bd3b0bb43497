"""Time of HD95 and ASSD per case beside MONAI's, on the same masks."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage

from common.metrics import surface_distances

MASK_SHAPES = ((224, 224), (512, 512), (96, 96, 64))
TOLERANCE = 1e-4

Pair = tuple[np.ndarray, np.ndarray]


def metrics_benchmarks(*, repeats: int = 7, cases: int = 6, seed: int = 0) -> list[dict[str, Any]]:
    """Measure HD95 and ASSD of one case for several sizes of image, ours and MONAI's in turn.

    Before timing, both are compared where their definitions agree: the Hausdorff distance and the mean of
    the two directed mean distances.

    Args:
        repeats: rounds of each; medians are reported.
        cases: pairs of masks per size.
        seed: of the masks.

    Returns:
        A mapping for each size: ``name``, ``ours`` and ``reference`` (ms per case), ``ratio`` (reference /
        ours, so above 1 is faster), ``sizes``, ``device``, ``unit``, and ``difference``: the largest one
        found (pixels).

    Raises:
        ArithmeticError: if the two disagree where they must not.
    """
    results = []
    for shape in MASK_SHAPES:
        pairs = [_blobs(shape, seed + number) for number in range(cases)]
        difference = max(_difference(*pair) for pair in pairs)
        if difference > TOLERANCE:
            raise ArithmeticError(
                f"surface distances must equal MONAI's, got {difference} pixels for {shape}."
            )
        ours, reference = _interleaved(pairs, repeats)
        results.append(
            {
                "name": f"hd95_assd_{'x'.join(map(str, shape))}",
                "ours": ours,
                "reference": reference,
                "ratio": reference / ours,
                "sizes": {"mask": list(shape), "cases": cases, "repeats": repeats},
                "device": "cpu",
                "unit": "ms per case",
                "difference": difference,
            }
        )
    return results


def _blobs(shape: tuple[int, ...], seed: int) -> Pair:
    """Two similar masks of a few smooth components that cover about a tenth of the image."""
    rng = np.random.default_rng(seed)
    sigma = [size / 14 for size in shape]
    field, change = (ndimage.gaussian_filter(rng.normal(size=shape), sigma) for _ in range(2))
    other = 0.9 * field + 0.3 * change
    return field > np.quantile(field, 0.9), other > np.quantile(other, 0.9)


def _ours(pair: Pair) -> tuple[float, float]:
    distances = surface_distances(*pair)
    if distances is None:
        raise ValueError("benchmark masks must not be empty.")
    return distances.percentile(95), distances.average()


def _reference(pair: Pair) -> tuple[float, float]:
    tensors = [torch.from_numpy(mask[None, None]) for mask in pair]
    hausdorff = compute_hausdorff_distance(*tensors, include_background=True, percentile=95)
    average = compute_average_surface_distance(*tensors, include_background=True, symmetric=True)
    return float(hausdorff), float(average)


def _difference(prediction: np.ndarray, label: np.ndarray) -> float:
    """Largest difference of the Hausdorff distance and of the mean of the directed means, in pixels."""
    distances = surface_distances(prediction, label)
    if distances is None:
        raise ValueError("benchmark masks must not be empty.")
    forth = [torch.from_numpy(mask[None, None]) for mask in (prediction, label)]
    back = forth[::-1]
    hausdorff = float(compute_hausdorff_distance(*forth, include_background=True))
    means = [
        float(compute_average_surface_distance(*pair, include_background=True)) for pair in (forth, back)
    ]
    return max(abs(distances.percentile(100) - hausdorff), abs(distances.average() - sum(means) / 2))


def _interleaved(pairs: list[Pair], repeats: int) -> tuple[float, float]:
    """Median time per case in ms of both, which take turns."""
    for metric in (_ours, _reference):
        metric(pairs[0])
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for pair in pairs:
            for metric, durations in zip((_ours, _reference), times, strict=True):
                durations.append(_milliseconds(metric, pair))
    return median(times[0]), median(times[1])


def _milliseconds(metric: Callable[[Pair], Any], pair: Pair) -> float:
    start = time.perf_counter()
    metric(pair)
    return 1e3 * (time.perf_counter() - start)

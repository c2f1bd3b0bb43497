"""Dice and IoU of binary masks: over all pixels of a set (micro) and as a mean over images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

EMPTY_RULES = ("zero", "one", "skip")


class OverlapCounts(NamedTuple):
    """Pixels that are in both masks, only in the prediction, and only in the label."""

    tp: int
    fp: int
    fn: int

    @property
    def is_empty(self) -> bool:
        """Whether both masks are empty."""
        return self.tp + self.fp + self.fn == 0


def as_binary(mask: Any, *, name: str = "mask") -> np.ndarray:
    """Return a mask as a boolean array, after checking that it is one.

    Args:
        mask: array or tensor of any shape whose values are all 0 or 1 (or boolean).
        name: what to call it in the error.

    Returns:
        A boolean array of the same shape.

    Raises:
        ValueError: if there is any other value: probabilities, 0/255, NaN, several labels.
    """
    array = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if array.dtype == np.bool_:
        return array
    binary = array == 1
    if not np.array_equal(binary | (array == 0), np.ones_like(binary)):
        found = np.unique(array[~(binary | (array == 0))])[:3].tolist()
        raise ValueError(f"{name} must hold only 0 and 1, got {found}; threshold it first.")
    return binary


def overlap_counts(prediction: Any, label: Any) -> OverlapCounts:
    """Count true positive, false positive and false negative pixels.

    Args:
        prediction: binary mask of any shape.
        label: binary mask of the same shape.

    Returns:
        The three counts.

    Raises:
        ValueError: if the shapes differ or a mask is not binary.
    """
    predicted, true = as_binary(prediction, name="prediction"), as_binary(label, name="label")
    if predicted.shape != true.shape:
        raise ValueError(
            f"prediction and label must have the same shape, got {predicted.shape} and {true.shape}; "
            "bring the prediction back to the label's grid."
        )
    tp = int(np.count_nonzero(predicted & true))
    return OverlapCounts(tp, int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(true)) - tp)


def dice_score(counts: tuple[int, int, int], *, empty: str = "zero", epsilon: float = 0.0) -> float | None:
    r"""Dice of one pair of masks, :math:`2TP / (2TP + FP + FN + \epsilon)`.

    Args:
        counts: true positives, false positives, false negatives.
        empty: what a pair of empty masks scores: ``"zero"``, ``"one"``, or ``"skip"`` (None).
        epsilon: added to the denominator, >= 0.

    Returns:
        A number in [0, 1], or None for a skipped pair.

    Raises:
        ValueError: if the rule is unknown.

    Reference:
        The per-image protocol of LViT (Li et al., TMI 2024) is ``empty="zero"`` with ``epsilon=1e-5``.

    Differences from the paper:
        The default epsilon is 0, which lowers no score; the protocol's 1e-5 lowers it by less than 5e-6.
    """
    tp, fp, fn = counts
    return _ratio(2 * tp, 2 * tp + fp + fn, empty=empty, epsilon=epsilon)


def iou_score(counts: tuple[int, int, int], *, empty: str = "zero", epsilon: float = 0.0) -> float | None:
    r"""Intersection over union (Jaccard index) of one pair of masks, :math:`TP / (TP + FP + FN + \epsilon)`.

    Args:
        counts: true positives, false positives, false negatives.
        empty: what a pair of empty masks scores: ``"zero"``, ``"one"``, or ``"skip"`` (None).
        epsilon: added to the denominator, >= 0.

    Returns:
        A number in [0, 1], or None for a skipped pair. Without epsilon it is Dice / (2 - Dice).

    Raises:
        ValueError: if the rule is unknown.
    """
    tp, fp, fn = counts
    return _ratio(tp, tp + fp + fn, empty=empty, epsilon=epsilon)


def total_counts(counts: Iterable[tuple[int, int, int]]) -> OverlapCounts:
    """Add the counts of many pairs of masks, which may be of different sizes.

    Args:
        counts: true positives, false positives, false negatives of each pair.

    Returns:
        Their sums; zeros for no pair.
    """
    tp = fp = fn = 0
    for pair_tp, pair_fp, pair_fn in counts:
        tp, fp, fn = tp + int(pair_tp), fp + int(pair_fp), fn + int(pair_fn)
    return OverlapCounts(tp, fp, fn)


def dice_micro(counts: Iterable[tuple[int, int, int]], *, empty: str = "zero") -> float | None:
    """Dice over all pixels of a set: the counts are added before the ratio is taken.

    Args:
        counts: true positives, false positives, false negatives of each pair.
        empty: what a set without a single foreground pixel scores; see `dice_score`.

    Returns:
        A number in [0, 1], or None for an empty set under ``"skip"``.
    """
    return dice_score(total_counts(counts), empty=empty)


def iou_micro(counts: Iterable[tuple[int, int, int]], *, empty: str = "zero") -> float | None:
    """Intersection over union over all pixels of a set; exactly ``dice_micro / (2 - dice_micro)``.

    Args:
        counts: true positives, false positives, false negatives of each pair.
        empty: what a set without a single foreground pixel scores; see `dice_score`.

    Returns:
        A number in [0, 1], or None for an empty set under ``"skip"``.
    """
    return iou_score(total_counts(counts), empty=empty)


def dice_image(
    counts: Iterable[tuple[int, int, int]], *, empty: str = "zero", epsilon: float = 0.0
) -> float | None:
    """Mean over images of their Dice.

    Args:
        counts: true positives, false positives, false negatives of each pair.
        empty: what a pair of empty masks scores, or ``"skip"`` to leave it out; see `dice_score`.
        epsilon: see `dice_score`.

    Returns:
        A number in [0, 1], or None when no image is left.
    """
    return _mean(dice_score(pair, empty=empty, epsilon=epsilon) for pair in counts)


def iou_image(
    counts: Iterable[tuple[int, int, int]], *, empty: str = "zero", epsilon: float = 0.0
) -> float | None:
    """Mean over images of their intersection over union.

    Args:
        counts: true positives, false positives, false negatives of each pair.
        empty: what a pair of empty masks scores, or ``"skip"`` to leave it out; see `iou_score`.
        epsilon: see `iou_score`.

    Returns:
        A number in [0, 1], or None when no image is left.
    """
    return _mean(iou_score(pair, empty=empty, epsilon=epsilon) for pair in counts)


def _ratio(numerator: int, denominator: int, *, empty: str, epsilon: float) -> float | None:
    if empty not in EMPTY_RULES:
        raise ValueError(f"empty must be one of {list(EMPTY_RULES)}, got {empty!r}.")
    if denominator == 0:
        return {"zero": 0.0, "one": 1.0}.get(empty)
    return numerator / (denominator + epsilon)


def _mean(scores: Iterable[float | None]) -> float | None:
    defined = [score for score in scores if score is not None]
    return sum(defined) / len(defined) if defined else None

"""How well a score tells two groups apart: the receiver operating characteristic and the area beneath it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class RocCurve(NamedTuple):
    """Both rates for every threshold, from (0, 0) to (1, 1).

    Attributes:
        false_positive: `(n,)` share of the negatives with a score of at least the threshold, ascending.
        true_positive: `(n,)` the same share of the positives.
        threshold: `(n,)` descending; the first one is infinite.
    """

    false_positive: np.ndarray
    true_positive: np.ndarray
    threshold: np.ndarray


def roc_auc(positive: Any, negative: Any) -> float:
    """Probability that a positive scores higher than a negative, a tie counting one half, in [0, 1].

    Args:
        positive: scores of the positives, finite, at least one.
        negative: scores of the negatives, likewise.

    Raises:
        ValueError: if a group is empty or has a score that is no number.

    Reference:
        Hanley and McNeil, Radiology 143, 1982: the area is the statistic of Wilcoxon's rank sum.
    """
    high, low = _scores(positive, "positive"), _scores(negative, "negative")
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, side="left")
    ties = np.searchsorted(ordered, high, side="right") - below
    return float((below + ties / 2).mean() / len(low))


def roc_curve(positive: Any, negative: Any) -> RocCurve:
    """Return the points of the curve, one for each distinct score and the origin.

    Args:
        positive: as for `roc_auc`.
        negative: as for `roc_auc`.

    Raises:
        ValueError: as `roc_auc`.
    """
    high, low = _scores(positive, "positive"), _scores(negative, "negative")
    distinct = np.unique(np.concatenate([high, low]))[::-1]
    rates = [
        1 - np.searchsorted(np.sort(scores), distinct, side="left") / len(scores) for scores in (low, high)
    ]
    zero = np.zeros(1)
    return RocCurve(
        np.concatenate([zero, rates[0]]),
        np.concatenate([zero, rates[1]]),
        np.concatenate([np.full(1, np.inf), distinct]),
    )


def paired_auc_interval(
    positive: Any, negative: Any, *, seed: int, level: float = 0.95, draws: int = 1000
) -> tuple[float, float]:
    """Bootstrap interval of `roc_auc` where every case has been scored as a positive and as a negative.

    Both scores of a case are drawn together, so that the interval is one over cases.

    Args:
        positive: `(n,)` scores of the cases as positives.
        negative: `(n,)` scores of the same cases as negatives.
        seed: of the draws.
        level: coverage, in (0, 1).
        draws: how many.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: as `roc_auc`; if the numbers of scores differ or the level is outside (0, 1).
    """
    high, low = _scores(positive, "positive"), _scores(negative, "negative")
    if len(high) != len(low):
        raise ValueError(
            f"positive and negative must be scores of the same cases, got {len(high)} and {len(low)}."
        )
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}.")
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(high), size=(draws, len(high)))
    areas = [roc_auc(high[places], low[places]) for places in drawn]
    tail = (1 - level) / 2
    lower, upper = np.quantile(areas, [tail, 1 - tail]).tolist()
    return lower, upper


def _scores(values: Any, name: str) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64).ravel()
    if not len(scores):
        raise ValueError(f"{name} must hold at least one score, got none.")
    if not bool(np.isfinite(scores).all()):
        raise ValueError(f"{name} must be finite, got a score that is infinite or no number.")
    return scores

"""Small charts as plain numbers that the template draws as SVG."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

BINS = 20
WIDTH, HEIGHT = 320, 120


@dataclass(frozen=True)
class Bar:
    """One bar, in the chart's units (320 wide, 120 high), with its words for a tooltip."""

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True)
class Histogram:
    """Distribution of the cases' Dice.

    Attributes:
        bars: one for each non-empty bin.
        highest: number of cases in the fullest bin of all the histograms that are shown together.
        median: median Dice.
        median_x: its place.
        count: number of cases with a Dice.
    """

    bars: tuple[Bar, ...]
    highest: int
    median: float
    median_x: float
    count: int


def dice_histogram(values: Iterable[float | None], *, highest: int | None = None) -> Histogram | None:
    """Count the cases in 20 bins of Dice.

    Args:
        values: Dice of each case, in [0, 1]; None is left out.
        highest: count that fills the chart; the fullest bin's own when None.

    Returns:
        The histogram, or None without any value.
    """
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return None
    counts = bin_counts(known)
    top = highest or int(counts.max())
    step = WIDTH / BINS
    bars = tuple(
        Bar(
            x=round(index * step + 1, 2),
            y=round(HEIGHT - HEIGHT * count / top, 2),
            width=round(step - 2, 2),
            height=round(HEIGHT * count / top, 2),
            words=f"Dice {index / BINS:.2f} to {(index + 1) / BINS:.2f}: {count}",
        )
        for index, count in enumerate(counts.tolist())
        if count
    )
    median = float(np.median(known))
    return Histogram(bars, top, median, round(WIDTH * median, 2), len(known))


def bin_counts(values: np.ndarray) -> np.ndarray:
    """Number of values in each of 20 equal bins of [0, 1]."""
    return np.bincount(np.clip((values * BINS).astype(int), 0, BINS - 1), minlength=BINS)

"""Poisson counts of many different means at once, from tables."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

STEPS = 2048  # of the mean, from 0 to the largest
BITS = 12  # of a random number that choose between two means, and of the probabilities


class PoissonTable:
    """Draw Poisson counts whose means are shares of a largest one.

    Rejection, as NumPy samples, needs logarithms for every count. Here the counts of `STEPS` + 1 means are
    tabulated by Walker's alias method: 32 random bits and one look-up a count, whatever the mean. A mean between
    two tabulated ones takes one of them at random, so that the expectation is exact.

    Args:
        largest: largest mean, in [1, 700].

    Raises:
        ValueError: if the largest mean is outside its range.

    Reference:
        Walker, "An efficient method for generating discrete random variables with general distributions", 1977.

    Differences from the paper:
        The means are on a grid. Where a mean is drawn from two of it, the variance grows by at most
        `(largest / STEPS)^2 / 4`: 0.001 for a largest mean of 140. Counts 8 standard deviations below a mean
        or 9 above never come. The probabilities of the alias tables are rounded to 12 bits, which changes that of
        any set of counts by at most 2^-13.
    """

    def __init__(self, largest: float) -> None:
        if not 1 <= largest <= 700:
            raise ValueError(f"the largest mean must be from 1 to 700, got {largest}")
        means = np.linspace(0.0, largest, STEPS + 1)
        spread = np.sqrt(means)
        lowest = np.maximum(np.floor(means - 8 * spread - 4), 0).astype(np.int64)
        self._width = int((np.ceil(means + 9 * spread + 16) - lowest).max()) + 1
        keep, other = alias_tables(_probabilities(means, lowest, self._width))
        threshold = np.round(keep * (2**BITS - 1)).astype(np.uint32)
        own = (lowest[:, None] + np.arange(self._width)).astype(np.uint32)
        # One word holds a whole cell: 12 bits of probability, 10 of its own count, 10 of the other.
        cells = threshold << 20 | own << 10 | (lowest[:, None] + other).astype(np.uint32)
        self._cells = cells.ravel()

    def draw(self, share: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        """Draw a count for every pixel.

        Args:
            share: means as shares of the largest, in [0, 1], any shape.
            generator: what draws.

        Returns:
            float32 counts of the shape of `share`.
        """
        flat = share.ravel()
        words = generator.bit_generator.random_raw((flat.size + 1) // 2)
        bits = words.astype("<u8", copy=False).view("<u4")[: flat.size]
        step = (flat * np.float32(STEPS << BITS)).astype(np.int32)
        step += (bits & (2**BITS - 1)).view(np.int32)
        step >>= BITS
        place = (bits >> BITS) * np.uint32(self._width)  # the column, and 20 bits of where in the column
        cell = self._cells.take(step * self._width + (place >> 20).view(np.int32))
        stays = (place >> 8 & (2**BITS - 1)) < cell >> 20
        counts = np.where(stays, cell >> 10, cell) & 0x3FF
        return counts.view(np.int32).astype(np.float32).reshape(share.shape)


@lru_cache(maxsize=8)
def poisson_table(largest: float) -> PoissonTable:
    """Return the table of a largest mean, built once a process."""
    return PoissonTable(largest)


def _probabilities(means: np.ndarray, lowest: np.ndarray, width: int) -> np.ndarray:
    """Return `(means, width)` probabilities of the counts from `lowest` on."""
    counts = lowest[:, None] + np.arange(width)
    factorials = np.array([math.lgamma(count + 1) for count in range(int(counts.max()) + 1)])
    logarithms = np.log(np.maximum(means, 1e-300))[:, None] * counts - means[:, None] - factorials[counts]
    probabilities = np.exp(logarithms)
    total: np.ndarray = probabilities / probabilities.sum(axis=1, keepdims=True)
    return total


def alias_tables(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the alias tables of several distributions over the same number of columns.

    Args:
        probabilities: `(rows, columns)`, each row adding to 1.

    Returns:
        `keep` in [0, 1] and `other`, both `(rows, columns)`: of a column drawn uniformly the outcome is the
        column itself with probability `keep`, else `other`.
    """
    rows, columns = probabilities.shape
    every = np.arange(rows)
    share = probabilities * columns
    order = np.argsort(share >= 1, axis=1, kind="stable")  # columns of less than their share first
    small, large = np.zeros(rows, dtype=int), (share < 1).sum(axis=1)
    keep, other = np.ones_like(share), np.tile(np.arange(columns), (rows, 1))
    ends = large.copy()
    for _ in range(columns):
        rich = order[every, np.minimum(large, columns - 1)]
        poor = order[every, np.minimum(small, columns - 1)]
        gives = (small < ends) & (large < columns) & (share[every, rich] >= 1)
        spent = ~gives & (share[every, rich] < 1) & (large < columns - 1)
        following = order[every, np.minimum(large + 1, columns - 1)]
        for chosen, column, donor in ((gives, poor, rich), (spent, rich, following)):
            row, filled, giver = every[chosen], column[chosen], donor[chosen]
            keep[row, filled] = share[row, filled]
            other[row, filled] = giver
            share[row, giver] -= 1 - share[row, filled]
        small, large = small + gives, large + spent
    return keep, other

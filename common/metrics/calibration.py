"""Whether a network's probabilities are the frequencies that they claim to be: of a case, a set, and engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from .overlap import as_binary

BINS = 20


@dataclass(frozen=True, eq=False)
class Reliability:
    """Counts of pixels by their probability of foreground, in equal bins of [0, 1]; two can be added.

    Attributes:
        pixels: `(bins,)` int64, pixels whose probability falls into the bin.
        probability: `(bins,)` float64, sum of their probabilities.
        positives: `(bins,)` int64, those of them that are foreground in truth.
        squares: sum over all pixels of (probability - truth)², the Brier score before it is divided.
    """

    pixels: np.ndarray
    probability: np.ndarray
    positives: np.ndarray
    squares: float

    def __add__(self, other: Reliability) -> Reliability:
        if len(self.pixels) != len(other.pixels):
            raise ValueError(
                f"reliabilities must have the same bins, got {len(self.pixels)} and {len(other.pixels)}."
            )
        return Reliability(
            self.pixels + other.pixels,
            self.probability + other.probability,
            self.positives + other.positives,
            self.squares + other.squares,
        )

    @property
    def edges(self) -> np.ndarray:
        """`(bins + 1,)` borders of the bins; a probability on a border belongs to the bin above it."""
        return np.linspace(0, 1, len(self.pixels) + 1)

    @property
    def confidence(self) -> np.ndarray:
        """`(bins,)` mean probability of each bin; NaN where it is empty."""
        return _ratio(self.probability, self.pixels)

    @property
    def frequency(self) -> np.ndarray:
        """`(bins,)` share of foreground in each bin; NaN where it is empty."""
        return _ratio(self.positives, self.pixels)

    def ece(self, *, above: float = 0.0) -> float | None:
        r"""Return the expected calibration error.

        .. math::
            \mathrm{ECE} = \sum_b \frac{n_b}{N} \left| \bar p_b - f_b \right|

        with `n_b` pixels of mean probability `p_b` and share of foreground `f_b` in bin `b`.

        Args:
            above: leave out the bins that begin below it: with 0.5 only what is predicted as foreground counts,
                while of all pixels most are sure background.

        Returns:
            The error in [0, 1], or None where no pixel counts.

        Reference:
            Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015, equation 3.

        Differences from the paper:
            The probability is that of foreground, not that of the likelier class, so that over- and
            underestimation of foreground do not cancel.
        """
        gaps = np.abs(self.probability - self.positives)[self.edges[:-1] >= above - 1e-9]
        total = int(self.pixels[self.edges[:-1] >= above - 1e-9].sum())
        return float(gaps.sum() / total) if total else None

    @property
    def brier(self) -> float | None:
        """Mean squared difference of probability and truth over all pixels; None without any."""
        total = int(self.pixels.sum())
        return self.squares / total if total else None


def reliability(probability: Any, label: Any, *, bins: int = BINS) -> Reliability:
    """Sort the pixels of a case by their probability of foreground.

    Args:
        probability: array or tensor of any shape, in [0, 1].
        label: binary, of the same shape.
        bins: number of bins, >= 1.

    Returns:
        The counts; add those of several cases up.

    Raises:
        ValueError: if the shapes differ, a probability is outside [0, 1] or no number, the label is not binary, or
            there is no bin.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    values, truth = _plain(probability), as_binary(label, name="label")
    if values.shape != truth.shape:
        raise ValueError(
            f"probability and label must have the same shape, got {values.shape} and {truth.shape}."
        )
    values, truth = values.ravel(), truth.ravel()
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError(
            "probability must be in [0, 1], got values beyond it or no numbers: apply a sigmoid."
        )
    places = np.minimum((values * bins).astype(np.int64), bins - 1)
    return Reliability(
        pixels=np.bincount(places, minlength=bins),
        probability=np.bincount(places, weights=values, minlength=bins),
        positives=np.bincount(places[truth], minlength=bins),
        squares=float(np.square(values - truth).sum()),
    )


class CalibrationError(CumulativeIterationMetric):
    """Expected calibration error over all pixels of a set, for ``monai.handlers.IgniteMetricHandler(metric_fn=...)``.

    Call it with lists of `(C, *spatial)` probabilities and binary labels, whose sizes may differ between cases, or
    with batches; `get_buffer` holds the counts of each case, which `aggregate` gathers from all processes.

    Args:
        bins: number of bins, >= 1.
        above: see `Reliability.ece`.

    Raises:
        ValueError: if there is no bin or `above` is not in [0, 1); when called as `reliability`.
    """

    def __init__(self, *, bins: int = BINS, above: float = 0.0) -> None:
        super().__init__()
        if bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins}.")
        if not 0 <= above < 1:
            raise ValueError(f"above must be in [0, 1), got {above}.")
        self.bins, self.above = bins, above

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        """Return `(B, bins, 4)` float64: pixels, probability, positives and, in the first row, squares."""
        if y is None or y_pred.shape != y.shape:
            shapes = tuple(y_pred.shape), None if y is None else tuple(y.shape)
            raise ValueError(f"probability and label must have the same shape (C, *spatial), got {shapes}.")
        rows = []
        for probability, label in zip(y_pred, y, strict=True):
            counts = reliability(probability, label, bins=self.bins)
            squares = np.zeros(self.bins)
            squares[0] = counts.squares
            rows.append(np.stack([counts.pixels, counts.probability, counts.positives, squares], axis=1))
        return torch.from_numpy(np.stack(rows))

    def reliability(self) -> Reliability:
        """Return the counts of all cases of all processes.

        Raises:
            ValueError: before any case was added.
        """
        counts = self.get_buffer()
        if counts is None:
            raise ValueError("at least one case must be added before aggregate().")
        total = torch.as_tensor(counts).sum(dim=0).cpu().numpy()
        pixels, positives = (np.rint(total[:, column]).astype(np.int64) for column in (0, 2))
        return Reliability(pixels, total[:, 1], positives, float(total[:, 3].sum()))

    def aggregate(self) -> Tensor:
        """Return the error as a float64 scalar, NaN where no pixel counts; raises ValueError before any case."""
        error = self.reliability().ece(above=self.above)
        return torch.tensor(float("nan") if error is None else error, dtype=torch.float64)


def _plain(probability: Any) -> np.ndarray:
    if isinstance(probability, MetaTensor):
        probability = probability.as_tensor()
    if isinstance(probability, Tensor):
        probability = probability.detach().cpu().numpy()
    return np.asarray(probability, dtype=np.float64)


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)

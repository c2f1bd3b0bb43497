"""Mean over classes of the Dice of all pixels of a set."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric
from torch import Tensor


class MeanClassDice(CumulativeIterationMetric):
    r"""Mean over the foreground classes of :math:`2TP / (2TP + FP + FN)`, counted over all pixels of a set.

    Slices and whole volumes give the same number, for nothing is averaged over cases: a class that most slices lack
    is no problem. A class that neither a label nor a prediction of the set has is left out of the mean. It serves to
    compare the epochs of a training; the numbers of a report are per volume.

    For ``monai.handlers.IgniteMetricHandler(metric_fn=...)``: call it with a list of pairs without batch axis, whose
    sizes may differ, or with a batch. `get_buffer` holds `(cases, num_classes - 1, 3)` counts of true positive, false
    positive and false negative pixels; `aggregate` gathers them from all processes.

    Args:
        num_classes: background, which is class 0, included; >= 2.

    Raises:
        ValueError: if `num_classes` is smaller; when called with masks of two shapes or a class that there is not.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(
                f"num_classes must be at least 2, the background one of them, got {num_classes}."
            )
        self.num_classes = num_classes

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        """Count a batch.

        Args:
            y_pred: `(B, num_classes, *spatial)` logits, probabilities or one-hot masks, or `(B, 1, *spatial)` classes.
            y: `(B, 1, *spatial)` classes.
        """
        if y is None or y.shape[1] != 1 or y_pred.shape[2:] != y.shape[2:]:
            shapes = tuple(y_pred.shape[1:]), None if y is None else tuple(y.shape[1:])
            raise ValueError(
                f"prediction and label must be (classes, *spatial) and (1, *spatial), got {shapes}."
            )
        if y_pred.shape[1] not in (1, self.num_classes):
            raise ValueError(
                f"prediction must have 1 or {self.num_classes} channels, got {y_pred.shape[1]}: check num_classes."
            )
        predicted = _plain(y_pred)
        predicted = predicted.argmax(1) if predicted.shape[1] > 1 else predicted[:, 0]
        true = self._classes(_plain(y)[:, 0], "label")
        predicted = self._classes(predicted, "prediction")
        counts = []
        for number in range(1, self.num_classes):
            ours, theirs = (predicted == number).flatten(1), (true == number).flatten(1)
            both = (ours & theirs).sum(1)
            counts.append(torch.stack([both, ours.sum(1) - both, theirs.sum(1) - both], dim=1))
        return torch.stack(counts, dim=1)

    def _classes(self, numbers: Tensor, name: str) -> Tensor:
        least, most = (float(value) for value in torch.aminmax(numbers))
        if least < 0 or most >= self.num_classes:
            raise ValueError(
                f"{name} must hold classes from 0 to {self.num_classes - 1}, got {least:g} to {most:g}."
            )
        return numbers

    def aggregate(self) -> Tensor:
        """Return the mean as a float64 scalar, 0 for a set without foreground; ValueError before any case."""
        scores = self.per_class()
        return torch.nan_to_num(scores.nanmean(), nan=0.0)

    def per_class(self) -> Tensor:
        """Return the Dice of each foreground class, `(num_classes - 1,)` float64, NaN for one left out."""
        counts = self.get_buffer()
        if counts is None:
            raise ValueError("at least one case must be added before aggregate().")
        tp, fp, fn = counts.sum(0).double().unbind(1)
        # 0 / 0 is NaN
        return 2 * tp / (2 * tp + fp + fn)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor

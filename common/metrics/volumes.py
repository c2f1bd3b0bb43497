"""Scores of volumes with several classes: Dice and surface distance of each class, in mm and in voxels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from .cases import Row
from .cumulative import CaseTable
from .overlap import dice_score, overlap_counts
from .surface import assd

NAN = float("nan")
MEASURES = ("dice", "assd_mm", "assd_voxel")
VOLUME_DEFINITIONS = {
    "dice": "2TP/(2TP+FP+FN) over the voxels of a volume; mean over volumes, then over classes; a class that is "
    "neither predicted nor labelled is undefined and left out",
    "assd_mm": "mean of the two directed mean surface distances in mm; undefined, and left out and counted, where a "
    "class is not predicted or not labelled",
    "assd_voxel": "the same with every voxel of size 1, as published tables of this task have it",
    "n_empty_prediction": "volumes in which a labelled class is not predicted at all",
}


class ClassScore(NamedTuple):
    """How one class of one volume was found; what is undefined is NaN."""

    dice: float
    assd_mm: float
    assd_voxel: float
    tp: int
    fp: int
    fn: int

    @property
    def is_empty_prediction(self) -> bool:
        """Whether the class is there and was not predicted at all."""
        return self.tp + self.fp == 0 and self.fn > 0


def class_scores(
    prediction: Any,
    label: Any,
    *,
    classes: int,
    spacing: Sequence[float] | None = None,
    surface: bool = True,
) -> list[ClassScore]:
    """Compare a predicted volume with the true one, class by class.

    Args:
        prediction: whole numbers 0 to `classes` - 1, `(rows, cols, slices)` or with a first axis of length 1.
        label: the truth, of the same shape.
        classes: number of classes with the background, which is not scored.
        spacing: size of a voxel along the axes in mm; None leaves distances in mm undefined.
        surface: whether to measure distances.

    Returns:
        One score for each class from 1.

    Raises:
        ValueError: when the shapes differ, the values are no classes, or the spacing does not fit.

    Differences from the paper:
        A class that was not predicted has no surface: its distance is NaN and counted, not 1. Its Dice is 0.
    """
    predicted, true = _classes(prediction, classes, "prediction"), _classes(label, classes, "label")
    if predicted.shape != true.shape:
        raise ValueError(
            f"prediction and label must have the same shape, got {predicted.shape} and {true.shape}"
        )
    return [
        _score(predicted == number, true == number, spacing=spacing, surface=surface)
        for number in range(1, classes)
    ]


def _score(
    predicted: np.ndarray, true: np.ndarray, *, spacing: Sequence[float] | None, surface: bool
) -> ClassScore:
    counts = overlap_counts(predicted, true)
    dice = NAN if counts.is_empty else dice_score(counts)
    both = counts.tp + counts.fp > 0 and counts.tp + counts.fn > 0
    millimetres = assd(predicted, true, spacing=spacing) if surface and both and spacing is not None else None
    voxels = assd(predicted, true) if surface and both else None
    return ClassScore(_number(dice), _number(millimetres), _number(voxels), *counts)


def _number(value: float | None) -> float:
    return NAN if value is None else float(value)


def _classes(volume: Any, classes: int, name: str) -> np.ndarray:
    array = volume.detach().cpu().numpy() if isinstance(volume, torch.Tensor) else np.asarray(volume)
    array = array[0] if array.ndim == 4 and array.shape[0] == 1 else array
    if array.ndim not in (2, 3):
        raise ValueError(
            f"{name} must have shape (rows, cols, slices) or (1, rows, cols, slices), got {array.shape}"
        )
    whole = array if array.dtype.kind in "ui" else np.rint(array)
    low, high = (whole.min(), whole.max()) if whole.size else (0, 0)
    if not np.array_equal(whole, array) or low < 0 or high >= classes:
        raise ValueError(
            f"{name} must hold the classes 0 to {classes - 1}, got values from {low:g} to {high:g}"
        )
    return whole


def volume_row(scores: Sequence[ClassScore], names: Sequence[str]) -> Row:
    """Return the scores of a volume as columns, `dice_liver`, `assd_mm_liver`, … and `empty_liver` (0 or 1).

    Args:
        scores: of each class.
        names: of each class, in the same order.
    """
    row: Row = {}
    for score, name in zip(scores, names, strict=True):
        column = column_name(name)
        row.update({f"{measure}_{column}": getattr(score, measure) for measure in MEASURES})
        row[f"empty_{column}"] = int(score.is_empty_prediction)
    return row


def column_name(name: str) -> str:
    """Return the name of a class as part of a column: "right kidney" -> "right_kidney"."""
    return re.sub(r"\W+", "_", name.strip().lower())


def summarise_volumes(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Summarise the rows of volumes, also when they come back from a csv file as text.

    Args:
        rows: of `volume_row`; NaN, None and an empty text are undefined.
        names: of the classes, without the background.

    Returns:
        ``{"count": volumes, "metrics": {...}, "definitions": {...}}``. For every measure the mean of each class
        (``dice_liver``) with its standard deviation over volumes (``dice_liver_sd``) and the number of volumes behind
        it (``n_dice_liver``), and the mean over classes (``dice``); ``n_empty_prediction`` in all and by class. A mean
        of nothing is NaN.
    """
    rows = list(rows)
    metrics: dict[str, float | int] = {}
    columns = [column_name(name) for name in names]
    for measure in MEASURES:
        means = []
        for column in columns:
            values = _values(rows, f"{measure}_{column}")
            means.append(float(values.mean()) if values.size else NAN)
            metrics[f"{measure}_{column}"] = means[-1]
            metrics[f"{measure}_{column}_sd"] = float(values.std()) if values.size else NAN
            metrics[f"n_{measure}_{column}"] = int(values.size)
        defined = [mean for mean in means if not np.isnan(mean)]
        metrics[measure] = float(np.mean(defined)) if defined else NAN
    for column in columns:
        metrics[f"n_empty_prediction_{column}"] = int(_values(rows, f"empty_{column}").sum())
    metrics["n_empty_prediction"] = sum(metrics[f"n_empty_prediction_{column}"] for column in columns)
    return {"count": len(rows), "metrics": metrics, "definitions": dict(VOLUME_DEFINITIONS)}


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> np.ndarray:
    given = [row.get(column) for row in rows]
    values = np.array([float(value) for value in given if value not in (None, "")], dtype=np.float64)
    return values[~np.isnan(values)]


class VolumeTable(CaseTable):
    """Keeps one row of scores per volume and puts their summary into ``engine.state.metrics``; used like `CaseTable`.

    It reads each decollated case: ``pred`` and ``label`` `(1, rows, columns, slices)` of classes on the same grid,
    `MetaTensor`s where distances in mm are wanted. A case without a label is an error: nothing is left out unseen.

    Args:
        labels: name of every class by its number, "0" for the background.
        surface: whether to measure surface distances.

    Raises:
        ValueError: when `labels` do not name the classes 0, 1, 2 …; in a run, naming the case, as `class_scores`.
    """

    def __init__(self, *, labels: Mapping[str, str], surface: bool = True) -> None:
        names = {int(number): str(name) for number, name in labels.items()}
        if len(names) < 2 or sorted(names) != list(range(len(names))):
            raise ValueError(f"labels must name the classes 0, 1, 2 …, got {dict(labels)}")
        self.names = [names[number] for number in range(1, len(names))]
        super().__init__(unit="mm", surface=surface)

    def compute(self) -> dict[str, float | int]:
        """Gather the rows of all processes and return the means of the summary, undefined ones as NaN."""
        metrics: dict[str, float | int] = self.summary["metrics"]
        return {
            name: value
            for name, value in metrics.items()
            if not name.endswith("_sd") and (not name.startswith("n_") or name == "n_empty_prediction")
        }

    @property
    def summary(self) -> dict[str, Any]:
        """`summarise_volumes` of `rows`."""
        return summarise_volumes(self.rows, self.names)

    def _row(self, case: Mapping[str, Any]) -> Row:
        name = str(case.get("id", ""))
        try:
            if case.get("label") is None:
                raise ValueError("a volume to score must have a label, got none")
            scores = class_scores(
                case["pred"],
                case["label"],
                classes=len(self.names) + 1,
                spacing=_spacing(case),
                surface=self.surface,
            )
        except ValueError as error:
            raise ValueError(f"case {name!r}: {error}") from error
        row: Row = {"id": name, "modality": str(case.get("modality", ""))}
        return {**row, **volume_row(scores, self.names)}


def _spacing(case: Mapping[str, Any]) -> list[float] | None:
    """Size of a voxel in mm, from the label's affine or the prediction's; None when neither has one."""
    for key in ("label", "pred"):
        affine = getattr(case.get(key), "affine", None)
        if affine is not None:
            return [float(size) for size in np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)]
    return None

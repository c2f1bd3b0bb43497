"""One row of metrics per case, and the summary of a set of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from .overlap import (
    as_binary,
    dice_image,
    dice_micro,
    dice_score,
    iou_image,
    iou_micro,
    iou_score,
    overlap_counts,
)
from .surface import surface_distances
from .text_mask_consistency import findings_of, named_sides, text_mask_consistency

Row = dict[str, Any]

CASE_COLUMNS = (
    "id",
    "image",
    "label",
    "prediction",
    "text",
    "tp",
    "fp",
    "fn",
    "dice_image",
    "iou_image",
    "hd95",
    "assd",
    "side_prediction",
    "side_truth",
    "zones_prediction",
    "zones_truth",
    "count_prediction",
    "count_truth",
)

METRIC_DEFINITIONS: Mapping[str, str] = MappingProxyType(
    {
        "dice_micro": "2TP/(2TP+FP+FN) over all pixels of the set",
        "iou_micro": "TP/(TP+FP+FN) over all pixels of the set",
        "dice_image": "mean of the images' Dice; two empty masks score 0",
        "iou_image": "mean of the images' IoU; two empty masks score 0",
        "dice_image_empty_one": "mean of the images' Dice; two empty masks score 1",
        "iou_image_empty_one": "mean of the images' IoU; two empty masks score 1",
        "hd95": "95th percentile of both directed surface distances pooled; mean over images with no "
        "empty mask",
        "assd": "mean of the two directed mean surface distances; mean over images with no empty mask",
        "side_prediction": "share of predictions on exactly the sides that the sentence names",
        "side_truth": "the same share for the true masks: the ceiling",
        "zones_prediction": "mean Jaccard index of the zones that the prediction occupies and the named ones",
        "zones_truth": "the same mean for the true masks: the ceiling",
        "count_prediction": "share of predictions with as many components as the sentence names",
        "count_truth": "the same share for the true masks: the ceiling",
        "n_both_empty": "images where prediction and label are empty",
    }
)

_MEANS = ("hd95", "assd", *CASE_COLUMNS[12:])


def case_metrics(
    prediction: Any,
    label: Any | None,
    *,
    sentence: str | None = None,
    laterality: str = "image",
    spacing: Sequence[float] | None = None,
    surface: bool = True,
) -> Row:
    """Compare one predicted mask with the true one and with its sentence.

    Args:
        prediction: binary mask `(rows, cols)`, `(1, rows, cols)` or `(1, rows, cols, slices)`.
        label: the true mask, of the same shape; None leaves undefined what needs it.
        sentence: what was said about the image; None or empty leaves the consistency undefined.
        laterality: ``"image"`` or ``"patient"``, whose left the sentence means.
        spacing: size of a pixel along rows, cols[, slices] in mm; None measures distances in pixels.
        surface: whether to measure surface distances.

    Returns:
        The columns of `CASE_COLUMNS` from ``text`` on; None where a value is undefined.

    Raises:
        ValueError: if a mask is not binary, has several channels, or the shapes differ.
    """
    predicted = _spatial(prediction, "prediction")
    findings = findings_of(sentence)
    row: Row = dict.fromkeys(CASE_COLUMNS[4:])
    row["text"] = sentence or ""
    if label is not None:
        true = _spatial(label, "label")
        counts = overlap_counts(predicted, true)
        row.update(counts._asdict(), dice_image=dice_score(counts), iou_image=iou_score(counts))
        distances = surface_distances(predicted, true, spacing=spacing) if surface else None
        if distances is not None:
            row.update(hd95=distances.percentile(95), assd=distances.average())
        row.update(text_mask_consistency(true, findings, laterality=laterality).columns("truth"))
    row.update(text_mask_consistency(predicted, findings, laterality=laterality).columns("prediction"))
    return row


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the rows of a set, also when they come back from a csv file as strings.

    Args:
        rows: mappings with the columns of `CASE_COLUMNS`; None, an empty string or NaN is undefined.

    Returns:
        ``{"count": cases, "metrics": {...}, "subsets": {"one_sided": {"count": ..., "metrics": {...}}},
        "definitions": {...}}``. The metrics are those of `METRIC_DEFINITIONS` and, for each that leaves cases
        out, ``n_<name>``: the number of cases behind it. A metric without any case is None. The one-sided
        subset holds the cases whose sentence names exactly one side.
    """
    rows = list(rows)
    one_sided = [row for row in rows if _is_one_sided(row)]
    return {
        "count": len(rows),
        "metrics": _metrics(rows),
        "subsets": {"one_sided": {"count": len(one_sided), "metrics": _metrics(one_sided)}},
        "definitions": dict(METRIC_DEFINITIONS),
    }


def _metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    counts = [
        (int(tp), int(fp), int(fn))
        for tp, fp, fn in ((_number(row.get(name)) for name in ("tp", "fp", "fn")) for row in rows)
        if tp is not None and fp is not None and fn is not None
    ]
    scores: tuple[tuple[str, Callable[..., float | None]], ...]
    scores = (
        ("dice_micro", dice_micro),
        ("iou_micro", iou_micro),
        ("dice_image", dice_image),
        ("iou_image", iou_image),
    )
    metrics: dict[str, float | int | None] = {
        name: score(counts) if counts else None for name, score in scores
    }
    metrics["dice_image_empty_one"] = dice_image(counts, empty="one")
    metrics["iou_image_empty_one"] = iou_image(counts, empty="one")
    metrics["n_overlap"] = len(counts)
    metrics["n_both_empty"] = sum(not any(pair) for pair in counts)
    for name in _MEANS:
        values = [value for value in (_number(row.get(name)) for row in rows) if value is not None]
        metrics[name] = float(np.mean(values)) if values else None
        metrics[f"n_{name}"] = len(values)
    return metrics


def _is_one_sided(row: Mapping[str, Any]) -> bool:
    findings = findings_of(row.get("text"))
    return findings is not None and len(named_sides(findings) or ()) == 1


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    return None if np.isnan(number) else number


def _spatial(mask: Any, name: str) -> np.ndarray:
    """Drop the channel of a binary mask: `(1, *spatial)` or `(rows, cols)` -> `*spatial`."""
    binary = as_binary(mask, name=name)
    if binary.ndim == 2:
        return binary
    if binary.ndim not in (3, 4) or binary.shape[0] != 1:
        raise ValueError(
            f"{name} must have shape (rows, cols), (1, rows, cols) or (1, rows, cols, slices), "
            f"got {binary.shape}."
        )
    return binary[0]

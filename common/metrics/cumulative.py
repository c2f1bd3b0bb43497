"""Metrics for MONAI's and Ignite's engines: they collect case by case, also across processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric
from torch import Tensor
from torch import distributed as dist

from .cases import CASE_COLUMNS, Row, case_metrics, summarise
from .overlap import EMPTY_RULES, dice_score, iou_score

_PATH_KEYS = {"image": "image_path", "label": "label_path", "prediction": "pred_path"}
_UNITS = ("pixel", "mm")


class _MicroOverlap(CumulativeIterationMetric):
    """Accumulates the counts of true positive, false positive and false negative pixels of every case."""

    def __init__(self, *, empty: str = "zero") -> None:
        super().__init__()
        if empty not in EMPTY_RULES:
            raise ValueError(f"empty must be one of {list(EMPTY_RULES)}, got {empty!r}.")
        self.empty = empty

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        """Return `(B, 3)` int64 counts of `(B, C, *spatial)` binary masks; channels are added."""
        if y is None or y_pred.shape != y.shape or y_pred.ndim < 3:
            shapes = tuple(y_pred.shape), None if y is None else tuple(y.shape)
            raise ValueError(f"prediction and label must have the same shape (C, *spatial), got {shapes}.")
        predicted, true = _binary(y_pred, "prediction").flatten(1), _binary(y, "label").flatten(1)
        tp = (predicted & true).sum(1)
        return torch.stack([tp, predicted.sum(1) - tp, true.sum(1) - tp], dim=1)

    def _totals(self) -> tuple[int, int, int]:
        counts = self.get_buffer()
        if counts is None:
            raise ValueError("at least one case must be added before aggregate().")
        tp, fp, fn = counts.sum(0).tolist()
        return tp, fp, fn

    @staticmethod
    def _tensor(score: float | None) -> Tensor:
        return torch.tensor(float("nan") if score is None else score, dtype=torch.float64)


class MicroDice(_MicroOverlap):
    """Dice over all pixels of a set, for ``monai.handlers.IgniteMetricHandler(metric_fn=...)``.

    Call it with a list of `(C, *spatial)` binary masks, whose sizes may differ, or a batch `(B, C,
    *spatial)`; `get_buffer` holds the `(cases, 3)` counts, and `aggregate` gathers them from all processes.

    Args:
        empty: what a set without a single foreground pixel scores: ``"zero"``, ``"one"`` or ``"skip"`` (NaN).

    Raises:
        ValueError: if the rule is unknown; when called with masks of two shapes or with values besides 0
            and 1.
    """

    def aggregate(self) -> Tensor:
        """Return the score as a float64 scalar; raises ValueError before any case was added."""
        return self._tensor(dice_score(self._totals(), empty=self.empty))


class MicroIoU(_MicroOverlap):
    """Intersection over union over all pixels of a set; used like `MicroDice`.

    Args:
        empty: what a set without a single foreground pixel scores: ``"zero"``, ``"one"`` or ``"skip"`` (NaN).

    Raises:
        ValueError: if the rule is unknown; when called with masks of two shapes or with values besides 0
            and 1.
    """

    def aggregate(self) -> Tensor:
        """Return the score as a float64 scalar; raises ValueError before any case was added."""
        return self._tensor(iou_score(self._totals(), empty=self.empty))


class CaseTable(Metric):
    """Keeps one row of metrics per case and puts their summary into ``engine.state.metrics``.

    Attach it to an evaluator (``key_val_metric`` or ``additional_metrics`` take it as it is). It reads each
    decollated case, the batch's entries overlaid with the output's: ``pred`` and ``label`` `(1, *spatial)`
    binary masks, ``sentence``, ``id``, ``laterality``, ``image_path`` and ``label_path``; all but ``pred``
    may be missing. After a run `rows` holds the table of all processes in the order of the data, a case
    that the sampler repeated only once.

    Args:
        laterality: whose left the sentences mean where a case does not say: ``"image"`` or ``"patient"``.
        unit: of the surface distances: ``"pixel"``, or ``"mm"`` from the label's (else the prediction's)
            spacing.
        surface: whether to measure surface distances.

    Raises:
        ValueError: if the unit is unknown; in a run, if a mask is not binary or two shapes differ, naming
            the case.
    """

    def __init__(self, *, laterality: str = "image", unit: str = "pixel", surface: bool = True) -> None:
        if unit not in _UNITS:
            raise ValueError(f"unit must be one of {list(_UNITS)}, got {unit!r}.")
        self.laterality = laterality
        self.unit = unit
        self.surface = surface
        self._local: list[Row] = []
        self._gathered: list[Row] | None = None
        super().__init__(skip_unrolling=True, metrics_result_mode="flatten")

    def reset(self) -> None:
        """Forget all rows."""
        self._local = []
        self._gathered = None

    def iteration_completed(self, engine: Engine) -> None:
        """Add the cases of the batch that `engine` has just processed."""
        self.update(
            [
                {**case, **output}
                for case, output in zip(engine.state.batch, _decollated(engine.state.output), strict=True)
            ]
        )

    def update(self, output: Iterable[Mapping[str, Any]]) -> None:
        """Add a row for each case.

        Args:
            output: cases as described above.
        """
        self._gathered = None
        for case in output:
            self._local.append(self._row(case))

    def compute(self) -> dict[str, float | int]:
        """Gather the rows of all processes and return the metrics that are defined; see `summarise`."""
        return {k: v for k, v in self.summary["metrics"].items() if v is not None}

    @property
    def rows(self) -> list[Row]:
        """The rows of all processes; the first call after new cases must be made in every process."""
        if self._gathered is None:
            self._gathered = _distinct(_gather(self._local))
        return self._gathered

    @property
    def summary(self) -> dict[str, Any]:
        """`summarise` of `rows`."""
        return summarise(self.rows)

    def _row(self, case: Mapping[str, Any]) -> Row:
        name = str(case.get("id", ""))
        row: Row = dict.fromkeys(CASE_COLUMNS, "")
        row["id"] = name
        row.update({column: str(case[key]) for column, key in _PATH_KEYS.items() if key in case})
        try:
            metrics = case_metrics(
                case["pred"],
                case.get("label"),
                sentence=case.get("sentence"),
                laterality=case.get("laterality", self.laterality),
                spacing=_spacing(case) if self.unit == "mm" else None,
                surface=self.surface,
            )
        except ValueError as error:
            raise ValueError(f"case {name!r}: {error}") from error
        return {**row, **metrics}


def _binary(mask: Tensor, name: str) -> Tensor:
    plain = mask.as_tensor() if isinstance(mask, MetaTensor) else mask
    binary = plain == 1
    if not bool((binary | (plain == 0)).all()):
        raise ValueError(f"{name} must hold only 0 and 1: threshold it first.")
    return binary


def _decollated(output: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(output, Mapping):
        raise TypeError("the engine's output must be a list of cases, got one batch: set decollate=True.")
    return output


def _spacing(case: Mapping[str, Any]) -> list[float]:
    """Size of a pixel along the spatial axes of the label, else of the prediction, in mm."""
    for key in ("label", "pred"):
        mask = case.get(key)
        if isinstance(mask, MetaTensor):
            return [float(size) for size in mask.pixdim[: mask.ndim - 1]]
    raise ValueError("unit 'mm' needs a label or pred with an affine (MetaTensor), got plain tensors.")


def _gather(rows: list[Row]) -> list[Row]:
    """Rows of all processes, interleaved as a sampler deals cases out to them."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    tables: list[list[Row]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(tables, rows)
    longest = max(map(len, tables))
    return [table[k] for k in range(longest) for table in tables if k < len(table)]


def _distinct(rows: Iterable[Row]) -> list[Row]:
    seen: set[str] = set()
    kept = []
    for row in rows:
        if row["id"] and row["id"] in seen:
            continue
        seen.add(row["id"])
        kept.append(row)
    return kept

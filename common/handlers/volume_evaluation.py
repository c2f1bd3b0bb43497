"""Table and summary of segmented volumes with several classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from ..metrics.cases import Row
from ..metrics.volumes import MEASURES, VolumeTable, column_name
from .evaluation import EvaluationTable

MM3_PER_ML = 1000.0


class PredictedVolumeTable(VolumeTable):
    """`VolumeTable` that also says where each prediction lies and how large its classes are, with labels or without.

    Reads ``pred_displayed`` where postprocessing turned ``pred`` to the file's axes, see `LabelsOnFileGridd`.

    Args:
        labels: see `VolumeTable`.
        surface: see `VolumeTable`.
        scored: whether the cases have labels; then one without is an error.
    """

    def __init__(self, *, labels: Mapping[str, str], surface: bool = True, scored: bool = True) -> None:
        super().__init__(labels=labels, surface=surface)
        self.scored = scored

    def update(self, output: Iterable[Mapping[str, Any]]) -> None:
        """Add a row for each case, see `CaseTable`."""
        super().update({**case, "pred": case.get("pred_displayed", case["pred"])} for case in output)

    def _row(self, case: Mapping[str, Any]) -> Row:
        places = {"image": str(case.get("image_path", "")), "prediction": str(case.get("pred_path", ""))}
        named: Row = {"id": str(case.get("id", "")), "modality": str(case.get("modality", "")), **places}
        if self.scored:
            named["label"] = str(case.get("label_path", ""))
        scores = super()._row(case) if self.scored else {}
        return {**named, **self._volumes(case["pred"]), **scores}

    def _volumes(self, prediction: Any) -> Row:
        """The volume of every class in ml; NaN where the size of a voxel is not known."""
        plain = prediction.as_tensor() if isinstance(prediction, MetaTensor) else torch.as_tensor(prediction)
        counts = torch.bincount(plain.flatten().long(), minlength=len(self.names) + 1)
        affine = getattr(prediction, "affine", None)
        voxel = math.nan if affine is None else abs(float(np.linalg.det(np.asarray(affine)[:3, :3])))
        return {
            f"ml_{column_name(name)}": float(counts[number]) * voxel / MM3_PER_ML
            for number, name in enumerate(self.names, 1)
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of a row, in order."""
        names = [column_name(name) for name in self.names]
        sizes = (f"ml_{name}" for name in names)
        scores = (f"{measure}_{name}" for name in names for measure in (*MEASURES, "empty"))
        label = ("label",) if self.scored else ()
        return ("id", "modality", "image", *label, "prediction", *sizes, *(scores if self.scored else ()))

    @property
    def summary(self) -> dict[str, Any]:
        """That of `VolumeTable` where cases are scored, else how many there are."""
        return super().summary if self.scored else {"count": len(self.rows)}

    def compute(self) -> dict[str, float | int]:
        """See `VolumeTable`; nothing where cases are not scored."""
        return super().compute() if self.scored else {"count": len(self.rows)}


class VolumeEvaluationTable(EvaluationTable):
    """Measure every volume of an evaluation and write ``cases.csv`` and ``summary.json``, as `EvaluationTable`.

    Per class: Dice and ASSD in mm and in voxels, see `VolumeTable`, on the grid of the label. What is undefined, such
    as the distance of a class that was not predicted at all, is an empty cell and null, and counted; it is never a
    number. Without labels the table has the volume of each class.

    Args:
        output_dir: folder of the two files.
        labels: name of every class by its number, "0" for the background.
        checkpoint: see `EvaluationTable`.
        laterality: whose left the names of the classes mean, "patient" or "image".
        surface: measure distances too.
        scored: whether the cases have labels; then one without is an error.
        description: see `EvaluationTable`.
        dataset: see `EvaluationTable`.
        datalist: see `EvaluationTable`.
    """

    protocol = "whole volumes on the grid of the label; distances in mm and in voxels"

    def __init__(
        self,
        *,
        output_dir: str | Path,
        labels: Mapping[str, str],
        checkpoint: str | Path | None = None,
        laterality: str = "patient",
        surface: bool = True,
        scored: bool = True,
        description: Mapping[str, Any] | None = None,
        dataset: Any = None,
        datalist: str | Path | None = None,
    ) -> None:
        super().__init__(
            output_dir=output_dir,
            checkpoint=checkpoint,
            laterality=laterality,
            surface=surface,
            description=description,
            dataset=dataset,
            datalist=datalist,
        )
        self.table = table = PredictedVolumeTable(labels=labels, surface=surface, scored=scored)
        self.columns = table.columns

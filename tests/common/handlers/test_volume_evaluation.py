"""What an evaluation of volumes writes: scores of each class, and nothing where there is nothing to measure."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from common.handlers import VolumeEvaluationTable

LABELS = {"0": "background", "1": "liver", "2": "right kidney"}
AFFINE = torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0], dtype=torch.float64))


def classes(*boxes: tuple[int, slice]) -> MetaTensor:
    values = torch.zeros(1, 6, 6, 4, dtype=torch.uint8)
    for number, rows in boxes:
        values[:, rows, 1:5, 1:3] = number
    return MetaTensor(values, affine=AFFINE)


def run(table: VolumeEvaluationTable, case: dict[str, Any]) -> None:
    engine = Engine(lambda engine, batch: [case])
    engine.state.rank = 0
    table.attach(engine)
    engine.run([[{"id": "a"}]])


def written(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    with (folder / "cases.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    return json.loads((folder / "summary.json").read_text(encoding="utf-8")), row


def test_an_empty_prediction_is_counted_and_has_no_distance(tmp_path: Path) -> None:
    case = {
        "id": "a",
        "modality": "ct",
        "pred": classes((1, slice(0, 3))),
        "label": classes((1, slice(0, 3)), (2, slice(3, 6))),
        "pred_path": str(tmp_path / "predictions" / "a.nii.gz"),
        "label_path": "labels/a.nii.gz",
    }
    run(VolumeEvaluationTable(output_dir=tmp_path, labels=LABELS, description={"section": "test"}), case)
    summary, row = written(tmp_path)
    assert row["label"] == "labels/a.nii.gz"
    assert row["prediction"] == "predictions/a.nii.gz"
    assert (row["dice_liver"], row["assd_mm_liver"], row["empty_liver"]) == ("1.0", "0.0", "0")
    assert (row["dice_right_kidney"], row["assd_mm_right_kidney"], row["empty_right_kidney"]) == (
        "0.0",
        "",
        "1",
    )
    assert float(row["ml_liver"]) == pytest.approx(3 * 4 * 2 * 20 / 1000)
    metrics = summary["metrics"]
    assert metrics["dice"] == pytest.approx(0.5)
    assert metrics["assd_voxel_right_kidney"] is None
    assert metrics["n_empty_prediction"] == 1
    assert (summary["section"], summary["count"]) == ("test", 1)
    assert "NaN" not in (tmp_path / "summary.json").read_text(encoding="utf-8")


def test_without_labels_there_are_sizes_alone(tmp_path: Path) -> None:
    case = {"id": "a", "pred": torch.zeros(4, 6, 6), "pred_displayed": classes((2, slice(0, 2)))}
    run(VolumeEvaluationTable(output_dir=tmp_path, labels=LABELS, scored=False), case)
    summary, row = written(tmp_path)
    assert list(row) == ["id", "modality", "image", "prediction", "ml_liver", "ml_right_kidney"]
    assert float(row["ml_right_kidney"]) == pytest.approx(2 * 4 * 2 * 20 / 1000)
    assert "metrics" not in summary


def test_a_case_without_a_label_is_an_error_where_cases_are_scored(tmp_path: Path) -> None:
    table = VolumeEvaluationTable(output_dir=tmp_path, labels=LABELS)
    with pytest.raises(ValueError, match="case 'a': a volume to score must have a label, got none"):
        table.table.update([{"id": "a", "pred": classes()}])

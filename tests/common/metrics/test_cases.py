"""Rows of cases and their summary."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import torch

from common.metrics import (
    CASE_COLUMNS,
    METRIC_DEFINITIONS,
    assd,
    case_metrics,
    dice_micro,
    dice_score,
    hd95,
    iou_score,
    overlap_counts,
    summarise,
)

SENTENCES = (
    "Unilateral pulmonary infection, one infected area, lower left lung.",
    "Bilateral pulmonary infection, two infected areas, lower left lung and lower right lung.",
    "No pulmonary infection, zero infected areas.",
    None,
)


def box(*boxes: tuple[int, int, int, int], shape: tuple[int, ...] = (60, 80)) -> np.ndarray:
    drawn = np.zeros(shape, np.uint8)
    for top, bottom, left, right in boxes:
        drawn[top:bottom, left:right] = 1
    return drawn


LEFT, RIGHT = (45, 58, 5, 30), (45, 58, 50, 75)


def rows() -> list[dict]:
    pairs = [
        (box(LEFT), box((44, 57, 6, 31))),
        (box(LEFT), box(LEFT, RIGHT, shape=(62, 90))),
        (box(), box()),
        (box(RIGHT), box(LEFT)),
    ]
    pairs[1] = (box(LEFT, shape=(62, 90)), pairs[1][1])
    return [case_metrics(p, y, sentence=s) for (p, y), s in zip(pairs, SENTENCES, strict=True)]


def test_a_row_holds_the_metrics_of_its_case() -> None:
    prediction, label = box(LEFT), box((44, 57, 6, 31))
    row = case_metrics(
        torch.tensor(prediction)[None], torch.tensor(label)[None].bool(), sentence=SENTENCES[0]
    )
    counts = overlap_counts(prediction, label)
    assert tuple(row) == CASE_COLUMNS[4:]
    assert (row["tp"], row["fp"], row["fn"]) == counts
    assert row["dice_image"] == dice_score(counts)
    assert row["iou_image"] == iou_score(counts)
    assert row["hd95"] == hd95(prediction, label)
    assert row["assd"] == assd(prediction, label)
    agreement = ("side_prediction", "zones_prediction", "count_prediction", "side_truth", "count_truth")
    assert [row[name] for name in agreement] == [1.0] * 5


def test_spacing_laterality_and_surface_are_passed_on() -> None:
    prediction, label = box(LEFT), box((43, 56, 5, 30))
    metres = case_metrics(prediction, label, spacing=(2.0, 1.0))
    assert metres["assd"] == pytest.approx(assd(prediction, label, spacing=(2.0, 1.0)))
    assert case_metrics(prediction, label, surface=False)["hd95"] is None
    patient = case_metrics(prediction, label, sentence=SENTENCES[0], laterality="patient")
    assert patient["side_prediction"] == patient["side_truth"] == 0


@pytest.mark.parametrize("sentence", [None, "", "   "])
def test_without_a_sentence_the_consistency_is_undefined(sentence: str | None) -> None:
    row = case_metrics(box(LEFT), box(LEFT), sentence=sentence)
    assert all(row[name] is None for name in CASE_COLUMNS[12:])
    assert row["dice_image"] == 1


def test_without_a_label_only_the_prediction_is_judged() -> None:
    row = case_metrics(box(LEFT), None, sentence=SENTENCES[0])
    assert row["side_prediction"] == 1
    assert all(row[name] is None for name in ("tp", "dice_image", "hd95", "side_truth", "count_truth"))
    metrics = summarise([row])["metrics"]
    assert metrics["dice_micro"] is None
    assert metrics["n_overlap"] == 0
    assert metrics["side_prediction"] == 1


def test_a_volume_is_a_case_too() -> None:
    prediction, label = np.zeros((2, 1, 20, 24, 6), bool)
    prediction[0, 12:18, 2:8, 1:4] = label[0, 12:18, 3:9, 1:4] = True
    row = case_metrics(prediction, label, spacing=(1.0, 0.5, 5.0))
    assert row["hd95"] == hd95(prediction[0], label[0], spacing=(1.0, 0.5, 5.0))
    assert row["tp"] == 6 * 5 * 3


def test_summary_of_a_set() -> None:
    table = rows()
    summary = summarise(table)
    metrics = summary["metrics"]
    counts = [(row["tp"], row["fp"], row["fn"]) for row in table]
    dice = [dice_score(pair) for pair in counts]
    assert summary["count"] == metrics["n_overlap"] == 4
    assert metrics["dice_micro"] == pytest.approx(dice_micro(counts))
    assert metrics["iou_micro"] == pytest.approx(metrics["dice_micro"] / (2 - metrics["dice_micro"]))
    assert metrics["dice_image"] == pytest.approx((dice[0] + dice[1] + 0 + 0) / 4)
    assert metrics["dice_image_empty_one"] == pytest.approx((dice[0] + dice[1] + 1 + 0) / 4)
    assert metrics["iou_image_empty_one"] - metrics["iou_image"] == pytest.approx(1 / 4)
    assert metrics["n_both_empty"] == 1
    assert metrics["n_hd95"] == metrics["n_assd"] == 3
    assert metrics["hd95"] == pytest.approx(
        np.mean([row["hd95"] for row in table if row["hd95"] is not None])
    )
    assert metrics["n_side_prediction"] == metrics["n_side_truth"] == 3
    assert metrics["side_prediction"] == pytest.approx(2 / 3)
    assert metrics["side_truth"] == 1
    assert metrics["count_prediction"] == pytest.approx(2 / 3)
    assert set(METRIC_DEFINITIONS) <= set(metrics)
    assert summary["definitions"]["dice_image"].endswith("two empty masks score 0")


def test_the_one_sided_subset_holds_the_sentences_that_name_one_side() -> None:
    table = rows()
    subset = summarise(table)["subsets"]["one_sided"]
    assert subset["count"] == 1
    assert subset["metrics"]["dice_micro"] == pytest.approx(table[0]["dice_image"])
    blank = [dict(row, text="") for row in table]
    assert summarise(blank)["subsets"]["one_sided"] == {"count": 0, "metrics": summarise([])["metrics"]}


def test_rows_that_went_through_a_csv_file_give_the_same_summary() -> None:
    table = rows()
    file = io.StringIO()
    writer = csv.DictWriter(file, CASE_COLUMNS)
    writer.writeheader()
    writer.writerows(table)
    file.seek(0)
    assert summarise(csv.DictReader(file)) == summarise(table)


def test_no_rows_have_no_metrics() -> None:
    metrics = summarise([])["metrics"]
    assert all(value == 0 if name.startswith("n_") else value is None for name, value in metrics.items())


@pytest.mark.parametrize("shape", [(2, 8, 8), (8,), (2, 1, 8, 8), (1, 1, 8, 8, 8)])
def test_several_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"prediction must have shape \(rows, cols\), \(1, rows, cols\)"):
        case_metrics(np.zeros(shape), None)
    with pytest.raises(ValueError, match="same shape"):
        case_metrics(np.zeros((8, 8)), np.zeros((8, 9)))

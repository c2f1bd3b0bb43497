"""Scores of volumes: against counting by hand and medpy, and honest about what is empty."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy import metric as medpy
from monai.data import MetaTensor

from common.metrics import VolumeTable, class_scores, summarise_volumes, volume_row

LABELS = {"0": "background", "1": "liver", "2": "right kidney"}
SPACING = (0.7, 1.1, 4.0)


def volumes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.zeros((14, 12, 8), np.uint8)
    label[2:8, 3:9, 1:6] = 1
    label[9:13, 2:6, 2:7] = 2
    prediction = np.roll(label, rng.integers(-1, 2, 3), axis=(0, 1, 2))
    prediction[rng.random(label.shape) < 0.03] = 1
    return prediction, label


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_dice_and_distances_are_those_of_medpy(seed: int) -> None:
    prediction, label = volumes(seed)
    for number, score in enumerate(class_scores(prediction, label, classes=3, spacing=SPACING), 1):
        one, two = prediction == number, label == number
        assert score.dice == pytest.approx(medpy.binary.dc(one, two), abs=1e-12)
        for value, size in ((score.assd_mm, SPACING), (score.assd_voxel, None)):
            ways = medpy.binary.asd(one, two, size), medpy.binary.asd(two, one, size)
            assert value == pytest.approx(np.mean(ways), abs=1e-9)


def test_counts_are_those_of_a_loop() -> None:
    prediction, label = volumes(1)
    scores = class_scores(prediction, label, classes=3)
    counts = np.zeros((3, 3), int)
    for guess, truth in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
        for number in (1, 2):
            counts[number] += [guess == truth == number, guess == number != truth, truth == number != guess]
    assert [(s.tp, s.fp, s.fn) for s in scores] == [tuple(row) for row in counts[1:]]
    assert all(math.isnan(score.assd_mm) for score in scores)  # no spacing was given


def test_a_shift_by_a_voxel_is_its_length_in_mm() -> None:
    label = np.zeros((6, 6, 20), np.uint8)
    label[:, :, :10] = 1
    (score,) = class_scores(
        np.roll(label, 1, axis=2) * (np.arange(20) > 0), label, classes=2, spacing=SPACING
    )
    (own,) = class_scores(label, label, classes=2, spacing=SPACING)
    assert (own.dice, own.assd_mm, own.assd_voxel) == (1.0, 0.0, 0.0)
    assert score.assd_mm > score.assd_voxel > 0


def test_an_empty_prediction_is_no_made_up_distance() -> None:
    _, label = volumes(0)
    missed = np.where(label == 2, 0, label)
    found, lost = class_scores(missed, label, classes=3, spacing=SPACING)
    assert found.dice == 1
    assert lost.dice == 0
    assert math.isnan(lost.assd_mm)
    assert math.isnan(lost.assd_voxel)
    assert lost.is_empty_prediction
    assert not found.is_empty_prediction


def test_a_class_that_is_nowhere_is_undefined_and_one_that_is_invented_is_wrong() -> None:
    _, label = volumes(0)
    without = np.where(label == 2, 0, label)
    _, nowhere = class_scores(without, without, classes=3)
    assert math.isnan(nowhere.dice)
    assert not nowhere.is_empty_prediction
    _, invented = class_scores(label, without, classes=3)
    assert invented.dice == 0
    assert math.isnan(invented.assd_voxel)


def test_summary_is_the_mean_over_volumes_then_classes() -> None:
    names = ["liver", "right kidney"]
    rows = [volume_row(class_scores(*volumes(seed), classes=3, spacing=SPACING), names) for seed in range(3)]
    _, label = volumes(0)
    rows.append(
        volume_row(class_scores(np.where(label == 2, 0, label), label, classes=3, spacing=SPACING), names)
    )
    summary = summarise_volumes(rows, names)
    metrics = summary["metrics"]
    assert summary["count"] == 4
    assert metrics["dice_liver"] == pytest.approx(np.mean([row["dice_liver"] for row in rows]))
    assert metrics["dice"] == pytest.approx((metrics["dice_liver"] + metrics["dice_right_kidney"]) / 2)
    kidney = [row["assd_mm_right_kidney"] for row in rows[:3]]
    assert metrics["assd_mm_right_kidney"] == pytest.approx(np.mean(kidney))
    assert (metrics["n_assd_mm_right_kidney"], metrics["n_dice_right_kidney"]) == (3, 4)
    assert (metrics["n_empty_prediction"], metrics["n_empty_prediction_right_kidney"]) == (1, 1)
    text = [{key: "" if value != value else str(value) for key, value in row.items()} for row in rows]
    assert summarise_volumes(text, names)["metrics"] == pytest.approx(metrics)


def test_nothing_found_at_all_has_no_distance() -> None:
    _, label = volumes(0)
    row = volume_row(class_scores(np.zeros_like(label), label, classes=3, spacing=SPACING), ["a", "b"])
    metrics = summarise_volumes([row], ["a", "b"])["metrics"]
    assert metrics["dice"] == 0
    assert math.isnan(metrics["assd_mm"])
    assert metrics["n_empty_prediction"] == 2


def test_table_reads_an_engines_cases_with_their_spacing() -> None:
    table = VolumeTable(labels=LABELS)
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    batch, output = [], []
    for seed in range(2):
        prediction, label = (
            MetaTensor(torch.from_numpy(volume)[None], affine=affine) for volume in volumes(seed)
        )
        batch.append({"id": f"case{seed}", "label": label, "modality": "ct"})
        output.append({"pred": prediction})
    table.iteration_completed(SimpleNamespace(state=SimpleNamespace(batch=batch, output=output)))
    table.iteration_completed(SimpleNamespace(state=SimpleNamespace(batch=batch[:1], output=output[:1])))
    assert [row["id"] for row in table.rows] == ["case0", "case1"]
    wanted = [class_scores(*volumes(seed), classes=3, spacing=SPACING) for seed in range(2)]
    computed = table.compute()
    assert computed["assd_mm_liver"] == pytest.approx(np.mean([scores[0].assd_mm for scores in wanted]))
    assert set(computed) == {
        *(
            f"{name}{tail}"
            for name in ("dice", "assd_mm", "assd_voxel")
            for tail in ("", "_liver", "_right_kidney")
        ),
        "n_empty_prediction",
    }


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), "must have the same shape"),
        (
            np.full((2, 2, 2), 3),
            np.zeros((2, 2, 2)),
            "prediction must hold the classes 0 to 2, got values from 3 to 3",
        ),
        (np.full((2, 2, 2), 0.5), np.zeros((2, 2, 2)), "prediction must hold the classes"),
        (np.zeros((2, 2, 2, 2)), np.zeros((2, 2, 2)), "prediction must have shape"),
    ],
)
def test_bad_volumes_are_refused(prediction: np.ndarray, label: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_scores(prediction, label, classes=3)


def test_table_refuses_what_it_would_have_to_skip() -> None:
    with pytest.raises(ValueError, match="case 'a': a volume to score must have a label, got none"):
        VolumeTable(labels=LABELS).update([{"id": "a", "pred": np.zeros((1, 2, 2, 2))}])
    with pytest.raises(ValueError, match="labels must name the classes 0, 1, 2"):
        VolumeTable(labels={"1": "liver"})

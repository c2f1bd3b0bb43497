"""Dice and IoU against hand computation, naive loops, medpy and torchmetrics."""

from __future__ import annotations

import medpy.metric.binary as medpy_metrics
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex

from common.metrics import (
    as_binary,
    dice_image,
    dice_micro,
    dice_score,
    iou_image,
    iou_micro,
    iou_score,
    overlap_counts,
    total_counts,
)

SIZES = [(1, 7, 5), (1, 32, 48), (1, 3, 3), (1, 20, 20), (1, 4, 6, 5)]
COUNTS = st.tuples(*[st.integers(0, 10**6)] * 3)


def masks(*, sizes=SIZES, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(rng.random(size) > 0.5, rng.random(size) > rng.random()) for size in sizes]


def naive_counts(prediction: np.ndarray, label: np.ndarray) -> tuple[int, int, int]:
    tp = fp = fn = 0
    for p, y in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
        tp, fp, fn = tp + (p and y), fp + (p and not y), fn + (y and not p)
    return tp, fp, fn


@pytest.mark.parametrize(
    ("prediction", "label", "counts", "dice", "iou"),
    [
        ([[1, 1], [0, 0]], [[1, 0], [1, 0]], (1, 1, 1), 1 / 2, 1 / 3),
        ([[1, 1], [1, 1]], [[1, 1], [1, 1]], (4, 0, 0), 1.0, 1.0),
        ([[0, 0], [0, 0]], [[1, 0], [0, 0]], (0, 0, 1), 0.0, 0.0),
        ([[1, 1], [1, 0]], [[1, 0], [0, 0]], (1, 2, 0), 1 / 2, 1 / 3),
    ],
)
def test_hand_computed(prediction, label, counts, dice, iou) -> None:
    assert overlap_counts(np.array(prediction), torch.tensor(label)) == counts
    assert dice_score(counts) == pytest.approx(dice)
    assert iou_score(counts) == pytest.approx(iou)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64, np.bool_])
def test_counts_equal_a_naive_loop_for_every_type(dtype) -> None:
    for prediction, label in masks(seed=1):
        assert overlap_counts(prediction.astype(dtype), label.astype(dtype)) == naive_counts(
            prediction, label
        )


def test_scores_equal_medpy_per_image() -> None:
    pairs = masks(seed=2)
    counts = [overlap_counts(p, y) for p, y in pairs]
    for pair, (p, y) in zip(counts, pairs, strict=True):
        assert dice_score(pair) == pytest.approx(medpy_metrics.dc(p, y), abs=1e-12)
        assert iou_score(pair) == pytest.approx(medpy_metrics.jc(p, y), abs=1e-12)
    assert dice_image(counts) == pytest.approx(np.mean([medpy_metrics.dc(p, y) for p, y in pairs]), abs=1e-12)
    assert iou_image(counts) == pytest.approx(np.mean([medpy_metrics.jc(p, y) for p, y in pairs]), abs=1e-12)


def test_micro_equals_torchmetrics_over_images_of_many_sizes() -> None:
    pairs = masks(seed=3)
    f1, jaccard = BinaryF1Score(), BinaryJaccardIndex()
    for p, y in pairs:
        f1.update(torch.tensor(p).int().flatten(), torch.tensor(y).int().flatten())
        jaccard.update(torch.tensor(p).int().flatten(), torch.tensor(y).int().flatten())
    counts = [overlap_counts(p, y) for p, y in pairs]
    assert dice_micro(counts) == pytest.approx(f1.compute().item(), abs=1e-6)
    assert iou_micro(counts) == pytest.approx(jaccard.compute().item(), abs=1e-6)


def test_micro_is_the_score_of_all_pixels_in_one_image_and_not_the_mean() -> None:
    pairs = masks(seed=4)
    counts = [overlap_counts(p, y) for p, y in pairs]
    joined = [np.concatenate([mask.ravel() for mask in side]) for side in zip(*pairs, strict=True)]
    assert dice_micro(counts) == pytest.approx(medpy_metrics.dc(*joined), abs=1e-12)
    assert abs(dice_micro(counts) - dice_image(counts)) > 1e-3
    assert total_counts(counts) == naive_counts(*joined)


@given(COUNTS)
def test_iou_is_dice_over_two_minus_dice(counts) -> None:
    dice = dice_score(counts, empty="one")
    assert iou_score(counts, empty="one") == pytest.approx(dice / (2 - dice), rel=1e-12)


@given(st.lists(COUNTS, min_size=1, max_size=6))
def test_mean_iou_is_at_least_the_iou_of_the_mean_dice(counts) -> None:
    dice = dice_image(counts)
    assert iou_image(counts) >= dice / (2 - dice) - 1e-12


@given(COUNTS)
@settings(max_examples=50)
def test_exchanging_prediction_and_label_changes_nothing(counts) -> None:
    tp, fp, fn = counts
    assert dice_score(counts) == dice_score((tp, fn, fp))
    assert iou_score(counts) == iou_score((tp, fn, fp))


@pytest.mark.parametrize("score", [dice_score, iou_score])
@pytest.mark.parametrize(("empty", "expected"), [("zero", 0.0), ("one", 1.0), ("skip", None)])
def test_rule_for_two_empty_masks(score, empty: str, expected: float | None) -> None:
    counts = overlap_counts(np.zeros((4, 4)), np.zeros((4, 4)))
    assert counts.is_empty
    assert score(counts, empty=empty) == expected


@pytest.mark.parametrize("empty", ["zero", "one", "skip"])
def test_one_empty_mask_scores_zero_under_every_rule(empty: str) -> None:
    assert dice_score((0, 5, 0), empty=empty) == 0
    assert iou_score((0, 0, 5), empty=empty) == 0


@pytest.mark.parametrize(("empty", "expected"), [("zero", 0.5), ("one", 0.75), ("skip", 2 / 3)])
def test_rule_in_the_mean_over_images(empty: str, expected: float) -> None:
    counts = [(3, 0, 0), (1, 1, 1), (0, 0, 0), (1, 1, 1)]
    assert dice_image(counts, empty=empty) == pytest.approx(expected)
    assert dice_image([(0, 0, 0)], empty="skip") is None
    assert iou_image([], empty=empty) is None
    assert dice_micro([(0, 0, 0)], empty=empty) == dice_score((0, 0, 0), empty=empty)
    assert iou_micro([(0, 0, 0)], empty=empty) == iou_score((0, 0, 0), empty=empty)


def test_epsilon_of_the_per_image_protocol() -> None:
    assert dice_score((1, 0, 0), epsilon=1e-5) == pytest.approx(2 / (2 + 1e-5), abs=1e-15)
    assert 0 <= 1 - dice_score((1, 0, 0), epsilon=1e-5) < 5e-6
    assert dice_score((0, 0, 0), epsilon=1e-5) == 0
    assert dice_image([(1, 0, 0)], epsilon=1e-5) == dice_score((1, 0, 0), epsilon=1e-5)


@pytest.mark.parametrize("values", [[0, 255], [0.0, 0.4], [0.0, float("nan")], [0, 2], [-1, 1]])
def test_masks_that_are_not_binary_are_refused(values) -> None:
    with pytest.raises(ValueError, match="label must hold only 0 and 1, got"):
        overlap_counts(np.zeros(2), np.array(values))


def test_other_errors_name_what_came() -> None:
    with pytest.raises(ValueError, match=r"same shape, got \(2, 2\) and \(2, 3\)"):
        overlap_counts(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"empty must be one of .* got 'nan'"):
        dice_score((1, 1, 1), empty="nan")


def test_as_binary_keeps_the_shape_and_copies_nothing_it_need_not() -> None:
    mask = np.array([[True, False]])
    assert as_binary(mask) is mask
    assert as_binary(torch.tensor([[1.0, 0.0]])).tolist() == [[True, False]]

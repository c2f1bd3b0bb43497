"""Cross-entropy by rarity and soft Dice of several classes, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from common.losses import (
    ClassSegmentationObjective,
    balanced_cross_entropy,
    rarity_weights,
    softmax_dice_loss,
)

CLASSES = 4


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, CLASSES, 5, 6, generator=generator, dtype=torch.float64)
    return logits, torch.randint(CLASSES - 1, (2, 1, 5, 6), generator=generator)


def test_a_class_weighs_what_is_not_it() -> None:
    label = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]).reshape(1, 1, 2, 4)
    assert_close(rarity_weights(label, 3), torch.tensor([1 - 7 / 8, 1 - 3 / 8, 1 - 1 / 8]))


def test_cross_entropy_is_the_weighted_mean_of_a_loop() -> None:
    logits, label = batch()
    weights = rarity_weights(label, CLASSES)
    total = weight = 0.0
    for case in range(2):
        for row in range(5):
            for column in range(6):
                scores, true = logits[case, :, row, column], int(label[case, 0, row, column])
                log_sum = math.log(sum(math.exp(float(score)) for score in scores))
                total += float(weights[true]) * (log_sum - float(scores[true]))
                weight += float(weights[true])
    assert float(balanced_cross_entropy(logits, label)) == pytest.approx(total / weight, rel=1e-9)


def test_dice_is_that_of_a_loop_over_classes_with_squares_below() -> None:
    logits, label = batch(1)
    probability = logits.softmax(1)
    scores = []
    for number in range(CLASSES):  # the last one is nowhere in the label
        true, given = (label[:, 0] == number).double(), probability[:, number]
        both = float((true * given).sum())
        scores.append(1 - (2 * both + 1e-5) / (float(given.square().sum() + true.sum()) + 1e-5))
    assert float(softmax_dice_loss(logits, label)) == pytest.approx(sum(scores) / CLASSES, rel=1e-9)


def test_a_slice_of_background_alone_has_the_plain_mean_and_a_finite_gradient() -> None:
    logits = batch()[0].requires_grad_()
    label = torch.zeros(2, 1, 5, 6)
    loss = balanced_cross_entropy(logits, label)
    assert_close(loss, -logits.log_softmax(1)[:, 0].mean())
    (loss + softmax_dice_loss(logits, label)).backward()
    assert torch.isfinite(logits.grad).all()
    assert float(logits.grad[:, 0].max()) < 0


def test_both_are_float32_under_autocast() -> None:
    logits, label = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = [loss(logits.bfloat16(), label) for loss in (balanced_cross_entropy, softmax_dice_loss)]
    assert {loss.dtype for loss in losses} == {torch.float32}


def test_the_auxiliary_prediction_counts_a_tenth_and_small_ones_are_enlarged() -> None:
    logits, label = batch()
    small = torch.randn(2, CLASSES, 3, 3, dtype=torch.float64)
    terms = ClassSegmentationObjective(weights={"dice": 0.5})(
        {"logits": logits, "aux_logits": small}, {"label": label}
    )
    enlarged = torch.nn.functional.interpolate(small, (5, 6), mode="bilinear", align_corners=True)
    expected = {
        "ce": balanced_cross_entropy(logits, label),
        "dice": 0.5 * softmax_dice_loss(logits, label),
        "aux_ce": 0.1 * balanced_cross_entropy(enlarged, label),
        "aux_dice": 0.05 * softmax_dice_loss(enlarged, label),
    }
    assert list(terms) == list(expected)
    for name, term in expected.items():
        assert_close(terms[name], term)


def test_without_weight_the_auxiliary_prediction_need_not_be_there() -> None:
    logits, label = batch()
    assert set(ClassSegmentationObjective(aux_weight=0)({"logits": logits}, {"label": label})) == {
        "ce",
        "dice",
    }


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            torch.full((2, 1, 5, 6), 4),
            "label must hold whole numbers from 0 to 3, got 4 to 4: check the class",
        ),
        (torch.full((2, 1, 5, 6), -1), "got -1 to -1"),
        (torch.full((2, 1, 5, 6), 0.5), "got 0.5 to 0.5"),
        (torch.zeros(2, 5, 6), r"label must have the shape \(B, 1, \*spatial\)"),
        (torch.zeros(2, 1, 5, 5), r"got \(2, 1, 5, 5\) and \(2, 4, 5, 6\)"),
    ],
)
@pytest.mark.parametrize("loss", [balanced_cross_entropy, softmax_dice_loss])
def test_labels_that_cannot_be_are_refused(loss: object, label: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss(batch()[0], label)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"weights": {"bce": 1.0}},
            r"weights must name terms of this objective \['ce', 'dice'\], got \['bce'\]",
        ),
        ({"weights": {"ce": -1.0}}, "must be finite and not negative"),
        ({"aux_weight": float("inf")}, "must be finite and not negative"),
    ],
)
def test_weights_that_cannot_be_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassSegmentationObjective(**arguments)


def test_missing_entries_are_named() -> None:
    logits, label = batch()
    objective = ClassSegmentationObjective()
    with pytest.raises(ValueError, match=r"outputs must hold 'aux_logits', got the keys \['logits'\]"):
        objective({"logits": logits}, {"label": label})
    with pytest.raises(ValueError, match="batch must hold 'label'"):
        objective({"logits": logits}, {})

"""Soft Dice, cross-entropy and the objective against hand computation, MONAI and naive loops."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from monai.losses import DiceCELoss, DiceLoss
from torch.testing import assert_close

from common.losses import SegmentationObjective, bce_loss, dice_loss


def pair(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, generator=generator, dtype=dtype)
    return logits, (torch.rand(*shape, generator=generator) > 0.6).to(dtype)


def naive_dice(logits: torch.Tensor, target: torch.Tensor, smooth: float) -> float:
    losses = []
    for sample, truth in zip(logits.tolist(), target.tolist(), strict=True):
        for channel, true_channel in zip(sample, truth, strict=True):
            both = probabilities = pixels = 0.0
            for row, true_row in zip(channel, true_channel, strict=True):
                for value, y in zip(row, true_row, strict=True):
                    p = 1 / (1 + math.exp(-value))
                    both, probabilities, pixels = both + p * y, probabilities + p, pixels + y
            losses.append(1 - (2 * both + smooth) / (probabilities + pixels + smooth))
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("kept", "expected"), [(4, 0.0), (2, 1 - 2 * 2 / (2 + 4)), (0, 1.0)])
def test_dice_of_saturated_logits_is_the_dice_of_the_masks(kept: int, expected: float) -> None:
    logits = torch.full((1, 1, 3, 4), -200.0, dtype=torch.float64)
    logits[..., 0, :kept] = 200.0
    target = torch.zeros_like(logits)
    target[..., 0, :] = 1
    assert dice_loss(logits, target).item() == pytest.approx(expected, abs=1e-5)


def test_empty_target_costs_nothing_when_the_prediction_is_empty() -> None:
    logits = torch.full((2, 1, 4, 4), -500.0)
    assert dice_loss(logits, torch.zeros_like(logits)).item() == pytest.approx(0.0, abs=1e-6)
    assert dice_loss(-logits, torch.zeros_like(logits)).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_dice_equals_a_naive_loop_and_monai(smooth: float) -> None:
    logits, target = pair(3, 2, 5, 4)
    loss = dice_loss(logits, target, smooth=smooth)
    assert loss.item() == pytest.approx(naive_dice(logits, target, smooth), abs=1e-12)
    assert_close(loss, DiceLoss(sigmoid=True, smooth_nr=smooth, smooth_dr=smooth)(logits, target))


def test_bce_equals_its_definition_and_survives_large_logits() -> None:
    logits, target = pair(2, 1, 6, 5, seed=1)
    p = logits.sigmoid()
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    assert_close(bce_loss(logits, target), expected)
    huge = torch.full((1, 1, 2, 2), 1e4)
    assert bce_loss(huge, torch.zeros_like(huge)).item() == pytest.approx(1e4)


def test_sum_of_dice_bce_is_monai_dice_ce_of_one_channel() -> None:
    logits, target = pair(4, 1, 8, 8, seed=2)
    terms = SegmentationObjective("dice_bce")({"logits": logits}, {"label": target}, 3)
    assert list(terms) == ["dice", "bce"]
    assert_close(terms["dice"] + terms["bce"], DiceCELoss(sigmoid=True)(logits, target))


def test_dice_only_has_one_term() -> None:
    logits, target = pair(2, 1, 8, 8)
    terms = SegmentationObjective("dice_only")(logits, {"label": target})
    assert list(terms) == ["dice"]
    assert_close(terms["dice"], dice_loss(logits, target))


def test_weights_scale_their_own_term() -> None:
    logits, target = pair(2, 1, 8, 8)
    terms = SegmentationObjective("dice_bce", weights={"bce": 0.5})(logits, {"label": target})
    assert_close(terms["dice"], dice_loss(logits, target))
    assert_close(terms["bce"], 0.5 * bce_loss(logits, target))


@pytest.mark.parametrize("loss", [dice_loss, bce_loss])
def test_gradients(loss) -> None:
    logits, target = pair(2, 2, 3, 3, seed=4)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (logits.requires_grad_(),))


@pytest.mark.parametrize("loss", [dice_loss, bce_loss])
@pytest.mark.parametrize("shape", [(1, 1, 7), (2, 3, 4, 5), (2, 1, 3, 4, 5)])
def test_any_number_of_spatial_dimensions_gives_a_scalar(loss, shape: tuple[int, ...]) -> None:
    assert loss(*pair(*shape)).shape == ()


@pytest.mark.parametrize("loss", [dice_loss, bce_loss])
def test_sample_order_does_not_matter(loss) -> None:
    logits, target = pair(4, 1, 5, 5)
    order = torch.tensor([2, 0, 3, 1])
    assert_close(loss(logits, target), loss(logits[order], target[order]))


@pytest.mark.parametrize("loss", [dice_loss, bce_loss])
def test_stays_in_float32_under_autocast_and_for_half_inputs(loss) -> None:
    logits, target = pair(2, 1, 64, 64, dtype=torch.float32)
    with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
        inside = loss(logits, target)
    assert inside.dtype == torch.float32
    assert_close(inside, loss(logits, target), rtol=0, atol=0)
    half = logits.to(torch.bfloat16)
    assert_close(loss(half, target.bool()), loss(half.float(), target), rtol=0, atol=0)


def test_metadata_is_dropped_and_gradients_flow() -> None:
    logits, target = pair(2, 1, 4, 4, dtype=torch.float32)
    logits.requires_grad_()
    terms = SegmentationObjective()({"logits": logits}, {"label": MetaTensor(target)}, 0)
    total = sum(terms.values())
    assert type(total) is torch.Tensor
    total.backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("under", ["logits", "deep_logits"])
def test_deep_supervision_weighs_the_scales_by_halves_that_add_up_to_one(under: str) -> None:
    full, target = pair(2, 1, 8, 8)
    half, _ = pair(2, 1, 4, 4, seed=5)
    outputs = {"logits": [full, half]} if under == "logits" else {"logits": full, "deep_logits": [half]}
    terms = SegmentationObjective()(outputs, {"label": target}, 0)
    coarse = target[..., 1::2, 1::2].double()
    assert_close(terms["dice"], (2 * dice_loss(full, target) + dice_loss(half, coarse)) / 3)
    assert_close(terms["bce"], (2 * bce_loss(full, target) + bce_loss(half, coarse)) / 3)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [(((2, 1, 4, 4), (2, 1, 4, 5)), r"same shape, got \(2, 1, 4, 4\)"), (((2, 4), (2, 4)), r"got \(2, 4\)")],
)
@pytest.mark.parametrize("loss", [dice_loss, bce_loss])
def test_wrong_shapes_are_named(loss, shapes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "dice_ce"}, r"kind must be one of .* got 'dice_ce'"),
        ({"kind": "dice_only", "weights": {"bce": 1}}, r"terms of this objective \['dice'\], got \['bce'\]"),
        ({"weights": {"dice": -1}}, "not negative"),
        ({"weights": {"dice": float("nan")}}, "finite"),
        ({"smooth": 0}, "smooth must be positive"),
    ],
)
def test_wrong_settings_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationObjective(**arguments)


def test_missing_entries_are_named() -> None:
    logits, target = pair(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"'label', got the keys \['image'\]"):
        SegmentationObjective()(logits, {"image": target})
    with pytest.raises(ValueError, match=r"'logits', got the keys \['tokens'\]"):
        SegmentationObjective()({"tokens": logits}, {"label": target})
    with pytest.raises(ValueError, match="at least one tensor"):
        SegmentationObjective()({"logits": []}, {"label": target})


def test_prints_its_settings() -> None:
    assert "kind='dice_only', weights={'dice': 1.0}" in repr(SegmentationObjective("dice_only"))

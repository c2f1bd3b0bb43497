"""The terms of BiCLIP against loops, their gradients, and the objective that weighs them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from common.losses import (
    BiCLIPObjective,
    SegmentationObjective,
    augmentation_consistency_loss,
    bce_loss,
    cycle_loss,
    dice_loss,
    generator_loss,
)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs_of_a_step() -> dict[str, Tensor]:
    label = (drawn(2, 1, 4, 4, seed=1) > 0).double()
    return {
        "logits": drawn(2, 1, 4, 4, seed=0).requires_grad_(),
        "label": label,
        "pseudo": drawn(2, 3, 4, 4, seed=2).sigmoid().requires_grad_(),
        "pseudo_target": drawn(2, 3, 4, 4, seed=3).sigmoid() * label,
        "text_vector": drawn(2, 9, seed=4).requires_grad_(),
        "text_vector_from_image": drawn(2, 9, seed=5).requires_grad_(),
        "weak_vector": drawn(2, 6, seed=6).requires_grad_(),
        "strong_vector": drawn(2, 6, seed=7).requires_grad_(),
    }


def test_generator_loss_is_the_mean_absolute_difference() -> None:
    pseudo, target = drawn(2, 3, 2, 2, seed=0).requires_grad_(), drawn(2, 3, 2, 2, seed=1).requires_grad_()
    numbers = zip(pseudo.flatten().tolist(), target.flatten().tolist(), strict=True)
    loss = generator_loss(pseudo, target)
    assert float(loss.detach()) == pytest.approx(sum(abs(a - b) for a, b in numbers) / 24, abs=1e-12)
    loss.backward()
    assert target.grad is None
    assert_close(pseudo.grad, (pseudo - target).detach().sign() / 24)


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_cycle_loss_is_the_mean_of_the_norm(norm: str, power: int) -> None:
    text, returned = drawn(3, 4, seed=0).requires_grad_(), drawn(3, 4, seed=1).requires_grad_()
    numbers = zip(text.flatten().tolist(), returned.flatten().tolist(), strict=True)
    loss = cycle_loss(text, returned, norm=norm)
    assert float(loss.detach()) == pytest.approx(sum(abs(a - b) ** power for a, b in numbers) / 12, abs=1e-12)
    loss.backward()
    assert text.grad is None
    assert returned.grad.any()


def test_consistency_loss_is_equation_6() -> None:
    weak, strong = drawn(3, 4, seed=0), drawn(3, 4, seed=1)
    distances = []
    for one, other in zip(weak.tolist(), strong.tolist(), strict=True):
        product = sum(a * b for a, b in zip(one, other, strict=True))
        distances.append(1 - product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other)))
    assert float(augmentation_consistency_loss(weak, strong)) == pytest.approx(sum(distances) / 3, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_consistency_loss_sees_directions_alone(scale: float, seed: int) -> None:
    vector = drawn(2, 8, seed=seed)
    assert float(augmentation_consistency_loss(vector, scale * vector)) == pytest.approx(0, abs=1e-9)
    assert float(augmentation_consistency_loss(vector, -scale * vector)) == pytest.approx(2, abs=1e-9)


@pytest.mark.parametrize("stop", ["strong", "none"])
def test_where_the_gradient_of_consistency_goes(stop: str) -> None:
    weak, strong = drawn(3, 4, seed=0).requires_grad_(), drawn(3, 4, seed=1).requires_grad_()
    augmentation_consistency_loss(weak, strong, stop_gradient=stop).backward()
    assert weak.grad.any()
    assert (strong.grad is None) == (stop == "strong")


def test_the_objective_is_equation_8() -> None:
    outputs = outputs_of_a_step()
    terms = BiCLIPObjective()(outputs, {})
    assert_close(terms["dice"], dice_loss(outputs["logits"], outputs["label"]))
    assert_close(terms["bce"], bce_loss(outputs["logits"], outputs["label"]))
    assert_close(terms["generator"], 0.1 * generator_loss(outputs["pseudo"], outputs["pseudo_target"]))
    consistency = augmentation_consistency_loss(outputs["weak_vector"], outputs["strong_vector"])
    assert_close(terms["iac"], 0.05 * consistency)
    assert_close(terms["cycle"], 0.07 * cycle_loss(outputs["text_vector"], outputs["text_vector_from_image"]))
    assert list(terms) == ["dice", "bce", "generator", "iac", "cycle"]


def test_switches_and_weights_reach_the_terms() -> None:
    outputs = outputs_of_a_step()
    objective = BiCLIPObjective(
        "dice_only", generator=2, iac=3, cycle=4, cycle_norm="l2", stop_gradient="none"
    )
    terms = objective(outputs, {})
    assert list(terms) == ["dice", "generator", "iac", "cycle"]
    vectors = outputs["text_vector"], outputs["text_vector_from_image"]
    assert_close(terms["cycle"], 4 * cycle_loss(*vectors, norm="l2"))
    terms["iac"].backward()
    assert outputs["strong_vector"].grad.any()
    assert "cycle_norm='l2', stop_gradient='none'" in repr(objective)


def test_weights_of_0_leave_the_segmentation_loss_and_every_gradient() -> None:
    outputs = outputs_of_a_step()
    terms = BiCLIPObjective(generator=0, iac=0, cycle=0)(outputs, {})
    expected = SegmentationObjective()(outputs["logits"], {"label": outputs["label"]})
    assert_close(sum(terms.values()), sum(expected.values()))
    sum(terms.values()).backward()
    for name in ("pseudo", "text_vector_from_image", "weak_vector"):
        assert outputs[name].grad is not None
        assert not outputs[name].grad.any()


def test_what_the_network_does_not_return_is_left_out() -> None:
    outputs = outputs_of_a_step()
    assert list(BiCLIPObjective()({key: outputs[key] for key in ("logits", "label")}, {})) == ["dice", "bce"]


def test_the_outputs_of_a_network_alone_are_compared_with_the_batch() -> None:
    outputs = outputs_of_a_step()
    batch = {"image": drawn(2, 3, 4, 4, seed=8).sigmoid(), "label": outputs["label"]}
    terms = BiCLIPObjective()({key: outputs[key] for key in ("logits", "pseudo", "text_vector")}, batch)
    assert_close(terms["generator"], 0.1 * (outputs["pseudo"] - batch["image"] * batch["label"]).abs().mean())
    assert_close(terms["dice"], dice_loss(outputs["logits"], batch["label"]))
    with pytest.raises(ValueError, match="batch must hold 'label'"):
        BiCLIPObjective()({"logits": outputs["logits"]}, {})


def test_the_label_that_moved_counts() -> None:
    outputs = outputs_of_a_step()
    moved = BiCLIPObjective()(outputs, {"label": 1 - outputs["label"]})
    assert_close(moved["dice"], dice_loss(outputs["logits"], outputs["label"]))


def test_half_precision_is_computed_in_float32() -> None:
    half = {name: tensor.detach().bfloat16() for name, tensor in outputs_of_a_step().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = BiCLIPObjective()(half, {})
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="cycle_norm must be one of l1, l2, got 'l3'"):
        BiCLIPObjective(cycle_norm="l3")
    with pytest.raises(ValueError, match="stop_gradient must be one of none, strong, got 'weak'"):
        BiCLIPObjective(stop_gradient="weak")
    for name in ("generator", "iac", "cycle"):
        with pytest.raises(ValueError, match=rf"{name} must be finite and not negative, got -0\.1"):
            BiCLIPObjective(**{name: -0.1})
    with pytest.raises(ValueError, match="cycle_norm must be one of l1, l2, got 'max'"):
        cycle_loss(drawn(1, 2, seed=0), drawn(1, 2, seed=0), norm="max")
    with pytest.raises(ValueError, match=r"pseudo and pseudo_target must have the same shape, got \(1, 2\)"):
        generator_loss(drawn(1, 2, seed=0), drawn(1, 3, seed=0))
    with pytest.raises(ValueError, match="stop_gradient must be one of none, strong, got 'both'"):
        augmentation_consistency_loss(drawn(1, 2, seed=0), drawn(1, 2, seed=0), stop_gradient="both")


def test_a_strong_view_without_a_graph_is_refused_where_its_gradient_is_asked_for() -> None:
    outputs = outputs_of_a_step()
    outputs["strong_vector"] = outputs["strong_vector"].detach()
    with pytest.raises(ValueError, match="stop_gradient must be the same in objective and FusionTraining"):
        BiCLIPObjective(stop_gradient="none")(outputs, {})

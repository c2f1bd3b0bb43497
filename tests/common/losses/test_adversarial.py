"""Entropy maps and adversarial losses against closed forms; labels of the domains by the sign of the gradient."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.testing import assert_close

from common.losses import discriminator_loss, entropy_map, fool_loss, probability_map


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_entropy_equals_a_naive_loop() -> None:
    logits = 3 * draw(2, 4, 2, 3)
    found = entropy_map(logits)
    for case in range(2):
        for row in range(2):
            for column in range(3):
                powers = [math.exp(value) for value in logits[case, :, row, column].tolist()]
                shares = [power / sum(powers) for power in powers]
                expected = [-share * math.log2(share) / math.log2(4) for share in shares]
                assert found[case, :, row, column].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 5])
def test_entropy_is_1_without_a_clue_and_0_when_sure(classes: int) -> None:
    even = entropy_map(torch.zeros(1, classes, 2, 2))
    assert_close(even.sum(1), torch.ones(1, 2, 2))
    sure = torch.zeros(1, classes, 2, 2)
    sure[:, 1] = 1e4
    assert_close(entropy_map(sure), torch.zeros(1, classes, 2, 2))


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e30])
def test_entropy_is_finite_with_a_finite_gradient(scale: float) -> None:
    logits = (scale * draw(1, 3, 4, 4)).float().requires_grad_()
    maps = entropy_map(logits)
    maps.sum().backward()
    assert maps.isfinite().all()
    assert (maps >= 0).all()
    assert logits.grad.isfinite().all()


def test_gradients_by_finite_differences() -> None:
    logits = draw(1, 3, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(entropy_map, logits)
    assert torch.autograd.gradcheck(fool_loss, logits)


def test_the_warm_up_looks_at_probabilities() -> None:
    logits = draw(2, 3, 4, 4)
    assert_close(probability_map(logits), logits.softmax(1))
    assert probability_map(logits.to(torch.bfloat16)).dtype == torch.float32


def test_losses_equal_naive_loops() -> None:
    source, target = 4 * draw(2, 1, 3, 3), 4 * draw(3, 1, 2, 2, seed=1)

    def mean(values: Tensor, label: int) -> float:
        chances = [1 / (1 + math.exp(-value)) for value in values.flatten().tolist()]
        return -sum(math.log(chance if label else 1 - chance) for chance in chances) / len(chances)

    assert discriminator_loss(source, target).item() == pytest.approx((mean(source, 0) + mean(target, 1)) / 2)
    assert fool_loss(target).item() == pytest.approx(mean(target, 0))


def test_the_labels_of_the_domains_by_the_sign_of_the_gradient() -> None:
    """Source is 0, target 1; to descend, the discriminator lowers one and raises the other, the network fools it."""
    source, target = draw(2, 1, 3, 3).requires_grad_(), draw(2, 1, 3, 3, seed=1).requires_grad_()
    discriminator_loss(source, target).backward()
    assert (source.grad > 0).all()
    assert (target.grad < 0).all()
    target.grad = None
    fool_loss(target).backward()
    assert (target.grad > 0).all()


def test_a_network_that_fools_makes_target_maps_like_those_of_the_source() -> None:
    """One pixel, a discriminator that takes doubt for the target: fooling it lowers the doubt."""
    logits = torch.tensor([0.3, 0.0], dtype=torch.float64).view(1, 2, 1, 1).requires_grad_()
    doubt = entropy_map(logits).sum(1)
    fool_loss(5 * doubt - 2).backward()
    assert entropy_map(logits - logits.grad).sum() < doubt


@pytest.mark.parametrize("value", [0.0, 1e4, -1e4])
def test_extreme_logits_are_finite(value: float) -> None:
    logits = torch.full((1, 1, 2, 2), value, requires_grad=True)
    loss = discriminator_loss(logits, logits) + fool_loss(logits)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert fool_loss(torch.zeros(3)).item() == pytest.approx(math.log(2))


def test_precision() -> None:
    logits = draw(1, 3, 4, 4).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = [entropy_map(logits), fool_loss(logits), discriminator_loss(logits, logits)]
    assert {result.dtype for result in results} == {torch.float32}
    assert type(entropy_map(MetaTensor(draw(1, 3, 2, 2)))) is Tensor


@pytest.mark.parametrize("make", [entropy_map, probability_map])
@pytest.mark.parametrize("shape", [(2, 3), (1, 1, 4, 4)])
def test_wrong_shapes(make: object, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"logits must be \(B, C, H, W\) of at least 2 classes, got"):
        make(torch.zeros(shape))

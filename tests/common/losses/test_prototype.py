"""Prototype alignment against a naive loop over steps, with classes that a batch or a domain lacks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from common.losses import PrototypeAlignment, prototype_loss


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(seed: int, classes: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    label = torch.randint(-1, classes, (2, 3, 3), generator=torch.Generator().manual_seed(seed))
    probability = (2 * draw(1, classes, 3, 3, seed=seed + 100)).softmax(1)
    return draw(2, 5, 3, 3, seed=seed), label, draw(1, 5, 3, 3, seed=seed + 50), probability


def naive_mean(features: Tensor, wanted: list[tuple[int, int, int]]) -> list[float]:
    return [
        sum(float(features[case, channel, row, column]) for case, row, column in wanted) / len(wanted)
        for channel in range(features.shape[1])
    ]


def naive_step(banks: dict, given: tuple, momentum: float, confidence: float | None) -> float:
    source, label, target, probability = given
    places = {"source": [], "target": []}
    for case in range(len(label)):
        places["source"] += [(int(label[case, i, j]), (case, i, j)) for i in range(3) for j in range(3)]
    for i in range(3):
        for j in range(3):
            values = probability[0, :, i, j].tolist()
            sure = confidence is None or max(values) >= confidence
            places["target"].append((values.index(max(values)) if sure else -1, (0, i, j)))
    for domain, features in (("source", source), ("target", target)):
        for number in {c for c, _ in places[domain] if c >= 0}:
            new = naive_mean(features, [place for c, place in places[domain] if c == number])
            old = banks[domain].get(number, new)
            banks[domain][number] = [momentum * a + (1 - momentum) * b for a, b in zip(old, new, strict=True)]
    return sum(
        sum((a - b) ** 2 for a, b in zip(banks["source"][c], banks["target"][c], strict=True)) / 5
        for c in banks["source"]
        if c in banks["target"]
    )


@pytest.mark.parametrize("confidence", [None, 0.7])
@pytest.mark.parametrize("momentum", [0.01, 0.5])
def test_equals_a_naive_loop_over_steps(momentum: float, confidence: float | None) -> None:
    module = PrototypeAlignment(4, 5, momentum=momentum, confidence=confidence)
    banks: dict = {"source": {}, "target": {}}
    for step in range(4):
        given = batch(step)
        expected = naive_step(banks, given, momentum, confidence)
        assert module(*given).item() == pytest.approx(expected, abs=1e-6)  # the banks are float32


def test_the_loss_is_a_sum_of_mean_squares() -> None:
    source, target = draw(3, 4), draw(3, 4, seed=1)
    expected = sum(float((source[c] - target[c]) @ (source[c] - target[c])) / 4 for c in range(3))
    assert prototype_loss(source, target).item() == pytest.approx(expected, abs=1e-12)
    known = torch.tensor([True, False, True])
    assert_close(prototype_loss(source, target, known), prototype_loss(source[known], target[known]))
    assert prototype_loss(source, source) == 0


def test_the_gradient_pulls_both_domains_together() -> None:
    source, label, target, probability = batch(0)
    source.requires_grad_()
    target.requires_grad_()
    probability.requires_grad_()
    module = PrototypeAlignment(4, 5)
    before = module(source, label, target, probability)
    before.backward()
    assert source.grad.any()
    assert target.grad.any()
    assert probability.grad is None
    nearer = PrototypeAlignment(4, 5)(source - source.grad, label, target - target.grad, probability)
    assert nearer < before


def test_a_class_that_the_target_never_shows_does_not_count() -> None:
    source, label = draw(1, 5, 2, 2).requires_grad_(), torch.tensor([[[0, 0], [1, 1]]])
    probability = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    PrototypeAlignment(3, 5)(source, label, draw(1, 5, 2, 2, seed=1), probability).backward()
    assert source.grad[:, :, 0].any()
    assert not source.grad[:, :, 1].any()


def test_a_remembered_class_pulls_the_other_domain_alone() -> None:
    module, zero = PrototypeAlignment(2, 3), torch.zeros(1, 2, 2)
    background = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    module(draw(1, 3, 2, 2), zero, draw(1, 3, 2, 2, seed=1), background)
    source, target = draw(1, 3, 2, 2, seed=2).requires_grad_(), draw(1, 3, 2, 2, seed=3).requires_grad_()
    # the source lacks the background now
    module(source, torch.full((1, 2, 2), -1), target, background).backward()
    assert not source.grad.any()
    assert target.grad.any()


def test_nothing_sure_costs_nothing() -> None:
    source, label, target, probability = batch(0)
    source.requires_grad_()
    loss = PrototypeAlignment(4, 5, confidence=1.0)(source, label, target, probability)
    loss.backward()
    assert loss == 0
    assert not source.grad.any()


def test_sizes_of_both_domains_may_differ() -> None:
    label = torch.randint(0, 3, (2, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    module = PrototypeAlignment(3, 5)
    assert module(draw(2, 5, 4, 4), label, draw(3, 5, 8, 8), draw(3, 3, 32, 32).softmax(1)) > 0


def test_its_state_is_both_banks() -> None:
    module = PrototypeAlignment(4, 5, confidence=0.9)
    assert set(module.state_dict()) == {"source.means", "source.seen", "target.means", "target.seen"}
    assert "confidence=0.9" in repr(module)
    assert "momentum=0.01" in repr(module)


def test_precision() -> None:
    source, label, target, probability = batch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = PrototypeAlignment(4, 5)(source.half(), label, target.half(), probability)
    assert loss.dtype == torch.float32
    exact = PrototypeAlignment(4, 5)(source, label, target, probability)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-3)  # half precision of the features


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"same shape \(C, D\), got \(3, 4\) and \(3, 5\)"):
        prototype_loss(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"known must be \(3,\), one per class, got \(2,\)"):
        prototype_loss(torch.zeros(3, 4), torch.zeros(3, 4), torch.ones(2))
    with pytest.raises(ValueError, match="confidence must be None"):
        PrototypeAlignment(3, 4, confidence=-0.1)
    with pytest.raises(ValueError, match="momentum must be in"):
        PrototypeAlignment(3, 4, momentum=-0.1)

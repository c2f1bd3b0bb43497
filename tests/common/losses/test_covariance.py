"""The covariance cosine loss: a naive loop, its invariances, its gradient, and classes that are not there."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.testing import assert_close

from common.losses import (
    VisionLanguageCovariance,
    class_covariance,
    class_means,
    covariance_cosine_loss,
    domain_text,
)

both = pytest.mark.parametrize("center", [True, False])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(draw(size, size, seed=7)).Q


def naive_covariance(vectors: Tensor, center: bool) -> list[list[float]]:
    rows = vectors.tolist()
    if center:
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        rows = [[value - middle for value, middle in zip(row, mean, strict=True)] for row in rows]
    else:
        lengths = [math.sqrt(sum(value * value for value in row)) for row in rows]
        rows = [[value / length for value in row] for row, length in zip(rows, lengths, strict=True)]
    return [[sum(a * b for a, b in zip(first, second, strict=True)) for second in rows] for first in rows]


def naive_loss(means: Tensor, text: Tensor, center: bool) -> float:
    first, second = ([value for row in naive_covariance(x, center) for value in row] for x in (means, text))
    product = sum(a * b for a, b in zip(first, second, strict=True))
    return 1 - product / math.sqrt(sum(a * a for a in first) * sum(b * b for b in second))


@both
@pytest.mark.parametrize("seed", range(5))
def test_equals_a_naive_loop(center: bool, seed: int) -> None:
    means, text = draw(5, 7, seed=seed), draw(5, 4, seed=seed + 50) + 1
    loss = covariance_cosine_loss(means, text, center=center)
    assert loss.item() == pytest.approx(naive_loss(means, text, center), abs=1e-12)
    assert 0 < loss < 2


def test_the_covariance_is_the_naive_one_up_to_its_scale() -> None:
    vectors = draw(4, 6)
    found = class_covariance(vectors)
    expected = torch.tensor(naive_covariance(vectors, True), dtype=torch.float64)
    assert_close(found / found[0, 0], expected / expected[0, 0])
    assert_close(found.sum(dim=1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    assert_close(class_covariance(vectors, center=False).diagonal(), torch.ones(4, dtype=torch.float64))


@both
def test_gradients_by_finite_differences(center: bool) -> None:
    text = draw(4, 5, seed=1)
    valid = torch.tensor([True, True, False, True])
    means = draw(4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: covariance_cosine_loss(x, text, center=center), means)
    assert torch.autograd.gradcheck(
        lambda x: covariance_cosine_loss(x, text, valid=valid, center=center), means
    )


@both
def test_zero_where_the_covariance_is_proportional_to_the_texts(center: bool) -> None:
    """The texts in a larger space, turned, and any length: features may differ from them in all these."""
    text = draw(5, 4)
    wider = 3.7 * torch.cat([text, torch.zeros(5, 3, dtype=torch.float64)], dim=1) @ rotation(7)
    means = wider.clone().requires_grad_()
    loss = covariance_cosine_loss(means, text, center=center)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert means.grad.abs().max() < 1e-9  # a minimum
    assert covariance_cosine_loss(wider + draw(5, 7, seed=2), text, center=center) > 0.01


@both
def test_a_rotation_of_the_features_changes_nothing(center: bool) -> None:
    means, text = draw(5, 7), draw(5, 4, seed=1)
    loss = covariance_cosine_loss(means, text, center=center)
    assert_close(covariance_cosine_loss(means @ rotation(7), text, center=center), loss)
    assert_close(covariance_cosine_loss(means, text @ rotation(4), center=center), loss)
    assert_close(covariance_cosine_loss(1e3 * means, 1e-3 * text, center=center), loss)


def test_a_common_shift_changes_nothing_if_centred_and_something_if_not() -> None:
    means, text, shift = draw(5, 7), draw(5, 4, seed=1), 3 * draw(1, 7, seed=2)
    loss = covariance_cosine_loss(means, text)
    assert_close(covariance_cosine_loss(means + shift, text), loss)
    assert_close(covariance_cosine_loss(means, text + 5), loss)
    raw = covariance_cosine_loss(means, text, center=False)
    assert abs(covariance_cosine_loss(means + shift, text, center=False) - raw) > 0.01


@both
def test_a_step_along_the_gradient_brings_features_to_the_texts(center: bool) -> None:
    text, means = draw(5, 4, seed=1), draw(5, 7).requires_grad_()
    optimizer = torch.optim.SGD([means], lr=1.0)
    losses = []
    for _ in range(400):
        loss = covariance_cosine_loss(means, text, center=center)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.2
    assert losses[-1] < 0.1 * losses[0]


@both
def test_classes_that_do_not_count_are_as_if_not_there(center: bool) -> None:
    means, text = draw(6, 7), draw(6, 4, seed=1)
    valid = torch.tensor([True, False, True, True, False, True])
    loss = covariance_cosine_loss(means, text, valid=valid, center=center)
    assert_close(loss, covariance_cosine_loss(means[valid], text[valid], center=center))
    other = means.clone()
    other[1] = 1e6
    assert_close(covariance_cosine_loss(other, text, valid=valid, center=center), loss, rtol=0, atol=1e-6)


@both
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_classes_cost_nothing(center: bool, count: int) -> None:
    means = draw(4, 3).requires_grad_()
    valid = torch.arange(4) < count
    loss = covariance_cosine_loss(means, draw(4, 5, seed=1), valid=valid, center=center)
    loss.backward()
    assert loss == 0
    assert not means.grad.any()


def test_two_centred_classes_say_nothing() -> None:
    valid = torch.tensor([True, False, True])
    loss = covariance_cosine_loss(draw(3, 4), draw(3, 5, seed=1), valid=valid)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert covariance_cosine_loss(draw(3, 4), draw(3, 5, seed=1), valid=valid, center=False) > 0.01
    with pytest.raises(ValueError, match="center must be False with 2 classes"):
        VisionLanguageCovariance(2, 4)
    VisionLanguageCovariance(2, 4, center=False)


@both
@pytest.mark.parametrize("value", [0.0, 1.0, 1e30, 1e-30])
def test_degenerate_means_are_finite(center: bool, value: float) -> None:
    means = torch.full((4, 3), value, requires_grad=True)
    loss = covariance_cosine_loss(means, draw(4, 5).float(), center=center)
    loss.backward()
    assert loss.isfinite()
    assert means.grad.isfinite().all()


def test_precision() -> None:
    means, text = draw(5, 7).to(torch.bfloat16).requires_grad_(), draw(5, 4, seed=1)
    loss = covariance_cosine_loss(means, text)
    loss.backward()
    assert loss.dtype == torch.float32
    assert means.grad.any()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = covariance_cosine_loss(means.detach().float(), text)
    assert_close(inside, loss, rtol=0, atol=0)
    assert type(covariance_cosine_loss(MetaTensor(draw(5, 7)), text)) is Tensor


class TestModule:
    def test_the_gradient_reaches_the_features_from_the_first_batch_on(self) -> None:
        """What the published byte code lacks: it reads a detached bank."""
        module, text = VisionLanguageCovariance(4, 6), draw(4, 5, seed=3)
        for seed in range(3):
            features = draw(2, 6, 4, 4, seed=seed).requires_grad_()
            label = torch.randint(0, 4, (2, 4, 4), generator=torch.Generator().manual_seed(seed))
            module(features, label, text).backward()
            assert features.grad.abs().max() > 1e-4
            assert (features.grad.abs().sum(dim=1) > 0).all()  # every pixel has a class

    def test_the_first_batch_is_the_loss_of_its_means_and_the_next_is_mixed(self) -> None:
        module, text = VisionLanguageCovariance(4, 6, momentum=0.9), draw(4, 5, seed=3)
        label = torch.arange(16).remainder(4).view(1, 4, 4)
        batches = [draw(1, 6, 4, 4, seed=seed) for seed in range(2)]
        means = [class_means(features, label, 4)[0] for features in batches]
        assert_close(module(batches[0], label, text), covariance_cosine_loss(means[0], text))
        mixed = 0.9 * means[0].float().double() + 0.1 * means[1]
        assert_close(module(batches[1], label, text), covariance_cosine_loss(mixed, text))

    def test_absent_classes_count_once_they_were_seen(self) -> None:
        module, text = VisionLanguageCovariance(5, 6), draw(5, 5, seed=3)
        features, label = draw(1, 6, 4, 4), torch.arange(16).remainder(3).view(1, 4, 4)
        expected = covariance_cosine_loss(class_means(features, label, 3)[0], text[:3])
        assert_close(module(features, label, text), expected)
        module(draw(1, 6, 4, 4, seed=1), torch.full((1, 4, 4), 4), text)
        module.eval()
        now = module(features, torch.full((1, 4, 4), -1), text)
        wanted = covariance_cosine_loss(module.bank.means[[0, 1, 2, 4]].double(), text[[0, 1, 2, 4]])
        assert_close(now, wanted, rtol=0, atol=1e-6)

    def test_nothing_seen_costs_nothing(self) -> None:
        features = draw(1, 6, 4, 4).requires_grad_()
        loss = VisionLanguageCovariance(4, 6)(features, torch.full((1, 4, 4), -1), draw(4, 5))
        loss.backward()
        assert loss == 0
        assert not features.grad.any()

    def test_its_state_is_the_bank(self) -> None:
        module = VisionLanguageCovariance(4, 6, momentum=0.5, center=False)
        assert set(module.state_dict()) == {"bank.means", "bank.seen"}
        assert not list(module.parameters())
        assert "momentum=0.5" in repr(module)
        assert "center=False" in repr(module)

    def test_wrong_arguments(self) -> None:
        module = VisionLanguageCovariance(4, 6)
        with pytest.raises(ValueError, match=r"text must be \(4, E\), .* got \(2, 4, 5\)"):
            module(torch.zeros(1, 6, 2, 2), torch.zeros(1, 2, 2), torch.zeros(2, 4, 5))
        with pytest.raises(ValueError, match=r"text must be \(4, E\), .* got \(3, 5\)"):
            module(torch.zeros(1, 6, 2, 2), torch.zeros(1, 2, 2), torch.zeros(3, 5))


def test_the_texts_of_a_domain() -> None:
    embeddings = draw(3, 4, 5)
    assert_close(domain_text(embeddings, source=2, own=1), embeddings[2])
    assert_close(domain_text(embeddings, source=2, own=1, text_domain="own"), embeddings[1])
    assert_close(domain_text(embeddings, source=2, own=1, text_domain="mean"), embeddings.mean(0))
    with pytest.raises(ValueError, match="text_domain must be one of source, mean, own, got 'target'"):
        domain_text(embeddings, source=0, own=1, text_domain="target")
    with pytest.raises(ValueError, match=r"source and own must be in \[0, 3\), got 3 and 1"):
        domain_text(embeddings, source=3, own=1)
    with pytest.raises(ValueError, match=r"embeddings must be .* got \(4, 5\)"):
        domain_text(embeddings[0], source=0, own=1)


def test_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"vectors must be \(C, D\), one per class, got \(3,\)"):
        class_covariance(torch.zeros(3))
    with pytest.raises(ValueError, match=r"valid must be \(3,\), one per class, got \(2,\)"):
        class_covariance(torch.zeros(3, 2), valid=torch.ones(2))

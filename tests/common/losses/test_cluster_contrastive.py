"""CaCL against a naive loop, its analytic gradient, and what the paper says of repeated sentences."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from common.losses import (
    ClusterContrastiveObjective,
    centred_sentences,
    cluster_contrastive_loss,
    cluster_targets,
    symmetric_info_nce,
)


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alike(*groups: int, width: int = 6, seed: int = 1) -> Tensor:
    """Sentence vectors of which those with one number are equal, all of them around a common direction."""
    known = vectors(max(groups) + 1, width, seed=seed) + 2
    return known[list(groups)]


def naive_targets(text: Tensor, temperature: float, rho: float) -> list[list[float]]:
    size = len(text)
    similarity = [[float(a @ b / a.norm() / b.norm()) for b in text] for a in text]
    targets = []
    for i in range(size):
        mean = sum(similarity[i]) / size
        powers = [math.exp(max(similarity[i][j] - mean, 0.0) / temperature) for j in range(size)]
        targets.append([rho * powers[j] / sum(powers) + (1 - rho) * (i == j) for j in range(size)])
    return targets


def naive_loss(image: Tensor, text: Tensor, temperature: float, rho: float) -> float:
    size = len(image)
    targets = naive_targets(text, temperature, rho)
    powers = [[math.exp(float(v @ w / v.norm() / w.norm()) / temperature) for w in text] for v in image]
    total = 0.0
    for i in range(size):
        for j in range(size):
            total += targets[i][j] * math.log(powers[i][j] / sum(powers[i]))
            total += targets[j][i] * math.log(powers[i][j] / sum(row[j] for row in powers))
    return -total / size


def probabilities(image: Tensor, text: Tensor, temperature: float = 0.07) -> tuple[Tensor, Tensor]:
    scores = F.normalize(image, dim=1) @ F.normalize(text, dim=1).T / temperature
    return scores.softmax(dim=1), scores.softmax(dim=0)


def analytic_gradient(image: Tensor, text: Tensor, *, rho: float, temperature: float = 0.07) -> Tensor:
    """dL / ds of the published formula, with the 1 / B that it leaves out."""
    to_text, to_image = probabilities(image, text, temperature)
    targets = cluster_targets(text, temperature=temperature, rho=rho)
    return (to_text - targets + to_image - targets.T) / (len(image) * temperature)


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_equals_a_naive_loop(rho: float, temperature: float) -> None:
    image, text = vectors(7, 6), 3 * alike(0, 1, 0, 2, 3, 1, 0)
    targets = cluster_targets(text, temperature=temperature, rho=rho)
    assert_close(
        targets, torch.tensor(naive_targets(text, temperature, rho), dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert_close(targets.sum(dim=1), torch.ones(7, dtype=torch.float64))
    loss = cluster_contrastive_loss(image, text, temperature=temperature, rho=rho)
    assert loss.item() == pytest.approx(naive_loss(image, text, temperature, rho), abs=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.8, 1.0])
def test_the_gradient_is_the_analytic_one(rho: float) -> None:
    image, text = vectors(8, 6).requires_grad_(), alike(0, 1, 0, 2, 3, 1, 0, 4)
    cluster_contrastive_loss(image, text, rho=rho).backward()
    unit = F.normalize(image.detach(), dim=1)
    along = analytic_gradient(image.detach(), text, rho=rho) @ F.normalize(text, dim=1)
    # through the normalisation: the part across the vector, divided by its length
    expected = (along - (along * unit).sum(dim=1, keepdim=True) * unit) / image.detach().norm(
        dim=1, keepdim=True
    )
    assert_close(image.grad, expected, rtol=0, atol=1e-6)
    assert_close(image.grad, expected, rtol=0, atol=1e-11)


def test_gradients_by_finite_differences() -> None:
    text = alike(0, 1, 0, 2)
    image = vectors(4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cluster_contrastive_loss(x, text), image)


def test_rho_0_is_the_symmetric_info_nce_of_both_directions() -> None:
    image, text = vectors(6, 6), alike(0, 1, 0, 2, 3, 1)
    hard = cluster_contrastive_loss(image, text, rho=0.0, temperature=0.1)
    assert_close(hard, 2 * symmetric_info_nce(image, text, temperature=0.1), rtol=0, atol=1e-12)
    assert_close(cluster_targets(text, rho=0.0), torch.eye(6, dtype=torch.float64), rtol=0, atol=0)


def equal_pairs(groups: list[int]) -> Tensor:
    """The places `(i, j)`, i and j different, of equal sentences."""
    same = torch.tensor([[a == b for b in groups] for a in groups])
    return same & ~torch.eye(len(groups), dtype=torch.bool)


@pytest.mark.parametrize("rho", [0.6, 0.8, 1.0])
def test_equal_sentences_are_not_pushed_apart_where_hard_contrast_pushes(rho: float) -> None:
    """Before training an image finds all sentences alike; a neighbour's share is then more than its chance."""
    groups = [0, 1, 2, 0, 3, 1, 0, 4]
    text = torch.eye(6, dtype=torch.float64)[groups]
    image = torch.eye(6, dtype=torch.float64)[[5]].expand(8, 6)  # across every sentence
    same = equal_pairs(groups)
    assert (analytic_gradient(image, text, rho=rho)[same] < 0).all()
    assert_close(
        analytic_gradient(image, text, rho=0.0)[same], torch.full((8,), 2 / 8 / 8 / 0.07, dtype=torch.float64)
    )


def test_the_neighbourhood_takes_the_push_off_in_the_proportion_of_rho() -> None:
    """Where images lie on their sentences, the neighbourhood alone leaves none, and rho < 1 its share of HardCL's."""
    groups = [0, 1, 2, 0, 1, 0]
    text = torch.eye(6, dtype=torch.float64)[groups]
    same = equal_pairs(groups)
    pushes = {rho: analytic_gradient(text, text, rho=rho)[same] for rho in (0.0, 0.8, 1.0)}
    assert (pushes[0.0] > 1).all()
    assert (pushes[1.0].abs() < 0.01).all()
    assert_close(pushes[0.8], 0.2 * pushes[0.0] + 0.8 * pushes[1.0])


def test_pushes_between_exact_duplicates_cancel_in_the_image_vectors() -> None:
    """Equal sentences are one direction, so hard targets and evenly shared ones are the same loss."""
    groups = [0, 1, 2, 0, 1, 0]
    text = alike(*groups)
    gradients = []
    for shared in (None, groups):
        image = vectors(6, 6).requires_grad_()
        loss = symmetric_info_nce(image, text, groups=shared)
        loss.backward()
        gradients.append((loss.detach(), image.grad))
    assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)


def test_cacl_differs_from_hard_contrast_through_sentences_that_are_alike() -> None:
    text = alike(0, 1, 2, 3)
    image = vectors(4, 6)
    soft, hard = (cluster_contrastive_loss(image, text, rho=rho) for rho in (0.8, 0.0))
    assert (soft - hard).abs() > 1e-2


def test_a_batch_of_one_sentence_shares_evenly() -> None:
    targets = cluster_targets(alike(0, 0, 0, 0), rho=0.8)
    assert_close(targets, 0.2 * torch.eye(4).double() + 0.8 / 4)
    ones = torch.ones(4, 3)
    assert cluster_contrastive_loss(ones, ones).item() == pytest.approx(2 * math.log(4))


def test_what_all_sentences_have_in_common_is_taken_off() -> None:
    """Opposite sentences lie below the mean, so that they share evenly what is left over."""
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    power = math.exp((1 - 1 / 3) / 0.5)
    row = torch.tensor([power, power, 1.0], dtype=torch.float64) / (2 * power + 1)
    assert_close(cluster_targets(text, temperature=0.5, rho=1.0)[0], row)


def test_sentences_that_are_nearly_one_vector_share_evenly_unless_centred() -> None:
    """What an encoder gives that was never trained to tell sentences apart."""
    text = 1 + 0.01 * vectors(4, 32, seed=3)[[0, 1, 2, 3, 0, 1, 2, 3]]
    same = equal_pairs([0, 1, 2, 3, 0, 1, 2, 3]) | torch.eye(8, dtype=torch.bool)
    plain = cluster_targets(text, rho=1.0)
    assert_close(plain, torch.full_like(plain, 1 / 8), rtol=0.01, atol=0)
    centred = centred_sentences(text)
    assert_close(centred.norm(dim=1), torch.ones(8, dtype=torch.float64))
    assert (cluster_targets(centred, rho=1.0)[same] > 0.49).all()
    image = vectors(8, 32)
    loss = cluster_contrastive_loss(image, text, center_text=True)
    assert_close(loss, cluster_contrastive_loss(image, centred))
    assert_close(centred_sentences(text[:2].bfloat16()).sum(dim=0), torch.zeros(32), rtol=0, atol=1e-5)


def test_centring_a_batch_of_one_sentence_makes_no_meaning_of_rounding() -> None:
    text = vectors(1, 32).float().expand(7, 32) * torch.rand(7, 1)
    assert centred_sentences(text).count_nonzero() == 0
    image = vectors(7, 32).float().requires_grad_()
    loss = cluster_contrastive_loss(image, text, center_text=True)
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(7))
    assert torch.isfinite(image.grad).all()


def test_one_pair_costs_nothing() -> None:
    image = vectors(1, 4).requires_grad_()
    loss = cluster_contrastive_loss(image, vectors(1, 4, seed=1))
    loss.backward()
    assert loss.item() == 0
    assert image.grad.count_nonzero() == 0


def test_cases_without_a_sentence_take_no_part() -> None:
    image, text = vectors(6, 5).requires_grad_(), vectors(6, 5, seed=1)
    has_text = torch.tensor([True, False, True, True, False, True])
    loss = cluster_contrastive_loss(image, text, has_text=has_text)
    loss.backward()
    assert_close(loss, cluster_contrastive_loss(image[has_text], text[has_text]), rtol=0, atol=0)
    assert image.grad[~has_text].count_nonzero() == 0
    assert image.grad[has_text].count_nonzero() > 0


def test_no_sentence_at_all_costs_nothing_and_still_has_a_gradient() -> None:
    image = vectors(3, 4).requires_grad_()
    loss = cluster_contrastive_loss(image, vectors(3, 4, seed=1), has_text=torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert image.grad.count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_and_computed_in_float32(dtype: torch.dtype) -> None:
    image, text = (
        vectors(16, 64).to(dtype).requires_grad_(),
        (100 * alike(*[0, 1, 2, 3] * 4, width=64)).to(dtype),
    )
    loss = cluster_contrastive_loss(image, text)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(image.grad).all()
    assert_close(loss, cluster_contrastive_loss(image.detach().float(), text.float()), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = cluster_contrastive_loss(image.detach().float(), text.float())
    assert_close(inside, loss, rtol=0, atol=0)


def test_extreme_vectors_are_finite() -> None:
    image = torch.zeros(3, 4, requires_grad=True)
    loss = cluster_contrastive_loss(image, torch.full((3, 4), 1e30), temperature=1e-3)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(image.grad).all()


def test_norms_and_order_do_not_matter() -> None:
    image, text = vectors(5, 6), alike(0, 1, 0, 2, 2)
    loss = cluster_contrastive_loss(image, text)
    order = torch.tensor([3, 0, 4, 1, 2])
    scales = torch.tensor([1, 10, 0.1, 3, 1e3], dtype=torch.float64)[:, None]
    assert_close(cluster_contrastive_loss(image[order], text[order]), loss)
    assert_close(cluster_contrastive_loss(image * scales, text / scales), loss)


def test_the_targets_send_no_gradient_to_the_text() -> None:
    assert not cluster_targets(vectors(3, 4).requires_grad_()).requires_grad


def test_the_objective_is_one_term_over_the_cases_with_sentences() -> None:
    image, text = vectors(4, 5), vectors(4, 5, seed=1)
    objective = ClusterContrastiveObjective(temperature=0.1, rho=0.6)
    outputs = {"image_vector": MetaTensor(image), "sentence_vector": text}
    terms = objective(outputs, {"sentence": ["left", "", "right", None]}, 3)
    assert list(terms) == ["contrast"]
    assert type(terms["contrast"]) is Tensor
    keep = [0, 2]
    assert_close(
        terms["contrast"], cluster_contrastive_loss(image[keep], text[keep], temperature=0.1, rho=0.6)
    )
    assert repr(objective) == "ClusterContrastiveObjective(temperature=0.1, rho=0.6, center_text=False)"


def test_the_objective_names_what_is_missing() -> None:
    objective = ClusterContrastiveObjective()
    with pytest.raises(ValueError, match=r"must hold 'image_vector', got the keys \['logits'\]"):
        objective({"logits": torch.zeros(2, 3)}, {"sentence": ["a", "b"]})
    outputs = {"image_vector": torch.zeros(2, 3), "sentence_vector": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match="batch must hold 2 sentences, one per image, got 1"):
        objective(outputs, {"sentence": ["a"]})


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((4, 3), (4, 2)), {}, r"same shape \(B, D\), .* got \(4, 3\) and \(4, 2\)"),
        (((0, 3), (0, 3)), {}, r"neither of them 0, got \(0, 3\)"),
        (((4, 3), (4, 3)), {"temperature": 0}, "temperature must be positive and finite, got 0"),
        (((4, 3), (4, 3)), {"rho": 1.5}, r"rho must be in \[0, 1\], got 1.5"),
        (((4, 3), (4, 3)), {"rho": math.nan}, r"rho must be in \[0, 1\], got nan"),
        (
            ((4, 3), (4, 3)),
            {"has_text": torch.ones(3)},
            r"has_text must be \(4,\), one per image, got \(3,\)",
        ),
    ],
)
def test_wrong_arguments(shapes: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_contrastive_loss(torch.zeros(shapes[0]), torch.zeros(shapes[1]), **options)


def test_targets_need_one_vector_per_sentence() -> None:
    with pytest.raises(ValueError, match=r"text must be \(B, D\), one vector per sentence, got \(2, 3, 4\)"):
        cluster_targets(torch.zeros(2, 3, 4))

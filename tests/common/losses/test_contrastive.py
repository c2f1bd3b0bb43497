"""The symmetric InfoNCE, and ITCL with its affinities, against closed forms and naive loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from torch.testing import assert_close

from common.losses import image_text_contrastive, symmetric_info_nce, zone_affinity


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_loss(image: torch.Tensor, text: torch.Tensor, temperature: float, groups: list) -> float:
    count = len(image)
    scores = [
        [float(x @ y / x.norm() / y.norm()) / temperature for y in text.unbind()] for x in image.unbind()
    ]
    total = 0.0
    for i in range(count):
        positives = [j for j in range(count) if groups[j] == groups[i]]
        row = sum(math.exp(scores[i][k]) for k in range(count))
        column = sum(math.exp(scores[k][i]) for k in range(count))
        for j in positives:
            total -= math.log(math.exp(scores[i][j]) / row) / len(positives)
            total -= math.log(math.exp(scores[j][i]) / column) / len(positives)
    return total / (2 * count)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("groups", [None, ["a", "b", "a", "c", "b", "a"]])
def test_equals_a_naive_loop(temperature: float, groups: list | None) -> None:
    image, text = vectors(6, 5), 3 * vectors(6, 5, seed=1)
    loss = symmetric_info_nce(image, text, temperature=temperature, groups=groups)
    expected = naive_loss(image, text, temperature, groups or list(range(6)))
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_orthogonal_pairs_in_closed_form(temperature: float) -> None:
    eye = torch.eye(4, dtype=torch.float64)
    matched = symmetric_info_nce(eye, 2 * eye, temperature=temperature)
    shifted = symmetric_info_nce(eye, eye.roll(1, dims=0), temperature=temperature)
    denominator = math.log(math.exp(1 / temperature) + 3)
    assert matched.item() == pytest.approx(denominator - 1 / temperature, abs=1e-12)
    assert shifted.item() == pytest.approx(denominator, abs=1e-12)


def test_indistinguishable_items_cost_the_logarithm_of_their_number() -> None:
    ones = torch.ones(5, 3)
    assert symmetric_info_nce(ones, ones).item() == pytest.approx(math.log(5))
    assert symmetric_info_nce(ones, ones, groups=[0] * 5).item() == pytest.approx(math.log(5))


def test_one_item_costs_nothing() -> None:
    image = vectors(1, 4).requires_grad_()
    loss = symmetric_info_nce(image, vectors(1, 4, seed=1))
    loss.backward()
    assert loss.item() == 0
    assert image.grad.count_nonzero() == 0


def test_groups_that_are_all_different_change_nothing() -> None:
    image, text = vectors(4, 3), vectors(4, 3, seed=1)
    expected = symmetric_info_nce(image, text)
    for groups in (["a", "b", "c", "d"], torch.tensor([7, 3, 5, 0]), (None, 1, "1", (1,))):
        assert_close(symmetric_info_nce(image, text, groups=groups), expected)


def test_groups_as_sentences_and_as_numbers_are_the_same() -> None:
    image, text = vectors(4, 3), vectors(4, 3, seed=1)
    by_sentence = symmetric_info_nce(image, text, groups=["left", "right", "left", "none"])
    assert_close(
        by_sentence, symmetric_info_nce(image, text, groups=torch.tensor([4, 9, 4, 0])), rtol=0, atol=0
    )
    assert (by_sentence - symmetric_info_nce(image, text)).abs() > 1e-2


def test_the_least_loss_of_groups_is_the_entropy_of_their_targets() -> None:
    """Two captions, of three items and of one: three items share their mass evenly."""
    image = torch.eye(2, dtype=torch.float64)[[0, 0, 0, 1]]
    loss = symmetric_info_nce(image, image, temperature=0.01, groups=["a", "a", "a", "b"])
    assert loss.item() == pytest.approx(3 / 4 * math.log(3), abs=1e-12)


def test_norms_order_and_sides_do_not_matter() -> None:
    image, text, groups = vectors(5, 3), vectors(5, 3, seed=1), torch.tensor([0, 1, 0, 2, 2])
    loss = symmetric_info_nce(image, text, groups=groups)
    order = torch.tensor([3, 0, 4, 1, 2])
    scales = torch.tensor([1, 10, 0.1, 3, 1e3], dtype=torch.float64)[:, None]
    assert_close(symmetric_info_nce(image[order], text[order], groups=groups[order]), loss)
    assert_close(symmetric_info_nce(text, image, groups=groups), loss)
    assert_close(symmetric_info_nce(image * scales, text / scales, groups=groups), loss)


@pytest.mark.parametrize("groups", [None, ["a", "b", "a", "c"]])
def test_gradients(groups: list | None) -> None:
    inputs = vectors(4, 3).requires_grad_(), vectors(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: symmetric_info_nce(x, y, groups=groups), inputs)


def test_stays_in_float32_under_autocast_and_for_half_inputs() -> None:
    image, text = vectors(8, 64).float(), vectors(8, 64, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = symmetric_info_nce(image, text)
    assert inside.dtype == torch.float32
    assert_close(inside, symmetric_info_nce(image, text), rtol=0, atol=0)
    half = image.bfloat16()
    assert_close(symmetric_info_nce(half, text), symmetric_info_nce(half.float(), text), rtol=0, atol=0)
    assert symmetric_info_nce(image.double(), text.double()).dtype == torch.float64


def test_metadata_is_dropped() -> None:
    image, text = vectors(3, 4), vectors(3, 4, seed=1)
    loss = symmetric_info_nce(MetaTensor(image), text)
    assert type(loss) is torch.Tensor
    assert_close(loss, symmetric_info_nce(image, text))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((4, 3), (4, 2)), {}, r"same shape \(B, D\), .* got \(4, 3\) and \(4, 2\)"),
        (((4, 2, 3), (4, 2, 3)), {}, r"got \(4, 2, 3\) and \(4, 2, 3\); average tokens"),
        (((0, 3), (0, 3)), {}, r"neither of them 0, got \(0, 3\)"),
        (((4, 3), (4, 3)), {"temperature": 0}, "temperature must be positive and finite, got 0"),
        (((4, 3), (4, 3)), {"temperature": math.nan}, "temperature must be positive and finite, got nan"),
        (((4, 3), (4, 3)), {"groups": ["a"] * 3}, r"one entry for each of the 4 items, got the shape \(3,\)"),
        (((4, 3), (4, 3)), {"groups": torch.zeros(4, 1)}, r"the 4 items, got the shape \(4, 1\)"),
    ],
)
def test_wrong_arguments(shapes: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        symmetric_info_nce(torch.zeros(shapes[0]), torch.zeros(shapes[1]), **options)


def naive_affinity(bits: list[list[bool]]) -> list[list[float]]:
    zones = [{index for index, bit in enumerate(row) if bit} for row in bits]
    return [
        [1.0 if i == j else len(a & b) / len(a | b) if a | b else 0.0 for j, b in enumerate(zones)]
        for i, a in enumerate(zones)
    ]


def naive_soft_loss(image: torch.Tensor, text: torch.Tensor, affinity: list, temperature: float) -> float:
    """Equation 9 pair by pair."""
    count = len(image)
    scores = [[float(x @ y / x.norm() / y.norm()) / temperature for y in text] for x in image]
    total = 0.0
    for i in range(count):
        row = sum(math.exp(scores[i][k]) for k in range(count))
        column = sum(math.exp(scores[k][i]) for k in range(count))
        row_share = sum(affinity[i])
        column_share = sum(affinity[k][i] for k in range(count))
        for j in range(count):
            total -= affinity[i][j] / row_share * math.log(math.exp(scores[i][j]) / row)
            total -= affinity[j][i] / column_share * math.log(math.exp(scores[j][i]) / column)
    return total / (2 * count)


BITS = [
    [True, True, True, False, False, False],
    [True, False, False, False, False, False],
    [True, False, False, False, False, True],
    [False] * 6,
    [False] * 6,
    [True, True, True, False, False, False],
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=9))
def test_affinity_is_the_jaccard_index_of_the_sets(bits: list[list[bool]]) -> None:
    affinity = zone_affinity(torch.tensor(bits))
    assert_close(affinity, torch.tensor(naive_affinity(bits)), rtol=0, atol=1e-7)
    assert torch.equal(affinity, affinity.T)


def test_sentences_without_a_zone_are_alike_to_themselves_alone() -> None:
    affinity = zone_affinity(torch.tensor(BITS))
    assert affinity[3].tolist() == [0, 0, 0, 1, 0, 0]
    assert affinity[0].tolist() == pytest.approx([1, 1 / 3, 1 / 4, 0, 0, 1])
    assert zone_affinity(torch.zeros(2, 9)).tolist() == [[1, 0], [0, 1]]
    assert torch.equal(zone_affinity(5.0 * torch.tensor(BITS)), affinity)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_soft_positives_equal_a_naive_double_loop(temperature: float) -> None:
    image, text = vectors(6, 5), 3 * vectors(6, 5, seed=1)
    loss = image_text_contrastive(image, text, zone_affinity(torch.tensor(BITS)), temperature=temperature)
    expected = naive_soft_loss(image, text, naive_affinity(BITS), temperature)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    # exactly, with affinities that are not rounded to float32, and neither symmetric
    affinity = vectors(6, 6, seed=2).abs()
    loss = image_text_contrastive(image, text, affinity, temperature=temperature)
    expected = naive_soft_loss(image, text, affinity.tolist(), temperature)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_the_identity_and_none_are_clip() -> None:
    image, text = vectors(5, 4), vectors(5, 4, seed=1)
    expected = symmetric_info_nce(image, text, temperature=0.2)
    for affinity in (
        None,
        torch.eye(5),
        3 * torch.eye(5, dtype=torch.float64),
        zone_affinity(torch.zeros(5, 6)),
    ):
        loss = image_text_contrastive(image, text, affinity, temperature=0.2)
        assert_close(loss, expected, rtol=0, atol=1e-12)


def test_equal_affinities_are_one_group() -> None:
    image, text = vectors(4, 3), vectors(4, 3, seed=1)
    loss = image_text_contrastive(image, text, torch.ones(4, 4))
    assert_close(loss, symmetric_info_nce(image, text, groups=[0] * 4))


def test_an_image_and_its_like_cost_less_with_soft_positives() -> None:
    """Two captions of one place: what CLIP pushes apart, equation 9 leaves together."""
    text = torch.eye(3, dtype=torch.float64)[[0, 0, 1]]
    bits = torch.tensor([BITS[1], BITS[1], [False, False, False, False, False, True]])
    soft = image_text_contrastive(text, text, zone_affinity(bits), temperature=0.02)
    assert soft.item() == pytest.approx(2 / 3 * math.log(2), abs=1e-12)
    image = text.clone().requires_grad_()
    image_text_contrastive(image, text, zone_affinity(bits)).backward()
    assert image.grad.norm() < 1e-4


def test_gradients_of_soft_positives() -> None:
    inputs = vectors(4, 3).requires_grad_(), vectors(4, 3, seed=1).requires_grad_()
    affinity = vectors(4, 4, seed=2).abs()
    assert torch.autograd.gradcheck(lambda x, y: image_text_contrastive(x, y, affinity), inputs)


def test_soft_positives_stay_in_float32_under_autocast() -> None:
    image, text = vectors(6, 64).float(), vectors(6, 64, seed=1).float()
    affinity = zone_affinity(torch.tensor(BITS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(zone_affinity(torch.tensor(BITS)), affinity)
        inside = image_text_contrastive(MetaTensor(image), text.bfloat16(), affinity)
    assert type(inside) is torch.Tensor
    assert inside.dtype == torch.float32
    expected = image_text_contrastive(image, text.bfloat16().float(), affinity)
    assert_close(inside, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("affinity", "options", "message"),
    [
        (torch.ones(3, 4), {}, r"affinity must be \(4, 4\), .* got \(3, 4\)"),
        (torch.ones(4), {}, r"affinity must be \(4, 4\), .* got \(4,\)"),
        (torch.eye(4) - 0.5, {}, "affinity must be at least 0, .* got -0.5 as its least value"),
        (torch.full((4, 4), math.nan), {}, "affinity must be at least 0"),
        (torch.diag(torch.tensor([1.0, 1, 0, 1])), {}, "got 0 as its least value: set its diagonal to 1"),
        (torch.tensor([[1.0, 0, 0, 0]]).expand(4, 4), {}, "above 0 in every row and column"),
        (torch.eye(4), {"temperature": -1}, "temperature must be positive and finite, got -1"),
        (None, {"temperature": math.inf}, "temperature must be positive and finite, got inf"),
    ],
)
def test_wrong_affinities(affinity: torch.Tensor | None, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_text_contrastive(torch.ones(4, 3), torch.ones(4, 3), affinity, **options)


def test_bits_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bits must be \(B, Z\), one row per sentence, got \(6,\)"):
        zone_affinity(torch.ones(6))

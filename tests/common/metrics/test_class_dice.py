"""Mean Dice of classes over all pixels of a set."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from common.metrics import MeanClassDice


def cases(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(4, 5), (6, 3), (4, 4)]
    return [
        (torch.randint(3, (1, *size), generator=generator), torch.randint(3, (1, *size), generator=generator))
        for size in sizes
    ]


def loop(pairs: list[tuple[Tensor, Tensor]], classes: int) -> list[float]:
    scores = []
    for number in range(1, classes):
        both = sum(int(((p == number) & (y == number)).sum()) for p, y in pairs)
        each = sum(int((p == number).sum() + (y == number).sum()) for p, y in pairs)
        if each:
            scores.append(2 * both / each)
    return scores


def test_it_is_the_mean_of_a_loop_over_classes_without_those_that_are_nowhere() -> None:
    pairs = cases()
    metric = MeanClassDice(4)  # class 3 is nowhere
    metric([p for p, _ in pairs], [y for _, y in pairs])
    scores = loop(pairs, 4)
    assert len(scores) == 2
    assert float(metric.aggregate()) == pytest.approx(sum(scores) / 2)
    assert torch.isnan(metric.per_class()).tolist() == [False, False, True]


def test_slices_and_their_volume_give_one_number() -> None:
    generator = torch.Generator().manual_seed(3)
    predicted, true = (torch.randint(4, (1, 5, 6, 7), generator=generator) for _ in range(2))
    volume, slices = MeanClassDice(4), MeanClassDice(4)
    volume([predicted], [true])
    for index in range(7):
        slices([predicted[..., index]], [true[..., index]])
    assert float(volume.aggregate()) == float(slices.aggregate())


def test_logits_are_read_by_their_largest() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    label = torch.randint(3, (2, 1, 4, 4), generator=torch.Generator().manual_seed(2))
    one, other = MeanClassDice(3), MeanClassDice(3)
    one(logits, label)
    other(logits.argmax(1, keepdim=True), label)
    assert torch.equal(one.get_buffer(), other.get_buffer())


def test_a_class_that_is_only_guessed_counts_and_a_set_of_background_is_zero() -> None:
    label, guess = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    label[:, :2], guess[:, :2], guess[:, 3] = 1, 1, 2
    metric = MeanClassDice(3)
    metric([guess], [label])
    assert float(metric.aggregate()) == 0.5  # 1 and 0
    metric.reset()
    metric([torch.zeros(1, 4, 4)], [torch.zeros(1, 4, 4)])
    assert float(metric.aggregate()) == 0


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        (torch.zeros(1, 4, 4), torch.full((1, 4, 4), 3.0), "label must hold classes from 0 to 2, got 3 to 3"),
        (
            torch.full((1, 4, 4), -1.0),
            torch.zeros(1, 4, 4),
            "prediction must hold classes from 0 to 2, got -1",
        ),
        (torch.zeros(2, 4, 4), torch.zeros(1, 4, 4), "prediction must have 1 or 3 channels, got 2"),
        (torch.zeros(1, 4, 5), torch.zeros(1, 4, 4), r"got \(\(1, 4, 5\), \(1, 4, 4\)\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(prediction: Tensor, label: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MeanClassDice(3)([prediction], [label])


def test_at_least_two_classes_and_one_case() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 2"):
        MeanClassDice(1)
    with pytest.raises(ValueError, match="at least one case must be added"):
        MeanClassDice(2).aggregate()

"""Reliability and expected calibration error against hand-worked cases and a loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from common.metrics import CalibrationError, Reliability, reliability


def ece_by_loop(probability: np.ndarray, label: np.ndarray, bins: int, *, above: float = 0.0) -> float | None:
    """Every pixel by itself."""
    groups: dict[int, list[tuple[float, float]]] = {}
    for value, truth in zip(probability.ravel().tolist(), label.ravel().tolist(), strict=True):
        place = next(b for b in range(bins) if value < (b + 1) / bins or b == bins - 1)
        groups.setdefault(place, []).append((value, truth))
    kept = {place: pairs for place, pairs in groups.items() if place / bins >= above}
    total = sum(map(len, kept.values()))
    if not total:
        return None
    gaps = (abs(sum(v for v, _ in pairs) - sum(t for _, t in pairs)) for pairs in kept.values())
    return sum(gaps) / total


def cases(count: int = 4, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, 5 + k, 7 + 2 * k) for k in range(count)]
    return [
        (torch.rand(shape, generator=generator), (torch.rand(shape, generator=generator) > 0.6).float())
        for shape in shapes
    ]


def test_a_case_worked_out_by_hand() -> None:
    counts = reliability(np.array([0.0, 0.1, 0.6, 0.8, 1.0, 0.5]), np.array([0, 1, 1, 0, 1, 0]), bins=2)
    assert counts.pixels.tolist() == [2, 4]
    assert counts.positives.tolist() == [1, 2]
    assert counts.confidence.tolist() == pytest.approx([0.05, 0.725])
    assert counts.frequency.tolist() == pytest.approx([0.5, 0.5])
    assert counts.ece() == pytest.approx((2 * 0.45 + 4 * 0.225) / 6)
    assert counts.ece(above=0.5) == pytest.approx(0.225)
    assert counts.brier == pytest.approx((0 + 0.81 + 0.16 + 0.64 + 0 + 0.25) / 6)
    assert counts.edges.tolist() == [0, 0.5, 1]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(0, 10_000), st.sampled_from([0.0, 0.5]))
def test_agrees_with_a_loop_over_pixels(bins: int, seed: int, above: float) -> None:
    generator = np.random.default_rng(seed)
    probability = generator.random((3, 11)) ** 2
    label = generator.random((3, 11)) < 0.3
    counts = reliability(probability, label, bins=bins)
    expected = ece_by_loop(probability, label, bins, above=above)
    assert counts.ece(above=above) == (None if expected is None else pytest.approx(expected, abs=1e-12))
    assert 0 <= counts.ece() <= 1
    assert counts.brier == pytest.approx(np.square(probability - label).mean(), abs=1e-12)


def test_probabilities_that_are_the_frequencies_have_no_error() -> None:
    generator = np.random.default_rng(0)
    probability = generator.random(200_000)
    label = generator.random(200_000) < probability
    assert reliability(probability, label).ece() < 0.005  # 20 bins of 10 000: a deviation of 0.005 in each
    assert reliability(np.sqrt(probability), label).ece() > 0.1
    assert reliability(label.astype(float), label).ece() == 0


def test_adding_cases_is_putting_their_pixels_together() -> None:
    first, second = cases(2)
    together = reliability(*first) + reliability(*second)
    flat = [torch.cat([a.flatten(), b.flatten()]) for a, b in zip(first, second, strict=True)]
    expected = reliability(*flat)
    assert together.ece() == pytest.approx(expected.ece(), abs=1e-12)
    assert together.brier == pytest.approx(expected.brier, abs=1e-12)
    assert together.pixels.tolist() == expected.pixels.tolist()
    with pytest.raises(ValueError, match="same bins, got 20 and 3"):
        _ = together + reliability(*first, bins=3)


def test_without_a_pixel_there_is_no_error() -> None:
    nothing = reliability(np.zeros(0), np.zeros(0, dtype=bool))
    assert nothing.ece() is None
    assert nothing.brier is None
    assert np.isnan(nothing.confidence).all()
    assert reliability(np.full(3, 0.2), np.zeros(3)).ece(above=0.5) is None


@pytest.mark.parametrize("above", [0.0, 0.5])
def test_the_cumulative_metric_over_cases_of_different_sizes(above: float) -> None:
    metric, pairs = CalibrationError(above=above), cases()
    metric([p for p, _ in pairs[:1]], [y for _, y in pairs[:1]])
    metric([MetaTensor(p) for p, _ in pairs[1:]], [MetaTensor(y) for _, y in pairs[1:]])
    total = sum((reliability(*pair) for pair in pairs[1:]), reliability(*pairs[0]))
    assert metric.aggregate().dtype == torch.float64
    assert metric.aggregate().item() == pytest.approx(total.ece(above=above), abs=1e-12)
    gathered = metric.reliability()
    assert isinstance(gathered, Reliability)
    assert gathered.pixels.tolist() == total.pixels.tolist()
    assert gathered.brier == pytest.approx(total.brier, abs=1e-12)
    metric.reset()
    with pytest.raises(ValueError, match="at least one case"):
        metric.aggregate()


def test_the_buffer_has_one_entry_a_case_whatever_its_size_as_gathering_needs() -> None:
    metric = CalibrationError(bins=4)
    for probability, label in cases(3):
        metric([probability], [label])
    assert metric.get_buffer().shape == (3, 4, 4)
    metric.reset()
    metric([torch.zeros(1, 2, 2)], [torch.zeros(1, 2, 2)])
    assert metric.aggregate().item() == 0
    high = CalibrationError(above=0.5)
    high([torch.zeros(1, 2, 2)], [torch.zeros(1, 2, 2)])
    assert torch.isnan(high.aggregate())


@pytest.mark.parametrize(
    ("probability", "label", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), r"same shape, got \(2, 2\) and \(2, 3\)"),
        (np.full(2, 1.5), np.zeros(2), "must be in .0, 1."),
        (np.full(2, np.nan), np.zeros(2), "no numbers"),
        (np.zeros(2), np.array([0, 2]), "label"),
    ],
)
def test_what_is_no_probability_or_no_mask_is_refused(probability, label, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reliability(probability, label)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        reliability(np.zeros(2), np.zeros(2), bins=0)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        CalibrationError(bins=0)
    with pytest.raises(ValueError, match=r"above must be in \[0, 1\), got 1"):
        CalibrationError(above=1.0)
    with pytest.raises(ValueError, match="same shape"):
        CalibrationError()([torch.zeros(1, 2, 2)], [torch.zeros(1, 2, 3)])

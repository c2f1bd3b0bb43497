"""The area under the ROC against all pairs of scores and against the area under the drawn curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.metrics import paired_auc_interval, roc_auc, roc_curve

SCORES = st.lists(st.integers(-3, 3).map(lambda value: value / 2), min_size=1, max_size=12)


def by_pairs(positive: list[float], negative: list[float]) -> float:
    wins = [float(high > low) + 0.5 * (high == low) for high in positive for low in negative]
    return sum(wins) / len(wins)


@settings(max_examples=200, deadline=None)
@given(SCORES, SCORES)
def test_area_is_the_share_of_pairs_in_order_and_the_area_under_the_curve(positive, negative) -> None:
    expected = by_pairs(positive, negative)
    assert roc_auc(positive, negative) == pytest.approx(expected, abs=1e-12)
    assert roc_auc(negative, positive) == pytest.approx(1 - expected, abs=1e-12)
    curve = roc_curve(positive, negative)
    steps = np.diff(curve.false_positive)
    middles = (curve.true_positive[1:] + curve.true_positive[:-1]) / 2
    assert float((steps * middles).sum()) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES)
def test_points_of_the_curve_are_the_rates_at_their_thresholds(positive, negative) -> None:
    curve = roc_curve(positive, negative)
    for false_rate, true_rate, threshold in zip(*curve, strict=True):
        assert true_rate == pytest.approx(np.mean(np.array(positive) >= threshold), abs=1e-12)
        assert false_rate == pytest.approx(np.mean(np.array(negative) >= threshold), abs=1e-12)
    assert (curve.false_positive[0], curve.true_positive[0]) == (0, 0)
    assert (curve.false_positive[-1], curve.true_positive[-1]) == (1, 1)
    assert (np.diff(curve.threshold) < 0).all()


def test_limits() -> None:
    assert roc_auc([2, 3], [0, 1]) == 1
    assert roc_auc([0, 1], [2, 3]) == 0
    assert roc_auc([1, 1], [1]) == 0.5


def test_any_increasing_function_leaves_the_area() -> None:
    generator = np.random.default_rng(1)
    positive, negative = generator.normal(1, 1, 40), generator.normal(0, 1, 50)
    assert roc_auc(positive, negative) == roc_auc(np.exp(positive), np.exp(negative))


def test_the_interval_holds_the_area_and_covers_the_true_one() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for seed in range(40):
        positive, negative = generator.normal(1, 1, 60), generator.normal(0, 1, 60)
        low, high = paired_auc_interval(positive, negative, seed=seed, draws=200)
        assert low <= roc_auc(positive, negative) <= high
        covered += low <= 0.7602 <= high  # Phi(1 / sqrt 2)
    assert covered >= 33  # of 40 at 95 %: fewer has a chance of one in a thousand


def test_the_interval_draws_cases_and_depends_on_the_seed_alone() -> None:
    generator = np.random.default_rng(3)
    evidence = generator.normal(0.5, 1, 30)
    first = paired_auc_interval(evidence, -evidence, seed=1)
    assert first == paired_auc_interval(evidence, -evidence, seed=1)
    assert first != paired_auc_interval(evidence, -evidence, seed=2)
    # both scores of a case tell the same: more is uncertain than of as many independent ones
    shuffled = generator.permutation(-evidence)
    apart = paired_auc_interval(evidence, shuffled, seed=1)
    assert first[1] - first[0] > 1.2 * (apart[1] - apart[0])


@pytest.mark.parametrize("function", [roc_auc, roc_curve])
def test_missing_and_infinite_scores_are_refused(function) -> None:
    with pytest.raises(ValueError, match="positive must hold at least one score"):
        function([], [1])
    with pytest.raises(ValueError, match="negative must hold at least one score"):
        function([1], [])
    with pytest.raises(ValueError, match="negative must be finite"):
        function([1], [float("nan")])


def test_impossible_intervals_are_refused() -> None:
    with pytest.raises(ValueError, match="same cases, got 1 and 2"):
        paired_auc_interval([1], [1, 2], seed=0)
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 1"):
        paired_auc_interval([1], [1], seed=0, level=1)

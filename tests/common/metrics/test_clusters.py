"""The silhouette against a naive loop, closed forms, and scikit-learn where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from common.metrics import largest_groups, silhouette, silhouette_samples


def points(count: int = 30, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance_of(a: Tensor, b: Tensor, kind: str) -> float:
    return float((a - b).norm()) if kind == "euclidean" else float(1 - a @ b / a.norm() / b.norm())


def naive_silhouette(features: Tensor, groups: list, kind: str) -> list[float]:
    values = []
    for i, own in enumerate(groups):
        means = {}
        for group in set(groups):
            others = [j for j, g in enumerate(groups) if g == group and j != i]
            if others:
                means[group] = sum(distance_of(features[i], features[j], kind) for j in others) / len(others)
        if own not in means:
            values.append(0.0)
            continue
        nearest = min(mean for group, mean in means.items() if group != own)
        values.append((nearest - means[own]) / max(nearest, means[own]))
    return values


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_equals_a_naive_loop(kind: str) -> None:
    features, groups = points(), [f"sentence {i % 4}" for i in range(29)] + ["alone"]
    values = silhouette_samples(features, groups, distance=kind)
    expected = torch.tensor(naive_silhouette(features, groups, kind), dtype=torch.float64)
    assert_close(values, expected, rtol=0, atol=1e-12)
    assert values[-1] == 0
    assert silhouette(features, groups, distance=kind) == pytest.approx(float(expected.mean()), abs=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_equals_scikit_learn(kind: str) -> None:
    reference = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    features, groups = points(60), [i % 5 for i in range(59)] + [9]
    expected = reference.silhouette_samples(features.numpy(), groups, metric=kind)
    np.testing.assert_allclose(silhouette_samples(features, groups, distance=kind), expected, atol=1e-10)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, groups = points(50), [i % 3 for i in range(50)]
    whole = {kind: silhouette_samples(features, groups, distance=kind) for kind in ("cosine", "euclidean")}
    monkeypatch.setattr("common.metrics.clusters._ROWS", 7)
    for kind, expected in whole.items():
        assert_close(silhouette_samples(features, groups, distance=kind), expected, rtol=0, atol=1e-12)


def test_on_a_line_in_closed_form() -> None:
    """0, 1 | 4: the first has a = 1, b = 4, the second a = 1, b = 3, the third is alone."""
    values = silhouette_samples(torch.tensor([[0.0], [1.0], [4.0]]), ["a", "a", "b"], distance="euclidean")
    assert_close(values, torch.tensor([3 / 4, 2 / 3, 0], dtype=torch.float64))


def test_tight_groups_far_apart_have_1_and_swapped_ones_less_than_0() -> None:
    features = torch.eye(2, dtype=torch.float32)[[0, 0, 1, 1]]
    assert silhouette(features, ["a", "a", "b", "b"]) == pytest.approx(1.0)
    assert silhouette(features, ["a", "b", "a", "b"]) == pytest.approx(-0.5)


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
@pytest.mark.parametrize("value", [0.0, 0.37])
def test_vectors_that_are_all_equal_have_0(kind: str, value: float) -> None:
    features = torch.full((6, 5), value)
    assert silhouette_samples(features, [0, 0, 1, 1, 2, 2], distance=kind).count_nonzero() == 0


def test_arrays_and_tensors_that_need_a_gradient_are_taken() -> None:
    features, groups = points(9), list("aabbbccca")
    expected = silhouette(features, groups)
    assert silhouette(features.numpy(), groups) == expected
    assert silhouette(features.clone().requires_grad_(), groups) == expected


def test_the_largest_groups_are_the_most_frequent_sentences() -> None:
    sentences = ["b", "a", "", "b", "c", "a", "", None, "", "b", "d"]
    assert largest_groups(sentences, count=2) == [0, 1, 3, 5, 9]
    assert largest_groups(sentences, count=3) == [0, 1, 3, 4, 5, 9]
    assert len(largest_groups(sentences)) == 7


@pytest.mark.parametrize(
    ("features", "groups", "options", "message"),
    [
        (torch.zeros(3), [0, 1, 1], {}, r"features must be \(n, d\), one vector per case, got \(3,\)"),
        (torch.zeros(3, 2), [0, 1], {}, "groups must hold one entry for each of 3 vectors, got 2"),
        (torch.zeros(3, 2), [0, 0, 0], {}, "groups must be at least two different ones, got 1"),
        (torch.full((2, 2), torch.nan), [0, 1], {}, "features must be finite"),
        (
            torch.zeros(2, 2),
            [0, 1],
            {"distance": "dot"},
            "distance must be one of cosine, euclidean, got 'dot'",
        ),
    ],
)
def test_wrong_arguments(features: Tensor, groups: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        silhouette(features, groups, **options)


def test_a_count_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        largest_groups(["a"], count=0)

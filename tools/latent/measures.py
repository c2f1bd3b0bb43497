"""Silhouettes of image vectors before and after a pretraining, with intervals and what chance gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from common.metrics import silhouette, silhouette_samples

from .grouping import GROUPINGS, choose_cases
from .stages import STAGES

DRAWS = 1000
SHUFFLES = 10
LEVEL = 0.95
DISTANCE = "cosine"


def measure(
    vectors: Mapping[str, Mapping[str, Tensor]],
    names: Mapping[str, Sequence[str | None]],
    *,
    groups: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Measure every grouping, every choice of cases and every vector, with a progress bar.

    Args:
        vectors: for each kind of vector, `(n, D)` "before" and "after".
        names: for each grouping, the group of each of the n cases; see `group_names`.
        groups: number of most frequent groups that are measured by themselves.
        seed: of the bootstrap and of the shuffles.

    Returns:
        Rows with ``grouping``, ``cases_of`` ("repeated" or "largest"), ``vector``, ``groups``, ``cases`` and what
        `compare_groups` returns.

    Raises:
        ValueError: as `choose_cases`.
    """
    chosen = [
        (grouping, kind, places)
        for grouping, of in names.items()
        for kind, places in choose_cases(of, groups=groups, what=GROUPINGS[grouping]).items()
    ]
    work = [(*choice, vector) for choice in chosen for vector in vectors]
    rows = []
    for grouping, kind, places, vector in tqdm(work, desc="silhouettes", unit="row", disable=None):
        labels = [str(names[grouping][place]) for place in places]
        before, after = (vectors[vector][stage][places] for stage in STAGES)
        facts = {"grouping": grouping, "cases_of": kind, "vector": vector, "groups": len(set(labels))}
        rows.append({**facts, "cases": len(places), **compare_groups(before, after, labels, seed=seed)})
    return rows


def compare_groups(before: Tensor, after: Tensor, labels: Sequence[str], *, seed: int) -> dict[str, Any]:
    """Compare how vectors of one group keep together before and after.

    The interval is a bootstrap over cases: of the silhouettes that the cases have among all of them, 1000 draws with
    replacement are averaged; both stages and the change share the draws. Chance is the mean silhouette after the
    groups were handed out at random, 10 times: it is below 0 and falls with the number of groups, since of many
    groups some other one is always near.

    Args:
        before: `(n, D)`.
        after: `(n, D)`, of the same cases.
        labels: group of each case.
        seed: of the draws and of the shuffles.

    Returns:
        ``before`` and ``after`` with ``silhouette``, ``low``, ``high``, ``chance`` and ``above_chance``, and ``change``
        (after - before) with ``silhouette``, ``low``, ``high`` and ``above_chance``. A training also moves what chance
        gives: it is the change above chance that the sentences account for.
    """
    generator = np.random.default_rng(seed)
    samples = [silhouette_samples(vectors, labels, distance=DISTANCE).numpy() for vectors in (before, after)]
    drawn = generator.integers(len(labels), size=(DRAWS, len(labels)))
    shuffled = [
        [labels[place] for place in generator.permutation(len(labels)).tolist()] for _ in range(SHUFFLES)
    ]
    first, second = (values[drawn].mean(axis=1) for values in samples)
    result: dict[str, Any] = {}
    for stage, vectors, values, means in zip(STAGES, (before, after), samples, (first, second), strict=True):
        chance = float(np.mean([silhouette(vectors, given, distance=DISTANCE) for given in shuffled]))
        found = _interval(values, means)
        result[stage] = {**found, "chance": chance, "above_chance": found["silhouette"] - chance}
    above = result["after"]["above_chance"] - result["before"]["above_chance"]
    return {**result, "change": {**_interval(samples[1] - samples[0], second - first), "above_chance": above}}


def protocol() -> dict[str, Any]:
    """Return how `compare_groups` measures, for the record."""
    return {
        "measure": "mean silhouette of all cases",
        "distance": DISTANCE,
        "interval": "percentiles of a bootstrap over cases, of silhouettes among all cases",
        "level": LEVEL,
        "draws": DRAWS,
        "chance": f"mean silhouette of {SHUFFLES} random exchanges of the groups",
    }


def _interval(values: np.ndarray, means: np.ndarray) -> dict[str, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail]).tolist()
    return {"silhouette": float(values.mean()), "low": low, "high": high}

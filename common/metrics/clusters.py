"""How well vectors of one group keep together and apart from other groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

DISTANCES = ("cosine", "euclidean")
_ROWS = 1024  # compared with all vectors at once
_ROUNDING = 1e-12


def silhouette_samples(features: Any, groups: Sequence[Hashable], *, distance: str = "cosine") -> Tensor:
    r"""Silhouette of every vector: whether it lies nearer to its own group than to the nearest other one.

    With `a` the mean distance to the others of its group and `b` the least of the mean distances to each other
    group,

    .. math::
        s = \frac{b - a}{\max(a, b)}

    A vector alone in its group has 0, and so has one with a = b = 0. Memory grows with the number of vectors times
    a block of 1024, not with its square.

    Args:
        features: `(n, d)` tensor or array, finite.
        groups: for each vector something hashable, as its sentence; equal entries are one group.
        distance: ``"cosine"`` (1 - cosine similarity) or ``"euclidean"``.

    Returns:
        `(n,)` float64 on the CPU, in [-1, 1].

    Raises:
        ValueError: if the shape is another, there are fewer than two groups, the number of entries differs,
            a value is not finite, or the distance is unknown.

    Reference:
        Rousseeuw, Silhouettes, Journal of Computational and Applied Mathematics 20, 1987. C2Seg, figure 6, shows what
        it measures.
    """
    vectors = torch.as_tensor(features).detach().to("cpu", torch.float64)
    _check(vectors, groups, distance)
    known = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    if len(known) < 2:
        raise ValueError(f"groups must be at least two different ones, got {len(known)}.")
    own = torch.tensor([known[group] for group in groups])
    members = F.one_hot(own, len(known)).double()  # (n, k)
    sizes = members.sum(dim=0)
    if distance == "cosine":
        vectors = F.normalize(vectors, dim=1)
    values = []
    for start in range(0, len(vectors), _ROWS):
        sums = _distances(vectors, start, distance) @ members
        values.append(_block(sums, sizes, own[start : start + _ROWS]))
    return torch.cat(values)


def silhouette(features: Any, groups: Sequence[Hashable], *, distance: str = "cosine") -> float:
    """Mean silhouette of all vectors, in [-1, 1]: 1 for groups that are tight and far apart, 0 for none at all.

    Args:
        features: see `silhouette_samples`, whose mean this is.
        groups: likewise.
        distance: likewise.

    Raises:
        ValueError: as `silhouette_samples`.
    """
    return float(silhouette_samples(features, groups, distance=distance).mean())


def largest_groups(groups: Sequence[Hashable], *, count: int = 5) -> list[int]:
    """Return the places of the entries that belong to the `count` most frequent groups, in their order.

    Args:
        groups: something hashable for each case, as its sentence; a group named "" or None is left out.
        count: >= 1, 5 as in figure 6 of C2Seg; of equally frequent groups the first seen is taken.

    Raises:
        ValueError: if `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    frequent = Counter(group for group in groups if group not in ("", None)).most_common(count)
    chosen = {group for group, _ in frequent}
    return [place for place, group in enumerate(groups) if group in chosen]


def _distances(vectors: Tensor, start: int, distance: str) -> Tensor:
    """Distances of a block of vectors to all, `(m, n)`; 0 to itself."""
    rows = vectors[start : start + _ROWS]
    if distance == "cosine":
        distances = 1 - rows @ vectors.T
        # what is left of rounding between equal vectors would decide where all are equal
        distances[distances < _ROUNDING] = 0
    else:
        # through differences: a product of matrices would lose the small distances
        distances = torch.cdist(rows, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    distances.diagonal(offset=start).zero_()
    return distances


def _block(sums: Tensor, sizes: Tensor, own: Tensor) -> Tensor:
    """Silhouettes from `(m, k)` sums of distances to each group's members, itself at distance 0 included."""
    place = own[:, None]
    alone = sizes[own] == 1
    within = sums.gather(1, place)[:, 0] / (sizes[own] - 1).clamp(min=1)
    between = (sums / sizes).scatter(1, place, torch.inf).amin(dim=1)
    values = (between - within) / torch.maximum(within, between).clamp(min=torch.finfo(sums.dtype).tiny)
    return values.masked_fill(alone, 0.0)


def _check(vectors: Tensor, groups: Sequence[Hashable], distance: str) -> None:
    if distance not in DISTANCES:
        raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, got {distance!r}.")
    if vectors.ndim != 2:
        raise ValueError(f"features must be (n, d), one vector per case, got {tuple(vectors.shape)}.")
    if len(groups) != len(vectors):
        raise ValueError(f"groups must hold one entry for each of {len(vectors)} vectors, got {len(groups)}.")
    if not bool(torch.isfinite(vectors).all()):
        raise ValueError("features must be finite, got an infinite value or one that is no number.")

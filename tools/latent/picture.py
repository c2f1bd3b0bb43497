"""Two panels: the images of the most frequent sentences before and after a pretraining, in two dimensions."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .stages import STAGES

MOST_GROUPS = 16
LONGEST_SENTENCE = 110
_ROUNDING = 1e-20
_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#d55e00", "#999933")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
_TITLES = {"before": "before stage I (as initialised)", "after": "after stage I"}


def draw(
    vectors: Mapping[str, Tensor],
    labels: Sequence[str],
    measured: Mapping[str, Mapping[str, float]],
    *,
    title: str,
    vector: str,
) -> bytes:
    """Draw the cases of some groups and return the PNG.

    Args:
        vectors: `(n, D)` "before" and "after".
        labels: group of each case, at most 16 different ones; the legend names them, most frequent first.
        measured: what `compare_groups` said of them; stands above the panels.
        title: of the picture.
        vector: what is drawn, in a few words; the title says so and how it was projected.
    """
    from matplotlib.figure import Figure

    order = Counter(labels).most_common()
    height = 5.6 + 0.2 * len(order)
    figure = Figure(figsize=(10, height), dpi=130)
    axes = figure.subplots(1, 2)
    for axis, stage in zip(axes, STAGES, strict=True):
        points, shares = principal_components(vectors[stage])
        for number, (name, _) in enumerate(order):
            own = points[[place for place, label in enumerate(labels) if label == name]]
            axis.scatter(own[:, 0].tolist(), own[:, 1].tolist(), **_style(number))
        numbers = measured[stage]
        interval = f"{numbers['silhouette']:.3f} [{numbers['low']:.3f}, {numbers['high']:.3f}]"
        axis.set_title(
            f"{_TITLES[stage]}\nsilhouette {interval}, chance {numbers['chance']:.3f}", fontsize=10
        )
        axis.set_xlabel(f"component 1: {shares[0]:.0%} of the variance", fontsize=9)
        axis.set_ylabel(f"component 2: {shares[1]:.0%}", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_aspect("equal", adjustable="datalim")
    figure.suptitle(
        f"{title}\nPCA of {vector} scaled to length 1, of each panel by itself; silhouette in all dimensions",
        fontsize=11,
    )
    entries = [f"{shortened(name)} ({count} images)" for name, count in order]
    figure.legend(*_handles(axes[0], entries), loc="lower center", fontsize=8, ncols=1, frameon=False)
    figure.tight_layout(rect=(0, (0.1 + 0.18 * len(order)) / height, 1, 1))
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def principal_components(vectors: Tensor) -> tuple[Tensor, list[float]]:
    """Project vectors, scaled to length 1 as the cosine sees them, onto their first two principal components.

    Args:
        vectors: `(n, D)`, n and D at least 2.

    Returns:
        `(n, 2)` float64, each axis turned so that the largest entry of its direction is positive, and the shares of
        the variance of both.

    Raises:
        ValueError: if there are fewer than two vectors or dimensions.
    """
    if vectors.ndim != 2 or min(vectors.shape) < 2:
        raise ValueError(f"vectors must be (n, D), both at least 2, got {tuple(vectors.shape)}")
    unit = F.normalize(vectors.detach().to("cpu", torch.float64), dim=1)
    centred = unit - unit.mean(dim=0)
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    points = centred @ (directions * largest.sign()).T
    # below it there is nothing but what is left of rounding between equal vectors
    total = spread.square().sum().clamp(min=_ROUNDING * len(unit))
    return points, (spread[:2].square() / total).tolist()


def shortened(sentence: str, *, longest: int = LONGEST_SENTENCE) -> str:
    """Return a sentence of at most `longest` characters: of a longer one the middle is left out.

    The beginning tells the finding and the end the place, which is where captions differ.
    """
    text = " ".join(sentence.split())
    if len(text) <= longest:
        return text
    front = longest // 3
    return f"{text[:front].rstrip()} … {text[front + 3 - longest :].lstrip()}"


def _style(number: int) -> dict[str, Any]:
    """Colour and shape, so that groups can be told apart without colours."""
    shape = _MARKERS[number % len(_MARKERS)]
    edge = {"edgecolors": "white", "linewidths": 0.4} if number < len(_COLORS) else {"edgecolors": "black"}
    return {"color": _COLORS[number % len(_COLORS)], "marker": shape, "s": 30, "alpha": 0.8, **edge}


def _handles(axis: Any, entries: Sequence[str]) -> tuple[list[Any], list[str]]:
    # a lone dollar would begin a formula
    return list(axis.collections), [entry.replace("$", r"\$") for entry in entries]

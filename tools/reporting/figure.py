"""One picture that shows a test image with several sentences and the masks that they lead to."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

from common.transforms import load_image

from .evaluation import Case, load_evaluation
from .pictures import case_picture

SIZE = 512  # longest side of a panel, in pixels


def draw_sentences(folders: Mapping[str, Path], output: Path) -> Path:
    """Draw the case in which the first evaluation succeeds and the others differ most from it.

    Args:
        folders: name to show and folder of each evaluation of the same cases; the first is the reference.
        output: PNG file; written under a temporary name and renamed.

    Returns:
        `output`.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    evaluations = {name: {c.id: c for c in load_evaluation(folder).cases} for name, folder in folders.items()}
    chosen = _most_telling(list(evaluations.values()))
    figure, axes = plt.subplots(1, len(evaluations) + 1, figsize=(3 * (len(evaluations) + 1), 3.7), dpi=110)
    first = next(iter(evaluations.values()))[chosen]
    image = load_image(first.image).numpy()[0]
    axes[0].imshow(image, cmap="gray")
    axes[0].set_title("the image", fontsize=9)
    for axis, (name, cases) in zip(axes[1:], evaluations.items(), strict=True):
        picture = case_picture(cases[chosen], size=SIZE)
        axis.imshow(image, cmap="gray")
        for mask, color in ((picture.truth_mask, "#2ca02c"), (picture.prediction_mask, "#ff7f0e")):
            if mask is not None and mask.any():
                axis.contour(mask, levels=[0.5], colors=color, linewidths=1.6)
        text = textwrap.fill(cases[chosen].text or "(no sentence)", 40)
        axis.set_title(f"{name}, Dice {cases[chosen].dice or 0:.2f}", fontsize=9)
        axis.set_xlabel(text, fontsize=7)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.text(
        0.5,
        0.01,
        "green: named by the true sentence    orange: drawn by the network",
        ha="center",
        fontsize=8,
    )
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    temporary = output.with_name(f".{output.name}.tmp.png")
    figure.savefig(temporary)
    plt.close(figure)
    os.replace(temporary, output)
    return output


def _most_telling(evaluations: list[dict[str, Case]]) -> str:
    """Id of the case with the largest smallest drop of Dice from the first evaluation to the others."""

    def drop(name: str) -> float:
        dice = [cases[name].dice or 0.0 for cases in evaluations]
        return min((dice[0] - other for other in dice[1:]), default=dice[0])

    shared = set.intersection(*(set(cases) for cases in evaluations))
    return max(sorted(shared), key=drop)

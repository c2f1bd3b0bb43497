"""One figure of a run, or of several beside each other."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from common.transforms import CORRUPTIONS

METRIC, METRIC_NAME = "dice_micro", "Dice, all pixels"
_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#d55e00", "#999933")
_LINES = ("-", "--", ":", "-.")
_COLUMNS = 2

Results = Mapping[str, Any]
Panel = Callable[[Any], None]  # draws into axes


def draw(runs: Sequence[tuple[str, Results]]) -> bytes:
    """Draw Dice by corruption and by sentence, reliability, the ROC and the low-data curve, and return the PNG.

    Args:
        runs: name and results of each run, at most eight; panels for which none has numbers are left out.
    """
    from matplotlib.figure import Figure

    wide = _corruptions(runs)  # has a row to itself
    found = (panel(runs) for panel in (_sentences, _reliability, _rocs, _curve))
    panels = [drawn for drawn in found if drawn is not None]
    rows = -(-len(panels) // _COLUMNS) + bool(wide)
    figure = Figure(figsize=(12, 4.2 * rows), dpi=110)
    if wide:
        wide(figure.add_subplot(rows, 1, 1))
    for place, drawn in enumerate(panels, 1 + _COLUMNS * bool(wide)):
        drawn(figure.add_subplot(rows, _COLUMNS, place))
    figure.tight_layout()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def cell_metric(results: Results, corruption: str, perturbation: str, name: str = METRIC) -> float | None:
    """Return a number of a cell; None where it was not measured."""
    for cell in results["cells"]:
        if (cell["corruption"], cell["perturbation"]) == (corruption, perturbation):
            value = cell["metrics"].get(name)
            return None if value is None else float(value)
    return None


def corruptions_of(runs: Sequence[tuple[str, Results]]) -> list[str]:
    """Return the corruptions that any run was measured under, by kind and severity."""
    known = [f"{kind}/{level:g}" for kind, levels in CORRUPTIONS.items() for level in levels]
    found = dict.fromkeys(cell["corruption"] for _, results in runs for cell in results["cells"])
    found.pop("none", None)
    return sorted(found, key=lambda name: known.index(name) if name in known else len(known))


def perturbations_of(runs: Sequence[tuple[str, Results]]) -> list[str]:
    """Return the perturbations that any run was measured under, in their order."""
    return list(
        dict.fromkeys(
            cell["perturbation"]
            for _, results in runs
            for cell in results["cells"]
            if cell["corruption"] == "none"
        )
    )


def _corruptions(runs: Sequence[tuple[str, Results]]) -> Panel | None:
    names = corruptions_of(runs)
    return (lambda axis: _bars(axis, runs, ["none", *names], text=False)) if names else None


def _sentences(runs: Sequence[tuple[str, Results]]) -> Panel | None:
    names = perturbations_of(runs)
    return (lambda axis: _bars(axis, runs, names, text=True)) if len(names) > 1 else None


def _bars(axis: Any, runs: Sequence[tuple[str, Results]], names: Sequence[str], *, text: bool) -> None:
    width = 0.8 / len(runs)
    for number, (run, results) in enumerate(runs):
        values = [
            cell_metric(results, *(("none", name) if text else (name, "none"))) or 0.0 for name in names
        ]
        places = [place + width * (number - (len(runs) - 1) / 2) for place in range(len(names))]
        axis.bar(places, values, width, label=run, color=_COLORS[number % len(_COLORS)])
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    axis.set_ylim(0, 1.3 if len(runs) > 1 else 1)  # room for the legend
    axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axis.set_ylabel(METRIC_NAME)
    axis.set_title("Sentences, images as they are" if text else "Images, sentences as they are", fontsize=10)
    if len(runs) > 1:
        axis.legend(fontsize=7, loc="upper center", ncols=3)


def _reliability(runs: Sequence[tuple[str, Results]]) -> Panel | None:
    known = [(run, counts) for run, results in runs if (counts := _counts(results))]

    def drawn(axis: Any) -> None:
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for number, (run, counts) in enumerate(known):
            pairs = zip(counts["confidence"], counts["frequency"], strict=True)
            points = [(x, y) for x, y in pairs if x is not None]
            words = f"{run}: ECE {counts['ece']:.3f}, of predicted foreground "
            words += "none" if counts["ece_foreground"] is None else f"{counts['ece_foreground']:.3f}"
            style = {"color": _COLORS[number % len(_COLORS)], "linestyle": _LINES[number % len(_LINES)]}
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=words, **style)
        _unit(axis, "probability of foreground", "share of foreground", "Reliability, nothing changed")

    return drawn if known else None


def _counts(results: Results) -> Mapping[str, Any] | None:
    """The calibration of the clean cell."""
    return next((c["reliability"] for c in results["cells"] if c["reliability"]), None)


def _rocs(runs: Sequence[tuple[str, Results]]) -> Panel | None:
    known = [(run, roc) for run, results in runs for roc in results["roc"] if roc["corruption"] == "none"]

    def drawn(axis: Any) -> None:
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for number, (run, roc) in enumerate(known):
            words = (
                f"{run}: area {roc['auc']:.3f} [{roc['low']:.3f}, {roc['high']:.3f}], {roc['cases']} cases"
            )
            style = {"color": _COLORS[number % len(_COLORS)], "linestyle": _LINES[number % len(_LINES)]}
            axis.plot(roc["false_positive"], roc["true_positive"], label=words, **style)
        _unit(axis, "true sentences flagged", "mirrored sentences flagged", "Contradiction score")

    return drawn if known else None


def _curve(runs: Sequence[tuple[str, Results]]) -> Panel | None:
    known = [(run, results["curve"]) for run, results in runs if results["curve"]]

    def drawn(axis: Any) -> None:
        for number, (run, points) in enumerate(known):
            shares = [point["fraction"] for point in points]
            values = [point["metrics"][METRIC] for point in points]
            axis.plot(shares, values, marker="o", label=run, color=_COLORS[number % len(_COLORS)])
        axis.set_xscale("log")
        axis.set_ylim(0, 1)
        axis.set_xlabel("share of the training cases", fontsize=9)
        axis.set_ylabel(METRIC_NAME)
        axis.set_title("Few labels", fontsize=10)
        axis.legend(fontsize=7)

    return drawn if known else None


def _unit(axis: Any, across: str, upwards: str, title: str) -> None:
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_xlabel(across, fontsize=9)
    axis.set_ylabel(upwards, fontsize=9)
    axis.set_title(title, fontsize=10)
    axis.legend(fontsize=7)

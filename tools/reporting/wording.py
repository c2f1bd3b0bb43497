"""Names, units and number formats of the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath, PureWindowsPath
from typing import Any

from common.metrics.cases import METRIC_DEFINITIONS

from .evaluation import TEXT_NAMES


@dataclass(frozen=True)
class Measure:
    """How a measure is called and written.

    Attributes:
        key: its name in `summary.json` and `cases.csv`.
        label: what the reader sees.
        digits: decimals.
        better: 1 when higher is better, -1 when lower is.
    """

    key: str
    label: str
    digits: int = 3
    better: int = 1

    @property
    def definition(self) -> str:
        """The definition, empty when there is none."""
        return METRIC_DEFINITIONS.get(self.key, "")


OVERLAP = (
    Measure("dice_micro", "Dice, all pixels"),
    Measure("iou_micro", "IoU, all pixels"),
    Measure("dice_image", "Dice, mean of images"),
    Measure("iou_image", "IoU, mean of images"),
    Measure("hd95", "HD95", 2, -1),
    Measure("assd", "ASSD", 2, -1),
)
CONSISTENCY = (
    (Measure("side_prediction", "Side"), "side_truth"),
    (Measure("zones_prediction", "Zones"), "zones_truth"),
    (Measure("count_prediction", "Count"), "count_truth"),
)
COMPARED = (*OVERLAP, *(measure for measure, _ in CONSISTENCY))
COLUMNS = (
    Measure("dice_image", "Dice"),
    Measure("iou_image", "IoU"),
    Measure("hd95", "HD95", 1, -1),
    Measure("assd", "ASSD", 1, -1),
    Measure("side_prediction", "Side", 0),
    Measure("zones_prediction", "Zones", 2),
    Measure("count_prediction", "Count", 0),
)
LATERALITY = {
    "image": "In the sentences “left” is the left half of the picture.",
    "patient": "In the sentences “left” is the patient's left, drawn on the right of the picture.",
}
MISSING = "–"

_FACTS = (
    ("bundle", "Bundle"),
    ("network", "Network"),
    ("dataset", "Data"),
    ("section", "Section"),
    ("protocol", "Protocol"),
    ("text_perturbation", "Sentences"),
    ("image_corruption", "Images"),
    ("seed", "Seed"),
    ("machine", "Machine"),
    ("created", "Evaluated"),
    ("checkpoint", "Weights"),
    ("checkpoint_sha256", "SHA-256 of the weights"),
    ("versions", "Versions"),
)
LONG_FACT = 44
_PATHS = ("bundle", "dataset", "checkpoint")


def number(value: Any, digits: int = 3) -> str:
    """Write a number with a fixed number of decimals, or a dash for None and what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return MISSING
    return f"{value:.{digits}f}"


def difference(value: Any, reference: Any, digits: int = 3) -> str:
    """Write `value - reference` with its sign; empty when either is undefined."""
    numbers = (isinstance(number, int | float) for number in (value, reference))
    return f"{value - reference:+.{digits}f}".replace("-", "−") if all(numbers) else ""


def facts(summary: Mapping[str, Any], *, cases: int) -> list[tuple[str, str]]:
    """The lines of the header: what was evaluated, on what, with what.

    Args:
        summary: content of `summary.json`.
        cases: number of cases in the table.

    Returns:
        (label, value) pairs of what is known, long ones last; of paths only the last part.
    """
    lines = [("Cases", str(cases))]
    for key, label in _FACTS:
        words = _fact(key, summary.get(key))
        if words:
            lines.append((label, words))
    return sorted(lines, key=lambda line: len(line[1]) > LONG_FACT)


def _fact(key: str, value: Any) -> str:
    if value is None or isinstance(value, list):
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    words = str(value)
    if key == "text_perturbation":
        return TEXT_NAMES.get(words, words)
    if key == "created":
        return words.replace("T", " ").replace("+00:00", " UTC")
    return base_name(words) if key in _PATHS else words


def failure_reason(failure: Mapping[str, str]) -> str:
    """Why a case failed, without the folders that the message names."""
    reason = next((failure[key] for key in ("error", "reason", "message") if failure.get(key)), "")
    return without_folders(reason)


def without_folders(message: str) -> str:
    """Shorten every path in a message to its last part."""
    message = re.sub(r"'[^']*[\\/]([^'\\/]+)'", r"'\1'", message)
    return re.sub(r"(?:[A-Za-z]:)?[\\/](?:[^\s'\"\\/]+[\\/])+", "", message)


def base_name(path: str) -> str:
    """The last part of a path of either kind."""
    return PureWindowsPath(PurePath(path).name).name or path

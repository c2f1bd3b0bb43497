"""Read what an evaluation wrote: `summary.json`, `cases.csv` and, if there is one, `failures.csv`."""

from __future__ import annotations

import csv
import io
import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SUMMARY, CASES, FAILURES = "summary.json", "cases.csv", "failures.csv"
MEASURES = (
    "tp",
    "fp",
    "fn",
    "dice_image",
    "iou_image",
    "hd95",
    "assd",
    "side_prediction",
    "side_truth",
    "zones_prediction",
    "zones_truth",
    "count_prediction",
    "count_truth",
)

TEXT_NAMES = {
    "none": "True sentence",
    "blank": "Blank sentence",
    "mirror": "Mirrored sentence",
    "other": "Another case's sentence",
    "typos_05": "Sentence with 5 % typos",
    "typos_10": "Sentence with 10 % typos",
    "typos_20": "Sentence with 20 % typos",
    "abbreviations": "Abbreviated sentence",
    "drop_position": "Sentence without positions",
    "paraphrase": "Paraphrased sentence",
}
_LONGEST_CELL = 64 * 1024 * 1024
_CSV_LOCK = threading.Lock()


@dataclass(frozen=True)
class Case:
    """One row of `cases.csv`; `values` has every measure, None where it is undefined."""

    id: str
    text: str
    image: Path | None
    label: Path | None
    prediction: Path | None
    values: Mapping[str, float | None]

    @property
    def dice(self) -> float | None:
        """Dice of the case, or None without a label."""
        return self.values["dice_image"]

    @property
    def both_empty(self) -> bool:
        """Whether prediction and truth are empty: right, although the Dice of two empty masks counts as 0."""
        return [self.values[name] for name in ("tp", "fp", "fn")] == [0, 0, 0]

    @property
    def rank(self) -> float | None:
        """Dice by which cases are sorted and counted: None without a label or when both masks are empty."""
        return None if self.both_empty else self.dice


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: its name for the reader, its summary, its cases in the order of the file, its folder."""

    name: str
    summary: Mapping[str, Any]
    cases: tuple[Case, ...]
    failures: tuple[Mapping[str, str], ...]
    folder: Path

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The summary's metrics, empty when there are none."""
        return _mapping(self.summary.get("metrics"))

    @property
    def laterality(self) -> str:
        """`image` or `patient`: whose left the sentences mean."""
        return str(self.summary.get("laterality") or "image")

    @property
    def labelled(self) -> bool:
        """Whether any case was compared with a true mask."""
        return any(case.dice is not None for case in self.cases)


def load_evaluations(folders: Sequence[str | Path]) -> list[Evaluation]:
    """Read evaluations and give each a name that tells it from the others.

    Args:
        folders: one or more folders that an evaluation wrote; the first is the one that a report shows in full.

    Returns:
        The evaluations in the same order, named by what was done to the sentences, else by their folders.

    Raises:
        ValueError: no folder, a malformed file, or no case.
        FileNotFoundError: a folder or one of its two files is missing.
    """
    if not folders:
        raise ValueError("folders must name at least one evaluation, got none")
    evaluations = [load_evaluation(folder) for folder in folders]
    kinds = [str(evaluation.summary.get("text_perturbation") or "none") for evaluation in evaluations]
    if len(set(kinds)) == len(kinds):
        names = [TEXT_NAMES.get(kind, kind) for kind in kinds]
    else:
        names = [evaluation.name for evaluation in evaluations]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    return [replace(evaluation, name=name) for evaluation, name in zip(evaluations, names, strict=True)]


def load_evaluation(folder: str | Path) -> Evaluation:
    """Read one evaluation, named after its folder.

    Args:
        folder: what the evaluation was told as `output_dir`.

    Returns:
        The evaluation.

    Raises:
        ValueError: a malformed file, or no case.
        FileNotFoundError: the folder or one of its two files is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"evaluation must be a folder with {SUMMARY} and {CASES}, got {folder}")
    summary = read_summary(required(folder / SUMMARY))
    rows = read_csv(required(folder / CASES))
    failures = read_csv(folder / FAILURES) if (folder / FAILURES).is_file() else []
    cases = _read_cases(folder, rows)
    return Evaluation(folder.resolve().name, summary, cases, tuple(failures), folder)


def required(path: Path) -> Path:
    """Return a path that is there; a FileNotFoundError says what to do about another."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} must exist: run the evaluation first, or name its output folder")
    return path


def read_summary(path: Path) -> dict[str, Any]:
    """Return the object of `summary.json`; a ValueError names a malformed file."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be JSON in UTF-8, got: {error}") from error
    if not isinstance(summary, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(summary).__name__}")
    return summary


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table; a ValueError names a malformed file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        with _CSV_LOCK:
            limit = csv.field_size_limit(_LONGEST_CELL)
            try:
                return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
            finally:
                csv.field_size_limit(limit)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path} must be a csv file in UTF-8, got: {error}") from error


def _read_cases(folder: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[Case, ...]:
    path = folder / CASES
    if not rows:
        raise ValueError(f"{path} must hold at least one case, got none")
    if "id" not in rows[0]:
        raise ValueError(f"{path} must have a column 'id', got {', '.join(str(key) for key in rows[0])}")
    cases: dict[str, Case] = {}
    for line, row in enumerate(rows, 2):
        name = row.get("id") or ""
        if not name or name in cases:
            raise ValueError(f"{path} row {line}: id must be given once, got {name!r}")
        values = {measure: _number(row.get(measure), f"{path} row {line}: {measure}") for measure in MEASURES}
        image, label, prediction = (_path(folder, row.get(key)) for key in ("image", "label", "prediction"))
        cases[name] = Case(name, row.get("text") or "", image, label, prediction, values)
    return tuple(cases.values())


def _path(folder: Path, value: str | None) -> Path | None:
    return folder / value if value else None


def _number(value: str | None, what: str) -> float | None:
    if value is None or not value.strip():
        return None
    try:
        number = float(value)
    except ValueError as error:
        raise ValueError(f"{what} must be a number or empty, got {value!r}") from error
    return number if math.isfinite(number) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

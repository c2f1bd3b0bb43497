"""The report of evaluations of volumes with several classes: what they wrote, and a page of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.metrics.volumes import VOLUME_DEFINITIONS, summarise_volumes

from .cards import ORDERS
from .evaluation import CASES, FAILURES, SUMMARY, read_csv, read_summary, required
from .page import TEMPLATES
from .volume_pictures import Slice, colours, volume_slices
from .wording import MISSING, facts, failure_reason, number, without_folders

PREDICTION = "run.json"  # of tools.predict
VOLUME = "ml_"  # before the name of a class, in columns of volumes alone
MEASURES = (("dice", "Dice", 3), ("assd_mm", "ASSD mm", 2), ("assd_voxel", "ASSD voxel", 2))
LATERALITY = {
    "patient": "Right and left in a class's name are the patient's, whose left is on the right of axial slices.",
    "image": "Right and left in a class's name are the halves of the picture.",
}


@dataclass(frozen=True)
class VolumeEvaluation:
    """One evaluation of volumes.

    Attributes:
        name: for the reader.
        summary: content of `summary.json`.
        rows: of `cases.csv`.
        failures: rows of `failures.csv`.
        folder: of the files.
        classes: names as columns have them, in the order of their numbers.
    """

    name: str
    summary: Mapping[str, Any]
    rows: tuple[Mapping[str, str], ...]
    failures: tuple[Mapping[str, str], ...]
    folder: Path
    classes: tuple[str, ...]

    @property
    def scored(self) -> bool:
        """Whether the volumes were compared with labels."""
        return f"dice_{self.classes[0]}" in self.rows[0]

    @property
    def words(self) -> list[str]:
        """The names of the classes to be read."""
        return [name.replace("_", " ") for name in self.classes]


@dataclass(frozen=True)
class VolumeCard:
    """What is shown of one volume: slices, or why there are none."""

    id: str
    dice: str
    slices: tuple[Slice, ...] = ()
    trouble: str = ""


def is_of_volumes(folder: str | Path) -> bool:
    """Whether a folder holds an evaluation of volumes with several classes."""
    path = Path(folder) / CASES
    if not path.is_file():
        return False
    rows = read_csv(path)
    return bool(rows) and any(str(column).startswith(VOLUME) for column in rows[0])


def load_volume_evaluations(folders: Sequence[str | Path]) -> list[VolumeEvaluation]:
    """Read evaluations of volumes, named after their folders.

    Raises:
        ValueError: when a file is malformed, one of them is no evaluation of volumes, or the classes differ.
        FileNotFoundError: when a file is missing.
    """
    found = [_load(Path(folder)) for folder in folders]
    for other in found[1:]:
        if other.classes != found[0].classes:
            raise ValueError(
                f"evaluations must have the same classes, got {', '.join(found[0].words)} in {found[0].folder} and "
                f"{', '.join(other.words)} in {other.folder}: report them one by one"
            )
    if len({each.name for each in found}) < len(found):
        found = [replace(each, name=f"{each.name} ({place})") for place, each in enumerate(found, 1)]
    return found


def _load(folder: Path) -> VolumeEvaluation:
    if not is_of_volumes(folder):
        raise ValueError(
            f"{folder} must hold an evaluation of volumes like the first folder, got another: report it alone"
        )
    if (folder / PREDICTION).is_file() and not (folder / SUMMARY).is_file():
        raise ValueError(
            f"{folder} must hold an evaluation, got predictions of tools.predict, which wrote their page, report.html"
        )
    rows = read_csv(required(folder / CASES))
    failures = read_csv(folder / FAILURES) if (folder / FAILURES).is_file() else []
    classes = tuple(name.removeprefix(VOLUME) for name in rows[0] if str(name).startswith(VOLUME))
    summary = read_summary(required(folder / SUMMARY))
    return VolumeEvaluation(folder.resolve().name, summary, tuple(rows), tuple(failures), folder, classes)


def mean_dice(evaluation: VolumeEvaluation, row: Mapping[str, str]) -> float | None:
    """Return the mean Dice of the classes of a volume that have one; None without any.

    Raises:
        ValueError: when a cell is no number; the file and the case are named.
    """
    cells = [row.get(f"dice_{name}") or "" for name in evaluation.classes]
    try:
        values = [float(cell) for cell in cells if cell.strip()]
    except ValueError as error:
        place = evaluation.folder / CASES
        raise ValueError(f"{place}, case {row.get('id')}: dice must be a number, got {cells}") from error
    return sum(values) / len(values) if values else None


def make_volume_cards(evaluation: VolumeEvaluation, *, order: str, limit: int, size: int) -> list[VolumeCard]:
    """Picture volumes; a file that cannot be read is said, not raised.

    Args:
        evaluation: of which.
        order: "worst" or "best" mean Dice first, or "list" for the file's order.
        limit: how many.
        size: longest side of a picture in pixels.

    Raises:
        ValueError: another order, a negative limit, or a score that is no number.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    if limit < 0:
        raise ValueError(f"pictures must be 0 or more, got {limit}")
    scored = [(mean_dice(evaluation, row), row) for row in evaluation.rows]
    if order != "list":
        sign = 1.0 if order == "worst" else -1.0
        scored.sort(key=lambda pair: (pair[0] is None, sign * (pair[0] or 0.0)))
    return [_card(evaluation, row, dice, size=size) for dice, row in scored[:limit]]


def _card(
    evaluation: VolumeEvaluation, row: Mapping[str, str], dice: float | None, *, size: int
) -> VolumeCard:
    name, score = row.get("id") or MISSING, number(dice)
    image, label, prediction = (row.get(key) or "" for key in ("image", "label", "prediction"))
    try:
        if not image or not prediction:
            raise FileNotFoundError("the table names no image or no prediction")
        slices = volume_slices(
            evaluation.folder / image,
            evaluation.folder / prediction,
            label=evaluation.folder / label if label else None,
            classes=len(evaluation.classes),
            size=size,
        )
    except (ValueError, OSError) as error:
        return VolumeCard(name, score, trouble=without_folders(str(error)))
    return VolumeCard(name, score, slices)


def render_volumes(
    evaluations: Sequence[VolumeEvaluation], cards: Sequence[VolumeCard], *, title: str, order: str
) -> str:
    """Write the page, which needs no network, no script and no other file.

    Args:
        evaluations: the first is shown in full, of the others the means.
        cards: pictured volumes of the first.
        title: heading of the page.
        order: how the cards are sorted.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    main = evaluations[0]
    return environment.get_template("volumes.html.j2").render(
        title=title,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        main=main,
        facts=facts(main.summary, cases=len(main.rows)),
        laterality=LATERALITY.get(str(main.summary.get("laterality")), ""),
        legend=list(zip(main.words, colours(len(main.classes)), strict=True)),
        measures=[label for _, label, _ in MEASURES],
        means=[(each.name, _means(each)) for each in evaluations if each.scored],
        heads=_heads(main),
        rows=[_cells(main, row) for row in main.rows],
        cards=cards,
        order=order,
        definitions=list(VOLUME_DEFINITIONS.items()) if main.scored else [],
        failure_reason=failure_reason,
        missing=MISSING,
    )


def _means(evaluation: VolumeEvaluation) -> list[tuple[str, list[str], str]]:
    """Name, measures and number of empty predictions of every class, and of their mean."""
    metrics = summarise_volumes(evaluation.rows, evaluation.classes)["metrics"]
    lines = []
    for name, words in [*zip(evaluation.classes, evaluation.words, strict=True), ("", "mean of the classes")]:
        ending = f"_{name}" if name else ""
        values = [_number(metrics[f"{key}{ending}"], digits) for key, _, digits in MEASURES]
        lines.append((words, values, str(metrics[f"n_empty_prediction{ending}"])))
    return lines


def _number(value: float, digits: int) -> str:
    return number(value, digits) if value == value else MISSING  # NaN is what differs from itself


def _heads(evaluation: VolumeEvaluation) -> list[str]:
    heads = ["modality", *(["mean Dice"] if evaluation.scored else [])]
    for words in evaluation.words:
        heads += [f"{words}, {label}" for _, label, _ in MEASURES] if evaluation.scored else []
        heads.append(f"{words}, ml")
    return heads


def _cells(evaluation: VolumeEvaluation, row: Mapping[str, str]) -> tuple[str, list[str]]:
    """The name of a volume and the cells of its row, as `_heads` has them."""
    cells = [row.get("modality") or MISSING]
    cells += [number(mean_dice(evaluation, row))] if evaluation.scored else []
    for name in evaluation.classes:
        if evaluation.scored:
            cells += [_cell(row.get(f"{key}_{name}"), digits) for key, _, digits in MEASURES]
        cells.append(_cell(row.get(f"{VOLUME}{name}"), 2))
    return row.get("id") or MISSING, cells


def _cell(text: str | None, digits: int) -> str:
    try:
        return number(float(text), digits) if text else MISSING
    except ValueError:
        return str(text)

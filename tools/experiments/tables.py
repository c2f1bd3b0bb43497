"""The table of experiments that a bundle keeps in ``configs/experiments/<table>.json``.

Example of a file; ``published`` and ``evaluations`` may be left out::

    {
        "title": "Text-guided and image-only networks on QaTa-COV19",
        "paper": "Title, venue, table",
        "protocol": "official lists, raw captions, metrics on the original grid",
        "data": "qata_cov19",
        "rows": [
            {
                "name": "MMI-UNet",
                "overlays": ["mmi_unet"],
                "overrides": {"learning_rate": 0.0003},
                "published": {"dice_micro": 0.9088, "iou_micro": 0.8328, "source": "Table I"},
                "evaluations": [
                    {"name": "true sentence"},
                    {"name": "mirrored", "overrides": {"text_perturbation": "mirror"}, "subset": "one_sided"}
                ]
            }
        ]
    }

Optional keys of the file: ``seeds`` (default ``[42]``), ``run_ids`` (the phases of a training, default ``["run"]``)
and ``metrics`` (names to tabulate). Shares such as Dice are written as fractions, 0.9088 and not 90.88.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_METRICS = (
    "dice_micro",
    "iou_micro",
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
TABLE_KEYS = ("title", "paper", "protocol", "data", "rows", "seeds", "run_ids", "metrics")
ROW_KEYS = ("name", "overlays", "overrides", "published", "evaluations")
EVALUATION_KEYS = ("name", "overrides", "subset", "published")


class ExperimentError(ValueError):
    """A table, bundle, overlay or row that cannot be used as it was given."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a trained row.

    Attributes:
        name: as shown, unique in its row.
        overrides: configuration keys and values, such as ``{"text_perturbation": "blank"}``.
        subset: name of a subset of the evaluation's summary to report; None: all cases.
        published: figures of the paper for this evaluation, by metric.
    """

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    subset: str | None = None
    published: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One row: what is trained and how it is evaluated; ``source`` says where ``published`` stands."""

    name: str
    overlays: tuple[str, ...]
    overrides: Mapping[str, Any]
    published: Mapping[str, float]
    source: str
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True)
class ExperimentTable:
    """A checked table of experiments of the bundle in the folder ``bundle``."""

    bundle: Path
    name: str
    title: str
    paper: str
    protocol: str
    data: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...] = (42,)
    run_ids: tuple[str, ...] = ("run",)
    metrics: tuple[str, ...] = DEFAULT_METRICS

    def overlay_path(self, name: str) -> Path:
        """Return the file of an overlay.

        Raises:
            ExperimentError: when the bundle has none of that name; the nearest names are offered.
        """
        folder = self.bundle / "configs" / "overlays"
        known = [file.stem for file in folder.glob("*.json")]
        if name not in known:
            raise ExperimentError(unknown("overlay", name, known, place=folder))
        return folder / f"{name}.json"

    def select(self, names: Iterable[str]) -> tuple[Row, ...]:
        """Return the named rows in the table's order; no names: every row.

        Raises:
            ExperimentError: when a name is no row's; the nearest names are offered.
        """
        wanted = set(names)
        known = [row.name for row in self.rows]
        for name in wanted.difference(known):
            raise ExperimentError(unknown("row", name, known, place=Path(f"{self.name}.json")))
        return tuple(row for row in self.rows if not wanted or row.name in wanted)


def unknown(kind: str, name: str, known: Iterable[str], *, place: Path) -> str:
    """Return the message for a name that is not known, with the nearest known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    offer = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"there are {', '.join(names)}"
        if names
        else "none yet"
    )
    return f"{kind} must be one of those in {place}, got {name!r}: {offer}"


def find_bundle(bundle: str, *, folder: Path) -> Path:
    """Return the folder of a bundle, given by path or by its name in `folder`.

    Raises:
        ExperimentError: when there is none; the nearest names are offered.
    """
    for candidate in (folder / bundle, Path(bundle)):
        if (candidate / "configs" / "train.json").is_file():
            return candidate
    known = [path.parents[1].name for path in folder.glob("*/configs/train.json")]
    raise ExperimentError(unknown("bundle", bundle, known, place=folder))


def read_table(bundle: Path, table: str) -> ExperimentTable:
    """Read and check a table, given by its name in the bundle's ``configs/experiments`` or by path.

    Raises:
        ExperimentError: when there is none of that name, or when the file does not have the form that this module
            describes; the message names the file and the entry.
    """
    folder = bundle / "configs" / "experiments"
    path = Path(table) if table.endswith(".json") else folder / f"{table}.json"
    if not path.is_file():
        raise ExperimentError(
            unknown("table", table, [file.stem for file in folder.glob("*.json")], place=folder)
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExperimentError(f"{path} must be JSON: {error}") from error
    entry = _Entry(content, str(path), TABLE_KEYS)
    rows = tuple(
        _row(_Entry(value, f"{path}, row {n}", ROW_KEYS)) for n, value in enumerate(entry.sequence("rows"), 1)
    )
    _check_unique([row.name for row in rows], f"{path}: names of rows")
    result = ExperimentTable(
        bundle=bundle,
        name=path.stem,
        title=entry.text("title"),
        paper=entry.text("paper"),
        protocol=entry.text("protocol"),
        data=entry.text("data"),
        rows=rows,
        seeds=entry.items("seeds", int, [42]),
        run_ids=entry.items("run_ids", str, ["run"]),
        metrics=entry.items("metrics", str, DEFAULT_METRICS),
    )
    for row in rows:
        for overlay in row.overlays:
            result.overlay_path(overlay)
    return result


def _row(entry: _Entry) -> Row:
    published = entry.mapping("published")
    source = published.pop("source", "")
    evaluations = tuple(
        _evaluation(_Entry(value, f"{entry.where}, evaluation {n}", EVALUATION_KEYS))
        for n, value in enumerate(entry.sequence("evaluations", [{"name": "true sentence"}]), 1)
    )
    _check_unique([evaluation.name for evaluation in evaluations], f"{entry.where}: names of evaluations")
    return Row(
        name=entry.text("name"),
        overlays=entry.items("overlays", str, []),
        overrides=entry.mapping("overrides"),
        published=_figures(published, entry.where),
        source=str(source),
        evaluations=evaluations,
    )


def _evaluation(entry: _Entry) -> Evaluation:
    return Evaluation(
        name=entry.text("name"),
        overrides=entry.mapping("overrides"),
        subset=entry.text("subset", "") or None,
        published=_figures(entry.mapping("published"), entry.where),
    )


def _figures(published: Mapping[str, Any], where: str) -> dict[str, float]:
    for name, value in published.items():
        share = name.startswith(("dice", "iou"))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (share and not 0 <= value <= 1):
            form = "a fraction between 0 and 1" if share else "a number"
            raise ExperimentError(f"{where}: published {name} must be {form}, got {value!r}")
    return dict(published)


def _check_unique(names: list[str], what: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ExperimentError(f"{what} must differ, got {repeated[0]!r} twice")


class _Entry:
    """Checked access to one JSON object of a table."""

    def __init__(self, content: Any, where: str, keys: Iterable[str]) -> None:
        if not isinstance(content, dict):
            raise ExperimentError(f"{where} must be an object, got {type(content).__name__}")
        for key in content:
            if key not in keys:
                raise ExperimentError(unknown("key", key, keys, place=Path(where)))
        self.content = content
        self.where = where

    def text(self, key: str, default: str | None = None) -> str:
        return self._value(key, str, "a text", default)

    def sequence(self, key: str, default: list[Any] | None = None) -> list[Any]:
        return self._value(key, list, "a list", default)

    def items(self, key: str, kind: type, default: Iterable[Any]) -> tuple[Any, ...]:
        values = self.sequence(key, list(default))
        wrong = [value for value in values if type(value) is not kind]
        if wrong:
            raise ExperimentError(
                f"{self.where}: {key} must be a list of {kind.__name__}, got {wrong[0]!r} in it"
            )
        return tuple(values)

    def mapping(self, key: str) -> dict[str, Any]:
        return dict(self._value(key, dict, "an object", {}))

    def _value(self, key: str, kind: type, form: str, default: Any) -> Any:
        value = self.content.get(key, default)
        if not isinstance(value, kind):
            got = "nothing" if value is None else repr(value)
            raise ExperimentError(f"{self.where}: {key} must be {form}, got {got}")
        return value

"""Reader of own volumes: a csv that names images, labels, modalities and patients, and the names of the classes."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .layouts import section_of
from .source import SECTIONS, SourceError, SourceOptions, image_stem, require_inside
from .volumes import VolumeCase, VolumeSource

TABLE = "volumes.csv"
CLASSES = "labels.json"
COLUMNS = ("image", "label", "modality", "split", "patient")
MODALITIES = ("ct", "mr", "flair", "t2")


@dataclass(frozen=True)
class _Row:
    case: VolumeCase
    section: str | None


def read_volumes_folder(source: Path, options: SourceOptions) -> VolumeSource:
    """Read a folder with ``volumes.csv`` and ``labels.json``.

    The csv has the columns ``image``, ``modality`` and perhaps ``label``, ``split`` and ``patient``; images are NIfTI
    files or folders of one DICOM series, by paths relative to the source. ``labels.json`` names the classes and their
    values in the label files, ``{"liver": 5, "spleen": 1}``, in the order in which they are numbered from 1; the key
    ``"*"`` with the value ``"background"`` makes all other values background, which are an error else.

    Args:
        source: the folder.
        options: what the user said; the seed of a split that the csv does not bring.

    Returns:
        The cases. Without a split, patients are split at random, 70 / 10 / 20. A patient who was scanned in two
        modalities keeps one of them in training and validation, in turn, and both in the test, of which a direction
        reads one.

    Raises:
        SourceError: naming the row that is not as it must be.
    """
    names, values, others = _classes(source / CLASSES)
    rows = _rows(source)
    warnings: list[str] = []
    sections = _given(rows) or _drawn(rows, options.seed)
    protocol = (
        "lists of the source" if rows[0].section else f"random 70/10/20 by patient, seed {options.seed}"
    )
    for section in ("training", "validation"):
        sections[section] = _one_modality(sections[section], warnings, section)
    return VolumeSource(
        name=source.resolve().name,
        anatomy=options.anatomy or "unknown",
        labels=names,
        values={"*": values},
        sections=sections,
        protocol=protocol,
        license=options.license or "the owner's",
        others_are_background=others,
        warnings=warnings,
    )


def _classes(file: Path) -> tuple[dict[int, str], dict[int, int], bool]:
    """Return names by number, numbers by value, and whether other values are background."""
    if not file.is_file():
        raise SourceError(
            f'{file} must name the classes and their values, such as {{"liver": 5}}, got no such file'
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{file} must be JSON in UTF-8, got: {error}") from error
    if not isinstance(content, Mapping) or content.get("*", "background") != "background":
        raise SourceError(
            f'{file} must be an object of names and values, "*" only with "background", got another'
        )
    given = [(str(name), value) for name, value in content.items() if name != "*"]
    whole = [
        value for _, value in given if isinstance(value, int) and not isinstance(value, bool) and value > 0
    ]
    if not given or len(whole) != len(given) or len(set(whole)) != len(given):
        raise SourceError(f"{file} must give every class a value above 0 of its own, got {dict(given)}")
    names = {0: "background", **{number: name for number, (name, _) in enumerate(given, 1)}}
    return names, {value: number for number, value in enumerate(whole, 1)}, "*" in content


def _rows(source: Path) -> list[_Row]:
    table = source / TABLE
    if not table.is_file():
        raise SourceError(
            f"{source} must hold {TABLE} with the columns {', '.join(COLUMNS)}, got no such file"
        )
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = {"image", "modality"} - set(reader.fieldnames or ())
        if missing:
            raise SourceError(
                f"{table} must have the columns image and modality, got no {sorted(missing)[0]}"
            )
        rows = [_row(record, source, f"{table.name} row {number}") for number, record in enumerate(reader, 2)]
    if not rows:
        raise SourceError(f"{table} must list at least one volume, got none")
    with_split = [row for row in rows if row.section]
    if with_split and len(with_split) < len(rows):
        bare = next(row for row in rows if not row.section)
        raise SourceError(f"{bare.case.row}: every row must name its split as the others do, got none")
    return rows


def _row(record: Mapping[str, Any], source: Path, place: str) -> _Row:
    cells = {name: (record.get(name) or "").strip() for name in COLUMNS}
    modality = cells["modality"].lower()
    if modality not in MODALITIES:
        raise SourceError(
            f"{place}: modality must be one of {', '.join(MODALITIES)}, got {cells['modality']!r}"
        )
    image = _path(cells["image"], source, f"{place}: image")
    label = _path(cells["label"], source, f"{place}: label") if cells["label"] else None
    section = section_of(Path(cells["split"])) if cells["split"] else None
    if cells["split"] and section is None:
        raise SourceError(f"{place}: split must be train, val or test, got {cells['split']!r}")
    relative = image.relative_to(source)
    name = "_".join((*relative.parent.parts, image_stem(image))).replace(" ", "_")
    subject = cells["patient"] or name
    return _Row(VolumeCase(name, image, modality, subject, label, place), section)


def _path(cell: str, source: Path, what: str) -> Path:
    path = source / cell
    require_inside(path, source, what)
    if not cell or not path.exists():
        raise SourceError(f"{what} must exist, got {cell!r}: no file {path}")
    return path


def _given(rows: list[_Row]) -> dict[str, list[VolumeCase]]:
    if not rows[0].section:
        return {}
    return {section: [row.case for row in rows if row.section == section] for section in SECTIONS}


def _drawn(rows: list[_Row], seed: int) -> dict[str, list[VolumeCase]]:
    from common.data.splits import random_sections  # its package imports MONAI, which takes seconds

    return random_sections([row.case for row in rows], seed=seed, group=lambda case: case.subject)


def _one_modality(cases: list[VolumeCase], warnings: list[str], section: str) -> list[VolumeCase]:
    """Keep the scans of one modality of every patient, the modality that has fewer patients so far."""
    scanned: dict[str, list[str]] = {}
    for case in cases:
        if case.modality not in scanned.setdefault(case.subject, []):
            scanned[case.subject].append(case.modality)
    counts = Counter(kinds[0] for kinds in scanned.values() if len(kinds) == 1)
    chosen: dict[str, str] = {}
    for subject, kinds in scanned.items():
        chosen[subject] = min(kinds, key=lambda kind: counts[kind])
        counts[chosen[subject]] += len(kinds) > 1
    kept = [case for case in cases if case.modality == chosen[case.subject]]
    if len(kept) < len(cases):
        several = sum(len(kinds) > 1 for kinds in scanned.values())
        warnings.append(
            f"{several} patients of {section} were scanned in several modalities: one of them was kept, "
            f"{len(cases) - len(kept)} volumes left out"
        )
    return kept

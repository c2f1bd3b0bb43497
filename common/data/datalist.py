"""Read and check ``dataset.json``, the list of cases that every bundle trains and evaluates on."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .splits import SECTIONS, draw_subset, labelled_unlabelled_split

LATERALITIES = ("image", "patient")
DATALIST_NAME = "dataset.json"


def load_datalist(
    path: str | Path, section: str, *, fraction: float = 1.0, seed: int = 42
) -> list[dict[str, Any]]:
    """Read one section of a ``dataset.json`` as cases with absolute paths, after checking the whole list.

    Args:
        path: a ``dataset.json``, or the folder that holds one.
        section: ``training``, ``validation`` or ``test``.
        fraction: share of the section to keep, in (0, 1]; below 1 the data set's own low-data rule
            (``split.subset_rule``) draws a seeded, nested subset in shuffled order.
        seed: seed of that subset.

    Returns:
        One dictionary a case, in the order of the list: ``id``, ``image``, ``text`` (empty if the case has
        none), ``label`` where the case has one, ``laterality`` (``image`` or ``patient``) and whatever else
        the entry holds. Paths are absolute strings.

    Raises:
        ValueError: naming the entry, if the list is not valid, an id occurs twice, the same image (by path or
            by content) is in two sections, or a path leaves the folder of the list.
        FileNotFoundError: naming the entry, if the list or a file of the section is missing.
    """
    datalist, document = read_datalist(path)
    cases = _section_cases(datalist, document, section)
    if fraction == 1.0:
        return cases
    rule = _subset_rule(document)
    return draw_subset(cases, fraction, rule=rule, seed=seed, key=_case_id)


def load_labelled_split(
    path: str | Path, section: str = "training", *, fraction: float, seed: int = 42
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read a section as labelled and unlabelled cases for semi-supervised training.

    A case that has no label is unlabelled, whatever the draw: the fraction is one of the cases with a label.

    Args:
        path: a ``dataset.json``, or the folder that holds one.
        section: ``training``, ``validation`` or ``test``.
        fraction: labelled share, in (0, 1]; the same cases that :func:`load_datalist` keeps where all have a label.
        seed: seed of the split.

    Returns:
        Labelled cases, and the remaining cases without their ``label``, those that never had one last.

    Raises:
        ValueError: as :func:`load_datalist`.
        FileNotFoundError: as :func:`load_datalist`.
    """
    datalist, document = read_datalist(path)
    cases = _section_cases(datalist, document, section)
    rule = _subset_rule(document)
    known = [case for case in cases if "label" in case]
    labelled, rest = labelled_unlabelled_split(known, fraction, rule=rule, seed=seed, key=_case_id)
    rest += [case for case in cases if "label" not in case]
    return labelled, [{key: value for key, value in case.items() if key != "label"} for case in rest]


def read_datalist(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Read a ``dataset.json`` as it stands, with its header.

    Args:
        path: a ``dataset.json``, or the folder that holds one.

    Returns:
        The absolute path of the file, and its content.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a JSON object in UTF-8.
    """
    datalist = Path(path)
    if datalist.is_dir():
        datalist = datalist / DATALIST_NAME
    datalist = datalist.parent.resolve() / datalist.name
    if not datalist.is_file():
        raise FileNotFoundError(f"no data list at {datalist}: `python -m tools.prepare_data` writes one")
    try:
        document = json.loads(datalist.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{datalist} must be JSON in UTF-8, got: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{datalist} must hold a JSON object, got {type(document).__name__}")
    return datalist, document


def verify_files(path: str | Path) -> int:
    """Compare every file of a data list with the SHA-256 that the list recorded.

    Args:
        path: a ``dataset.json``, or the folder that holds one.

    Returns:
        The number of files compared.

    Raises:
        ValueError: naming the first file that changed, or if the list recorded no checksum.
        FileNotFoundError: naming the first file that is missing.
    """
    datalist, document = read_datalist(path)
    recorded = document.get("sha256")
    if not isinstance(recorded, dict) or not recorded:
        raise ValueError(f"{datalist} must record checksums under 'sha256', got none")
    for name, expected in recorded.items():
        file = _inside(datalist, name, "sha256")
        if not file.is_file():
            raise FileNotFoundError(f"{datalist}: sha256 names {name!r}, which is missing")
        found = _digest(file)
        if found != expected:
            raise ValueError(f"{file} must have SHA-256 {expected}, got {found}: it changed")
    return len(recorded)


def _section_cases(datalist: Path, document: Mapping[str, Any], section: str) -> list[dict[str, Any]]:
    sections = {name: document[name] for name in SECTIONS if name in document}
    if section not in sections:
        nearest = difflib.get_close_matches(str(section), sections or SECTIONS, n=2, cutoff=0.3)
        hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
        raise ValueError(
            f"section must be one of {', '.join(sections) or 'training, validation, test'} of {datalist}, "
            f"got {section!r}{hint}"
        )
    laterality = document.get("laterality", "image")
    if laterality not in LATERALITIES:
        raise ValueError(f"{datalist}: laterality must be 'image' or 'patient', got {laterality!r}")
    for name, entries in sections.items():
        _check_entries(datalist, name, entries)
    _check_unique_ids(datalist, sections)
    _check_disjoint_images(datalist, sections, document.get("sha256") or {})
    return [
        _case(datalist, f"{section}[{index}]", entry, laterality)
        for index, entry in enumerate(sections[section])
    ]


def _check_entries(datalist: Path, section: str, entries: Any) -> None:
    if not isinstance(entries, list):
        raise ValueError(f"{datalist}: {section} must be a list of cases, got {type(entries).__name__}")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"{datalist}: {section}[{index}] must be an object, got {type(entry).__name__}")
        for key in ("id", "image"):
            if not isinstance(entry.get(key), str) or not entry[key]:
                raise ValueError(
                    f"{datalist}: {section}[{index}] must have a non-empty string {key!r}, "
                    f"got {entry.get(key)!r}"
                )
        for key in ("text", "label"):
            if not isinstance(entry.get(key, ""), str | None):
                raise ValueError(
                    f"{datalist}: {section}[{index}] ({entry['id']}) must have a string {key!r} or none, "
                    f"got {entry[key]!r}"
                )


def _check_unique_ids(datalist: Path, sections: Mapping[str, list[dict[str, Any]]]) -> None:
    seen: dict[str, str] = {}
    for where, entry in _places(sections):
        first = seen.setdefault(entry["id"], where)
        if first != where:
            raise ValueError(f"{datalist}: id {entry['id']!r} must be unique, got it in {first} and {where}")


def _check_disjoint_images(
    datalist: Path, sections: Mapping[str, list[dict[str, Any]]], recorded: Mapping[str, str]
) -> None:
    seen: dict[str, tuple[str, str]] = {}
    unhashed: dict[Path, tuple[str, str]] = {}
    for where, entry in _places(sections):
        section = where.partition("[")[0]
        file = _inside(datalist, entry["image"], f"{where} ({entry['id']}) image")
        marks = [str(file)]
        if entry["image"] in recorded:
            marks.append(str(recorded[entry["image"]]))
        elif file.is_file():
            unhashed[file] = (section, where)
        _claim(datalist, seen, marks, section, where)
    for digest, section, where in _collisions(unhashed):
        _claim(datalist, seen, [digest], section, where)


def _claim(
    datalist: Path, seen: dict[str, tuple[str, str]], marks: list[str], section: str, where: str
) -> None:
    for mark in marks:
        first_section, first_where = seen.setdefault(mark, (section, where))
        if first_section != section:
            raise ValueError(
                f"{datalist}: the same image must not be in two sections, got {first_where} and {where}: "
                "remove one of them"
            )


def _collisions(files: Mapping[Path, tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Digest only files that share their size and first 64 KiB with another: a large list stays cheap."""
    by_head: dict[tuple[int, str], list[Path]] = {}
    by_size: dict[int, list[Path]] = {}
    for file in files:
        by_size.setdefault(file.stat().st_size, []).append(file)
    for size, group in by_size.items():
        if len(group) > 1:
            for file in group:
                by_head.setdefault((size, _digest(file, limit=65536)), []).append(file)
    for group in by_head.values():
        if len(group) > 1:
            for file in group:
                yield _digest(file), *files[file]


def _places(sections: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, entries in sections.items():
        for index, entry in enumerate(entries):
            yield f"{name}[{index}]", entry


def _case(datalist: Path, where: str, entry: Mapping[str, Any], laterality: str) -> dict[str, Any]:
    case = {"laterality": laterality, **entry, "text": entry.get("text") or ""}
    for key in ("image", "label"):
        if not case.get(key):
            case.pop(key, None)
            continue
        what = f"{where} ({entry['id']}) {key}"
        file = _inside(datalist, case[key], what)
        if not file.is_file():
            raise FileNotFoundError(f"{datalist}: {what} must exist, got {case[key]!r}: no file {file}")
        case[key] = str(file)
    if case["laterality"] not in LATERALITIES:
        raise ValueError(
            f"{datalist}: {where} ({entry['id']}) laterality must be 'image' or 'patient', "
            f"got {case['laterality']!r}"
        )
    return case


def _inside(datalist: Path, name: str, what: str) -> Path:
    root = datalist.parent
    file = Path(os.path.realpath(root / name))
    if not file.is_relative_to(root):
        raise ValueError(f"{datalist}: {what} must stay inside {root}, got {name!r}, which leads to {file}")
    return file


def _subset_rule(document: Mapping[str, Any]) -> str:
    split = document.get("split")
    return str(split.get("subset_rule", "file_order")) if isinstance(split, dict) else "file_order"


def _case_id(case: Mapping[str, Any]) -> str:
    return str(case["id"])


def _digest(file: Path, *, limit: int | None = None) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        if limit is not None:
            digest.update(stream.read(limit))
        else:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()

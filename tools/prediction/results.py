"""Tables of all cases, made of the journal: cases.csv, cases.jsonl and failures.csv."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .inputs import Case
from .journal import DONE, FAILED, Entry, read_lines
from .record import CASES_CSV, CASES_JSONL, FAILURES

FIRST = ("id", "file", "mask", "preview")
FAILURE_COLUMNS = ("id", "file", "error")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass
class Totals:
    """Sums over the cases, for the report and the last line of the tool.

    Attributes:
        done: cases with a mask.
        failed: cases with an error.
        flagged: cases whose mask and sentence contradict each other.
        warned: cases with a warning.
        empty: cases with an empty mask.
        sums: of measures, with how many cases have one.
        warnings: cases a warning, the most frequent ones.
    """

    done: int = 0
    failed: int = 0
    flagged: int = 0
    warned: int = 0
    empty: int = 0
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)


AVERAGED = ("side_agreement", "zones_agreement", "count_agreement")
KEPT_WARNINGS = 1000  # distinct ones that are counted


def ordered(cases: Sequence[Case], entries: Mapping[str, Entry]) -> list[Entry]:
    """Return the entries of the cases that have one, in the order of the cases."""
    return [entries[case.id] for case in cases if case.id in entries]


def write_tables(folder: Path, entries: Sequence[Entry]) -> Totals:
    """Write the three tables, each under its name only when it is complete.

    Args:
        folder: of the results.
        entries: in the order of the rows; read one at a time.

    Returns:
        The sums.
    """
    columns = _columns(entries)
    totals = Totals()
    with (
        replaced(folder / CASES_CSV, newline="") as table,
        replaced(folder / CASES_JSONL) as lines,
        replaced(folder / FAILURES, newline="") as failures,
    ):
        rows = csv.DictWriter(table, columns, restval="", lineterminator="\n")
        failed = csv.DictWriter(failures, FAILURE_COLUMNS, lineterminator="\n")
        rows.writeheader()
        failed.writeheader()
        for line in read_lines(entries):
            if line["status"] == FAILED:
                totals.failed += 1
                failed.writerow(_escaped({"id": line["id"], "file": line["place"], "error": line["error"]}))
            else:
                row = flat_row(line)
                rows.writerow(_escaped(row))
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                _add(totals, line)
    return totals


def flat_row(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return one finished case's row: where its files are, and its measures."""
    files = line["files"]
    mask = files.get("mask") or files.get("segmentation")
    places = {"id": line["id"], "file": line["place"], "mask": mask, "preview": files.get("preview")}
    others = {name: path for name, path in files.items() if name not in ("mask", "segmentation", "preview")}
    return places | others | {name: value for name, value in line["row"].items() if name != "id"}


def _columns(entries: Sequence[Entry]) -> list[str]:
    """Return the columns of all rows, in the order in which they first appear."""
    columns = dict.fromkeys(FIRST)
    for line in read_lines(entries):
        if line["status"] == DONE:
            columns.update(dict.fromkeys(flat_row(line)))
    return list(columns)


def _escaped(row: Mapping[str, Any]) -> dict[str, Any]:
    """Keep spreadsheets from taking a text for a formula."""
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
        for name, value in row.items()
    }


def _add(totals: Totals, line: Mapping[str, Any]) -> None:
    row = line["row"]
    totals.done += 1
    totals.flagged += bool(line["flagged"])
    totals.empty += row.get("share") == 0
    warnings = [part for part in str(row.get("warnings") or "").split("; ") if part]
    totals.warned += bool(warnings)
    for warning in warnings:
        if warning in totals.warnings or len(totals.warnings) < KEPT_WARNINGS:
            totals.warnings[warning] = totals.warnings.get(warning, 0) + 1
    for name in AVERAGED:
        value = row.get(name)
        if value is not None:
            total, count = totals.sums.get(name, (0.0, 0))
            totals.sums[name] = (total + float(value), count + 1)


@contextmanager
def replaced(path: Path, *, newline: str | None = None) -> Iterator[IO[str]]:
    """Open a text file that gets its name when it is complete."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8", newline=newline) as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)

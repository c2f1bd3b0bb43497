"""The folder of a run: one file per finished cell, so that a stopped run goes on where it ended."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.handlers.evaluation import write_table, write_text

from .measuring import COLUMNS, Measured
from .request import Cell, RobustnessError

IDENTITY, CELLS = "run.json", "cells"


class Store:
    """Writes cells under `folder/cells` and reads them back.

    Args:
        folder: of the run; made when missing.
        identity: everything that the numbers depend on beside the cell: weights, configuration, cases.
        overwrite: remove what a run of another identity left there.

    Raises:
        RobustnessError: when it holds a run of another identity.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        self.identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        file = folder / IDENTITY
        before = _read(file)
        if before and before.get("identity") != self.identity:
            if not overwrite:
                theirs = {name: before.get(name) for name in identity}
                changed = ", ".join(name for name in identity if theirs[name] != identity[name]) or "settings"
                raise RobustnessError(
                    f"{folder} must be empty or hold the same run, got one that differs in {changed}: choose another "
                    "--output, or measure again with --overwrite"
                )
            shutil.rmtree(folder / CELLS, ignore_errors=True)
        (folder / CELLS).mkdir(parents=True, exist_ok=True)
        write_text(json.dumps({**identity, "identity": self.identity}, indent=2) + "\n", file)

    def read(self, cell: Cell, *, scored: bool) -> dict[str, Any] | None:
        """Return a finished cell; None where it is to be measured, also for want of contradiction scores."""
        content = _read(self._file(cell, ".json"))
        if content.get("identity") != self.identity or (scored and not content.get("scored")):
            return None
        return content

    def write(self, cell: Cell, measured: Measured, *, scored: bool) -> dict[str, Any]:
        """Write a cell, its table first, and return what `read` will return."""
        write_table(measured.rows, self._file(cell, ".csv"), COLUMNS)
        content = {
            "identity": self.identity,
            "corruption": cell.corruption,
            "perturbation": cell.perturbation,
            "scored": scored,
            "summary": {name: measured.summary[name] for name in ("count", "metrics", "subsets")},
            "calibration": measured.calibration,
        }
        write_text(json.dumps(content, indent=2) + "\n", self._file(cell, ".json"))
        return content

    def rows(self, cell: Cell) -> list[dict[str, str]]:
        """Return the table of a finished cell."""
        with self._file(cell, ".csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def _file(self, cell: Cell, suffix: str) -> Path:
        return self.folder / CELLS / f"{cell.slug}{suffix}"


def _read(file: Path) -> dict[str, Any]:
    """The JSON object of a file; empty when there is none or it was cut short."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

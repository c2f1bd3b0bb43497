"""Per-case table and summary of an evaluation."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.handlers import IgniteMetricHandler, from_engine

from .. import __version__
from ..checks import file_sha256
from ..metrics import CASE_COLUMNS, CaseTable, MicroDice


class MicroDiceMetric(IgniteMetricHandler):
    """Dice over all pixels of the set, as MONAI's engines take a metric.

    Reads the thresholded ``pred`` and the ``label`` of decollated cases, whose sizes may differ.
    """

    def __init__(self) -> None:
        super().__init__(
            metric_fn=MicroDice(), output_transform=from_engine(["pred", "label"]), save_details=False
        )


class DisplayedCaseTable(CaseTable):
    """A table of cases that measures ``pred_displayed`` where postprocessing turned ``pred`` to the file's axes.

    Sides and zones of a sentence are those of the displayed image (see `common.transforms.MaskOnFileGridd`).
    """

    def update(self, output: Iterable[Mapping[str, Any]]) -> None:
        """Add a row for each case, see `CaseTable`."""
        super().update({**case, "pred": case.get("pred_displayed", case["pred"])} for case in output)


class EvaluationTable:
    """Measure every case of an evaluation and write ``cases.csv`` and ``summary.json``.

    The prediction is compared with the label on the label's own grid, in pixels; without labels the table says
    how far each prediction agrees with its sentence. Under `torch.distributed` the rows of all ranks are
    gathered and rank 0 writes. Both files are written under a temporary name and renamed. The metrics also go
    to ``engine.state.metrics``.

    Args:
        output_dir: folder of the two files.
        checkpoint: weights that were evaluated; their SHA-256 goes into the summary.
        laterality: ``image`` or ``patient``: what the sentences that the network saw call left.
        surface: measure HD95 and ASSD too.
        description: facts to repeat in the summary, such as ``bundle``, ``network``, ``dataset``, ``section``.
        dataset: its ``failures``, if it has any, are written to ``failures.csv``.
        datalist: the ``dataset.json`` of the cases; its name and SHA-256 go into the summary.

    Attributes:
        protocol: how cases are measured, for the summary.
        columns: of ``cases.csv``.
    """

    protocol = "predictions on the label's own grid, in pixels"
    columns: Sequence[str] = CASE_COLUMNS

    def __init__(
        self,
        *,
        output_dir: str | Path,
        checkpoint: str | Path | None = None,
        laterality: str = "image",
        surface: bool = True,
        description: Mapping[str, Any] | None = None,
        dataset: Any = None,
        datalist: str | Path | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.laterality = laterality
        self.description = dict(description or {})
        self.dataset = dataset
        self.datalist = None if datalist is None else Path(datalist)
        self.table: CaseTable = DisplayedCaseTable(laterality=laterality, surface=surface)

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        self.table.attach(engine, "cases")
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def write(self, engine: Engine) -> None:
        """Gather the rows of all ranks and write both files."""
        rows = [_defined(row | {"prediction": self._relative(row["prediction"])}) for row in self.table.rows]
        engine.state.metrics.pop("cases", None)
        if engine.state.rank != 0:
            return
        failures = getattr(self.dataset, "failures", [])
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_table(rows, self.output_dir / "cases.csv", self.columns)
        if failures:
            write_table(failures, self.output_dir / "failures.csv", tuple(failures[0]))
        summary = {
            **self.description,
            **self._data(),
            "protocol": self.protocol,
            "laterality": self.laterality,
            "failures": len(failures),
            **_defined(self.table.summary),
            **self._provenance(),
        }
        write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", self.output_dir / "summary.json")

    def _relative(self, path: str) -> str:
        return Path(os.path.relpath(path, self.output_dir)).as_posix() if path else ""

    def _data(self) -> dict[str, Any]:
        if self.datalist is None:
            return {}
        name = json.loads(self.datalist.read_text(encoding="utf-8")).get("name", "")
        return {"dataset": name, "dataset_sha256": file_sha256(self.datalist)}

    def _provenance(self) -> dict[str, Any]:
        exists = self.checkpoint is not None and self.checkpoint.is_file()
        return {
            "checkpoint": self.checkpoint.name if self.checkpoint else None,
            "checkpoint_sha256": file_sha256(self.checkpoint) if exists else None,
            "versions": {
                "common": __version__,
                "monai": monai.__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }


def _defined(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content with None for what is not a number, which JSON does not know."""
    return {
        key: _defined(value)
        if isinstance(value, Mapping)
        else None
        if isinstance(value, float) and math.isnan(value)
        else value
        for key, value in content.items()
    }


def write_table(rows: Sequence[Mapping[str, Any]], path: Path, columns: Sequence[str]) -> None:
    """Write rows as UTF-8 csv; None becomes an empty cell.

    Args:
        rows: one mapping per case.
        path: the file; written under a temporary name and renamed.
        columns: the first row, and the keys to write.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: "" if row[name] is None else row[name] for name in columns} for row in rows)
    os.replace(temporary, path)


def write_text(text: str, path: Path) -> None:
    """Write `text` as UTF-8 under a temporary name and rename it to `path`."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)

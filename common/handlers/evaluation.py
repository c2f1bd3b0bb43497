"""Per-case table and summary of an evaluation."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from .. import __version__
from ..checks import file_sha256
from ..metrics import case_metrics, summarise

DESCRIPTION_COLUMNS = ("id", "image", "label", "prediction", "text")


class EvaluationTable:
    """Measure every case of an evaluation and write ``cases.csv`` and ``summary.json``.

    The prediction is compared with the label on the label's own grid, in pixels. Under `torch.distributed` the
    rows of all ranks are gathered and rank 0 writes. Both files are written under a temporary name and renamed.
    The summary's metrics also go to ``engine.state.metrics``.

    Args:
        output_dir: folder of the two files.
        checkpoint: weights that were evaluated; their SHA-256 goes into the summary.
        laterality: ``image`` or ``patient``: what the sentences that the network saw call left.
        surface: measure HD95 and ASSD too.
        description: facts to repeat in the summary, such as ``bundle``, ``network``, ``dataset``, ``section``.
        dataset: its ``failures``, if it has any, are written to ``failures.csv``.
    """

    def __init__(
        self,
        *,
        output_dir: str | Path,
        checkpoint: str | Path | None = None,
        laterality: str = "image",
        surface: bool = True,
        description: Mapping[str, Any] | None = None,
        dataset: Any = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.laterality = laterality
        self.surface = surface
        self.description = dict(description or {})
        self.dataset = dataset
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add_batch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def _reset(self) -> None:
        self.rows = []

    def add_batch(self, engine: Engine) -> None:
        """Measure the decollated cases of the batch that has just been predicted."""
        for case, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.rows.append(self._row(case, output))

    def _row(self, case: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Any]:
        sentence = case.get("sentence", "")
        row = {
            "id": case["id"],
            "image": case.get("image_path", ""),
            "label": case.get("label_path", ""),
            "prediction": self._relative(case.get("prediction_path", output.get("prediction_path", ""))),
            "text": sentence,
        }
        label = output.get("label")
        if label is None:
            return row
        return row | case_metrics(
            _array(output["pred"]),
            _array(label),
            sentence=sentence,
            laterality=self.laterality,
            surface=self.surface,
        )

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.output_dir) if path else ""

    def write(self, engine: Engine) -> None:
        """Gather the rows of all ranks and write both files."""
        rows = self._gathered()
        metrics = summarise([row for row in rows if "tp" in row])
        subsets = metrics.pop("subsets", {})
        engine.state.metrics.update({k: v for k, v in metrics.items() if isinstance(v, (int, float))})
        if engine.state.rank != 0:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_table(rows, self.output_dir / "cases.csv")
        failures = getattr(self.dataset, "failures", [])
        if failures:
            write_table(failures, self.output_dir / "failures.csv")
        summary = self.description | {
            "laterality": self.laterality,
            "count": len(rows),
            "failures": len(failures),
            "metrics": metrics,
            "subsets": subsets,
            **self._provenance(),
        }
        write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", self.output_dir / "summary.json")

    def _gathered(self) -> list[dict[str, Any]]:
        if not (dist.is_available() and dist.is_initialized()):
            return self.rows
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, self.rows)
        unique = {row["id"]: row for part in parts for row in part}
        return [unique[name] for name in sorted(unique)]

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


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as UTF-8 csv, one column for every key of any row; None becomes an empty cell.

    Args:
        rows: one mapping per case.
        path: the file; written under a temporary name and renamed.
    """
    columns = list(dict.fromkeys([*DESCRIPTION_COLUMNS, *(key for row in rows for key in row)]))
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    os.replace(temporary, path)


def write_text(text: str, path: Path) -> None:
    """Write `text` as UTF-8 under a temporary name and rename it to `path`."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _array(tensor: Any) -> np.ndarray:
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else torch.as_tensor(tensor)
    return plain.detach().cpu().numpy()[0] > 0.5

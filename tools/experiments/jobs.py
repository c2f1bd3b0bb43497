"""What has to be run for a row: commands, folders, and the fingerprint of everything that decides the result."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .tables import Evaluation, ExperimentError, ExperimentTable, Row


@dataclass(frozen=True)
class Job:
    """One command of MONAI's runner.

    Attributes:
        name: of its log and of its marker in `folder`.
        title: as shown while it runs.
        folder: where it writes.
        command: the argument list.
        fingerprint: changes with the configuration, the overrides, the seed and the data.
        result: file that a successful run must have written; None: none is asked for.
        anew: an earlier `result` is removed first; a training keeps its own, which it may go on from.
    """

    name: str
    title: str
    folder: Path
    command: tuple[str, ...]
    fingerprint: str
    result: Path | None = None
    anew: bool = False

    @property
    def log(self) -> Path:
        """What the command printed."""
        return self.folder / f"{self.name}.log"

    @property
    def marker(self) -> Path:
        """Written when the command has succeeded."""
        return self.folder / f"{self.name}.done.json"

    @property
    def failure(self) -> Path:
        """Written when the command has failed, removed when it is tried again."""
        return self.folder / f"{self.name}.failed.json"


@dataclass(frozen=True)
class RowPlan:
    """The jobs of one row with one seed: trainings in order, then one evaluation each."""

    row: Row
    seed: int
    trainings: tuple[Job, ...]
    evaluations: tuple[tuple[Evaluation, Job], ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs in the order in which they run."""
        return (*self.trainings, *dict.fromkeys(job for _, job in self.evaluations))


@dataclass(frozen=True)
class RowPlanner:
    """Makes the jobs of a table's rows.

    The folder of a row and seed carries a fingerprint of its training, so that a changed configuration or data set
    never goes on from the weights of another one.

    Args:
        table: the table of the rows.
        overlays: overlays that come after each row's own.
        dataset_dir: folder of ``dataset.json``.
        work: folder for everything that is run.
    """

    table: ExperimentTable
    overlays: tuple[str, ...]
    dataset_dir: Path
    work: Path

    def plan(self, row: Row, *, seed: int) -> RowPlan:
        """Return the jobs of a row with one seed.

        Raises:
            ExperimentError: when the data set has not been prepared, or an overlay is unknown.
        """
        layers = [self.table.overlay_path(name) for name in (*row.overlays, *self.overlays)]
        train, evaluate = (self.table.bundle / "configs" / f"{name}.json" for name in ("train", "evaluate"))
        overrides = {**row.overrides, "seed": seed}
        trained = fingerprint([train, *layers], overrides | {"run_ids": self.table.run_ids}, self.dataset_dir)
        home = self.work / slug(row.name) / f"seed{seed}_{trained[:8]}"
        options = self._places(home) | overrides
        title = f"{row.name}, seed {seed}"
        files = [train, evaluate, *layers]
        jobs = [
            self._evaluation(files, options, evaluation, home, trained=trained, title=title)
            for evaluation in row.evaluations
        ]
        # a subset of the cases needs no run of its own
        shared = {job.fingerprint: job for job in reversed(jobs)}
        return RowPlan(
            row=row,
            seed=seed,
            trainings=self._trainings([train, *layers], options, home, trained=trained, title=title),
            evaluations=tuple(
                (evaluation, shared[job.fingerprint])
                for evaluation, job in zip(row.evaluations, jobs, strict=True)
            ),
        )

    def _places(self, home: Path) -> dict[str, Any]:
        return {
            "bundle_root": self.table.bundle,
            "dataset_dir": self.dataset_dir,
            "model_dir": home / "models",
        }

    def _trainings(
        self, files: Sequence[Path], options: Mapping[str, Any], home: Path, *, trained: str, title: str
    ) -> tuple[Job, ...]:
        folder = home / "training"
        phases = self.table.run_ids
        return tuple(
            Job(
                name=run_id,
                title=f"{title}: training" + (f" ({run_id})" if len(phases) > 1 else ""),
                folder=folder,
                command=bundle_command(run_id, files, {**options, "output_dir": folder}),
                fingerprint=trained,
                result=home / "models" / "model.pt" if run_id == phases[-1] else None,
            )
            for run_id in phases
        )

    def _evaluation(
        self,
        files: Sequence[Path],
        options: Mapping[str, Any],
        evaluation: Evaluation,
        home: Path,
        *,
        trained: str,
        title: str,
    ) -> Job:
        folder = home / "evaluations" / slug(evaluation.name)
        return Job(
            name="evaluation",
            title=f"{title}: {evaluation.name}",
            folder=folder,
            command=bundle_command("run", files, {**options, "output_dir": folder, **evaluation.overrides}),
            fingerprint=fingerprint(files, {**evaluation.overrides, "trained": trained}, self.dataset_dir),
            result=folder / "summary.json",
            anew=True,
        )


def bundle_command(run_id: str, files: Sequence[Path], options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the command line of MONAI's runner for merged configuration files and overrides."""
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += [] if run_id == "run" else [run_id]
    command += ["--config_file", str([file.as_posix() for file in files])]
    logging = files[0].with_name("logging.conf")
    command += ["--logging_file", logging.as_posix()] if logging.is_file() else []
    for key, value in options.items():
        text = option_text(value)
        command += [f"--{key}={text}"] if text.startswith("-") else [f"--{key}", text]
    return tuple(command)


def option_text(value: Any) -> str:
    """Return a value so that the runner's command line reads it back with its own type: ``42``, ``'42'``, ``None``."""
    if not isinstance(value, (str, Path)):
        return repr(value)
    try:
        ast.literal_eval(str(value))
    except (ValueError, SyntaxError):
        return str(value)
    return repr(str(value))


def fingerprint(files: Sequence[Path], overrides: Mapping[str, Any], dataset_dir: Path) -> str:
    """Return a SHA-256 over the content of configuration files, the overrides and the list of the data.

    Raises:
        ExperimentError: when `dataset_dir` has no ``dataset.json``.
    """
    datalist = dataset_dir / "dataset.json"
    if not datalist.is_file():
        raise ExperimentError(
            f"the data set must be prepared, got {datalist}, which does not exist: write it with "
            "python -m tools.prepare_data, or name another folder with --dataset-dir"
        )
    content = {
        "configs": [json.loads(file.read_text(encoding="utf-8")) for file in files],
        "overrides": dict(overrides),
        "data": hashlib.sha256(datalist.read_bytes()).hexdigest(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def slug(name: str) -> str:
    """Return a name that can be a folder's."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "row"

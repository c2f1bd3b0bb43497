"""What the runs of a table gave: our figures over the seeds beside the published ones."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .jobs import Job, RowPlan
from .runner import now, read_failure, read_marker
from .tables import Evaluation, ExperimentTable, Row

SECTIONS = ("training", "validation", "test")


def collect_results(
    table: ExperimentTable,
    plans: Sequence[RowPlan],
    *,
    dataset_dir: Path,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of ``docs/results/<bundle>_<table>.json``.

    Everything is read from the folders of the jobs, so that rows run at different times stand in one table.

    Args:
        table: the table.
        plans: one plan for every row and seed, whether it has been run or not.
        dataset_dir: folder of ``dataset.json``.
        facts: about this run, such as ``command``, ``overlays``, ``machine``, ``versions`` and ``commit``.
    """
    seeds = list(dict.fromkeys(plan.seed for plan in plans))
    rows = [_row(row, [plan for plan in plans if plan.row == row], table) for row in table.rows]
    return {
        "bundle": table.bundle.name,
        "table": table.name,
        "title": table.title,
        "paper": table.paper,
        "protocol": table.protocol,
        "data": {"name": table.data, **describe_data(dataset_dir)},
        "seeds": seeds,
        "metrics": list(table.metrics),
        "written": now(),
        **facts,
        "rows": rows,
    }


def describe_data(dataset_dir: Path) -> dict[str, Any]:
    """Return what ``dataset.json`` says of itself, the size of its sections and its SHA-256."""
    path = dataset_dir / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        "dataset": content.get("name"),
        "sizes": {section: len(content[section]) for section in SECTIONS if section in content},
        "split": content.get("split"),
        "caption_version": content.get("caption_version"),
        "laterality": content.get("laterality"),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def aggregate(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, sample standard deviation (None for one value) and the values themselves."""
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "values": list(values),
    }


def _row(row: Row, plans: Sequence[RowPlan], table: ExperimentTable) -> dict[str, Any]:
    return {
        "name": row.name,
        "overlays": list(row.overlays),
        "overrides": dict(row.overrides),
        "source": row.source,
        "evaluations": [_evaluation(row, n, plans, table) for n in range(len(row.evaluations))],
        "runs": [_run(plan) for plan in plans],
    }


def _evaluation(row: Row, position: int, plans: Sequence[RowPlan], table: ExperimentTable) -> dict[str, Any]:
    evaluation = row.evaluations[position]
    summaries = {}
    for plan in plans:
        job = plan.evaluations[position][1]
        trained = all(read_marker(training) for training in plan.trainings)
        if trained and read_marker(job) and job.result is not None:
            summaries[plan.seed] = json.loads(job.result.read_text(encoding="utf-8"))
    figures = [_figures(summary, evaluation) for summary in summaries.values()]
    metrics = {}
    for name in table.metrics:
        values = [figure[name] for figure in figures if figure.get(name) is not None]
        if values:
            metrics[name] = aggregate(values)
    published = {**(row.published if position == 0 else {}), **evaluation.published}
    first = next(iter(summaries.values()), {})
    return {
        "name": evaluation.name,
        "overrides": dict(evaluation.overrides),
        "subset": evaluation.subset,
        "count": figures[0].get("count") if figures else None,
        "section": first.get("section"),
        "network": first.get("network"),
        "seeds": list(summaries),
        "metrics": metrics,
        "published": published,
        "checkpoints": {str(seed): summary.get("checkpoint_sha256") for seed, summary in summaries.items()},
    }


def _figures(summary: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """The metrics of a summary or of one of its subsets, and the number of cases behind them."""
    part = summary if evaluation.subset is None else summary.get("subsets", {}).get(evaluation.subset, {})
    return {"count": part.get("count"), **part.get("metrics", {})}


def _run(plan: RowPlan) -> dict[str, Any]:
    done = [read_marker(job) for job in plan.trainings]
    last = done[-1] or {}
    return {
        "seed": plan.seed,
        "status": _status(plan.jobs),
        "training_seconds": round(sum(marker["seconds"] for marker in done if marker), 1),
        "ended": last.get("ended"),
        "commit": last.get("commit"),
        "machine": last.get("machine"),
        "versions": last.get("versions"),
        "failures": [{"job": job.title, "error": error} for job in plan.jobs if (error := read_failure(job))],
        "commands": [list(job.command) for job in plan.jobs],
    }


def _status(jobs: Sequence[Job]) -> str:
    if any(read_failure(job) for job in jobs):
        return "failed"
    done = [read_marker(job) is not None for job in jobs]
    return "finished" if all(done) else "unfinished" if any(done) else "not run"

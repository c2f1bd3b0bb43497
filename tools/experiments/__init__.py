"""Running the rows of a paper's table and writing ours beside the published figures."""

from __future__ import annotations

from .jobs import Job, RowPlan, RowPlanner
from .provenance import commit, machine, versions
from .report import markdown
from .results import collect_results
from .runner import Outcome, Runner, run_command, run_job
from .tables import Evaluation, ExperimentError, ExperimentTable, Row, find_bundle, read_table

__all__ = [
    "Evaluation",
    "ExperimentError",
    "ExperimentTable",
    "Job",
    "Outcome",
    "Row",
    "RowPlan",
    "RowPlanner",
    "Runner",
    "collect_results",
    "commit",
    "find_bundle",
    "machine",
    "markdown",
    "read_table",
    "run_command",
    "run_job",
    "versions",
]

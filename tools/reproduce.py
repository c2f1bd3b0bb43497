"""Run the rows of a paper's table: ``python -m tools.reproduce BUNDLE TABLE --dataset-dir DIR``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tools.experiments import (
    ExperimentError,
    ExperimentTable,
    Outcome,
    RowPlan,
    RowPlanner,
    Runner,
    collect_results,
    commit,
    find_bundle,
    machine,
    markdown,
    read_table,
    run_command,
    run_job,
    versions,
)
from tools.experiments.report import quoted
from tools.experiments.runner import write_json, write_text
from tools.terminal import with_several_values

SEVERAL = ("--overlay", "--seeds", "--only")

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command(cls=with_several_values(*SEVERAL))
def main(
    bundle: Annotated[
        str, typer.Argument(help="Name of a bundle in bundles/, or its folder.", show_default=False)
    ],
    table: Annotated[
        str, typer.Argument(help="Name of a table in the bundle's configs/experiments.", show_default=False)
    ],
    dataset_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of dataset.json. [default: data in the bundle]", show_default=False),
    ] = None,
    overlay: Annotated[list[str] | None, typer.Option(help="Overlays for every row, after its own.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Seeds. [default: those of the table]")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run these rows alone. [default: every row]")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the two result files.")] = Path("docs/results"),
    work: Annotated[Path, typer.Option(help="Folder of trainings and evaluations.")] = Path(
        "output/reproduce"
    ),
    bundles: Annotated[Path, typer.Option(help="Folder of the bundles.")] = Path("bundles"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the commands and run nothing.")] = False,
) -> None:
    """Train and evaluate the rows of a table and write our figures beside the published ones.

    Every row is trained with every seed through MONAI's bundle runner and evaluated in all ways that the table asks
    for. Run again, finished jobs are kept as long as their configuration, overrides and data are the same, and a
    training that was killed goes on. A row that fails is named in the table and the others still run; the exit
    status is then 1. Result files hold the seeds and overlays of the last call.

    **Example**

        python -m tools.reproduce baseline_segmentation networks --dataset-dir data/qata --overlay light --seeds 42 43
    """
    try:
        experiment = read_table(find_bundle(bundle, folder=bundles), table)
        planner = RowPlanner(
            table=experiment,
            overlays=tuple(overlay or ()),
            dataset_dir=dataset_dir or experiment.bundle / "data",
            work=work / experiment.bundle.name / experiment.name,
        )
        selected = experiment.select(only or ())
        plans = [
            planner.plan(row, seed=seed) for row in experiment.rows for seed in seeds or experiment.seeds
        ]
    except ExperimentError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"error: {error}", style="red", markup=False, highlight=False
        )
        raise typer.Exit(code=2) from error
    chosen = [plan for plan in plans if plan.row in selected]
    if dry_run:
        for job in (job for plan in chosen for job in plan.jobs):
            typer.echo(" ".join(map(quoted, shown(job.command, planner))))
        return
    reproduction = Reproduction(planner, plans, output=output, arguments=sys.argv[1:])
    if not reproduction.run(chosen):
        raise typer.Exit(code=1)


class Reproduction:
    """The runs of one call and the result files that they keep up to date.

    Args:
        planner: made the plans.
        plans: one for every row and seed of the table.
        output: folder of the result files.
        arguments: of this call, as they are quoted in the results.
        runner: runs a command; tests give another one.
        console: where progress is shown.
    """

    def __init__(
        self,
        planner: RowPlanner,
        plans: Sequence[RowPlan],
        *,
        output: Path,
        arguments: Sequence[str],
        runner: Runner = run_command,
        console: Console | None = None,
    ) -> None:
        self.planner = planner
        self.plans = plans
        self.output = output
        self.runner = runner
        self.console = console or Console()
        self.arguments = list(arguments)
        self.provenance = {
            "machine": machine(),
            "versions": versions(),
            "commit": commit(Path(__file__).resolve().parents[1]),
        }

    @property
    def table(self) -> ExperimentTable:
        """The table that is reproduced."""
        return self.planner.table

    def run(self, plans: Sequence[RowPlan]) -> bool:
        """Run the jobs of `plans`, write the results after each plan, and tell whether all succeeded."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        good = True
        try:
            with Progress(
                *columns,
                TextColumn("{task.fields[line]}", markup=False),
                console=self.console,
                transient=True,
            ) as bar:
                task = bar.add_task(self.table.name, total=sum(len(plan.jobs) for plan in plans), line="")
                for plan in plans:
                    good = self._run_plan(plan, bar, task) and good
                    self.write()
        finally:
            paths = self.write()
            self.console.print(f"results: {paths[0]}, {paths[1]}", highlight=False, soft_wrap=True)
        return good

    def _run_plan(self, plan: RowPlan, bar: Progress, task: Any) -> bool:
        """Run one row with one seed; what needs a job that failed is not tried."""
        good = True
        for number, job in enumerate(plan.jobs):
            if not good and number <= len(plan.trainings):
                break
            bar.update(task, description=job.title, line="")
            outcome = run_job(
                job,
                runner=self.runner,
                on_line=lambda line: bar.update(task, line=line[-100:]),
                provenance=self.provenance,
            )
            bar.advance(task)
            self._tell(job.title, outcome, job.log)
            good = good and outcome.status != "failed"
        return good

    def _tell(self, title: str, outcome: Outcome, log: Path) -> None:
        text = f"{title}: {outcome.status}, {outcome.seconds:.0f} s"
        if outcome.status == "failed":
            text += f": {outcome.error} (see {log})"
        self.console.print(
            text, style="red" if outcome.status == "failed" else "", highlight=False, markup=False
        )

    def write(self) -> tuple[Path, Path]:
        """Write ``<bundle>_<table>.json`` and ``.md`` from everything that has been run so far."""
        facts = {
            "command": shown(["python", "-m", "tools.reproduce", *self.arguments], self.planner),
            "overlays": list(self.planner.overlays),
            **self.provenance,
        }
        dataset_dir = self.planner.dataset_dir
        results = collect_results(self.table, self.plans, dataset_dir=dataset_dir, facts=facts)
        for run in (run for row in results["rows"] for run in row["runs"]):
            run["commands"] = [shown(command, self.planner) for command in run["commands"]]
        stem = f"{self.table.bundle.name}_{self.table.name}"
        paths = (self.output / f"{stem}.json", self.output / f"{stem}.md")
        write_json(results, paths[0])
        write_text(markdown(results), paths[1])
        return paths


def shown(command: Sequence[str], planner: RowPlanner) -> list[str]:
    """Return a command as anyone can give it: ``python``, and no folders of one machine."""
    names: Mapping[str, str] = {str(planner.dataset_dir): "DATASET_DIR"}
    if planner.work.is_absolute():
        names = {**names, str(planner.work): "WORK"}
    result = ["python" if part == sys.executable else part for part in command]
    for path, name in names.items():
        result = [name if part == path else part.replace(f"{path}/", f"{name}/") for part in result]
    return [f"…/{Path(part).name}" if Path(part).is_absolute() else part for part in result]


if __name__ == "__main__":
    app()

"""Measure this project beside the plain way: ``python -m tools.benchmark text step metrics``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tools.benchmarks import BENCHMARKS, run_benchmark
from tools.benchmarks.registry import COLUMNS, check_benchmark

HELP = """Time what this project does beside the plain way, on this machine, in turns; medians.

A ratio is reference / ours: above 1, ours is faster.

**Examples**

    python -m tools.benchmark text step metrics

    python -m tools.benchmark step --json step.json
"""

_WIDTH = 150  # of the table in a file or a pipe

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

Names = Annotated[
    list[str] | None, typer.Argument(help=f"Any of {', '.join(BENCHMARKS)}; all when none is named.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File to write the rows to as a JSON list.")]


@app.command(help=HELP)
def main(names: Names = None, json_file: JsonFile = None) -> None:
    """Run benchmarks and print their rows."""
    chosen = list(dict.fromkeys(names or BENCHMARKS))
    try:
        for name in chosen:
            check_benchmark(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAMES") from error
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise typer.BadParameter(f"folder must exist, got {json_file.parent}", param_hint="--json")
    rows: list[dict[str, Any]] = []
    messages = Console(stderr=True)
    for name in chosen:
        with messages.status(f"measuring {name} …"):
            rows += run_benchmark(name)
    output = Console()
    output = output if output.is_terminal else Console(width=_WIDTH)
    output.print(_table(rows))
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        messages.print(f"written to {json_file}")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Benchmarks: medians of interleaved runs; ratio = reference / ours")
    for column in COLUMNS:
        number = column in ("ours", "reference", "ratio")
        table.add_column(column, justify="right" if number else "left", no_wrap=column == "name")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in COLUMNS))
    return table


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(part)}" for key, part in value.items())
    if isinstance(value, list):
        return "×".join(map(str, value))
    return str(value)


if __name__ == "__main__":
    app()

"""Check a bundle before it is handed on: ``python -m tools.verify_bundle bundles/NAME``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.packing import PackError
from tools.verification import Status, Verification, failures, verify_bundle

COLOURS = {Status.PASS: "green", Status.WARNING: "yellow", Status.FAIL: "red", Status.SKIPPED: "dim"}
WIDTH = 150  # of the table in a file or a pipe

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command()
def main(
    path: Annotated[Path, typer.Argument(help="Folder of a bundle, a packed folder, or a packed zip.")],
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="File to write the results to as JSON.", show_default=False),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(help="Copy of MONAI's metadata schema. Nothing is downloaded.", show_default=False),
    ] = None,
    write_golden: Annotated[
        bool,
        typer.Option("--write-golden", help="Take the weights' output as the golden one from now on."),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that the bundle may run.")] = 900,
) -> None:
    """Run every check that MONAI's model zoo, the hosts and this project make of a bundle, without network.

    The files are read, then the bundle runs once as a read-only copy from another folder: every component is found,
    MONAI's properties are complete, the network gives what the metadata say, weights load strictly and give the golden
    output, the sentence changes the output, and one picture is segmented.

    Ends with 0 when nothing failed, 1 when a check did, 2 when the bundle could not be opened.

    **Examples**

        python -m tools.verify_bundle bundles/baseline_segmentation

        python -m tools.verify_bundle dist/ssa_segmentation-0.1.0.zip --json results.json --schema meta_schema.json
    """
    messages = Console(stderr=True, soft_wrap=True)
    try:
        with messages.status(f"checking {path} …"):
            found = verify_bundle(path, schema=schema, golden=write_golden, timeout=timeout)
        if json_file is not None:
            text = json.dumps(as_json(found), indent=2, ensure_ascii=False)
            json_file.write_text(text + "\n", encoding="utf-8", newline="\n")
    except (PackError, OSError) as error:
        messages.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(code=2) from error
    output = Console()
    output = output if output.is_terminal else Console(width=WIDTH)
    output.print(table(found))
    output.print(summary(found))
    if not found.passed:
        raise typer.Exit(code=1)


def table(found: Verification) -> Table:
    """One row a check; the remedy stands beside every problem."""
    kind = "packed bundle" if found.packed else "bundle"
    rows = Table(title=f"{found.bundle} ({kind})", title_justify="left")
    for column in ("check", "result", "what was found", "what to do"):
        rows.add_column(column, overflow="fold")
    for result in found.results:
        colour = COLOURS[result.status]
        rows.add_row(
            Text(result.name), Text(result.status.value, style=colour), Text(result.detail), Text(result.fix)
        )
    return rows


def summary(found: Verification) -> Text:
    """The number of checks by how they ended, in one line."""
    counts = Counter(result.status for result in found.results)
    text = ", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status])
    return Text(text, style="red" if failures(found.results) else "green")


def as_json(found: Verification) -> dict[str, Any]:
    """What ``--json`` writes."""
    rows = [
        {"name": r.name, "status": r.status.value, "detail": r.detail, "fix": r.fix} for r in found.results
    ]
    return {"bundle": found.bundle, "packed": found.packed, "passed": found.passed, "results": rows}


if __name__ == "__main__":
    app()

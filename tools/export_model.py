"""Write a bundle's network for other runtimes: ``python -m tools.export_model BUNDLE``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.experiments.runner import write_text
from tools.exporting import (
    FORMATS,
    ExportError,
    ExportRequest,
    Exports,
    Row,
    card_with_table,
    export_model,
    markdown_document,
    steps_of,
)
from tools.packing import PackError
from tools.terminal import bar_over_steps, with_several_values

WIDTH = 150  # of the table in a file or a pipe

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command(cls=with_several_values("--overlay", "--format"))
def main(
    bundle: Annotated[
        str,
        typer.Argument(
            help="Name of a bundle in bundles/, its folder, or a packed folder.", show_default=False
        ),
    ],
    overlay: Annotated[
        list[str] | None,
        typer.Option(help="Overlays of the bundle, or JSON files, merged in this order.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="State dict of the network. [default: models/model.pt of the bundle]", show_default=False
        ),
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Export untrained where there are no weights.")
    ] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help=f"Any of {', '.join(FORMATS)}. [default: all]", show_default=False),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("exports"),
    batch: Annotated[int, typer.Option(help="Images of the larger batch that is timed.")] = 4,
    repeats: Annotated[int, typer.Option(help="Timed rounds of every batch.")] = 7,
    device: Annotated[str, typer.Option(help="Of the network; onnxruntime always takes the CPU.")] = "cpu",
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="JSON list to which the measurement is added (one of the same name is replaced), and a table in "
            "Markdown beside it.",
            show_default=False,
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            help="Model card whose table of exports is written anew from all that --json has of this bundle.",
            show_default=False,
        ),
    ] = None,
    bundles: Annotated[Path, typer.Option(help="Folder of the bundles.")] = Path("bundles"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier call wrote.")
    ] = False,
) -> None:
    """Write the network of a bundle as TorchScript (traced), ONNX and `torch.export` program.

    Each takes `image` (B, 3, rows, columns) float32 and `text` (B, 2, tokens) int64 and gives `logits` (B, 1, rows,
    columns); B is free. Each is read again in its own runtime and compared with the network on one and on three
    pictures, with a sentence, a blank one and one that is too long: where a logit differs by more than 1e-4, no file is
    written. The `.json` beside them says how to feed them.

    Ends with 0 when all formats were written, 1 when one could not be (its row says why), 2 when nothing could begin.

    **Examples**

        python -m tools.export_model ssa_segmentation --overlay light --weights model.pt

        python -m tools.export_model dist/ssa_segmentation --format onnx --output /srv/models

        python -m tools.export_model baseline_segmentation --overlay unet --random-weights --json sizes.json
    """
    request = ExportRequest(
        bundle=bundle,
        overlays=tuple(overlay or ()),
        weights=weights,
        random_weights=random_weights,
        formats=tuple(dict.fromkeys(formats or FORMATS)),
        output=output,
        batch=batch,
        repeats=repeats,
        device=device,
        bundles=bundles,
        overwrite=overwrite,
    )
    messages = Console(stderr=True, soft_wrap=True)
    try:
        known = [] if json_file is None else read_list(json_file)
        text = None if card is None else read_card(card)
        exports = with_progress(request)
        entries = with_measured(known, exports.as_json())
        if json_file is not None:
            write_list(json_file, entries)
        if card is not None and text is not None:
            own = (entry for entry in entries if entry["bundle"] == exports.summary["bundle"])
            write_text(card_with_table(text, own), card)
    except (PackError, OSError) as error:
        messages.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(code=2) from error
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    console.print(table(exports))
    if exports.sidecar is not None:
        messages.print(f"how to feed them: {exports.sidecar}", markup=False, highlight=False)
    if not exports.complete:
        raise typer.Exit(code=1)


def with_progress(request: ExportRequest) -> Exports:
    """Export while a bar shows the step."""
    with bar_over_steps(steps_of(request)) as on_step:
        return export_model(request, on_step=on_step)


def table(exports: Exports) -> Table:
    """One row a format: size, duration, difference and latencies, or why there is none."""
    summary = exports.summary
    size = "×".join(map(str, summary["image_size"]))
    weights = "random weights" if summary["random_weights"] else f"weights {summary['weights'][:12]}…"
    threads = summary["threads"]
    rows = Table(
        title=f"{exports.name}: {summary['network']}, {size}, {weights}, {threads} thread{'s' * (threads > 1)}",
        title_justify="left",
    )
    batches = sorted({batch for row in exports.rows for batch in row.milliseconds}, key=int)
    rows.add_column("format", no_wrap=True)
    rows.add_column("runtime")
    for column in (
        "MB",
        "seconds to export",
        "largest difference",
        *(f"ms/image, batch {b}: passed (processor)" for b in batches),
    ):
        rows.add_column(column, justify="right")
    rows.add_column("note", overflow="fold")
    for row in exports.rows:
        rows.add_row(row.format, row.runtime, *cells(row, batches), Text(row.note))
    return rows


def cells(row: Row, batches: list[str]) -> list[str]:
    """The numbers of a row; empty where there are none."""
    megabytes = "" if row.megabytes is None else f"{row.megabytes:.1f}"
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    difference = "" if row.difference is None else f"{row.difference:.1g}"
    times = [
        f"{row.milliseconds[b]:.1f} ({row.processor_milliseconds[b]:.1f})" if b in row.milliseconds else ""
        for b in batches
    ]
    return [megabytes, seconds, difference, *times]


def read_list(path: Path) -> list[dict[str, Any]]:
    """Return the measurements in a file of ``--json``; none where there is no file.

    Raises:
        ExportError: when the file holds something else.
    """
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{path} must be JSON: {error} (--json)") from error
    if not isinstance(content, list) or not all(
        isinstance(e, dict) and {"name", "rows"} <= e.keys() for e in content
    ):
        raise ExportError(f"{path} must be a list of measurements of this tool (--json)")
    return content


def read_card(path: Path) -> str:
    """Return a model card that has a place for the table.

    Raises:
        ExportError: when it is missing or has none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        card_with_table(text, [])
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} must be a model card: {error} (--card)") from error
    return text


def with_measured(known: list[dict[str, Any]], measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return `known` with `measured` in the place of the one of its name, else at the end."""
    names = [entry["name"] for entry in known]
    entries = [measured if entry["name"] == measured["name"] else entry for entry in known]
    return entries + ([] if measured["name"] in names else [measured])


def write_list(path: Path, entries: list[dict[str, Any]]) -> None:
    """Write measurements as JSON, and a table beside it."""
    write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", path)
    write_text(markdown_document(entries), path.with_suffix(".md"))


if __name__ == "__main__":
    app()

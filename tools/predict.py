"""Segment files and folders with a bundle: ``python -m tools.predict BUNDLE INPUT... --text "..." --output DIR``."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tools.terminal import with_several_values

if TYPE_CHECKING:
    from tools.prediction import Outcome

REFUSED, SOME_FAILED, INTERRUPTED = 1, 3, 130

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command(cls=with_several_values("--overlay"))
def main(
    bundle: Annotated[
        str,
        typer.Argument(
            help="Folder of a bundle, packed or not, or its name in bundles/.", show_default=False
        ),
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", help="Images, folders, or tables (csv, xlsx) of paths.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the results.", show_default=False)],
    text: Annotated[
        str | None,
        typer.Option(
            help='One sentence for all images; "" for none. Not for a bundle of classes.', show_default=False
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(help="Table with columns image (or id), text, laterality.", show_default=False),
    ] = None,
    text_from: Annotated[
        str | None,
        typer.Option(
            help="dicom: reports and attributes of the images; sidecar: .txt or .json beside them.",
            show_default=False,
        ),
    ] = None,
    laterality: Annotated[
        str | None,
        typer.Option(
            help="Whose left the sentences mean: image or patient. [default: as the bundle]",
            show_default=False,
        ),
    ] = None,
    overlay: Annotated[
        list[str] | None,
        typer.Option(help="Overlays of the bundle, or JSON files; after the inputs.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="State dict. [default: models/model.pt of the bundle]", show_default=False),
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures, or slices, that the network sees at a time.")] = 8,
    workers: Annotated[str, typer.Option(help="Threads that load images, or auto.")] = "auto",
    threads: Annotated[str, typer.Option(help="Threads of the network on the CPU, or auto.")] = "auto",
    previews: Annotated[
        str, typer.Option(help="Pictures of the first so many cases and of all flagged ones; or all, none.")
    ] = "200",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 … [default: as the bundle]", show_default=False)
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="I/N: every N-th case from the I-th on. [default: as torchrun]", show_default=False
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove earlier results first.")] = False,
    no_resume: Annotated[bool, typer.Option("--no-resume", help="Refuse a folder with results.")] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Only write the tables and the report of what is there.")
    ] = False,
    allow_random: Annotated[
        bool, typer.Option("--allow-random", help="Run a bundle that has no weights.")
    ] = False,
    modality: Annotated[
        str | None,
        typer.Option(help="Of volumes: ct, mr, flair or t2. [default: the DICOM file's, or the bundle's]"),
    ] = None,
    force_modality: Annotated[
        bool,
        typer.Option("--force-modality", help="Only warn of DICOM modalities that are not the bundle's."),
    ] = False,
) -> None:
    """Segment images by sentences; any number of them, in constant memory.

    In the output folder: `predictions/` (PNG for pictures, NIfTI for NIfTI, DICOM SEG and SR for DICOM), `previews/`,
    `cases.csv` and `cases.jsonl` (measures, agreement with the sentence, warnings), `failures.csv`, `run.json` and
    `report.html`. A file that cannot be read is recorded and passed over.

    Exactly one of `--text`, `--texts` and `--text-from` says where the sentences come from. A bundle that segments
    volumes into classes (`tcsa_uda_segmentation`) reads none: leave all three out; `--modality` says what the volumes
    are. Of a DICOM series it writes a SEG with a segment for each class, and `cases.csv` has their volumes.

    Stopped or killed, the same command goes on where it ended. Other weights, sentences or options are refused in the
    same folder. With `--shard`, or under `torchrun`, several processes share the cases; whichever ends last writes the
    tables.

    Exit status: 0 all cases have a mask, 1 refused, 3 some cases failed, 130 interrupted.

    **Examples**

        python -m tools.predict dist/ssa_segmentation chest.png --text "lower left lung" --output out

        python -m tools.predict ssa_segmentation scans/ --texts texts.csv --output out --overlay light --weights my.pt

        python -m tools.predict dist/ssa_segmentation study/ --text-from dicom --output out

        python -m tools.predict tcsa_uda_segmentation volumes/ --modality ct --output out

        torchrun --nproc-per-node 4 -m tools.predict ssa_segmentation scans/ --text "" --output out
    """
    from tools.prediction import (  # here: `--help` should not load MONAI
        PredictRequest,
        predict,
        preview_limit,
        read_shard,
    )

    console = Console(stderr=True, soft_wrap=True)
    with exit_statuses(console):
        request = PredictRequest(
            bundle=bundle_folder(bundle),
            inputs=tuple(inputs),
            output=output,
            overlays=tuple(overlay or ()),
            weights=weights,
            text=text,
            texts=texts,
            text_from=text_from,
            laterality=laterality,
            batch=batch,
            workers=number(workers, "workers"),
            threads=number(threads, "threads"),
            previews=preview_limit(previews),
            device=device,
            overwrite=overwrite,
            resume=not no_resume,
            retry_failed=retry_failed,
            allow_random=allow_random,
            modality=modality,
            force_modality=force_modality,
            merge=merge,
            shard=read_shard(shard, os.environ),
        )
        outcome = predict(request, watch=lambda total: progress(console, total), tell=teller(console))
    typer.echo(summary(outcome, output))
    if outcome.failed:
        raise typer.Exit(code=SOME_FAILED)


@contextmanager
def exit_statuses(console: Console) -> Iterator[None]:
    """End with a message and a status where a call is refused or interrupted."""
    from tools.prediction import PredictError

    try:
        with terminated_as_interrupted():
            yield
    except (PredictError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(code=REFUSED) from error
    except KeyboardInterrupt:
        console.print("interrupted: what is finished is kept; run the same command to go on", style="yellow")
        raise typer.Exit(code=INTERRUPTED) from None


def bundle_folder(name: str) -> Path:
    """Return the folder of a bundle: a path, or a name in `bundles/`."""
    folder = Path(name)
    return folder if folder.is_dir() or not Path("bundles", name).is_dir() else Path("bundles", name)


def number(text: str, name: str) -> int | None:
    """Return a number, or None for "auto".

    Raises:
        PredictError: for anything else.
    """
    from tools.prediction import PredictError

    if text == "auto":
        return None
    if not text.isdecimal():
        raise PredictError(f"{name} must be a number or auto, got {text!r}")
    return int(text)


def teller(console: Console) -> Callable[[str], None]:
    """Return what prints a note."""
    return lambda note: console.print(f"note: {note}", style="yellow", markup=False, highlight=False)


@contextmanager
def progress(console: Console, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar with speed, failures and the time that is left; nothing when the output is no terminal."""
    columns = (
        TextColumn("segmenting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failures]}", style="red"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, refresh_per_second=4) as bar:
        task = bar.add_task("", total=total, speed="", failures="")
        failed = 0
        lock = threading.Lock()

        def on_case(status: str) -> None:
            nonlocal failed
            with lock:
                failed += status == "failed"
                speed = bar.tasks[0].speed
                bar.update(
                    task,
                    advance=1,
                    speed=f"{speed:.1f}/s" if speed else "",
                    failures=f"{failed} failed" if failed else "",
                )

        yield on_case


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """End on SIGTERM, with which job schedulers stop a job, as on Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def summary(outcome: Outcome, output: Path) -> str:
    """Say in one line what there is now."""
    missing = outcome.total - outcome.done - outcome.failed
    parts = [f"{outcome.done} of {outcome.total} cases segmented"]
    parts += [f"{outcome.failed} failed (see {output / 'failures.csv'})"] if outcome.failed else []
    parts += [f"{missing} left to other processes"] if missing else []
    if outcome.totals is not None and outcome.totals.flagged:
        parts.append(f"{outcome.totals.flagged} contradict their sentence")
    place = f"; report: {outcome.report}" if outcome.report else ""
    return ", ".join(parts) + place


if __name__ == "__main__":
    app()

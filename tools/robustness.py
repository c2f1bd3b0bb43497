"""How a bundle does with degraded images, other sentences and few labels.

Example: python -m tools.robustness ssa_segmentation --overlay qata_cov19 light --dataset-dir data/qata --weights
models/model.pt --output output/robustness/ssa
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tools.terminal import with_several_values

REFUSED, INTERRUPTED = 1, 130
_WIDTH = 130  # of the table in a file or a pipe
_SHOWN = ("dice_micro", "dice_image", "side_prediction", "zones_prediction", "ece", "ece_foreground")

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command(cls=with_several_values("--overlay", "--corruptions", "--perturbations", "--curve"))
def main(
    bundle: Annotated[
        str,
        typer.Argument(
            help="Folder of a bundle, packed or not, or its name in bundles/.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the results.", show_default=False)],
    weights: Annotated[
        Path | None,
        typer.Option(help="State dict. [default: models/model.pt of the bundle]", show_default=False),
    ] = None,
    dataset_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of dataset.json. [default: data in the bundle]", show_default=False),
    ] = None,
    overlay: Annotated[
        list[str] | None,
        typer.Option(help="Overlays that the weights were trained with.", show_default=False),
    ] = None,
    section: Annotated[str, typer.Option(help="Section of the data set.")] = "test",
    corruptions: Annotated[
        list[str] | None,
        typer.Option(
            help="Kinds, with a level or for all their levels: low_dose, jpeg/30; or none. [default: all]",
            show_default=False,
        ),
    ] = None,
    perturbations: Annotated[
        list[str] | None,
        typer.Option(help="Kinds, such as mirror; or none. [default: all]", show_default=False),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Every corruption with every sentence, not each alone.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(help="Only the first so many cases.", show_default=False)
    ] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(
            help="FRACTION=WEIGHTS of trainings with fewer cases, such as 0.25=quarter.pt.",
            show_default=False,
        ),
    ] = None,
    scores: Annotated[
        str, typer.Option(help="Contradiction scores for the cells clean (and mirrored), all, or off.")
    ] = "clean",
    batch: Annotated[int, typer.Option(help="Pictures that the network sees at a time.")] = 16,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 … [default: as the bundle]", show_default=False)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Measure again where the folder holds another run.")
    ] = False,
) -> None:
    """Measure a bundle under corrupted images and perturbed sentences.

    For every cell: Dice and IoU by three protocols, agreement with the sentence, calibration of the probabilities. With
    true and mirrored sentences also a contradiction score of every case and its ROC. In the output folder:
    `robustness.json`, `robustness.csv`, `report.html`, and a table of all cases for each cell in `cells/`.

    Stopped or killed, the same command goes on with the first cell that is not finished; more corruptions or sentences
    are added to what is there. `python -m tools.report FOLDER FOLDER --output page.html` shows several runs beside each
    other.

    Exit status: 0 done, 1 refused, 130 interrupted.

    **Examples**

        python -m tools.robustness ssa_segmentation --overlay qata_cov19 light --dataset-dir data/qata --weights W.pt
        --output output/robustness/ssa

        python -m tools.robustness dist/ssa_segmentation --dataset-dir data/qata --output out --corruptions low_dose
        jpeg/30 --perturbations none mirror --full --limit 100
    """
    from tools.resilience import (  # here: `--help` should not load MONAI
        RobustnessRequest,
        read_curve,
        robustness,
        write_page,
    )

    console = Console(stderr=True, soft_wrap=True)
    try:
        folder = _bundle_folder(bundle)
        chosen = {"corruptions": corruptions, "perturbations": perturbations}
        request = RobustnessRequest(
            bundle=folder,
            dataset_dir=dataset_dir or folder / "data",
            output=output,
            weights=weights,
            overlays=tuple(overlay or ()),
            section=section,
            full=full,
            limit=limit,
            curve=read_curve(curve or ()),
            scored=scores,
            batch=batch,
            device=device,
            overwrite=overwrite,
            **{name: tuple(values) for name, values in chosen.items() if values is not None},
        )
        results = robustness(request, watch=lambda total: _progress(console, total))
        (page,) = write_page([output], output / "report.html")
    except (ValueError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(REFUSED) from error
    except KeyboardInterrupt:
        console.print("interrupted: finished cells are kept; run the same command to go on", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    _show(results, page)


def _show(results: dict[str, Any], page: Path) -> None:
    """Print the table of cells, the areas under the ROC and where the page is."""
    printed = Console()
    printed = printed if printed.is_terminal else Console(width=_WIDTH)
    printed.print(_table(results))
    for roc in results["roc"]:
        area = f"{roc['auc']:.3f} [{roc['low']:.3f}, {roc['high']:.3f}]"
        typer.echo(
            f"contradiction score, images {roc['corruption']}: area {area}, {roc['cases']} one-sided cases"
        )
    typer.echo(f"report: {page}")


def _bundle_folder(name: str) -> Path:
    folder = Path(name)
    return folder if folder.is_dir() or not Path("bundles", name).is_dir() else Path("bundles", name)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[int], object]]:
    """Show a bar over the cases of all cells; nothing when the output is no terminal."""
    columns = (
        TextColumn("measuring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.update(task, advance=count)


def _table(results: dict[str, Any]) -> Table:
    table = Table(title=results["title"])
    for column in ("images", "sentences", "cases", *_SHOWN):
        table.add_column(column)
    for cell in results["cells"]:
        values = (cell["metrics"].get(name) for name in _SHOWN)
        numbers = ["–" if value is None else f"{value:.4f}" for value in values]
        table.add_row(cell["corruption"], cell["perturbation"], str(cell["metrics"]["count"]), *numbers)
    return table


if __name__ == "__main__":
    app()

"""Whether images with the same sentence lie closer together after stage I than before.

Example: python -m tools.separation c2seg_segmentation --overlay qata_cov19 --dataset-dir data/qata --weights
models/pretrained.pt
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tools.experiments import find_bundle
from tools.terminal import with_several_values

_WIDTH = 150  # of the table in a file or a pipe

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command(cls=with_several_values("--overlay"))
def main(
    bundle: Annotated[
        str, typer.Argument(help="Name of a bundle in bundles/, or its folder.", show_default=False)
    ],
    weights: Annotated[
        Path, typer.Option(help="What stage I wrote, models/pretrained.pt.", show_default=False)
    ],
    dataset_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of dataset.json. [default: data in the bundle]", show_default=False),
    ] = None,
    overlay: Annotated[
        list[str] | None, typer.Option(help="Overlays that the weights were trained with.")
    ] = None,
    section: Annotated[str, typer.Option(help="Section of the data set.")] = "test",
    groups: Annotated[
        int, typer.Option(help="Most frequent sentences to draw and to measure by themselves.", min=2, max=16)
    ] = 5,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the network before. [default: the configuration's]", min=0)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Path of the three files, without an ending. [default: docs/results/BUNDLE_separation_SECTION]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure and draw whether images with the same sentence lie closer together after stage I than before.

    The images of a section go through the visual encoder as it is initialised and as stage I left it. Written are
    silhouettes with intervals (JSON and markdown) and a picture with both in two dimensions (PNG).

    **Example**

        python -m tools.separation c2seg_segmentation --overlay qata_cov19 light --dataset-dir data/qata --weights W.pt
    """
    console = Console(stderr=True, soft_wrap=True)
    try:
        folder = find_bundle(bundle, folder=Path("bundles"))
        from tools.latent import SeparationRequest, separate  # here: `--help` should not load MONAI

        request = SeparationRequest(
            bundle=folder,
            weights=weights,
            dataset_dir=dataset_dir or folder / "data",
            overlays=tuple(overlay or ()),
            section=section,
            groups=groups,
            seed=seed,
        )
        target = output or Path("docs/results") / f"{folder.absolute().name}_separation_{section}"
        results, paths = separate(request, target)
    except (ValueError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error
    if results["same_start"] is False:
        console.print(
            "warning: the weights were trained from another initialisation than that of this seed: name theirs "
            "with --seed",
            style="yellow",
            highlight=False,
        )
    printed = Console()
    printed = printed if printed.is_terminal else Console(width=_WIDTH)
    printed.print(_table(results["rows"]))
    typer.echo(f"written: {', '.join(map(str, paths))}")


def _table(rows: list[dict]) -> Table:
    table = Table(title="Mean silhouette [95 % interval]; above chance: what random groups have is taken off")
    for column in ("same", "of them", "cases", "vector", "before", "after", "change", "above chance"):
        table.add_column(column)
    for row in rows:
        numbers = [
            f"{row[name]['silhouette']:.3f} [{row[name]['low']:.3f}, {row[name]['high']:.3f}]"
            for name in ("before", "after", "change")
        ]
        above = f"{row['before']['above_chance']:.3f} → {row['after']['above_chance']:.3f}"
        table.add_row(row["grouping"], row["cases_of"], str(row["cases"]), row["vector"], *numbers, above)
    return table


if __name__ == "__main__":
    app()

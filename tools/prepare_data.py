"""Prepare a data set for training: ``python -m tools.prepare_data NAME --source DIR --output DIR``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tools.datasets import DATASETS, SourceData, SourceError, SourceOptions, prepare_dataset, read_source
from tools.datasets.registry import VOLUME_PHANTOMS, VOLUME_READERS, check_name, read_volume_source
from tools.datasets.staging import staged_folder
from tools.datasets.summary import print_summary, print_volume_summary
from tools.datasets.volumes import VolumeSource, prepare_volumes

HELP = """Turn a data set as people have it into one folder of images, masks and `dataset.json`.

The source is never changed. Masks become 8-bit PNG of 0 and 255, captions stay as they are, whose left
they mean is measured on the masks, and a summary tells what was found. On any error nothing is written.

**Examples**

QaTa-COV19 as Kaggle, GuideDecoder, LViT or SGSeg lay it out (captions may lie elsewhere):

    python -m tools.prepare_data qata_cov19 --source QaTa-COV19-v2 --captions lvit --output data/qata

Own images: `mine/images/`, optionally `mine/masks/` and a csv with the columns image,mask,text,split:

    python -m tools.prepare_data folder --source mine --output data/mine

Two hundred made-up chest radiographs, no data needed:

    python -m tools.prepare_data phantom --count 200 --size 96 --output data/phantom

Volumes in two modalities for domain adaptation: mmwhs, chaos_btcv, brats_uda, or your own with `volumes.csv`
(image,label,modality,split,patient) and `labels.json`; labels become classes 0, 1, 2 … on the grid of their image:

    python -m tools.prepare_data mmwhs --source MM-WHS --output data/heart

Made-up volumes, `--count` patients of each modality (also `phantom_heart`):

    python -m tools.prepare_data phantom_abdomen --count 20 --size 96 --slices 24 --output data/abdomen
"""

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


class Laterality(str, Enum):
    """Whose left a caption means."""

    IMAGE = "image"
    PATIENT = "patient"


class Anatomy(str, Enum):
    """What the captions speak of."""

    LUNG = "lung"
    POLYP = "polyp"


Name = Annotated[str, typer.Argument(help=f"Data set: {', '.join(DATASETS)}.", show_default=False)]
Output = Annotated[Path, typer.Option(help="Folder to write; new or empty.", show_default=False)]
Source = Annotated[
    Path | None, typer.Option(help="Folder of the data as you have it; never changed. Not for `phantom`.")
]
Captions = Annotated[
    Path | None, typer.Option(help="Caption file or folder, where it is not inside the source.")
]
MaskThreshold = Annotated[
    float | None, typer.Option(help="Mask values above it are foreground; for masks in lossy formats.")
]
WhoseLeft = Annotated[
    Laterality | None, typer.Option(help="Whose left the captions mean; measured when not given.")
]
BodyPart = Annotated[Anatomy | None, typer.Option(help="Body part of an own folder; read from captions.")]
Modality = Annotated[str | None, typer.Option(help="What the images are, such as 'chest CT slice'.")]
License = Annotated[str | None, typer.Option(help="Terms of the data, kept in the list.")]
Seed = Annotated[int, typer.Option(help="Seed of a random split, and of phantoms.")]
Link = Annotated[bool, typer.Option("--link/--copy", help="Hard-link the images, or copy them.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a folder prepared before.")]
Count = Annotated[
    int | None, typer.Option(help="Phantoms to draw: 400 pictures, or 20 volumes of each modality.", min=1)
]
Size = Annotated[
    int | None, typer.Option(help="Side of a phantom, in pixels: 224 of pictures, 96 of volumes.", min=32)
]
Shift = Annotated[
    float, typer.Option(help="How far the contrast of phantom MR is from that of CT.", min=0, max=1)
]
Slices = Annotated[int, typer.Option(help="Slices of a phantom volume.", min=2)]


@app.command(help=HELP)
def main(
    name: Name,
    output: Output,
    source: Source = None,
    captions: Captions = None,
    mask_threshold: MaskThreshold = None,
    laterality: WhoseLeft = None,
    anatomy: BodyPart = None,
    modality: Modality = None,
    license: License = None,  # noqa: A002
    seed: Seed = 42,
    link: Link = False,
    overwrite: Overwrite = False,
    count: Count = None,
    size: Size = None,
    slices: Slices = 24,
    shift: Shift = 1.0,
) -> None:
    """Prepare one data set; see ``HELP``."""
    console = Console()
    try:
        if check_name(name) == "phantom":
            _write_phantoms(
                output, count=count or 400, size=size or 224, seed=seed, overwrite=overwrite, console=console
            )
            return
        if name in VOLUME_PHANTOMS:
            drawing = {
                "anatomy": VOLUME_PHANTOMS[name],
                "count": count or 20,
                "size": size or 96,
                "slices": slices,
                "shift": shift,
            }
            _write_volume_phantoms(output, drawing, seed=seed, overwrite=overwrite, console=console)
            return
        if source is None:
            raise SourceError(f"{name} must be given its folder: --source DIR")
        options = SourceOptions(
            captions=captions,
            mask_threshold=mask_threshold,
            laterality=laterality.value if laterality else None,
            anatomy=anatomy.value if anatomy else None,
            modality=modality,
            license=license,
            seed=seed,
        )
        if name in VOLUME_READERS:
            volumes = read_volume_source(name, source, options)
            _prepare_volumes(volumes, source, output, link=link, overwrite=overwrite, console=console)
            return
        with console.status("reading lists …"):
            data = read_source(name, source, options)
        _prepare(data, source, output, options=options, link=link, overwrite=overwrite, console=console)
    except (ValueError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        raise typer.Exit(code=1) from error


def _prepare(
    data: SourceData,
    source: Path,
    output: Path,
    *,
    options: SourceOptions,
    link: bool,
    overwrite: bool,
    console: Console,
) -> None:
    with _progress(data, console) as advance:
        report = prepare_dataset(
            data,
            source,
            output,
            options=options,
            link=link,
            overwrite=overwrite,
            progress=advance,
        )
    print_summary(report, output, console)


@contextmanager
def _progress(data: SourceData | VolumeSource, console: Console) -> Iterator[Callable[[str], None]]:
    """Show a bar over the cases of a source; what is yielded advances it by one case."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(data.name, total=sum(len(cases) for cases in data.sections.values()))
        yield lambda case_id: bar.advance(task)


def _prepare_volumes(
    data: VolumeSource, source: Path, output: Path, *, link: bool, overwrite: bool, console: Console
) -> None:
    with _progress(data, console) as advance:
        document = prepare_volumes(
            data,
            source,
            output,
            link=link,
            overwrite=overwrite,
            progress=advance,
        )
    print_volume_summary(document, output, console)


def _write_volume_phantoms(
    output: Path, drawing: dict[str, Any], *, seed: int, overwrite: bool, console: Console
) -> None:
    """Draw volumes; the drawing code is imported here because it takes seconds to import."""
    from common.data.phantom_volume import write_volume_phantom_dataset

    with staged_folder(output, overwrite=overwrite) as folder:
        write_volume_phantom_dataset(folder, seed=seed, **drawing)
    console.print(
        f"[green]written:[/green] {2 * drawing['count']} volumes, {output / 'dataset.json'}",
        highlight=False,
        soft_wrap=True,
    )


def _write_phantoms(
    output: Path, *, count: int, size: int, seed: int, overwrite: bool, console: Console
) -> None:
    """Draw phantoms; the drawing code is imported here because it takes seconds to import."""
    from common.data.phantom_chest import write_phantom_dataset

    status = console.status(f"drawing {count} phantoms of {size} x {size} …")
    with status, staged_folder(output, overwrite=overwrite) as folder:
        write_phantom_dataset(folder, count=count, size=size, seed=seed)
    datalist = output / "dataset.json"
    console.print(f"[green]written:[/green] {count} phantoms, {datalist}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app()

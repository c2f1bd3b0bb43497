"""Write one self-contained HTML page about one or several evaluations.

Example: python -m tools.report output/evaluation/true output/evaluation/blank --output report.html

Folders of `tools.robustness` get a page of their own kind, in markdown where the output ends in `.md`. Evaluations of
volumes with several classes get one with the scores of each class and three slices of each volume.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from tqdm import tqdm

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

ROBUSTNESS = "robustness.json"
PICTURES = 60
PICTURE_SIZE = 256


class Order(str, Enum):
    """Which cases are pictured first."""

    WORST = "worst"
    BEST = "best"
    LIST = "list"


def write_report(
    folders: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    title: str | None = None,
    pictures: int = PICTURES,
    picture_size: int = PICTURE_SIZE,
    order: str = "worst",
) -> Path:
    """Write the page, or nothing when the evaluations cannot be read.

    Args:
        folders: folder of an evaluation, or several: the first is shown in full, the others beside it. Or folders of
            `tools.robustness`, whose page has no pictures of cases.
        output: the page; `report.html` in the first folder when None.
        title: its heading; named after the bundle and the data when None.
        pictures: number of cases that are pictured; all cases are in the table.
        picture_size: longest side of a picture, 32 to 2048 pixels.
        order: which cases are pictured first: "worst", "best" or "list".

    Returns:
        The path of the page.

    Raises:
        ValueError: no folder, a malformed file, no case, an unknown order, or an impossible number.
        FileNotFoundError: a folder or one of its files is missing.
    """
    folders = [folders] if isinstance(folders, str | Path) else list(folders)
    if folders and (Path(folders[0]) / ROBUSTNESS).is_file():
        return _robustness_page(folders, output)
    from .reporting.cards import make_card, pick_cases  # imported here: `--help` should not load MONAI
    from .reporting.evaluation import load_evaluations
    from .reporting.page import render_page
    from .reporting.volumes import is_of_volumes

    if not 32 <= picture_size <= 2048:
        raise ValueError(f"picture_size must be from 32 to 2048 pixels, got {picture_size}")
    if folders and is_of_volumes(folders[0]):
        return _volumes_page(
            folders, output, title=title, pictures=pictures, picture_size=picture_size, order=order
        )
    evaluations = load_evaluations(folders)
    chosen = pick_cases(evaluations[0].cases, order=order, limit=pictures)
    cards = [
        make_card(case, place, evaluations, size=picture_size)
        for place, case in enumerate(tqdm(chosen, desc="pictures", unit="case", disable=None), 1)
    ]
    page = render_page(evaluations, cards, title=title or _title(evaluations[0].summary), order=order)
    target = Path(folders[0]) / "report.html" if output is None else Path(output)
    _write(page, target)
    return target


def _robustness_page(folders: Sequence[str | Path], output: str | Path | None) -> Path:
    from .resilience import write_page

    target = Path(folders[0]) / "report.html" if output is None else Path(output)
    return write_page([Path(folder) for folder in folders], target)[0]


def _volumes_page(
    folders: Sequence[str | Path],
    output: str | Path | None,
    *,
    title: str | None,
    pictures: int,
    picture_size: int,
    order: str,
) -> Path:
    from .reporting.volumes import load_volume_evaluations, make_volume_cards, render_volumes

    evaluations = load_volume_evaluations(folders)
    cards = make_volume_cards(evaluations[0], order=order, limit=pictures, size=picture_size)
    page = render_volumes(evaluations, cards, title=title or _title(evaluations[0].summary), order=order)
    target = Path(folders[0]) / "report.html" if output is None else Path(output)
    _write(page, target)
    return target


def _title(summary: object) -> str:
    from .reporting.wording import base_name

    known = [str(summary[key]) for key in ("bundle", "dataset") if summary.get(key)]
    return "Evaluation of " + " on ".join(base_name(name) for name in known) if known else "Evaluation"


def _write(page: str, target: Path) -> None:
    """Write under a temporary name and rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@app.command()
def main(
    evaluations: Annotated[
        list[Path],
        typer.Argument(
            metavar="EVALUATION_DIR...",
            help="Folders of evaluations or of tools.robustness.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="The page to write.", show_default="report.html in the first folder")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    pictures: Annotated[
        int, typer.Option(help="Number of pictured cases; the table has all.", min=0)
    ] = PICTURES,
    picture_size: Annotated[
        int, typer.Option(help="Longest side of a picture.", min=32, max=2048)
    ] = PICTURE_SIZE,
    order: Annotated[Order, typer.Option(help="Which cases are pictured first.")] = Order.WORST,
) -> None:
    """Write one self-contained HTML page about an evaluation.

    With several folders (such as the same cases with true, blank and mirrored sentences) the first is shown in
    full and the others beside it. The page needs no network and no other file. Of volumes with several classes it has
    Dice and surface distance of each class, and three slices of each volume with a colour for each class.

    Example: python -m tools.report output/evaluation --title "Test set, mirrored sentences"
    """
    console = Console(stderr=True)
    try:
        page = write_report(
            evaluations,
            output,
            title=title,
            pictures=pictures,
            picture_size=picture_size,
            order=order.value,
        )
    except (ValueError, OSError) as error:
        console.print("[red]error:[/red]", end=" ")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    typer.echo(f"report: {page}")


if __name__ == "__main__":
    app()

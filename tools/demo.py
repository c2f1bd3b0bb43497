"""The whole way on phantoms: data, training, evaluation, one case, report."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.data import load_datalist
from common.data.phantom_chest import write_phantom_dataset

from .report import write_report
from .reporting.figure import draw_sentences

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "baseline_segmentation"
CONFIGS = BUNDLE / "configs"
OVERLAYS = [f"overlays/{name}.json" for name in ("zone_unet", "light", "phantom")]
PERTURBATIONS = {"true": "none", "blank": "blank", "mirrored": "mirror"}

app = typer.Typer(add_completion=False, help=__doc__)
console = Console()


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything that the demo writes.")] = Path(
        "output/demo"
    ),
    cases: Annotated[int, typer.Option(help="Number of phantoms.", min=20)] = 800,
    size: Annotated[int, typer.Option(help="Rows and columns of a phantom.", min=64)] = 96,
    epochs: Annotated[int, typer.Option(help="Epochs of training.", min=1)] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the phantoms and of the training.")] = 42,
) -> None:
    """Train a text-guided network on chest phantoms and show that it reads its sentence.

    The phantoms hold look-alike opacities that their sentence does not name: only a network that is told what it
    says can tell them from the findings. The zone U-Net, which gets the zones that the sentence reader found, learns
    this fastest. It is evaluated with the true sentence, with a blank one and with left and right swapped. Run again,
    the demo goes on where it was stopped.

    Example: python -m tools.demo --output output/demo
    """
    started = time.monotonic()
    data = output / "data"
    if not (data / "dataset.json").is_file():
        console.rule("1/5 phantoms")
        write_phantom_dataset(data, count=cases, size=size, seed=seed)
    console.rule("2/5 training")
    options = {"dataset_dir": data, "model_dir": output / "models", "max_epochs": epochs, "seed": seed}
    run_bundle("train", options | {"output_dir": output / "training"})
    console.rule("3/5 evaluation")
    folders = [evaluate(name, options, output) for name in PERTURBATIONS]
    console.rule("4/5 one case from the command line")
    infer_one(data, output)
    console.rule("5/5 report")
    page = write_report(
        folders, output / "report.html", title="Demo: text-guided segmentation of chest phantoms"
    )
    names = [f"{name} sentence" for name in PERTURBATIONS]
    draw_sentences(dict(zip(names, folders, strict=True)), output / "demo.png")
    show(folders)
    console.print(f"report: {page}   ({time.monotonic() - started:.0f} s in all)")


def evaluate(name: str, options: dict[str, object], output: Path) -> Path:
    """Evaluate on the test phantoms with one kind of sentence and return the folder of the evaluation."""
    folder = output / "evaluation" / name
    run_bundle("evaluate", options | {"output_dir": folder, "text_perturbation": PERTURBATIONS[name]})
    return folder


def infer_one(data: Path, output: Path) -> None:
    """Segment the first test phantom the way a user does it with an image of her own."""
    case = load_datalist(data / "dataset.json", "test")[0]
    run_bundle(
        "inference",
        {
            "model_dir": output / "models",
            "output_dir": output / "one_case",
            "image": case["image"],
            "text": case["text"],
        },
    )


def run_bundle(kind: str, options: dict[str, object]) -> None:
    """Run the bundle through MONAI's runner and stop the demo when that fails.

    Args:
        kind: ``train``, ``evaluate`` or ``inference``.
        options: overrides of the configuration, by key.
    """
    files = {
        "train": ["train.json"],
        "evaluate": ["train.json", "evaluate.json"],
        "inference": ["inference.json"],
    }[kind] + OVERLAYS
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--config_file", str([str(CONFIGS / file) for file in files])]
    command += ["--logging_file", str(CONFIGS / "logging.conf"), "--bundle_root", str(BUNDLE)]
    for key, value in options.items():
        command += [f"--{key}", str(value)]
    console.print(" ".join(_quoted(part) for part in command), style="dim", soft_wrap=True, highlight=False)
    result = subprocess.run(command, check=False)
    if result.returncode:
        raise typer.Exit(result.returncode)


def show(folders: list[Path]) -> None:
    """Print the main metrics of every evaluation."""
    table = Table("sentence", "dice_micro", "iou_micro", "dice_image", title="test phantoms")
    for folder in folders:
        metrics = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["metrics"]
        table.add_row(folder.name, *(f"{metrics[k]:.3f}" for k in ("dice_micro", "iou_micro", "dice_image")))
    console.print(table)


def _quoted(part: str) -> str:
    return f'"{part}"' if any(character in part for character in " [],'") else part


if __name__ == "__main__":
    app()

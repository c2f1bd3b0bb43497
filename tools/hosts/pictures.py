"""Draw what the hosts answer: ``python -m tools.hosts.pictures BUNDLE IMAGE --text ... --output DIR``.

The pictures of `docs/hosts`: the real MONAI Label server and the real MONAI Deploy graph segment one image with several
sentences.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console

from .monai_label.server import LabelServer

HOSTS = Path(".hosts")
DEPLOY_APP = Path(__file__).parent / "monai_deploy" / "app"
LABEL_NAME = "text_guided_segmentation"

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command()
def main(
    bundle: Annotated[
        Path, typer.Argument(help="Folder of a packed bundle with weights.", show_default=False)
    ],
    image: Annotated[Path, typer.Argument(help="A picture, gray, 8 bits.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Folder of monai_label.png and monai_deploy.png.")],
    text: Annotated[list[str], typer.Option(help="A sentence; again for more.", show_default=False)],
    hosts: Annotated[
        Path, typer.Option(help="Folder of the hosts' environments, from `make hosts`.")
    ] = HOSTS,
) -> None:
    """Segment an image with several sentences in both hosts and draw their masks side by side.

    **Example**

        python -m tools.hosts.pictures dist/baseline_segmentation chest.png --text "upper left lung" --output out
    """
    from tools.packing.pack import is_packed

    messages = Console(stderr=True)
    for needed in (*(hosts / name / "bin" / "python" for name in ("monai_label", "monai_deploy")), image):
        if not needed.is_file():
            messages.print(
                f"error: {needed} must be a file, but it does not exist", style="red", markup=False
            )
            raise typer.Exit(code=1)
    if not is_packed(bundle):
        messages.print(
            f"error: {bundle} must be a packed bundle (tools.pack_bundle)", style="red", markup=False
        )
        raise typer.Exit(code=1)
    output.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(Image.open(image).convert("L"))
    sentences = ["", *text]
    with messages.status("MONAI Label"):
        masks = label_masks(hosts / "monai_label" / "bin" / "python", bundle, image, sentences)
    draw(pixels, masks, sentences, output / "monai_label.png", title="MONAI Label")
    with messages.status("MONAI Deploy"):
        deployed = deploy_masks(hosts / "monai_deploy" / "bin" / "python", bundle, pixels, sentences)
    draw(pixels, deployed, sentences, output / "monai_deploy.png", title="MONAI Deploy (DICOM SEG)")
    messages.print(f"{output / 'monai_label.png'}, {output / 'monai_deploy.png'}", markup=False)


def label_masks(python: Path, bundle: Path, image: Path, sentences: Sequence[str]) -> list[np.ndarray]:
    """Return the masks `(rows, columns)` that MONAI Label's server answers, one a sentence."""
    with tempfile.TemporaryDirectory() as place:
        studies = Path(place) / "studies"
        studies.mkdir()
        shutil.copy(image, studies / "chest.png")
        bundles = {LABEL_NAME: bundle}
        with LabelServer(
            python=python.absolute(), folder=Path(place), studies=studies, bundles=bundles
        ) as server:
            answers = [
                server.client.infer(LABEL_NAME, "chest", params={"text": sentence}) for sentence in sentences
            ]
    return [np.asarray(Image.open(io.BytesIO(answer))) > 0 for answer in answers]


def deploy_masks(
    python: Path, bundle: Path, pixels: np.ndarray, sentences: Sequence[str]
) -> list[np.ndarray]:
    """Return the masks `(rows, columns)` in the DICOM segmentations that MONAI Deploy's graph writes.

    The sentences mean the picture's left.
    """
    from pydicom import dcmread

    from common.dicom import read_segmentation

    masks = []
    with tempfile.TemporaryDirectory() as place:
        study = Path(place) / "study"
        study.mkdir()
        source = write_radiograph(pixels, study / "chest.dcm")
        shutil.copytree(DEPLOY_APP, Path(place) / "app")
        shutil.copytree(bundle, Path(place) / bundle.name)
        for number, sentence in enumerate(sentences):
            out = Path(place) / f"out_{number}"
            command = [str(python.absolute()), "app", "-i", "study", "-o", str(out), "-m", bundle.name]
            command += ["--text", sentence, "--laterality", "image"]
            subprocess.run(command, cwd=place, check=True, capture_output=True, env=os.environ)
            masks.append(read_segmentation(dcmread(out / "segmentation.dcm"), source)[0] > 0)
            said = json.loads((out / "result.json").read_text(encoding="utf-8"))
            if not said or dcmread(out / "report.dcm").Modality != "SR":
                raise ValueError(f"{out} must hold a report and its numbers")
    return masks


def write_radiograph(pixels: np.ndarray, path: Path) -> Any:
    """Write gray pixels as a radiograph of a phantom patient, and return its dataset."""
    from pydicom import dcmread

    from common.data.phantom_case import phantom_case
    from common.data.phantom_files import write_phantom_dicom

    write_phantom_dicom(phantom_case(0, size=64), path)  # for its header
    dataset = dcmread(path)
    dataset.ImageComments = ""
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return dcmread(path)


def draw(
    pixels: np.ndarray, masks: Sequence[np.ndarray], sentences: Sequence[str], path: Path, *, title: str
) -> None:
    """Draw the outline of every mask on the image, one panel a sentence; the file gets its name when complete."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(masks), figsize=(2.6 * len(masks), 3.6), dpi=110, squeeze=False)
    for axis, mask, sentence in zip(axes[0], masks, sentences, strict=True):
        axis.imshow(pixels, cmap="gray")
        if mask.any() and not mask.all():
            axis.contour(mask, levels=[0.5], colors="#ff7f0e", linewidths=1.6)
        axis.set_title(textwrap.fill(sentence or "(no sentence)", 32), fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(title, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    partial = path.with_name(f".{path.name}.tmp.png")
    figure.savefig(partial)
    plt.close(figure)
    partial.replace(path)


if __name__ == "__main__":
    app()

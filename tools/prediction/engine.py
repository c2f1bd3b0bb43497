"""The bundle behind the tool: everything that is asked of `common.inference`, and nothing else."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.inference import Segmentation, Segmenter, class_volumes, load_bundle, measures, preview, save

from .inputs import Case
from .record import PREDICTIONS, PREVIEWS
from .request import PredictError, PredictRequest
from .texts import Sentence

Prepared = Mapping[str, Any]


def open_segmenter(request: PredictRequest) -> Segmenter:
    """Load the bundle.

    Raises:
        PredictError: when it, its weights, an overlay or the device is not there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that there are no weights is in every result
            return load_bundle(
                request.bundle,
                overlays=request.overlays,
                weights=request.weights,
                device=request.device,
                allow_random=request.allow_random,
                force_modality=request.force_modality,
                slice_batch=request.batch,
            )
    except (ValueError, OSError) as error:
        raise PredictError(str(error)) from error


def describe(segmenter: Segmenter) -> dict[str, Any]:
    """Return what is known of the bundle, in JSON."""
    info = asdict(segmenter.info)
    return {**info, "image_size": list(info["image_size"]), "modalities": list(info["modalities"])}


def prepare(segmenter: Segmenter, case: Case, sentence: Sentence, *, modality: str | None = None) -> Prepared:
    """Load and preprocess a case; called in several threads.

    Raises:
        ValueError: when a file cannot be read.
    """
    files = case.files
    options = {"modality": modality} if modality else {}
    return segmenter.prepare(
        {
            "id": case.id,
            "image": files[0] if len(files) == 1 else files,
            "text": sentence.text,
            "laterality": sentence.laterality,
            **options,
        }
    )


def size_of(prepared: Prepared) -> int:
    """Return the bytes that a prepared case holds."""
    image: Tensor = prepared["image"]
    return int(image.untyped_storage().nbytes())


def is_volume(prepared: Prepared) -> bool:
    """Whether a prepared case has slices, so that it fills a network call alone."""
    return bool(prepared["image"].ndim == 4)


def run_network(segmenter: Segmenter, batch: Sequence[Prepared]) -> list[Tensor]:
    """Return the output of the network for each case of a batch."""
    return segmenter.logits(batch)


def finish(segmenter: Segmenter, prepared: Prepared, logits: Tensor) -> Segmentation:
    """Bring the network's output of a case to its grid; called in another thread."""
    return segmenter.finish(prepared, logits)


def write_result(
    segmentation: Segmentation, sentence: Sentence, folder: Path, *, pictured: bool, keep_flagged: bool
) -> dict[str, Any]:
    """Write the mask and preview of a case and measure it.

    Args:
        segmentation: the result.
        sentence: as it was found.
        folder: of the results.
        pictured: make a preview.
        keep_flagged: make one when mask and sentence contradict each other, too.

    Returns:
        "row", a flat dictionary; "files", paths inside of `folder`; and "flagged".
    """
    row = measures(segmentation).row() | class_volumes(segmentation)
    paths = save(segmentation, folder / PREDICTIONS)
    files = {kind: path.relative_to(folder).as_posix() for kind, path in paths.items()}
    flagged = bool(row["contradiction"])
    if pictured or (flagged and keep_flagged):
        files["preview"] = _write_preview(segmentation, folder).relative_to(folder).as_posix()
    row["text_source"] = sentence.source
    row["warnings"] = "; ".join(part for part in (row["warnings"], *sentence.warnings) if part)
    return {"row": row, "files": files, "flagged": flagged}


def _write_preview(segmentation: Segmentation, folder: Path) -> Path:
    target = folder / PREVIEWS / f"{segmentation.id}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        preview(segmentation).save(partial, format="PNG")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


@contextmanager
def network_threads(count: int | None) -> Iterator[None]:
    """Give the network this many threads of the CPU; None leaves what PyTorch or the environment chose."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def use_one_thread() -> None:
    """Let the calling thread compute alone: there are others like it. The network's thread keeps its number."""
    torch.set_num_threads(1)

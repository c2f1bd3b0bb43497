"""Three slices of a volume with the outlines of its classes, a colour each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.transforms.volume_loading import load_volume

from .pictures import outline_path, png_uri

SLICES = 3
# told apart by most colour-blind readers (Okabe and Ito); black is left out, for pictures are dark
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2", "#ffffff")


@dataclass(frozen=True)
class Slice:
    """One slice of a volume.

    Attributes:
        uri: the downsized picture.
        width: columns.
        height: rows.
        position: of the slice, from 1.
        predicted: colour and SVG path data of every class that was predicted here.
        true: likewise of the label; empty without one.
    """

    uri: str
    width: int
    height: int
    position: int
    predicted: tuple[tuple[str, str], ...]
    true: tuple[tuple[str, str], ...]


def colours(count: int) -> list[str]:
    """Return a colour for each class; beyond eight they repeat."""
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def volume_slices(
    image: Path, prediction: Path, *, label: Path | None, classes: int, size: int
) -> tuple[Slice, ...]:
    """Picture three slices of a volume, spread over its classes.

    Args:
        image: a NIfTI volume or a DICOM series.
        prediction: its classes, NIfTI.
        label: the true ones, or None.
        classes: how many, without the background.
        size: longest side of a picture in pixels; smaller slices are not enlarged.

    Raises:
        ValueError: when a file cannot be read or has another size than the image.
    """
    pixels = load_volume(image).numpy()
    predicted = _labels(prediction, pixels.shape[1:], "prediction")
    true = None if label is None else _labels(label, pixels.shape[1:], "label")
    shown = predicted if true is None or not true.any() else true
    return tuple(
        Slice(
            uri=png_uri(pixels[..., position], size=size),
            width=pixels.shape[2],
            height=pixels.shape[1],
            position=position + 1,
            predicted=_outlines(predicted[..., position], classes),
            true=() if true is None else _outlines(true[..., position], classes),
        )
        for position in chosen_slices(shown)
    )


def chosen_slices(labels: np.ndarray) -> list[int]:
    """Return up to three positions: at a sixth, a half and five sixths of the labelled voxels, else of the slices.

    Args:
        labels: `(rows, columns, slices)`, 0 for the background.
    """
    counts = (labels > 0).sum((0, 1)).astype(float)
    weights = counts if counts.any() else np.ones_like(counts)
    shares = (np.cumsum(weights) - weights / 2) / weights.sum()
    wanted = [(2 * number + 1) / (2 * SLICES) for number in range(SLICES)]
    inside = np.flatnonzero(weights)
    return sorted({int(inside[np.abs(shares[inside] - share).argmin()]) for share in wanted})


def _labels(path: Path, shape: tuple[int, ...], what: str) -> np.ndarray:
    values = load_volume(path)[0].numpy()
    if values.shape != shape:
        raise ValueError(f"{what} must have the image's size {shape}, got {values.shape}")
    return values


def _outlines(labels: np.ndarray, classes: int) -> tuple[tuple[str, str], ...]:
    paths = [(colour, outline_path(labels == number)) for number, colour in enumerate(colours(classes), 1)]
    return tuple((colour, path) for colour, path in paths if path)

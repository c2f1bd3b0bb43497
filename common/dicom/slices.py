"""The pixels of a volume: every file read and decoded once, every slice in the same brightness."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .arrangement import Volume
from .brightness import (
    WHITE,
    Interest,
    colour_values,
    grey_values,
    has_colours,
    is_reversed,
    shaded,
)
from .decoding import stored_pixels
from .files import read_image_quietly


def volume_values(volume: Volume, *, threads: int) -> np.ndarray:
    """Return the frames of a volume as a viewer shows them, with the window of the first.

    Args:
        volume: the frames in order.
        threads: how many are read at a time, at least 1.

    Returns:
        `(frames, C, rows, columns)` float32, C 1 or 3; values as `brightness.display_values` describes them.

    Raises:
        ValueError: when a file cannot be read or decoded; it is named.
    """
    first = volume.frames[0].attributes
    interest = Interest(first)
    whole = _stored(volume.files[0]) if len(volume.files) == 1 else None
    channels = 3 if has_colours(first) else 1
    values = np.empty((len(volume.frames), channels, *volume.size), dtype=np.float32)
    paddings: list[np.ndarray | None] = [None] * len(volume.frames)

    def fill(number: int) -> None:
        frame = volume.frames[number]
        file = volume.files[frame.file]
        stored = _stored(file) if whole is None else whole[frame.index]
        try:
            if channels == 3:
                values[number] = colour_values(stored, frame.attributes)
                return
            values[number, 0], padding = grey_values(stored, frame.attributes, interest)
        except (
            Exception
        ) as error:  # lookup tables that make no sense; pixels of another size than the header says
            raise ValueError(
                f"{file} must have pixels, windows and lookup tables that fit its header, got {type(error).__name__}"
            ) from error
        paddings[number] = padding if padding.any() else None

    with ThreadPoolExecutor(min(threads, os.cpu_count() or 1)) as pool:
        try:
            for _ in pool.map(fill, range(len(volume.frames))):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if channels == 1:
        _shade(values, paddings, scales=interest.scales, reverse=is_reversed(first))
    return values


def _stored(file: Path) -> np.ndarray:
    return stored_pixels(read_image_quietly(file), where=file)


def _shade(values: np.ndarray, paddings: list[np.ndarray | None], *, scales: bool, reverse: bool) -> None:
    """Reverse and darken in place, between the darkest and brightest of the whole volume."""
    if not reverse and all(padding is None for padding in paddings):
        return
    dark, bright = (0.0, WHITE) if scales else _range(values[:, 0], paddings)
    for frame, padding in zip(values[:, 0], paddings, strict=True):
        nowhere = np.zeros(frame.shape, dtype=bool)
        frame[...] = shaded(
            frame, nowhere if padding is None else padding, dark=dark, bright=bright, reverse=reverse
        )


def _range(values: np.ndarray, paddings: list[np.ndarray | None]) -> tuple[float, float]:
    """Return the smallest and largest value that is no padding."""
    inside = [
        frame if padding is None else frame[~padding] for frame, padding in zip(values, paddings, strict=True)
    ]
    filled = [part for part in inside if part.size] or [values]
    return min(float(part.min()) for part in filled), max(float(part.max()) for part in filled)

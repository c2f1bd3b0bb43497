"""Labels that come as one picture a slice beside a DICOM series, as CHAOS has them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .source import SourceError


def read_slice_labels(folder: Path, image: Any) -> np.ndarray:
    """Return the values of label pictures on the displayed grid of the series that they belong to.

    The pictures are taken in the order of the numbers in their names, and the frames in that of their files' names.

    Args:
        folder: of PNG files, one for each slice, stored as the slices are.
        image: the series, as `load_volume` gives it.

    Returns:
        `(rows, columns, slices)` uint8.

    Raises:
        SourceError: when there are not as many pictures as slices, or one has another size.
    """
    import torch

    from common.transforms.display import DisplayOrder

    rows, columns, slices = (int(side) for side in np.asarray(image.meta["file_shape"]))
    pictures = sorted((file for file in folder.iterdir() if file.suffix.lower() == ".png"), key=_number)
    if len(pictures) != slices:
        raise SourceError(f"{folder} must hold a picture for each of {slices} slices, got {len(pictures)}")
    files = [Path(name) for name in str(image.meta["series_files"]).split("\n")]
    by_name = sorted(range(len(files)), key=lambda index: _number(files[index]))
    picture_of = {frame: pictures[place] for place, frame in enumerate(by_name)}
    stored = np.zeros((rows, columns, slices), dtype=np.uint8)
    for place, frame in enumerate(int(number) for number in str(image.meta["frame_order"]).split()):
        with Image.open(picture_of[frame]) as opened:
            values = np.asarray(opened.convert("L"))
        if values.shape != (rows, columns):
            raise SourceError(f"{picture_of[frame]} must be {rows} x {columns} pixels, got {values.shape}")
        stored[..., place] = values
    displayed = DisplayOrder.from_meta(image.meta).to_display(torch.from_numpy(stored)[None])
    return np.ascontiguousarray(displayed[0].numpy())


def _number(file: Path) -> list[int]:
    """The numbers in a name; its own order where it has none."""
    return [int(part) for part in re.findall(r"\d+", file.stem)]

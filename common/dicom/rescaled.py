"""A DICOM series in the units of its modality, Hounsfield units say, with no slice missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .arrangement import Volume, arranged
from .brightness import apply_modality_lut, has_colours
from .decoding import stored_pixels
from .files import read_image_quietly
from .output import quietly
from .volume import load_series, series_files, series_headers

if TYPE_CHECKING:
    from monai.data import MetaTensor

MISSING = 1.5  # of the usual distance: two slices farther apart have one missing between them


def load_rescaled_series(source: str | Path) -> MetaTensor:
    """Read a series as `load_series` does, with the values that its modality measures instead of a window's.

    Args:
        source: a folder with one series, or a file of several frames.

    Returns:
        `(1, rows, columns, slices)` float32 as displayed: rescaled values (Hounsfield units of CT), whatever window
        a viewer would use; with the meta data of `load_series`.

    Raises:
        ValueError: as `load_series`; when the series has colours or a slice is missing. What a window alone could
            show (padding, inverted gray) plays no part.
    """
    image = load_series(source)
    if str(image.meta["file_format"]) != "dicom" or not image.meta["frame_order"]:
        raise ValueError(f"{source} must hold the slices of a volume, got a single image")
    files, headers = tuple(series_files(image.meta)), series_headers(image.meta)
    with quietly():
        volume = arranged(headers, files, str(source))
        if has_colours(volume.frames[0].attributes):
            raise ValueError(f"{source} must hold gray values, got colours")
        _check_complete(volume, str(source))
        values = _modality_values(volume)
    _fill(image, values)
    return image


def _check_complete(volume: Volume, where: str) -> None:
    """Raise a ValueError when two slices are much farther apart than is usual."""
    planes = [frame.attributes for frame in volume.frames]
    cosines = np.array(planes[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    gaps = np.diff([np.array(plane.ImagePositionPatient, dtype=float) @ normal for plane in planes])
    if not len(gaps):
        return
    usual = float(np.median(gaps))
    wide = np.flatnonzero(gaps > MISSING * usual)
    if wide.size:
        after = volume.files[volume.frames[int(wide[0])].file].name
        raise ValueError(
            f"{where} must have every slice, got a distance of {gaps[wide[0]]:.4g} mm after {after} where {usual:.4g}"
            f" mm is usual ({wide.size} such places): fetch the missing files"
        )


def _modality_values(volume: Volume) -> np.ndarray:
    """Return `(frames, rows, columns)` float32 in the order of the volume."""
    single = len(volume.files) == 1
    whole = stored_pixels(read_image_quietly(volume.files[0]), where=volume.files[0]) if single else None
    values = np.empty((len(volume.frames), *volume.size), dtype=np.float32)
    for number, frame in enumerate(volume.frames):
        file = volume.files[frame.file]
        stored = stored_pixels(read_image_quietly(file), where=file) if whole is None else whole[frame.index]
        values[number] = apply_modality_lut(stored, frame.attributes)
    return values


def _fill(image: MetaTensor, values: np.ndarray) -> None:
    """Write `(frames, rows, columns)` over the pixels of a displayed volume."""
    import torch  # MONAI and torch only when needed

    from ..transforms.display import DisplayOrder

    stored = torch.from_numpy(values).permute(1, 2, 0)[None]
    image.as_tensor().copy_(DisplayOrder.from_meta(image.meta).to_display(stored))

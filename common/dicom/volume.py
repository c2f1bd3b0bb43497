"""One series, or one file of several frames, as a displayed volume, and masks back on its frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset

from .arrangement import Volume, arranged, check_headers, image_files
from .files import is_dicom, number_of_frames, read_quietly
from .output import quietly
from .series import Series
from .slices import volume_values

if TYPE_CHECKING:
    from monai.data import MetaTensor

THREADS = 4
_SEPARATOR = "\n"  # of texts that keep lists in meta data: batches collate texts whatever their length


def is_series(path: str | Path) -> bool:
    """Tell whether `load_series` is what reads a path: a folder, or a DICOM file of several frames."""
    file = Path(path)
    if file.is_dir():
        return True
    if not file.is_file() or not is_dicom(file):
        return False
    try:
        with quietly():
            return number_of_frames(read_quietly(file, header=True, tags=("NumberOfFrames",))) > 1
    except ValueError:
        return False  # what reads single files says why


def load_series(
    source: str | Path | Series | Iterable[str | Path],
    *,
    modalities: Sequence[str] = (),
    threads: int = THREADS,
) -> MetaTensor:
    """Read the slices of one series, or the frames of one file, as the volume that a viewer shows.

    Slices are sorted along their normal, whatever their numbers; each is rescaled by itself, and all get the window
    of the first of them, so that brightness does not jump. A series of one single-frame image is what `load_image`
    makes of that file.

    Args:
        source: a folder with one image series (files that are no images are passed over), a `Series`, its files,
            or one file of several frames with positions (enhanced CT, MR, PET).
        modalities: which are accepted, such as `("CT",)`; none for any.
        threads: how many slices are read at a time, at least 1.

    Returns:
        `(C, rows, columns, slices)` float32 with the display and the meta data of `load_image`, and besides
        `series_files` (see the function of that name), `frame_order` and `warnings`, texts: which frame of the
        files each slice is, and what is uncertain about the volume ("" when nothing is).

    Raises:
        ValueError: when the files are not the slices of one volume, or one of them cannot be read; the message
            counts and names files, and nothing that they say of a patient.

    Reference:
        DICOM PS3.3, C.7.6.2 (Image Plane), C.7.6.16 (Multi-frame Functional Groups).
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    files, where = image_files(source)
    with quietly():
        headers = [read_quietly(file, header=True) for file in files]
        check_headers(headers, files, modalities, where)
        if len(files) == 1 and number_of_frames(headers[0]) == 1:
            from ..transforms.loading import load_image  # MONAI comes with it: only when needed

            return load_image(files[0])
        volume = arranged(headers, files, where)
        values = volume_values(volume, threads=threads)
    return _displayed(values, volume, source)


def series_files(meta: Mapping[str, Any]) -> list[Path]:
    """Return the files that an image was read from: the order of the frames of `mask_to_frames`.

    Args:
        meta: of `load_image` or `load_series`.

    Returns:
        The files as they were given, those of a folder by name.
    """
    listed = str(meta.get("series_files") or meta["filename_or_obj"])
    return [Path(name) for name in listed.split(_SEPARATOR)]


def series_headers(meta: Mapping[str, Any]) -> list[Dataset]:
    """Return the headers of `series_files`: the source of `write_segmentation` and `write_measurement_report`."""
    with quietly():
        return [read_quietly(file, header=True) for file in series_files(meta)]


def mask_to_frames(mask: Any, meta: Mapping[str, Any]) -> np.ndarray:
    """Bring a mask of the displayed volume back onto the frames of the files.

    Args:
        mask: `(rows, columns, slices)` of an image of `load_series`, or `(rows, columns)` of a single DICOM image,
            as displayed; a first axis of length 1 may lead. An array or tensor of any kind of numbers.
        meta: of the image.

    Returns:
        `(frames, rows, columns)` of the same kind on the stored grid, frames in the order of `series_files` and
        inside them as stored: what `write_segmentation` takes with `grid="stored"` and `series_headers`.

    Raises:
        ValueError: when the mask does not have the displayed shape, or the image is not DICOM.

    Example:
        ```python
        image = load_series("ct")
        frames = mask_to_frames(mask, image.meta)
        write_segmentation(frames, series_headers(image.meta), "seg.dcm", grid="stored", codes="liver", …)
        ```
    """
    from ..transforms.display import DisplayOrder  # MONAI comes with it: only when needed

    if str(meta.get("file_format")) != "dicom":
        raise ValueError(f"meta must be of a DICOM image, got {meta.get('file_format')!r}")
    order = DisplayOrder.from_meta(meta)
    shape = tuple(int(side) for side in np.asarray(meta["display_shape"]) if side > 0)
    values = np.asarray(mask)
    if values.ndim == len(shape) + 1 and values.shape[0] == 1:
        values = values[0]
    if values.shape != shape:
        raise ValueError(f"mask must have the displayed shape {shape}, got {values.shape}")
    flipped = [axis for axis, flip in enumerate(order.flips) if flip]
    values = np.flip(values, flipped) if flipped else values
    values = values.transpose([order.axes.index(axis) for axis in range(len(shape))])
    if len(shape) == 2:
        return np.ascontiguousarray(values[None])
    given = [int(number) for number in str(meta["frame_order"]).split()]
    frames = np.empty((len(given), *values.shape[:2]), dtype=values.dtype)
    frames[given] = np.moveaxis(values, -1, 0)
    return frames


def _displayed(values: np.ndarray, volume: Volume, source: object) -> MetaTensor:
    """Turn `(frames, C, rows, columns)` to the display, with meta data as `load_image` gives."""
    import torch  # MONAI and torch only when needed
    from monai.data import MetaTensor

    from ..transforms.display import DisplayOrder, anatomical_order

    axes = (0, 1, 2)
    stored_affine = volume.stack.affine
    shape = (*values.shape[2:], values.shape[0])
    order = anatomical_order(stored_affine, axes) or DisplayOrder.identity(3)
    displayed = order.to_display(torch.from_numpy(values).permute(1, 2, 3, 0)).contiguous()
    affine = order.affine(stored_affine, shape, axes)
    folder = isinstance(source, (str, Path))
    meta = {
        "filename_or_obj": str(source if folder else volume.files[0]),
        "file_format": "dicom",
        "file_shape": np.array(shape, dtype=np.int64),
        "file_affine": stored_affine,
        "file_codes": np.zeros(2, dtype=np.int64),
        **order.to_meta(),
        "display_shape": np.array(displayed.shape[1:], dtype=np.int64),
        "spacing": np.linalg.norm(affine[:3, :3], axis=0),
        "spacing_kind": "patient",
        "original_affine": affine,
        "spatial_shape": np.array(displayed.shape[1:], dtype=np.int64),
        "space": "RAS",
        "original_channel_dim": 0,
        "series_files": _SEPARATOR.join(map(str, volume.files)),
        "frame_order": " ".join(map(str, volume.stack.order)),
        "warnings": "; ".join(volume.stack.warnings),
    }
    return MetaTensor(displayed, affine=torch.from_numpy(affine), meta=meta)

"""One loader for pictures, NIfTI and DICOM: pixels as displayed, and what it takes to write a mask back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.filebasedimages import ImageFileError
from PIL import Image, ImageOps

from ..dicom.files import is_dicom
from ..dicom.output import quietly
from ..dicom.reading import read_dicom_pixels
from ..dicom.volume import is_series, load_series
from .display import DisplayOrder, anatomical_order, picture_order

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
MINIMUM_SIDE = 2
DISPLAY_NOTE = "display_order"  # key of the PNG text that `SaveImageMaskd` writes for masks on a turned grid


@dataclass(frozen=True)
class _Stored:
    """What a reader returns: pixels `(C, *stored axes)` and how they lie in the file."""

    pixels: np.ndarray
    order: DisplayOrder
    file_format: str
    file_shape: tuple[int, ...]  # the spatial axes of the file, those of length 1 included
    file_affine: np.ndarray
    affine: np.ndarray  # of the displayed array
    spacing: tuple[float, ...]  # mm along the displayed axes; NaN when unknown
    spacing_kind: str
    file_codes: tuple[int, int] = (0, 0)  # sform and qform codes of NIfTI


def load_image(path: str | Path) -> MetaTensor:
    """Read a picture, NIfTI or DICOM file, or a folder with one DICOM series, as a person sees it.

    - **Pictures** (PNG, JPEG, TIFF, BMP; 8 or 16 bits or float; gray, colour, palette): row 0 is the top,
      EXIF rotation is applied, transparent colours are laid over black and the alpha channel is dropped.
    - **NIfTI with an orientation** (sform or qform code > 0): radiologically by its affine, see
      `anatomical_order`; several slices are shown axially, a single one in its own plane. An affine of ones
      on the diagonal is an orientation like any other: x runs to the patient's right, so column 0 is the last
      x. A picture that ITK wrote as NIfTI (x to the left, y to posterior) is displayed as the picture was.
    - **NIfTI without an orientation** (both codes 0): stored as (x, y[, z]), x to the right and y down.
    - **DICOM**: see `read_dicom_pixels`; turned by Image Orientation (Patient), or Patient Orientation, to
      the same display as NIfTI, so `L\\F` is left as stored and `R\\F` mirrored; without either, as stored.
    - **DICOM series** (a folder, or one file of several frames): see `common.dicom.load_series`; a volume is
      shown axially, in the window of its lowest slice.

    Args:
        path: the file, or the folder of a series; DICOM is recognised by its content whatever the name.

    Returns:
        `(C, rows, columns)` or `(C, rows, columns, slices)` float32 in the file's own values, C 1 or 3, with
        meta
        data: `filename_or_obj`, `file_format`, `file_shape` (padded with 0 to length 3), `file_affine`,
        `file_codes`, `display_axes`, `display_flips`, `display_shape`, `spacing` (mm, NaN when unknown,
        length 3), `spacing_kind` (patient, detector or unknown), `series_files` and `frame_order` (of a DICOM
        series, empty for others), `warnings`, and MONAI's `affine`, `original_affine`,
        `spatial_shape`, `space` and `original_channel_dim`, which describe the displayed array.

    Raises:
        ValueError: when the file is missing, empty, of an unknown kind, cannot be decoded, has frames that are
            no volume or several time points, holds NaN or infinite values, or a side shorter than 2; the file
            is named.
    """
    file = Path(path)
    if is_series(file):
        return load_series(file)
    stored = _reader(file)(file)
    if not np.isfinite(stored.pixels).all():
        raise ValueError(f"{file} must hold finite values, got NaN or infinity: replace them before use")
    displayed = stored.order.to_display(torch.from_numpy(stored.pixels)).contiguous()
    shape = tuple(displayed.shape[1:])
    if min(shape[:2]) < MINIMUM_SIDE:
        raise ValueError(f"{file} must be at least {MINIMUM_SIDE} x {MINIMUM_SIDE} pixels, got shape {shape}")
    return MetaTensor(displayed, affine=torch.from_numpy(stored.affine), meta=_meta(file, stored, shape))


def _meta(file: Path, stored: _Stored, shape: tuple[int, ...]) -> dict[str, Any]:
    missing = 3 - len(stored.file_shape)
    return {
        "filename_or_obj": str(file),
        "file_format": stored.file_format,
        "file_shape": np.array([*stored.file_shape, *[0] * missing], dtype=np.int64),
        "file_affine": stored.file_affine.astype(np.float64),
        "file_codes": np.array(stored.file_codes, dtype=np.int64),
        **stored.order.to_meta(),
        "display_shape": np.array([*shape, *[0] * (3 - len(shape))], dtype=np.int64),
        "spacing": np.array([*stored.spacing, *[np.nan] * (3 - len(stored.spacing))], dtype=np.float64),
        "spacing_kind": stored.spacing_kind,
        **{"series_files": "", "frame_order": "", "warnings": ""},
        "original_affine": stored.affine.astype(np.float64),
        "spatial_shape": np.array(shape, dtype=np.int64),
        "space": "RAS",
        "original_channel_dim": 0,
    }


def _reader(file: Path) -> Callable[[Path], _Stored]:
    """Choose the reader of a file by its content and name."""
    if not file.exists():
        raise ValueError(f"{file} must be an image file, but it does not exist")
    if not file.is_file():
        raise ValueError(f"{file} must be an image file, got something else")
    try:
        if file.stat().st_size == 0:
            raise ValueError(f"{file} must be an image file, got an empty one (0 bytes)")
        dicom = is_dicom(file)
    except OSError as error:
        raise ValueError(f"{file} must be a readable file, got: {error}") from error
    name = file.name.lower()
    if dicom or name.endswith(DICOM_SUFFIXES):
        return _read_dicom
    if name.endswith(NIFTI_SUFFIXES):
        return _read_nifti
    if name.endswith(PICTURE_SUFFIXES):
        return _read_picture
    known = " ".join((*PICTURE_SUFFIXES, *NIFTI_SUFFIXES, *DICOM_SUFFIXES))
    raise ValueError(f"{file} must be an image of a known kind ({known}, or any DICOM file), got another")


def _read_picture(file: Path) -> _Stored:
    try:
        with Image.open(file) as picture:
            frames = getattr(picture, "n_frames", 1)
            note = str(getattr(picture, "text", {}).get(DISPLAY_NOTE, "")) if picture.format == "PNG" else ""
            file_format = (picture.format or "picture").lower()
            pixels = _picture_pixels(picture) if frames == 1 else None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} must be a readable picture, got: {error}") from error
    if pixels is None:
        raise ValueError(f"{file} must hold one picture, got {frames}: split it into one file per picture")
    order = _noted_order(note, file) if note else DisplayOrder.identity(2)
    shape = (pixels.shape[1], pixels.shape[2])
    return _Stored(pixels, order, file_format, shape, np.eye(4), np.eye(4), (), "unknown")


def _picture_pixels(picture: Image.Image) -> np.ndarray:
    """Return `(C, rows, columns)` float32 of an open picture."""
    upright = ImageOps.exif_transpose(picture) if picture.getexif().get(0x0112, 1) != 1 else picture
    if upright.mode == "1":
        upright = upright.convert("L")
    elif upright.mode == "P":
        upright = upright.convert("RGBA" if "transparency" in upright.info else "RGB")
    elif upright.mode not in ("L", "LA", "RGB", "RGBA") and not upright.mode.startswith(("I", "F")):
        upright = upright.convert("RGB")
    values = np.asarray(upright).astype(np.float32)
    if upright.mode in ("LA", "RGBA"):
        values = values[..., :-1] * (values[..., -1:] / 255.0)
    return values[None] if values.ndim == 2 else np.ascontiguousarray(np.moveaxis(values, -1, 0))


def _noted_order(note: str, file: Path) -> DisplayOrder:
    """Read the text that `SaveImageMaskd` adds to a PNG, such as `1 0 0 1`: two axes, two flips."""
    try:
        first, second, *flips = (int(number) for number in note.split())
        return DisplayOrder(
            {(0, 1): (0, 1), (1, 0): (1, 0)}[(first, second)], (bool(flips[0]), bool(flips[1]))
        )
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f"{file} must have a {DISPLAY_NOTE} of two axes and two flips, got {note!r}"
        ) from error


def _read_nifti(file: Path) -> _Stored:
    try:
        image = nibabel.load(file)
        values = np.asanyarray(image.dataobj)
    except (ImageFileError, OSError, EOFError, ValueError, MemoryError) as error:
        raise ValueError(f"{file} must be a readable NIfTI file, got: {error}") from error
    except Exception as error:  # zlib.error and the header errors of nibabel share no base class
        raise ValueError(f"{file} must be a readable NIfTI file, got: {error}") from error
    channels = _nifti_channels(values, file)
    file_shape = tuple(channels.shape[1:])
    full_shape = (*file_shape, *[1] * (3 - len(file_shape)))
    kept = [axis for axis in range(3) if full_shape[axis] > 1]
    if len(kept) < 2:
        raise ValueError(
            f"{file} must be at least {MINIMUM_SIDE} x {MINIMUM_SIDE} pixels, got shape {file_shape}"
        )
    header = image.header
    codes = int(header["sform_code"]), int(header["qform_code"])
    oriented = max(codes) > 0
    file_affine = np.asarray(image.affine, dtype=np.float64)
    order = (anatomical_order(file_affine, kept) if oriented else None) or picture_order(len(kept))
    pixels = channels.reshape(channels.shape[0], *(full_shape[axis] for axis in kept))
    affine = order.affine(file_affine, full_shape, kept)
    spacing = tuple(float(step) for step in np.linalg.norm(affine[:3, : len(kept)], axis=0))
    kind = "patient" if oriented else "unknown"
    return _Stored(
        pixels, order, "nifti", file_shape, file_affine, affine, spacing if oriented else (), kind, codes
    )


def _nifti_channels(values: np.ndarray, file: Path) -> np.ndarray:
    """Return `(C, *up to three axes)` float32; colours are an RGB data type or trailing axes of length 3."""
    if values.dtype.names:
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1)
        values = values.reshape(*values.shape[:3], *[1] * (4 - values.ndim), 3) if values.ndim < 4 else values
    if values.size == 0:
        raise ValueError(f"{file} must hold pixels, got shape {values.shape}")
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim > 3:
        spatial, extra = values.shape[:3], values.shape[3:]
        if int(np.prod(extra)) != 3:
            raise ValueError(
                f"{file} must be an image of 2 or 3 dimensions, got shape {values.shape}: split it"
            )
        return np.ascontiguousarray(np.moveaxis(values.reshape(*spatial, 3), -1, 0), dtype=np.float32)
    return np.ascontiguousarray(values[None], dtype=np.float32)


def _read_dicom(file: Path) -> _Stored:
    with quietly():  # odd values in tags that are not used here
        dicom = read_dicom_pixels(file)
    shape = tuple(dicom.pixels.shape[1:])
    order = None if dicom.directions is None else anatomical_order(dicom.directions, (0, 1))
    order = order or DisplayOrder.identity(2)
    spacing = () if dicom.spacing is None else tuple(dicom.spacing[axis] for axis in order.axes)
    stored_affine = np.diag([*(dicom.spacing or (1.0, 1.0)), 1.0, 1.0])
    if dicom.positioned and dicom.directions is not None:
        stored_affine = dicom.directions
    affine = order.affine(stored_affine, (*shape, 1), (0, 1))
    return _Stored(dicom.pixels, order, "dicom", shape, stored_affine, affine, spacing, dicom.spacing_kind)


def spatial_size(image: MetaTensor) -> Sequence[int]:
    """Return the displayed size of the file that an image came from: rows, columns[, slices]."""
    return [int(side) for side in np.asarray(image.meta["display_shape"]) if side > 0]

"""Read the pixels of a source, and say what is wrong with them by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .source import MEDICAL_SUFFIXES, SourceError, image_suffix

MIN_SIDE = 2
MAX_SHOWN_VALUES = 6


@dataclass(frozen=True)
class Picture:
    """The pixels of a file, `(rows, cols)` or `(rows, cols, channels)` as a person sees them."""

    path: Path
    pixels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels, the same for one picture in two file formats."""
        flat = grey_if_grey(self.pixels)
        header = f"{flat.shape}{flat.dtype}".encode()
        return hashlib.sha256(header + np.ascontiguousarray(flat).tobytes()).hexdigest()


def read_picture(path: Path, *, what: str = "image") -> Picture:
    """Read a raster, DICOM or NIfTI picture and check that it can be trained on.

    Args:
        path: the file.
        what: ``image`` or ``mask``, for messages.

    Returns:
        Its pixels.

    Raises:
        SourceError: if it is missing, unreadable, smaller than 2 x 2 or not finite.
    """
    if not path.is_file():
        raise SourceError(f"{what} {path} must exist, got no such file")
    pixels = _read_medical(path, what) if image_suffix(path) in MEDICAL_SUFFIXES else _read_raster(path, what)
    if pixels.ndim not in (2, 3) or min(pixels.shape[:2]) < MIN_SIDE:
        shape = " x ".join(str(side) for side in pixels.shape[:2])
        raise SourceError(f"{what} {path} must be at least {MIN_SIDE} x {MIN_SIDE} pixels, got {shape}")
    if np.issubdtype(pixels.dtype, np.floating) and not np.isfinite(pixels).all():
        raise SourceError(f"{what} {path} must hold finite numbers, got NaN or infinity")
    return Picture(path, pixels)


def read_mask(path: Path, *, size: tuple[int, int], image: Path, threshold: float | None = None) -> np.ndarray:
    """Read a mask as booleans and check that it fits its image.

    Args:
        path: the mask's file.
        size: rows and columns of the image.
        image: the image's file, for messages.
        threshold: values above it are foreground; ``None`` wants a background of 0 and one other value.

    Returns:
        Foreground of shape `size`.

    Raises:
        SourceError: if the mask is unreadable, of another size, or has other values than two.
    """
    picture = read_picture(path, what="mask")
    if picture.size != size:
        raise SourceError(
            f"mask {path} must have the size of its image {image}, {size[0]} x {size[1]} (rows x columns), "
            f"got {picture.size[0]} x {picture.size[1]}"
        )
    values = _one_channel(picture.pixels)
    if threshold is not None:
        return values > threshold
    found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        shown = ", ".join(f"{value:g}" for value in found[:MAX_SHOWN_VALUES])
        more = f" and {len(found) - MAX_SHOWN_VALUES} more" if len(found) > MAX_SHOWN_VALUES else ""
        raise SourceError(
            f"mask {path} must have two values, 0 and one other, got {shown}{more}: "
            "if it is a lossy copy of a two-valued mask, give --mask-threshold 127"
        )
    return values > 0


def grey_if_grey(pixels: np.ndarray) -> np.ndarray:
    """Drop the channels of a colour picture that holds grey values only, and a fully opaque alpha."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] in (2, 4) and (pixels[..., -1] == pixels[..., -1].max()).all():
        pixels = pixels[..., :-1]
    grey = (pixels == pixels[..., :1]).all()
    return pixels[..., 0] if grey else pixels


def _one_channel(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    colours = pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels
    return colours.max(axis=2)


def _read_raster(path: Path, what: str) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            picture.load()
            pixels = np.asarray(picture)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        detail = "an empty file" if path.stat().st_size == 0 else str(error)
        raise SourceError(f"{what} {path} must be a readable picture, got: {detail}") from error
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def _read_medical(path: Path, what: str) -> np.ndarray:
    from common.transforms import read_as_displayed

    try:
        pixels = np.asarray(read_as_displayed(path))
    except Exception as error:  # pydicom and nibabel raise whatever their parsers raise
        raise SourceError(f"{what} {path} must be a readable DICOM or NIfTI picture, got: {error}") from error
    return np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 else pixels

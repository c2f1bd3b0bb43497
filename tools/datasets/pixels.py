"""Read the pixels of a source, and say what is wrong with them by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .source import MEDICAL_SUFFIXES, SourceError, image_suffix

MIN_SIDE = 2
MAX_SHOWN_VALUES = 6
DISPLAY_NOTE = "display_order"  # PNG text of masks that our own tools saved on a turned grid


@dataclass(frozen=True)
class Picture:
    """The pixels of a file as a person sees them.

    Attributes:
        path: the file.
        pixels: shape `(rows, cols)`, `(rows, cols, channels)`, or `(rows, cols, slices)` for a volume.
        is_volume: whether the last of three axes is slices.
    """

    path: Path
    pixels: np.ndarray
    is_volume: bool = False

    @property
    def grid(self) -> tuple[int, ...]:
        """Rows and columns, and slices of a volume."""
        return self.pixels.shape if self.is_volume else self.pixels.shape[:2]

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels, the same for one picture in two file formats."""
        plain = self.pixels if self.is_volume else grey_if_grey(self.pixels)
        header = f"{plain.shape}{plain.dtype}".encode()
        return hashlib.sha256(header + np.ascontiguousarray(plain).tobytes()).hexdigest()


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
    is_medical = image_suffix(path) in MEDICAL_SUFFIXES
    picture = _read_as_displayed(path, what) if is_medical else _read_raster(path, what)
    if min(picture.pixels.shape[:2]) < MIN_SIDE:
        shape = " x ".join(str(side) for side in picture.grid)
        raise SourceError(f"{what} {path} must be at least {MIN_SIDE} x {MIN_SIDE} pixels, got {shape}")
    if np.issubdtype(picture.pixels.dtype, np.floating) and not np.isfinite(picture.pixels).all():
        raise SourceError(f"{what} {path} must hold finite numbers, got NaN or infinity")
    return picture


def read_mask(path: Path, image: Picture, *, threshold: float | None = None) -> np.ndarray:
    """Read a mask as booleans and check that it fits its image.

    Args:
        path: the mask's file.
        image: the picture that it belongs to.
        threshold: values above it are foreground; ``None`` wants a background of 0 and one other value.

    Returns:
        Foreground on the grid of the image.

    Raises:
        SourceError: if the mask is unreadable, of another size, or has other values than two.
    """
    mask = read_picture(path, what="mask")
    if mask.grid != image.grid:
        raise SourceError(
            f"mask {path} must have the size of its image {image.path}, {_size(image)}, got {_size(mask)}"
        )
    values = mask.pixels if mask.is_volume else _one_channel(mask.pixels)
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
    """Drop an alpha channel that is the same everywhere, and the channels of a picture of grey values."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] in (2, 4) and (pixels[..., -1] == pixels[0, 0, -1]).all():
        pixels = pixels[..., :-1]
    is_grey = bool((pixels == pixels[..., :1]).all())
    return pixels[..., 0] if is_grey else pixels


def _one_channel(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    colours = pixels[..., :-1] if pixels.shape[2] in (2, 4) else pixels
    return colours.max(axis=2)


def _size(picture: Picture) -> str:
    return " x ".join(str(side) for side in picture.grid) + " (rows x columns)"


def _read_raster(path: Path, what: str) -> Picture:
    try:
        with Image.open(path) as opened:
            opened.load()
            if DISPLAY_NOTE in opened.info:
                return _read_as_displayed(path, what)
            pixels = np.asarray(ImageOps.exif_transpose(opened))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        detail = "an empty file" if path.stat().st_size == 0 else str(error)
        raise SourceError(f"{what} {path} must be a readable picture, got: {detail}") from error
    return Picture(path, pixels.astype(np.uint8) if pixels.dtype == bool else pixels)


def _read_as_displayed(path: Path, what: str) -> Picture:
    """Read with the loader of the bundles, imported here because it takes seconds to import."""
    from common.transforms.loading import load_image

    try:
        channels = load_image(path).numpy()  # (C, rows, cols[, slices])
    except ValueError as error:
        raise SourceError(f"{what} {path} must be a readable DICOM or NIfTI picture, got: {error}") from error
    if channels.ndim == 4:
        if channels.shape[0] != 1:
            raise SourceError(f"{what} {path} must have one channel, got {channels.shape[0]} in a volume")
        return Picture(path, channels[0], is_volume=True)
    return Picture(path, channels[0] if channels.shape[0] == 1 else np.moveaxis(channels, 0, -1))

"""Downsized pictures and the outlines of masks, ready to be inlined in a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from common.transforms.loading import load_image

from .evaluation import Case

_TOLERANCE = 0.35


@dataclass(frozen=True)
class Picture:
    """An image as a PNG data URI, and masks as SVG path data in the image's own pixels.

    Attributes:
        uri: the downsized image.
        width: columns of the original image.
        height: rows of the original image.
        slice: which slice of a volume is shown, None for a flat image.
        truth: outline of the true mask; empty when it is empty, None when there is none.
        prediction: outline of the predicted mask, likewise.
        truth_mask: `(height, width)` bool, or None.
        prediction_mask: `(height, width)` bool, or None.
    """

    uri: str
    width: int
    height: int
    slice: int | None
    truth: str | None
    prediction: str | None
    truth_mask: np.ndarray | None
    prediction_mask: np.ndarray | None


def case_picture(case: Case, *, size: int) -> Picture:
    """Read the files of a case and make a picture of it.

    Args:
        case: which case.
        size: longest side of the picture in pixels; smaller images are not enlarged.

    Returns:
        The picture; of a volume, the slice with most of the true (else predicted) mask.

    Raises:
        ValueError: the image cannot be read, or a mask has another size.
        FileNotFoundError: the case names no image.
    """
    if case.image is None:
        raise FileNotFoundError("no image is named")
    image = load_image(case.image).numpy()
    truth = _read_mask(case.label, image.shape[1:], "label")
    prediction = _read_mask(case.prediction, image.shape[1:], "prediction")
    position = _best_slice(image, truth, prediction)
    if position is not None:
        image = image[..., position]
        truth = None if truth is None else truth[..., position]
        prediction = None if prediction is None else prediction[..., position]
    return Picture(
        uri=png_uri(image, size=size),
        width=image.shape[2],
        height=image.shape[1],
        slice=position,
        truth=None if truth is None else outline_path(truth),
        prediction=None if prediction is None else outline_path(prediction),
        truth_mask=truth,
        prediction_mask=prediction,
    )


def _read_mask(path: Path | None, shape: tuple[int, ...], what: str) -> np.ndarray | None:
    """Read a mask, whose foreground is every value above the middle of its range."""
    if path is None:
        return None
    values = load_image(path)[0].numpy()
    if values.shape != shape:
        raise ValueError(f"{what} must have the image's size {shape}, got {values.shape}")
    return values > values.max() / 2 if values.max() > 0 else values > 0


def _best_slice(image: np.ndarray, truth: np.ndarray | None, prediction: np.ndarray | None) -> int | None:
    if image.ndim == 3:
        return None
    for mask in (truth, prediction):
        if mask is not None and mask.any():
            return int(mask.sum((0, 1)).argmax())
    return image.shape[-1] // 2


def png_uri(image: np.ndarray, *, size: int) -> str:
    """Encode an image as a PNG data URI.

    Args:
        image: `(C, rows, columns)`, C = 1 or 3, any range; values outside 0 to 255 are stretched from their
            0.5 to their 99.5 percentile.
        size: longest side in pixels; smaller images are not enlarged.

    Returns:
        The URI.
    """
    values = image.astype(np.float32)
    if values.min() < 0 or values.max() > 255 or values.max() <= 1:
        low, high = np.percentile(values, (0.5, 99.5))
        values = (values - low) / max(float(high - low), 1e-6) * 255
    pixels = np.rint(values.clip(0, 255)).astype(np.uint8)
    picture = Image.fromarray(
        pixels[0] if len(pixels) == 1 or _is_gray(pixels) else np.moveaxis(pixels, 0, -1)
    )
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _is_gray(pixels: np.ndarray) -> bool:
    return bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())


def outline_path(mask: np.ndarray) -> str:
    """Trace the borders of a mask.

    Args:
        mask: `(rows, columns)` bool.

    Returns:
        SVG path data in pixels, x to the right and y downwards, to be filled by the even-odd rule; empty for
        an empty mask.
    """
    padded = np.pad(mask, 1).astype(np.float32)
    parts = []
    for contour in find_contours(padded, 0.5):
        points = approximate_polygon(contour, _TOLERANCE)[:-1] - 0.5
        parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in points) + "Z")
    return "".join(parts)

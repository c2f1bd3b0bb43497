"""A small picture of a result: the image with the mask's outline."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from ..dicom.volume import load_series
from ..transforms.loading import load_image
from .result import Segmentation

LARGEST = 512  # pixels
OUTLINE = (255, 176, 0)
CLIP = (0.5, 99.5)  # percentiles that become black and white where the values are no picture's


def preview(segmentation: Segmentation, *, largest: int = LARGEST) -> Image.Image:
    """Draw the outline of a mask on its image; of a volume on the slice with most of the mask.

    A swatch in the corner is the legend: filled for a mask, hollow for an empty one.

    Args:
        segmentation: the result; its image is read again.
        largest: longer side of the picture in pixels, >= 32; larger images are reduced.

    Returns:
        RGB, as displayed.

    Raises:
        ValueError: when the image cannot be read any more, or `largest` is below 32.
    """
    if largest < 32:
        raise ValueError(f"largest must be at least 32 pixels, got {largest}")
    files, mask = segmentation.paths, segmentation.mask > 0
    image = load_series(files) if segmentation.is_dicom and mask.ndim == 3 else load_image(files[0])
    pixels = np.asarray(image.as_tensor())
    if mask.ndim == 3:
        shown = int(mask.sum(axis=(0, 1)).argmax()) if mask.any() else mask.shape[2] // 2
        pixels, mask = pixels[..., shown], mask[..., shown]
    picture = _gray_or_colour(pixels)
    picture.thumbnail((largest, largest), Image.Resampling.BILINEAR)
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BOX)
    canvas = np.array(picture)
    canvas[_outline(np.asarray(small) >= 128)] = OUTLINE
    result = Image.fromarray(canvas)
    corner = max(4, min(result.size) // 32)
    box = (corner, corner, 3 * corner, 2 * corner)
    ImageDraw.Draw(result).rectangle(box, outline=OUTLINE, fill=OUTLINE if mask.any() else None)
    return result


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels just around a mask, two wide, so that what it covers stays visible."""
    return ndimage.binary_dilation(mask, iterations=2, structure=np.ones((3, 3))) & ~mask


def _gray_or_colour(pixels: np.ndarray) -> Image.Image:
    """Return `(C, rows, columns)` as an RGB picture; values beyond 0 to 255 are stretched."""
    low, high = (0.0, 255.0)
    if pixels.min() < 0 or pixels.max() > 255 or pixels.max() <= 1:
        low, high = (float(value) for value in np.percentile(pixels, CLIP))
    scaled = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1) * 255
    channels = np.moveaxis(scaled.astype(np.uint8), 0, -1)
    return Image.fromarray(np.repeat(channels, 3, axis=2) if channels.shape[2] == 1 else channels[..., :3])

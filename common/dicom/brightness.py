"""From stored pixels to the brightness that a viewer gives them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pydicom
from pydicom.dataset import Dataset

try:  # pydicom 3
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, convert_color_space

    DECODES_TO_RGB = True
except ImportError:  # pydicom 2
    from pydicom.pixel_data_handlers.util import (
        apply_color_lut,
        apply_modality_lut,
        apply_voi_lut,
        convert_color_space,
    )

    DECODES_TO_RGB = False

WHITE = 255.0


@dataclass(frozen=True)
class Interest:
    """The first lookup table or window of interest of an image, or none.

    Args:
        dataset: the image, or the attributes of a frame.
    """

    dataset: Dataset

    @cached_property
    def has_table(self) -> bool:
        """Whether a lookup table says what is black and white."""
        return bool(self.dataset.get("VOILUTSequence"))

    @cached_property
    def window(self) -> tuple[float, float, str] | None:
        """Centre, width > 0 and function of the first window, or None."""
        center, width = _first(self.dataset.get("WindowCenter")), _first(self.dataset.get("WindowWidth"))
        if center is None or width is None or width <= 0:
            return None
        return center, width, str(self.dataset.get("VOILUTFunction") or "LINEAR").upper()

    @property
    def scales(self) -> bool:
        """Whether 0 is black and 255 white after it."""
        return self.has_table or self.window is not None

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return modality values as 0 (black) to 255 (white), or as they are without any window; float64."""
        if self.has_table:
            bits = int(self.dataset.VOILUTSequence[0].LUTDescriptor[2]) or 16
            table = apply_voi_lut(values, self.dataset, index=0, prefer_lut=True)
            return table.astype(np.float64) * (WHITE / (2**bits - 1))
        if self.window is None:
            return values.astype(np.float64)
        center, width, function = self.window
        return window(values, center=center, width=width, function=function) * WHITE


def display_values(stored: np.ndarray, attributes: Dataset) -> np.ndarray:
    """Return one image or frame as a viewer shows it.

    Args:
        stored: `(rows, columns[, 3])`.
        attributes: the image's, or the frame's of `frame_attributes`.

    Returns:
        `(C, rows, columns)` float32, C 1 or 3: 0 to 255 with a window or lookup table of interest and for
        palettes, else modality values, reversed for MONOCHROME1; padding is black.
    """
    if has_colours(attributes):
        return colour_values(stored, attributes)
    interest = Interest(attributes)
    values, padding = grey_values(stored, attributes, interest)
    inside = values[~padding] if not padding.all() else values
    dark, bright = (0.0, WHITE) if interest.scales else (float(inside.min()), float(inside.max()))
    shown = shaded(values, padding, dark=dark, bright=bright, reverse=is_reversed(attributes))
    return shown.astype(np.float32)[None]


def has_colours(attributes: Dataset) -> bool:
    """Tell whether an image or frame has colours, of its own or of a palette."""
    return not str(attributes.get("PhotometricInterpretation")).startswith("MONOCHROME")


def colour_values(stored: np.ndarray, attributes: Dataset) -> np.ndarray:
    """Return `(3, rows, columns)` float32, red, green and blue; palettes from 0 to 255."""
    photometric = str(attributes.get("PhotometricInterpretation"))
    if photometric == "PALETTE COLOR":
        palette = apply_color_lut(stored, attributes)
        stored = palette * (WHITE / np.iinfo(palette.dtype).max)
    elif photometric in ("YBR_FULL", "YBR_FULL_422") and not DECODES_TO_RGB:
        stored = convert_color_space(stored, photometric, "RGB")
    return np.ascontiguousarray(np.moveaxis(stored[..., :3], -1, 0), dtype=np.float32)


def grey_values(stored: np.ndarray, attributes: Dataset, interest: Interest) -> tuple[np.ndarray, np.ndarray]:
    """Rescale stored pixels and apply a window, which may be another image's.

    Returns:
        Values, float64, and where they are padding, both of the shape of `stored`.
    """
    values = interest.apply(apply_modality_lut(stored, attributes))
    return values, _padding(stored, attributes)


def shaded(
    values: np.ndarray, padding: np.ndarray, *, dark: float, bright: float, reverse: bool
) -> np.ndarray:
    """Reverse values between dark and bright if asked, and make padding dark."""
    shown = dark + bright - values if reverse else values
    return np.where(padding, dark, shown) if padding.any() else shown


def is_reversed(attributes: Dataset) -> bool:
    """Tell whether high values are dark: MONOCHROME1, or an inverse presentation."""
    photometric = str(attributes.get("PhotometricInterpretation"))
    return photometric == "MONOCHROME1" or attributes.get("PresentationLUTShape") == "INVERSE"


def window(values: np.ndarray, *, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Map values to 0 (black) to 1 (white) through a DICOM window.

    Args:
        values: modality values of any shape.
        center: window centre.
        width: window width, > 0.
        function: "LINEAR" `(x - (c - 0.5)) / (w - 1) + 0.5`, "LINEAR_EXACT" `(x - c) / w + 0.5`, both cut to
            0..1, or "SIGMOID" `1 / (1 + exp(-4 (x - c) / w))`.

    Raises:
        ValueError: when `width` is not positive or `function` is none of the three.

    Reference:
        DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3.
    """
    if width <= 0:
        raise ValueError(f"width must be > 0, got {width}")
    x = np.asarray(values, dtype=np.float64)
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (x - center) / width, -700.0, 700.0)))
    if function == "LINEAR_EXACT":
        return np.clip((x - center) / width + 0.5, 0.0, 1.0)
    if function != "LINEAR":
        raise ValueError(f"function must be LINEAR, LINEAR_EXACT or SIGMOID, got {function!r}")
    if width <= 1:
        return (x > center - 0.5).astype(np.float64)
    return np.clip((x - (center - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _padding(stored: np.ndarray, attributes: Dataset) -> np.ndarray:
    """Return where stored values are padding (PS3.3 C.7.5.1.1.2): a value, or a range with its limit."""
    value = attributes.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    limit = attributes.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return (stored >= low) & (stored <= high)


def _first(value: object) -> float | None:
    """Return the first of a DICOM decimal or list of decimals."""
    if value is None or value == "":
        return None
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        return float(value[0]) if len(value) else None
    return float(str(value))

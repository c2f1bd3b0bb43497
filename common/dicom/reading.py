"""Pixels of a single-frame DICOM file with the brightness that a viewer gives them, and their geometry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

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
# Patient directions of PS3.3 C.7.6.1.1.1 as steps in RAS+ space.
_DIRECTIONS = {
    "L": (-1.0, 0.0, 0.0),
    "R": (1.0, 0.0, 0.0),
    "A": (0.0, 1.0, 0.0),
    "P": (0.0, -1.0, 0.0),
    "H": (0.0, 0.0, 1.0),
    "F": (0.0, 0.0, -1.0),
}


@dataclass(frozen=True)
class DicomPixels:
    """Pixels on the stored grid, with display brightness.

    Args:
        pixels: `(C, Rows, Columns)` float32; C is 1, or 3 for colour. With a window or lookup table of
            interest 0 is black and 255 white; otherwise modality values (such as HU), reversed for
            MONOCHROME1.
        directions: 4 x 4, from (row, column, normal) to RAS+ millimetres; exact for images with a position
            and orientation, directions alone for those with Patient Orientation; None when the file has
            neither.
        positioned: whether `directions` is a true affine.
        spacing: row and column distance in mm, or None when unknown.
        spacing_kind: "patient" (Pixel Spacing), "detector" (Imager Pixel Spacing, at the detector's plane,
            larger than in the patient) or "unknown".
    """

    pixels: np.ndarray
    directions: np.ndarray | None
    positioned: bool
    spacing: tuple[float, float] | None
    spacing_kind: str


def is_dicom(path: str | Path) -> bool:
    """Tell whether a file has the DICOM preamble, whatever its name."""
    with Path(path).open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom_pixels(path: str | Path) -> DicomPixels:
    """Read one single-frame DICOM image as a viewer shows it, on the grid on which it is stored.

    Rescale slope and intercept or the modality lookup table, the first window (linear, exact or sigmoid) or
    lookup table of interest, padding pixels (made black), palettes, colour spaces and MONOCHROME1 are
    applied.

    Raises:
        ValueError: when the file is no DICOM image, cannot be decoded or has several frames; the file is
            named.

    Reference:
        DICOM PS3.3, C.7.6.1.1.1 (Patient Orientation), C.7.6.2 (Image Plane), C.11.1 and C.11.2 (lookup
        tables).
    """
    try:
        dataset = pydicom.dcmread(path)
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} must be a readable DICOM file, got: {error}") from error
    if "PixelData" not in dataset:
        kind = dataset.get("Modality") or "unknown modality"
        raise ValueError(f"{path} must be a DICOM file with pixels, got one without ({kind})")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(f"{path} must have a single frame, got {frames}: split it into one file per frame")
    try:
        pixels = _display_values(dataset)
    except Exception as error:  # decoders raise their own kinds
        raise ValueError(f"{path} must hold pixels that can be decoded, got: {error}") from error
    spacing, kind = pixel_spacing(dataset)
    directions, positioned = patient_directions(dataset, spacing)
    return DicomPixels(pixels, directions, positioned, spacing, kind)


def _display_values(dataset: Dataset) -> np.ndarray:
    """Return `(C, Rows, Columns)` float32 as described in `DicomPixels`."""
    stored = dataset.pixel_array
    photometric = str(dataset.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        palette = apply_color_lut(stored, dataset)
        return _channels_first(palette * (WHITE / np.iinfo(palette.dtype).max))
    if stored.ndim == 3:
        if photometric in ("YBR_FULL", "YBR_FULL_422") and not DECODES_TO_RGB:
            stored = convert_color_space(stored, photometric, "RGB")
        return _channels_first(stored)
    values, scaled = _interest(apply_modality_lut(stored, dataset), dataset)
    padding = _padding(stored, dataset)
    inside = values[~padding] if not padding.all() else values
    dark, bright = (0.0, WHITE) if scaled else (float(inside.min()), float(inside.max()))
    if photometric == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        values = dark + bright - values
    if padding.any():
        values = np.where(padding, dark, values)
    return values.astype(np.float32)[None]


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(pixels[..., :3], -1, 0), dtype=np.float32)


def _interest(values: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, bool]:
    """Apply the first lookup table or window of interest; return values and whether they are now 0 to 255."""
    sequence = dataset.get("VOILUTSequence")
    if sequence:
        bits = int(sequence[0].LUTDescriptor[2]) or 16
        table = apply_voi_lut(values, dataset, index=0, prefer_lut=True)
        return table.astype(np.float64) * (WHITE / (2**bits - 1)), True
    center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if center is None or width is None or width <= 0:
        return values.astype(np.float64), False
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    return window(values, center=center, width=width, function=function) * WHITE, True


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


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return where stored values are padding (PS3.3 C.7.5.1.1.2): a value, or a range with its limit."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return (stored >= low) & (stored <= high)


def _first(value: object) -> float | None:
    """Return the first of a DICOM decimal or list of decimals."""
    if value is None or value == "":
        return None
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        return float(value[0]) if len(value) else None
    return float(str(value))


def pixel_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, str]:
    """Return row and column spacing in mm and its kind; zero or missing spacing is unknown."""
    detector = _pair(dataset.get("ImagerPixelSpacing"))
    patient = _pair(dataset.get("PixelSpacing"))
    if patient is not None and (patient != detector or "PixelSpacingCalibrationType" in dataset):
        return patient, "patient"
    if detector is not None:
        return detector, "detector"
    return None, "unknown"


def _pair(value: object) -> tuple[float, float] | None:
    if not isinstance(value, (list, tuple, pydicom.multival.MultiValue)) or len(value) != 2:
        return None
    row, column = float(value[0]), float(value[1])
    return (row, column) if row > 0 and column > 0 else None


def patient_directions(
    dataset: Dataset, spacing: tuple[float, float] | None
) -> tuple[np.ndarray | None, bool]:
    """Return `DicomPixels.directions` and `positioned`."""
    cosines = dataset.get("ImageOrientationPatient")
    if cosines is not None and len(cosines) == 6:
        across, down = np.array(cosines[:3], dtype=float), np.array(cosines[3:], dtype=float)
        position = dataset.get("ImagePositionPatient")
        located = position is not None and len(position) == 3 and spacing is not None
        row, column = spacing or (1.0, 1.0)
        affine = np.eye(4)
        affine[:3, :3] = np.stack([down * row, across * column, np.cross(across, down)], axis=1)
        affine[:3, 3] = np.array(position, dtype=float) if located else 0.0
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, located  # LPS of DICOM to RAS
    letters = [str(direction)[:1].upper() for direction in dataset.get("PatientOrientation") or []]
    if len(letters) != 2 or any(letter not in _DIRECTIONS for letter in letters):
        return None, False
    across, down = (np.array(_DIRECTIONS[letter]) for letter in letters)
    if abs(float(across @ down)) > 0:  # both along one axis: says nothing
        return None, False
    affine = np.eye(4)
    affine[:3, :3] = np.stack([down, across, np.cross(across, down)], axis=1)
    return affine, False

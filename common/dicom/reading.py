"""Pixels of a single-frame DICOM file with the brightness that a viewer gives them, and their geometry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from .brightness import display_values
from .brightness import window as window
from .decoding import stored_pixels
from .files import is_dicom as is_dicom
from .files import number_of_frames, read_image
from .frames import frame_attributes

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


def read_dicom_pixels(path: str | Path, *, frame: int | None = None) -> DicomPixels:
    """Read one DICOM image as a viewer shows it, on the grid on which it is stored.

    Rescale slope and intercept or the modality lookup table, the first window (linear, exact or sigmoid) or
    lookup table of interest, padding pixels (made black), palettes, colour spaces and MONOCHROME1 are
    applied.

    Args:
        path: the file.
        frame: which frame, from 0, of a file of several, such as a cine of ultrasound; None for the only one.

    Raises:
        ValueError: when the file is no DICOM image, is cut off, cannot be decoded, has several frames and none
            is named, or not the one that is; the file is named.

    Reference:
        DICOM PS3.3, C.7.6.1.1.1 (Patient Orientation), C.7.6.2 (Image Plane), C.11.1 and C.11.2 (lookup
        tables).
    """
    dataset = read_image(path)
    frames = number_of_frames(dataset)
    if frame is None and frames > 1:
        raise ValueError(f"{path} must have a single frame, got {frames}: split it into one file per frame")
    if frame is not None and not 0 <= frame < frames:
        raise ValueError(f"frame must be 0 to {frames - 1} for {path}, got {frame}")
    stored = stored_pixels(dataset, where=path)
    attributes = frame_attributes(dataset, frame or 0)
    try:
        pixels = display_values(stored[frame or 0] if frames > 1 else stored, attributes)
    except Exception as error:  # lookup tables and windows that make no sense
        raise ValueError(
            f"{path} must have a window and lookup tables that can be applied, got: {error}"
        ) from error
    spacing, kind = pixel_spacing(attributes)
    directions, positioned = patient_directions(attributes, spacing)
    return DicomPixels(pixels, directions, positioned, spacing, kind)


def pixel_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, str]:
    """Return row and column spacing in mm and its kind; zero or missing spacing is unknown."""
    dataset = frame_attributes(dataset)
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
    """Return `DicomPixels.directions` and `positioned`, of the first frame of several."""
    dataset = frame_attributes(dataset)
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

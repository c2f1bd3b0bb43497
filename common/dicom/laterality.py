"""Whose left a report means, and on which half of the displayed picture that left lies.

Reports speak of the patient's left. Upright chest pictures and axial slices show it on the right, as if the
patient faced the reader, but a file may store its pixels either way, and may not say which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset

from ..text import translate_sentence
from .reading import patient_directions, pixel_spacing

if TYPE_CHECKING:
    from ..transforms.display import DisplayOrder

GRIDS = ("display", "stored")
VOLUME = "volume"
TARGETS = ("image", "patient")
_SEEN = ("ES",)  # modalities whose reports speak of the picture: an endoscope has no patient's left
_MINIMUM_COSINE = 0.5  # of the angle between the columns' direction and left-right: at most 60 degrees off


@dataclass(frozen=True)
class PatientLeft:
    """Where the patient's left lies in a picture.

    Args:
        half: "right" or "left" half of the picture, None when it lies on neither (a lateral view).
        known: whether the file says so; otherwise the usual display is assumed.
        warning: what is uncertain, in words; empty when nothing is.
    """

    half: str | None
    known: bool
    warning: str = ""


def usual_laterality(modality: str) -> str:
    """Return whose left a sentence about an image means: the patient's, but the picture's in endoscopy.

    Args:
        modality: of DICOM.
    """
    return "image" if modality.upper() in _SEEN else "patient"


def display_order(dataset: Dataset) -> DisplayOrder:
    """Return how `load_image` turns the stored pixels of one frame for display.

    By Image Orientation (Patient), else Patient Orientation; a file with neither is displayed as stored.
    """
    from ..transforms.display import DisplayOrder, anatomical_order  # MONAI comes with it: only when needed

    directions, _ = patient_directions(dataset, pixel_spacing(dataset)[0])
    order = None if directions is None else anatomical_order(directions, (0, 1))
    return order or DisplayOrder.identity(2)


def patient_left(dataset: Dataset, *, grid: str = "display") -> PatientLeft:
    """Say on which half of the picture the patient's left lies.

    `L\\F` (columns run to the patient's left) puts it on the right half, `R\\F` stored on the left half;
    `load_image` mirrors the latter, so that it too is displayed with the patient's left on the right.

    Args:
        dataset: a DICOM image; only Image Orientation (Patient) and Patient Orientation are read.
        grid: "display" for pixels as `load_image` gives them, "stored" for the file's own rows and columns,
            "volume" for slices as `load_series` gives them, which are axial however they were taken.

    Returns:
        The half. Without an orientation, the usual display is assumed and said so.

    Raises:
        ValueError: if the grid is unknown.

    Reference:
        DICOM PS3.3, C.7.6.1.1.1 (Patient Orientation), C.7.6.2.1.1 (Image Orientation).
    """
    if grid not in (*GRIDS, VOLUME):
        raise ValueError(f"grid must be 'display', 'stored' or 'volume', got {grid!r}")
    directions, _ = patient_directions(dataset, pixel_spacing(dataset)[0])
    if grid == VOLUME and directions is not None:
        return PatientLeft("right", True)
    if directions is None:
        return PatientLeft(
            "right",
            False,
            "the file does not say how the patient lies in the picture: the patient's left is taken to be on the"
            " right half; check a side marker",
        )
    order = display_order(dataset)
    axis, flipped = (order.axes[1], order.flips[1]) if grid == "display" else (1, False)
    across = directions[:3, axis] * (-1.0 if flipped else 1.0)
    return _half(-float(across[0] / np.linalg.norm(across)))  # RAS: left is minus x


def _half(towards_left: float) -> PatientLeft:
    """Tell the half from the cosine between columns to the right of the picture and the patient's left."""
    if abs(towards_left) < _MINIMUM_COSINE:
        return PatientLeft(
            None, True, "the picture shows the patient from the side: left and right are not halves of it"
        )
    return PatientLeft("right" if towards_left > 0 else "left", True)


def sentence_for_image(
    sentence: str | None, dataset: Dataset, *, target: str = "image", grid: str = "display"
) -> tuple[str, str]:
    """Translate a report's sentence, which speaks of the patient's left, for a bundle.

    Args:
        sentence: a sentence about the patient; None is the empty sentence.
        dataset: the DICOM image that it describes.
        target: the laterality that the bundle was trained with: "image" (left is the left half of the picture)
            or "patient".
        grid: which pixels the bundle sees, "display", "stored" or "volume", see `patient_left`.

    Returns:
        The sentence, and what is uncertain about its sides (empty when nothing is, or when the sentence stays
        as it is because the target is "patient").

    Raises:
        ValueError: if target or grid are unknown.
        TypeError: if the sentence is neither a string nor None.

    Example:
        "lower left lung" of a `L\\F` picture is "lower right lung" of the image.
    """
    if target not in TARGETS:
        raise ValueError(f"target must be 'image' or 'patient', got {target!r}")
    left = patient_left(dataset, grid=grid)
    if target == "patient":
        return translate_sentence(sentence, "patient", "patient"), ""
    # where the patient's left lies on the left half, image and patient agree
    source = "image" if left.half == "left" else "patient"
    return translate_sentence(sentence, source, "image"), left.warning

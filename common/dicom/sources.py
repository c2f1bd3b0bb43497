"""The images that a mask was made of: one file or one series, checked, with what the mask's file needs of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import DA, TM

from .output import derived_uid, quietly
from .reading import pixel_spacing

_PIXELS = frozenset({0x7FE00010, 0x7FE00008, 0x7FE00009})
_TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
_TYPE_2 += ("StudyDate", "StudyTime", "ReferringPhysicianName")
_SEXES = ("", "M", "F", "O")
_SAME_DIRECTION = 1e-3


@dataclass(frozen=True)
class SourceImages:
    """Checked images of one series, without their pixels.

    Args:
        datasets: one per file, in the order in which they were given.
        shape: frames (of all files), rows, columns.
        positions: `(frames, 3)` corner of every frame in mm in the patient (LPS), or None without geometry.
        orientation: `(6,)` direction cosines of rows and columns, or None without geometry.
        spacing: row and column distance in mm of the geometry, or None without geometry.
    """

    datasets: tuple[Dataset, ...]
    shape: tuple[int, int, int]
    positions: np.ndarray | None = None
    orientation: np.ndarray | None = None
    spacing: tuple[float, float] | None = None

    @property
    def first(self) -> Dataset:
        """The first file, of which patient and study are copied."""
        return self.datasets[0]

    @property
    def is_multiframe(self) -> bool:
        """Whether the frames lie in one file."""
        return len(self.datasets) == 1 and self.shape[0] > 1


def source_images(source: Dataset | Sequence[Dataset]) -> SourceImages:
    """Check that images can be the source of one segmentation, and complete what is missing.

    SOP class and instance UIDs that are empty are taken from the file meta information; study and series UIDs
    that are empty (some anonymised files) are derived from the frame of reference or the instance, with a
    warning; missing attributes of the patient and study become empty ones, malformed dates and sexes too.

    Args:
        source: one image (CR, DX, CT …; multi-frame with geometry), or the images of one series with geometry.

    Returns:
        The images; the given datasets are not changed.

    Raises:
        TypeError: when the source is no dataset or sequence of datasets.
        ValueError: when it is empty, holds no images, or images that do not belong together.

    Reference:
        DICOM PS3.3, C.7.6.2 (Image Plane), C.7.4.1 (Frame of Reference).
    """
    given = [source] if isinstance(source, Dataset) else list(source)
    if not all(isinstance(dataset, Dataset) for dataset in given):
        raise TypeError(
            "source must be a pydicom Dataset or a sequence of them: read paths with dcmread first"
        )
    if not given:
        raise ValueError("source must hold at least one image, got none")
    with quietly():
        datasets = tuple(_attributes(dataset) for dataset in given)
    _warn_of_derived(given)
    _check_together(datasets)
    frames = sum(_frames(dataset) for dataset in datasets)
    shape = (frames, int(datasets[0].Rows), int(datasets[0].Columns))
    planes = [_plane(dataset, frame) for dataset in datasets for frame in range(_frames(dataset))]
    if any(plane is None for plane in planes):
        return _without_geometry(datasets, shape)
    positions, orientations, spacings = (np.array(values) for values in zip(*planes, strict=True))
    if np.ptp(orientations, axis=0).max() > _SAME_DIRECTION:
        raise ValueError("source must be images of one orientation, got several: leave out the localizers")
    spacing = (float(spacings[0][0]), float(spacings[0][1]))
    return SourceImages(datasets, shape, positions, orientations[0], spacing)


def _without_geometry(datasets: tuple[Dataset, ...], shape: tuple[int, int, int]) -> SourceImages:
    if shape[0] > 1:
        needed = "Image Position and Orientation (Patient), Pixel Spacing and a Frame of Reference UID"
        raise ValueError(
            f"source must be one single-frame image, or have {needed} in every frame; got {shape[0]} frames"
            " without: write one segmentation per image"
        )
    if "ImagePositionPatient" in datasets[0]:  # half a geometry is none
        del datasets[0].ImagePositionPatient
    return SourceImages(datasets, shape)


def _attributes(dataset: Dataset) -> Dataset:
    """Return a copy without pixels and private attributes, with the identifiers and type 2 attributes."""
    kind = dataset.get("Modality") or "unknown modality"
    if "Rows" not in dataset or "Columns" not in dataset:
        raise ValueError(f"source must be an image, got a file without Rows and Columns ({kind})")
    if kind == "SEG":
        raise ValueError("source must be the image that was segmented, got a segmentation (SEG)")
    attributes = Dataset()
    for tag in dataset.keys():  # noqa: SIM118 - iterating a dataset decodes its elements, pixels too
        if tag not in _PIXELS and not tag.is_private:
            attributes[tag] = copy(dataset[tag])  # setting a value changes the element itself
    attributes.file_meta = getattr(dataset, "file_meta", None) or Dataset()
    _identify(attributes)
    if "PixelSpacing" in attributes and pixel_spacing(attributes)[1] == "unknown":
        del attributes.PixelSpacing  # zero: what is written must not repeat it
    _complete(attributes)
    return attributes


def _identify(attributes: Dataset) -> None:
    """Fill in identifiers that are empty, as `source_images` says."""
    meta = attributes.file_meta
    attributes.SOPClassUID = attributes.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID", "")
    attributes.SOPInstanceUID = attributes.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID", "")
    if not attributes.SOPClassUID or not attributes.SOPInstanceUID:
        raise ValueError("source must have a SOP Class UID and a SOP Instance UID, got an image without")
    if not UID(attributes.SOPClassUID).keyword:
        raise ValueError(
            "source must be of a standard SOP class, got a private or unknown one: convert it first"
        )
    anchor = str(attributes.get("FrameOfReferenceUID") or attributes.SOPInstanceUID)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not attributes.get(keyword):
            setattr(attributes, keyword, derived_uid(keyword, anchor))
    if "FrameOfReferenceUID" in attributes and not attributes.FrameOfReferenceUID:
        del attributes.FrameOfReferenceUID


def _complete(attributes: Dataset) -> None:
    """Make type 2 attributes exist and be well-formed, so that no error or log line repeats their values."""
    for keyword in _TYPE_2:
        if attributes.get(keyword) is None:
            setattr(attributes, keyword, "")
    if str(attributes.PatientSex) not in _SEXES:
        attributes.PatientSex = ""
    for keyword, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            kind(str(getattr(attributes, keyword)))
        except ValueError:
            setattr(attributes, keyword, "")


def _warn_of_derived(given: Sequence[Dataset]) -> None:
    missing = [
        keyword
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID")
        if not all(dataset.get(keyword) for dataset in given)
    ]
    if missing:
        names = " and ".join(missing)
        warnings.warn(
            f"the source has no {names}: what is written gets a derived one, and will not be filed with the images",
            stacklevel=4,
        )


def _check_together(datasets: Sequence[Dataset]) -> None:
    for keyword, name in (("StudyInstanceUID", "study"), ("SeriesInstanceUID", "series")):
        count = len({str(dataset.get(keyword)) for dataset in datasets})
        if count > 1:
            raise ValueError(
                f"source must be images of one {name}, got {count} of them: write one file for each"
            )
    if len({str(dataset.get("FrameOfReferenceUID")) for dataset in datasets}) > 1:
        raise ValueError("source must have one Frame of Reference UID, got several")
    sizes = sorted({(int(dataset.Rows), int(dataset.Columns)) for dataset in datasets})
    if len(sizes) > 1:
        raise ValueError(f"source must be images of one size (rows, columns), got {sizes}")
    if len({str(dataset.SOPInstanceUID) for dataset in datasets}) < len(datasets):
        raise ValueError("source must be different images, got the same SOP Instance UID twice")
    if len(datasets) > 1 and any(_frames(dataset) > 1 for dataset in datasets):
        raise ValueError(
            f"source must be single-frame images or one multi-frame image, got {len(datasets)} files"
        )


def _frames(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


_Plane = tuple[np.ndarray, np.ndarray, np.ndarray]


def _plane(dataset: Dataset, frame: int) -> _Plane | None:
    """Return position, orientation and spacing of a frame, or None when one of them is missing."""
    if "FrameOfReferenceUID" not in dataset:
        return None
    wanted = (
        ("PlanePositionSequence", "ImagePositionPatient", 3),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        ("PixelMeasuresSequence", "PixelSpacing", 2),
    )
    values = [_frame_value(dataset, frame, macro, keyword) for macro, keyword, _ in wanted]
    if any(len(value) != length for value, (_, _, length) in zip(values, wanted, strict=True)):
        return None
    position, orientation, spacing = (np.array(value, dtype=float) for value in values)
    return (position, orientation, spacing) if spacing.min() > 0 else None


def _frame_value(dataset: Dataset, frame: int, macro: str, keyword: str) -> Sequence[float]:
    """Find an attribute of a frame: at the root, or in the frame's or the shared functional groups."""
    if dataset.get(keyword):
        return list(dataset[keyword].value)
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups)
        group = items[index] if items and index < len(items) else Dataset()
        if group.get(macro):
            return list(group[macro].value[0].get(keyword) or ())
    return ()

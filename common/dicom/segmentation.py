"""Masks as DICOM segmentations: a binary segment per label, on the grid and with the identity of its source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from .codes import CodedTerm, SegmentCodes, coded, listed_segment_codes
from .laterality import GRIDS, display_order
from .output import (
    MAX_TEXT,
    Equipment,
    Identifiers,
    check_text,
    creation_time,
    import_highdicom,
    instance_attributes,
    quietly,
    save_dataset,
    stamp,
)
from .sources import SourceImages, source_images

SERIES_NUMBER = 9001
SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
_FAMILY = CodedTerm("123110", "DCM", "Artificial Intelligence")
_PROCESSING = CodedTerm("109102", "DCM", "Processing Equipment")
Codes = str | Mapping[str, Any] | SegmentCodes


def write_segmentation(
    mask: np.ndarray,
    source: Dataset | Sequence[Dataset],
    path: str | Path,
    *,
    codes: Codes | Sequence[Codes],
    algorithm_name: str,
    algorithm_version: str,
    **options: Any,
) -> Path:
    """Write a mask as a DICOM segmentation; the file gets its name when it is complete.

    Args:
        mask: see `segmentation_dataset`.
        source: see `segmentation_dataset`.
        path: the file to write; folders are made.
        codes: see `segmentation_dataset`.
        algorithm_name: see `segmentation_dataset`.
        algorithm_version: see `segmentation_dataset`.
        **options: the other arguments of `segmentation_dataset`.

    Returns:
        The path.
    """
    dataset = segmentation_dataset(
        mask,
        source,
        codes=codes,
        algorithm_name=algorithm_name,
        algorithm_version=algorithm_version,
        **options,
    )
    return save_dataset(dataset, path)


def segmentation_dataset(
    mask: np.ndarray,
    source: Dataset | Sequence[Dataset],
    *,
    codes: Codes | Sequence[Codes],
    algorithm_name: str,
    algorithm_version: str,
    grid: str = "display",
    equipment: Equipment | None = None,
    series_description: str | None = None,
    series_number: int = SERIES_NUMBER,
    instance_number: int = 1,
    uid_seed: str | None = None,
    created: datetime | None = None,
) -> Dataset:
    """Return a binary DICOM segmentation of one image or one series.

    Patient and study are the source's. With geometry, frames have the position and orientation of their source
    frames, and empty frames are left out; without (CR, DX), there is one frame per segment, which refers to the
    source image, pixel for pixel. **An empty mask is a result**: it becomes one empty frame per segment. Where some
    segments of a series are not empty, an empty one is described and has no frame.

    Args:
        mask: booleans, or integers with 0 for background and n for the n-th segment; `(rows, columns)` or
            `(1, rows, columns)` for one image, `(frames, rows, columns)` in the order of `source` otherwise.
        source: the image or series, read with pydicom; pixels are not needed.
        codes: what each segment shows: a name of `segment_code_names`, a mapping, or a `SegmentCodes`; one, or
            a sequence of one per segment.
        algorithm_name: name of the network or bundle, at most 64 characters.
        algorithm_version: its version, at most 64 characters.
        grid: "display" for a mask on the grid of `load_image`, which may mirror the stored pixels, "stored" for
            one on the file's own rows and columns.
        equipment: what makes the file; default this software.
        series_description: default the first segment's label and the algorithm's name.
        series_number: at least 1.
        instance_number: at least 1.
        uid_seed: text that makes all identifiers, and with the source's date all bytes, the same for the same
            input; None for random identifiers and the time of the clock.
        created: time of creation; None for the clock's, or with a seed the source's.

    Raises:
        ImportError: when highdicom is not installed.
        TypeError: when the source is no dataset.
        ValueError: when mask, source or codes do not fit together; the message says what must be.

    Reference:
        DICOM PS3.3, A.51 (Segmentation IOD) and C.8.20.
    """
    images = source_images(source)
    described = listed_segment_codes(codes)
    stored = _stored_mask(mask, images, len(described), grid)
    check_text("algorithm_name", algorithm_name)
    check_text("algorithm_version", algorithm_version)
    identifiers = Identifiers(
        uid_seed,
        *(str(dataset.SOPInstanceUID) for dataset in images.datasets),
        repr((described, algorithm_name, algorithm_version, equipment, stored.shape)),
        hashlib.sha256(stored.tobytes()).digest(),
    )
    dataset = _build(
        stored,
        images,
        segments=_segments(described, algorithm_name, algorithm_version, identifiers),
        identifiers=identifiers,
        equipment=equipment or Equipment(),
        description=series_description or f"{described[0].label}, {algorithm_name}"[:MAX_TEXT],
        numbers=(series_number, instance_number),
    )
    if images.positions is None:  # rows and columns still have a direction, where the source says so
        dataset.PatientOrientation = images.first.get("PatientOrientation") or ""
    stamp(dataset, creation_time(images.first, seed=uid_seed, created=created), identifiers)
    return dataset


def read_segmentation(segmentation: Dataset, source: Dataset | Sequence[Dataset]) -> np.ndarray:
    """Return the mask of a binary segmentation of an image or series, on the stored grid.

    Args:
        segmentation: a segmentation with one source frame per frame, such as `segmentation_dataset` makes.
        source: the images it was made of, in any order.

    Returns:
        `(frames, rows, columns)` uint8, frames in the order of `source`: 0, or the number of the segment.

    Raises:
        ValueError: when the dataset is no binary segmentation of these images.
    """
    images = source_images(source)
    if (
        segmentation.get("SOPClassUID") != SEGMENTATION_CLASS
        or segmentation.get("SegmentationType") != "BINARY"
    ):
        raise ValueError(
            f"segmentation must be a binary DICOM segmentation, got {segmentation.get('Modality')}"
        )
    if (segmentation.Rows, segmentation.Columns) != images.shape[1:]:
        raise ValueError(f"segmentation must have the size of its source, {images.shape[1:]}, got another")
    frames = segmentation.pixel_array.reshape(-1, *images.shape[1:])
    groups = segmentation.PerFrameFunctionalGroupsSequence
    mask = np.zeros(images.shape, dtype=np.uint8)
    for frame, group, number in zip(frames, groups, segment_of_frames(segmentation), strict=True):
        if frame.any():  # the frame of an empty mask has no source frame
            mask[_source_frame(group, images)][frame > 0] = number
    return mask


def segment_of_frames(segmentation: Dataset) -> list[int]:
    """Return the number of the segment of every frame; it stands in the shared groups when there is one alone."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    return [
        int(
            (group if "SegmentIdentificationSequence" in group else shared)
            .SegmentIdentificationSequence[0]
            .ReferencedSegmentNumber
        )
        for group in segmentation.PerFrameFunctionalGroupsSequence
    ]


def _source_frame(group: Dataset, images: SourceImages) -> int:
    """Return the index of the frame that a segmentation's frame was made of."""
    derivation = group.get("DerivationImageSequence")
    reference = derivation[0].SourceImageSequence[0] if derivation else Dataset()
    if images.is_multiframe and reference.get("ReferencedSOPInstanceUID") == images.first.SOPInstanceUID:
        return int(reference.ReferencedFrameNumber) - 1
    uids = [dataset.SOPInstanceUID for dataset in images.datasets]
    if reference.get("ReferencedSOPInstanceUID") not in uids:
        raise ValueError("segmentation must refer to the given source, got one of other images")
    return uids.index(reference.ReferencedSOPInstanceUID)


def _stored_mask(mask: np.ndarray, images: SourceImages, segments: int, grid: str) -> np.ndarray:
    """Return `(frames, rows, columns)` uint8 on the stored grid, or say what is wrong with the mask."""
    if grid not in GRIDS:
        raise ValueError(f"grid must be 'display' or 'stored', got {grid!r}")
    values = np.asarray(mask)
    if values.dtype.kind not in "bui":
        raise ValueError(f"mask must be of booleans or integers (threshold it first), got {values.dtype}")
    values = values[None] if values.ndim == 2 else values
    order = display_order(images.first) if grid == "display" else None
    sides = images.shape[1:] if order is None else tuple(images.shape[1 + axis] for axis in order.axes)
    expected = (images.shape[0], *sides)
    if values.shape != expected:
        raise ValueError(
            f"mask must have the shape of its source on the {grid} grid, {expected}, got {tuple(np.shape(mask))}"
        )
    low, high = values.min(), values.max()
    if low < 0 or high > segments:
        raise ValueError(f"mask must have values from 0 to {segments} (one per code), got {low} to {high}")
    values = values.astype(np.uint8)
    if order is not None:
        flipped = [1 + axis for axis, flip in enumerate(order.flips) if flip]
        values = np.flip(values, flipped) if flipped else values
        values = values.transpose(0, *(1 + order.axes.index(axis) for axis in range(2)))
    return np.ascontiguousarray(values)


def _segments(
    described: Sequence[SegmentCodes], name: str, version: str, identifiers: Identifiers
) -> list[Dataset]:
    """Return highdicom's description of every segment."""
    highdicom = import_highdicom()
    segments = []
    for number, codes in enumerate(described, start=1):
        segment = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=codes.label,
            segmented_property_category=coded(codes.category),
            segmented_property_type=coded(codes.type),
            algorithm_type="AUTOMATIC",
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name=name, family=coded(_FAMILY), version=version
            ),
            tracking_uid=identifiers.uid(f"tracking {number}"),
            tracking_id=f"{codes.label} {number}"[:MAX_TEXT],
            anatomic_regions=None if codes.anatomy is None else [coded(codes.anatomy)],
        )
        if codes.modifier is not None:
            item = segment.SegmentedPropertyTypeCodeSequence[0]
            item.SegmentedPropertyTypeModifierCodeSequence = [coded(codes.modifier)]
        segments.append(segment)
    return segments


def _build(
    stored: np.ndarray,
    images: SourceImages,
    *,
    segments: list[Dataset],
    identifiers: Identifiers,
    equipment: Equipment,
    description: str,
    numbers: tuple[int, int],
) -> Dataset:
    """Let highdicom put the segmentation together."""
    highdicom = import_highdicom()
    empty_series = images.positions is not None and not stored.any()
    positions = None
    if empty_series and images.shape[0] > 1:  # one empty frame says it, where the source begins
        stored = stored[:1]
        positions = [highdicom.PlanePositionSequence("PATIENT", [float(x) for x in images.positions[0]])]
    contribution = highdicom.ContributingEquipment(
        manufacturer=equipment.manufacturer,
        purpose_of_reference=coded(_PROCESSING),
        manufacturer_model_name=equipment.model_name,
        software_versions=equipment.software_versions,
        contribution_description="Automatic segmentation",
    )
    with quietly():
        return highdicom.seg.Segmentation(
            source_images=list(images.datasets),
            pixel_array=stored,
            segmentation_type="BINARY",
            segment_descriptions=segments,
            **instance_attributes(identifiers, equipment, numbers),
            content_label="SEGMENTATION",
            content_description=description,
            series_description=description,
            omit_empty_frames=images.shape[0] > 1 and not empty_series,
            plane_positions=positions,
            contributing_equipment=[contribution],
        )

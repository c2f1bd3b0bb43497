"""Measurement reports: what a segmentation measures, and from which sentence it was made, as a DICOM SR."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from .codes import CodedTerm, coded
from .laterality import patient_left
from .measures import SegmentMeasures, measure_segment
from .output import (
    Equipment,
    Identifiers,
    creation_time,
    derived_uid,
    import_highdicom,
    instance_attributes,
    quietly,
    save_dataset,
    stamp,
)
from .segmentation import read_segmentation, segment_of_frames
from .sources import SourceImages, source_images

SERIES_NUMBER = 9002
LATERALITIES = {
    "patient": "Left and right in the sentence are the patient's.",
    "image": "Left and right in the sentence are the halves of the displayed picture.",
}
_COUNT = CodedTerm("111406", "DCM", "Number of similar findings")
_AREA = CodedTerm("42798000", "SCT", "Area")
_VOLUME = CodedTerm("118565006", "SCT", "Volume")
_COMMENT = CodedTerm("121106", "DCM", "Comment")
_PROCEDURE = CodedTerm("363679005", "SCT", "Imaging procedure")
_DEVICE = CodedTerm("121007", "DCM", "Device")
_UNITS = {
    "count": CodedTerm("1", "UCUM", "no units"),
    "mm2": CodedTerm("mm2", "UCUM", "square millimeter"),
    "ml": CodedTerm("ml", "UCUM", "milliliter"),
}
_DIGITS = 6  # significant, of a decimal string of 16 characters


def write_measurement_report(
    segmentation: Dataset | str | Path,
    source: Dataset | Sequence[Dataset],
    path: str | Path,
    *,
    sentence: str | None = "",
    laterality: str = "patient",
    **options: Any,
) -> Path:
    """Write the measurement report of a segmentation; the file gets its name when it is complete.

    Args:
        segmentation: see `measurement_report_dataset`.
        source: see `measurement_report_dataset`.
        path: the file to write; folders are made.
        sentence: see `measurement_report_dataset`.
        laterality: see `measurement_report_dataset`.
        **options: the other arguments of `measurement_report_dataset`.

    Returns:
        The path.
    """
    report = measurement_report_dataset(
        segmentation, source, sentence=sentence, laterality=laterality, **options
    )
    return save_dataset(report, path)


def measurement_report_dataset(
    segmentation: Dataset | str | Path,
    source: Dataset | Sequence[Dataset],
    *,
    sentence: str | None = "",
    laterality: str = "patient",
    comments: Sequence[str] = (),
    series_number: int = SERIES_NUMBER,
    instance_number: int = 1,
    uid_seed: str | None = None,
    created: datetime | None = None,
) -> Dataset:
    """Return the measurement report (TID 1500) of a segmentation that `write_segmentation` wrote.

    One measurement group per segment: planar for one image, volumetric for a series. It refers to the segment
    and its source, has the segment's codes, tracking identifiers and algorithm, the number of findings, the area
    (one image with a pixel spacing) or volume, and as comments the sentence, its laterality, and what the numbers
    mean. Comprehensive SR for images without a frame of reference, Comprehensive 3D SR for others. The report is
    complete, preliminary and unverified: no person has read it.

    Args:
        segmentation: the segmentation, or its file.
        source: the images it was made of.
        sentence: the text that the network was given; "" for none; None where the network reads no sentences.
        laterality: whose left and right the sentence means, "patient" or "image".
        comments: further remarks, such as warnings.
        series_number: at least 1.
        instance_number: at least 1.
        uid_seed: as for `segmentation_dataset`.
        created: as for `segmentation_dataset`.

    Raises:
        ImportError: when highdicom is not installed.
        ValueError: when the laterality is unknown or the segmentation is not of these images.

    Reference:
        DICOM PS3.16, TID 1500, TID 1410, TID 1411; PS3.3, A.35.3 and A.35.13.
    """
    if laterality not in LATERALITIES:
        raise ValueError(f"laterality must be one of {tuple(LATERALITIES)}, got {laterality!r}")
    images = source_images(source)
    segments = segmentation if isinstance(segmentation, Dataset) else pydicom.dcmread(segmentation)
    mask = read_segmentation(segments, source)
    remarks = [*_remarks(images, sentence, laterality), *comments]
    identifiers = Identifiers(uid_seed, str(segments.SOPInstanceUID), repr((remarks, laterality)))
    groups = [
        _group(
            segment, segments, images, measure_segment(mask == int(segment.SegmentNumber), images), remarks
        )
        for segment in segments.SegmentSequence
    ]
    report = _build(
        groups, segments, images, identifiers=identifiers, numbers=(series_number, instance_number)
    )
    stamp(report, creation_time(images.first, seed=uid_seed, created=created), identifiers)
    return report


def _remarks(images: SourceImages, sentence: str | None, laterality: str) -> list[str]:
    if sentence is None:
        return []
    if not sentence:
        return ["No sentence was given to the algorithm."]
    warning = patient_left(images.first).warning if laterality == "image" else ""
    return [
        f"Sentence given to the algorithm: {sentence}",
        LATERALITIES[laterality],
        *([f"Note: {warning}."] if warning else []),
    ]


def _group(
    segment: Dataset, segmentation: Dataset, images: SourceImages, sizes: SegmentMeasures, remarks: list[str]
) -> Any:
    """Return the measurement group of one segment."""
    sr = import_highdicom().sr
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    common = {
        "tracking_identifier": sr.TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        "finding_category": _concept(segment.SegmentedPropertyCategoryCodeSequence[0]),
        "finding_type": _concept(segment.SegmentedPropertyTypeCodeSequence[0]),
        "algorithm_id": sr.AlgorithmIdentification(
            name=algorithm.AlgorithmName, version=algorithm.AlgorithmVersion
        ),
        "finding_sites": [
            sr.FindingSite(_concept(site)) for site in segment.get("AnatomicRegionSequence") or ()
        ],
        "measurements": _measurements(sizes),
    }
    number = int(segment.SegmentNumber)
    if images.shape[0] == 1:
        reference = sr.ReferencedSegmentationFrame(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            frame_number=segment_of_frames(segmentation).index(number) + 1,
            segment_number=number,
            source_image=_source_image(images.first),
        )
        # the frame tells the segment: the standard wants no segment number beside a frame number
        del reference[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
        group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=reference, **common)
    else:
        volume = sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_images=[_source_image(dataset) for dataset in images.datasets],
        )
        group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=volume, **common)
    for remark in [*remarks, f"{sizes.meaning} The segment is {sizes.share:.3%} of all pixels."]:
        group[0].ContentSequence.append(
            sr.TextContentItem(name=coded(_COMMENT), value=remark, relationship_type="CONTAINS")
        )
    return group


def _concept(item: Dataset) -> Any:
    """Return a code of a segmentation as a coded concept."""
    return coded(CodedTerm(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning)))


def _source_image(dataset: Dataset) -> Any:
    return import_highdicom().sr.SourceImageForSegmentation(dataset.SOPClassUID, dataset.SOPInstanceUID)


def _measurements(sizes: SegmentMeasures) -> list[Any]:
    found = [(_COUNT, sizes.findings, "count")]
    if sizes.area_mm2 is not None:
        found.append((_AREA, _rounded(sizes.area_mm2), "mm2"))
    if sizes.volume_ml is not None:
        found.append((_VOLUME, _rounded(sizes.volume_ml), "ml"))
    measurement = import_highdicom().sr.Measurement
    return [
        measurement(name=coded(name), value=value, unit=coded(_UNITS[unit])) for name, value, unit in found
    ]


def _rounded(value: float) -> float:
    return float(np.format_float_positional(value, precision=_DIGITS, fractional=False))


def _build(
    groups: list[Any],
    segmentation: Dataset,
    images: SourceImages,
    *,
    identifiers: Identifiers,
    numbers: tuple[int, int],
) -> Dataset:
    """Let highdicom put the report together."""
    sr = import_highdicom().sr
    algorithm = segmentation.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    equipment = Equipment(
        manufacturer=segmentation.Manufacturer,
        model_name=segmentation.ManufacturerModelName,
        serial_number=segmentation.DeviceSerialNumber,
        software_versions=str(segmentation.SoftwareVersions),
    )
    observer = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid(
            "device", *vars(equipment).values(), algorithm.AlgorithmName, algorithm.AlgorithmVersion
        ),
        name=algorithm.AlgorithmName,
        manufacturer_name=equipment.manufacturer,
        model_name=equipment.model_name,
        serial_number=equipment.serial_number,
    )
    with quietly():
        context = sr.ObservationContext(observer_device_context=sr.ObserverContext(coded(_DEVICE), observer))
        content = sr.MeasurementReport(
            observation_context=context, procedure_reported=coded(_PROCEDURE), imaging_measurements=groups
        )
        document = sr.ComprehensiveSR if images.positions is None else sr.Comprehensive3DSR
        return document(
            evidence=[*images.datasets, segmentation],
            content=content,
            **instance_attributes(identifiers, equipment, numbers),
            series_description="Measurements of the segmentation",
            is_complete=True,
        )

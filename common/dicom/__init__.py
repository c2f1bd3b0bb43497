"""DICOM files: pixels as a viewer shows them, sentences and their left and right, and writing masks and reports."""

from __future__ import annotations

from .codes import CodedTerm, SegmentCodes, class_codes, segment_code_names, segment_codes
from .files import check_modality, is_dicom
from .laterality import PatientLeft, patient_left, sentence_for_image, usual_laterality
from .measures import SegmentMeasures, measure_segment
from .output import Equipment
from .reading import DicomPixels, read_dicom_pixels
from .segmentation import read_segmentation, segmentation_dataset, write_segmentation
from .sentence import report_text, says_something, sentence_from_dicom
from .series import DicomFiles, Series, list_series, scan_dicom
from .sources import SourceImages, source_images
from .structured_report import measurement_report_dataset, write_measurement_report
from .volume import is_series, load_series, mask_to_frames, series_files, series_headers

__all__ = [
    "CodedTerm",
    "DicomFiles",
    "DicomPixels",
    "Equipment",
    "PatientLeft",
    "SegmentCodes",
    "SegmentMeasures",
    "Series",
    "SourceImages",
    "check_modality",
    "class_codes",
    "is_dicom",
    "is_series",
    "list_series",
    "load_series",
    "mask_to_frames",
    "measure_segment",
    "measurement_report_dataset",
    "patient_left",
    "read_dicom_pixels",
    "read_segmentation",
    "report_text",
    "says_something",
    "scan_dicom",
    "segment_code_names",
    "segment_codes",
    "segmentation_dataset",
    "sentence_for_image",
    "sentence_from_dicom",
    "series_files",
    "series_headers",
    "source_images",
    "usual_laterality",
    "write_measurement_report",
    "write_segmentation",
]

"""Tests of measurement reports: numbers, references, tracking, text, determinism, clear errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from common.dicom import (
    measure_segment,
    measurement_report_dataset,
    segmentation_dataset,
    source_images,
    write_measurement_report,
    write_segmentation,
)

highdicom = pytest.importorskip("highdicom")

INFILTRATE: dict[str, Any] = {
    "codes": "pulmonary_infiltrate",
    "algorithm_name": "SSA",
    "algorithm_version": "0.1.0",
    "grid": "stored",
}
SENTENCE = "Opacity in the lower left lung, µ = 3."


def values(group: Any) -> dict[str, tuple[float, str]]:
    return {each.name.meaning: (each.value, each.unit.value) for each in group.get_measurements()}


def comments(dataset: Dataset) -> list[str]:
    found = (
        [str(dataset.TextValue)] if dataset.get("ConceptNameCodeSequence") and "TextValue" in dataset else []
    )
    for child in dataset.get("ContentSequence") or ():
        found += comments(child)
    return found


class TestPlanar:
    def test_radiograph(
        self, tmp_path: Path, radiograph: Dataset, mask: np.ndarray, errors_of: Callable[[Path], list[str]]
    ) -> None:
        radiograph.ImagerPixelSpacing = [0.5, 0.2]
        seg = write_segmentation(mask, radiograph, tmp_path / "seg.dcm", **INFILTRATE)
        path = write_measurement_report(seg, radiograph, tmp_path / "sr.dcm", sentence=SENTENCE)
        assert errors_of(path) == []
        report, segmentation = highdicom.sr.srread(path), pydicom.dcmread(seg)
        assert isinstance(report, highdicom.sr.ComprehensiveSR)
        (group,) = report.content.get_planar_roi_measurement_groups()
        assert values(group) == {"Number of similar findings": (2, "1"), "Area": (pytest.approx(0.7), "mm2")}
        frame = group.referenced_segmentation_frame
        assert frame.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert frame.referenced_frame_numbers == [1]
        image = frame.source_image_for_segmentation
        assert image.referenced_sop_instance_uid == radiograph.SOPInstanceUID
        segment = segmentation.SegmentSequence[0]
        assert (group.tracking_uid, group.tracking_identifier) == (segment.TrackingUID, segment.TrackingID)
        assert group.finding_type == segment.SegmentedPropertyTypeCodeSequence[0]
        assert group.finding_sites[0].value == segment.AnatomicRegionSequence[0]

    def test_text(self, radiograph: Dataset, mask: np.ndarray) -> None:
        radiograph.ImagerPixelSpacing = [0.5, 0.2]
        seg = segmentation_dataset(mask, radiograph, **INFILTRATE)
        said = comments(
            measurement_report_dataset(seg, radiograph, sentence=SENTENCE, comments=["Check the sides."])
        )
        assert f"Sentence given to the algorithm: {SENTENCE}" in said
        assert "Left and right in the sentence are the patient's." in said
        assert "Check the sides." in said
        assert any("plane of the detector" in text and "14.583% of all pixels" in text for text in said)
        assert {"SSA", "0.1.0"} <= set(said)
        del radiograph.PatientOrientation
        seg = segmentation_dataset(mask, radiograph, **INFILTRATE)
        said = comments(measurement_report_dataset(seg, radiograph, sentence=SENTENCE, laterality="image"))
        assert "Left and right in the sentence are the halves of the displayed picture." in said
        assert any("does not say how the patient lies" in text for text in said)
        said = comments(measurement_report_dataset(seg, radiograph))
        assert "No sentence was given to the algorithm." in said

    def test_patient_study_and_evidence(self, tmp_path: Path, radiograph: Dataset, mask: np.ndarray) -> None:
        seg = segmentation_dataset(mask, radiograph, **INFILTRATE)
        path = write_measurement_report(seg, radiograph, tmp_path / "sr.dcm", sentence=SENTENCE)
        report = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
            assert report.get(name) == radiograph.get(name), name
        evidence = {
            instance.ReferencedSOPInstanceUID
            for series in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
            for instance in series.ReferencedSOPSequence
        }
        assert evidence == {radiograph.SOPInstanceUID, seg.SOPInstanceUID}
        assert (report.VerificationFlag, report.CompletionFlag) == ("UNVERIFIED", "COMPLETE")
        assert report.Manufacturer == seg.Manufacturer

    @pytest.mark.parametrize("name", ["chest_cr_monochrome1_j2k.dcm", "dx_image.dcm", "ct_image.dcm"])
    def test_real_images(
        self, name: str, tmp_path: Path, real_data: Path, errors_of: Callable[[Path], list[str]]
    ) -> None:
        source = pydicom.dcmread(real_data / "dicom" / name)
        found = np.zeros((source.Rows, source.Columns), dtype=bool)
        for part in (found, ~found):
            seg = segmentation_dataset(part, source, **INFILTRATE)
            path = write_measurement_report(seg, source, tmp_path / "sr.dcm", sentence=SENTENCE)
            assert errors_of(path) == []


class TestVolumetric:
    def test_series(
        self,
        tmp_path: Path,
        slices: list[Dataset],
        mask: np.ndarray,
        errors_of: Callable[[Path], list[str]],
    ) -> None:
        volume = np.stack([mask, mask, np.zeros_like(mask)])
        seg = segmentation_dataset(volume, slices, **INFILTRATE)
        path = write_measurement_report(seg, slices, tmp_path / "sr.dcm", sentence=SENTENCE)
        assert errors_of(path) == []
        report = highdicom.sr.srread(path)
        assert isinstance(report, highdicom.sr.Comprehensive3DSR)
        (group,) = report.content.get_volumetric_roi_measurement_groups()
        # 7 pixels of 0.125 mm², of 2 mm at the top and of 2.5 mm below
        expected = pytest.approx(7 * 0.125 * 4.5 / 1000)
        assert values(group) == {"Number of similar findings": (2, "1"), "Volume": (expected, "ml")}
        assert group.referenced_segment.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert group.referenced_segment.referenced_segment_numbers == [1]
        images = group.referenced_segment.source_images_for_segmentation
        assert [each.referenced_sop_instance_uid for each in images] == [
            each.SOPInstanceUID for each in slices
        ]

    def test_every_segment_has_a_group_even_an_empty_one(
        self, tmp_path: Path, slices: list[Dataset], errors_of: Callable[[Path], list[str]]
    ) -> None:
        volume = np.zeros((3, 6, 8), dtype=int)
        volume[1, 2:4, 2:4] = 2
        seg = segmentation_dataset(volume, slices, **{**INFILTRATE, "codes": ["liver", "spleen"]})
        path = write_measurement_report(seg, slices, tmp_path / "sr.dcm")
        assert errors_of(path) == []
        groups = highdicom.sr.srread(path).content.get_volumetric_roi_measurement_groups()
        assert [values(each)["Number of similar findings"][0] for each in groups] == [0, 1]
        assert [values(each)["Volume"][0] for each in groups] == [0, pytest.approx(4 * 0.125 * 2.5 / 1000)]
        single = segmentation_dataset(volume[1], slices[1], **{**INFILTRATE, "codes": ["liver", "spleen"]})
        assert single.NumberOfFrames == 2
        path = write_measurement_report(single, slices[1], tmp_path / "one.dcm")
        groups = highdicom.sr.srread(path).content.get_planar_roi_measurement_groups()
        assert [values(each)["Area"][0] for each in groups] == [0, 0.5]
        frames = [each.referenced_segmentation_frame.referenced_frame_numbers for each in groups]
        assert frames == [[1], [2]]


class TestMeasures:
    def test_spacing_kinds(self, radiograph: Dataset, mask: np.ndarray) -> None:
        sizes = measure_segment(mask[None], source_images(radiograph))
        assert (sizes.area_mm2, sizes.spacing_kind, sizes.findings) == (None, "unknown", 2)
        radiograph.ImagerPixelSpacing, radiograph.PixelSpacing = [0.5, 0.2], [0.4, 0.1]
        sizes = measure_segment(mask[None], source_images(radiograph))
        assert (sizes.area_mm2, sizes.spacing_kind) == (pytest.approx(7 * 0.04), "patient")
        radiograph.PixelSpacing = [0, 0]
        sizes = measure_segment(mask[None], source_images(radiograph))
        assert (sizes.area_mm2, sizes.spacing_kind) == (pytest.approx(0.7), "detector")
        assert sizes.share == pytest.approx(7 / 48)

    def test_volume_does_not_depend_on_the_order(self, slices: list[Dataset]) -> None:
        volume = np.random.default_rng(0).random((3, 6, 8)) > 0.7
        forward = measure_segment(volume, source_images(slices))
        mixed = measure_segment(volume[[2, 0, 1]], source_images([slices[2], slices[0], slices[1]]))
        assert mixed == forward

    def test_parts_touch_at_corners(self, slices: list[Dataset]) -> None:
        volume = np.zeros((3, 6, 8), dtype=bool)
        volume[0, 0, 0] = volume[1, 1, 1] = volume[2, 4, 4] = True
        assert measure_segment(volume, source_images(slices)).findings == 2

    def test_shape(self, radiograph: Dataset) -> None:
        with pytest.raises(ValueError, match=r"shape of its source, \(1, 6, 8\), got \(6, 8\)"):
            measure_segment(np.zeros((6, 8)), source_images(radiograph))


def test_same_input_and_seed_give_the_same_bytes(
    tmp_path: Path, radiograph: Dataset, mask: np.ndarray
) -> None:
    seg = segmentation_dataset(mask, radiograph, uid_seed="a", **INFILTRATE)
    paths = [
        write_measurement_report(seg, radiograph, tmp_path / name, sentence=SENTENCE, uid_seed="a")
        for name in "ab"
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    other = measurement_report_dataset(seg, radiograph, sentence="Another.", uid_seed="a")
    assert other.SOPInstanceUID != pydicom.dcmread(paths[0]).SOPInstanceUID


def test_errors(radiograph: Dataset, slices: list[Dataset], mask: np.ndarray) -> None:
    seg = segmentation_dataset(mask, radiograph, **INFILTRATE)
    with pytest.raises(ValueError, match=r"laterality must be one of \('patient', 'image'\), got 'mine'"):
        measurement_report_dataset(seg, radiograph, laterality="mine")
    with pytest.raises(ValueError, match="must refer to the given source"):
        measurement_report_dataset(seg, slices[1])

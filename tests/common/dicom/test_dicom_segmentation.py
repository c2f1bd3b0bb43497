"""Tests of DICOM segmentations: the same mask back, the source's identity, codes, determinism, clear errors."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionaries

from common.dicom import (
    Equipment,
    SegmentCodes,
    class_codes,
    read_segmentation,
    segment_code_names,
    segment_codes,
    segmentation_dataset,
    source_images,
    write_segmentation,
)
from common.dicom.codes import is_uncoded

pytest.importorskip("highdicom")
import highdicom

SCT = dictionaries.SCT

PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
)
PATIENT_AND_STUDY += ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName")
ALGORITHM: dict[str, Any] = {"algorithm_name": "SSA", "algorithm_version": "0.1.0"}
INFILTRATE: dict[str, Any] = {"codes": "pulmonary_infiltrate", **ALGORITHM}


def written(path: Path, mask: np.ndarray, source: Dataset | list[Dataset], **options: Any) -> Dataset:
    return pydicom.dcmread(write_segmentation(mask, source, path / "seg.dcm", **{**INFILTRATE, **options}))


class TestMask:
    def test_radiograph_comes_back(
        self, tmp_path: Path, radiograph: Dataset, mask: np.ndarray, errors_of: Callable[[Path], list[str]]
    ) -> None:
        dataset = written(tmp_path, mask, radiograph)
        np.testing.assert_array_equal(dataset.pixel_array, mask)
        np.testing.assert_array_equal(read_segmentation(dataset, radiograph)[0], mask)
        assert "FrameOfReferenceUID" not in dataset
        assert list(dataset.PatientOrientation) == ["L", "F"]
        assert errors_of(tmp_path / "seg.dcm") == []

    def test_mirrored_radiograph_goes_back_to_the_stored_grid(
        self, tmp_path: Path, radiograph: Dataset, mask: np.ndarray
    ) -> None:
        radiograph.PatientOrientation = ["R", "F"]
        np.testing.assert_array_equal(written(tmp_path, mask, radiograph).pixel_array, mask[:, ::-1])
        np.testing.assert_array_equal(written(tmp_path, mask, radiograph, grid="stored").pixel_array, mask)

    def test_turned_radiograph_swaps_rows_and_columns(
        self, tmp_path: Path, radiograph: Dataset, mask: np.ndarray
    ) -> None:
        radiograph.PatientOrientation = ["F", "L"]  # columns run down the patient
        np.testing.assert_array_equal(written(tmp_path, mask.T, radiograph).pixel_array, mask)
        with pytest.raises(ValueError, match=r"display grid, \(1, 8, 6\), got \(6, 8\)"):
            written(tmp_path, mask, radiograph)

    def test_series_comes_back_in_any_order(
        self, tmp_path: Path, slices: list[Dataset], mask: np.ndarray, errors_of: Callable[[Path], list[str]]
    ) -> None:
        volume = np.stack([mask, np.zeros_like(mask), mask[::-1]])
        dataset = written(tmp_path, volume, slices)
        assert dataset.NumberOfFrames == 2  # the empty one is left out
        np.testing.assert_array_equal(read_segmentation(dataset, slices), volume)
        np.testing.assert_array_equal(read_segmentation(dataset, slices[::-1]), volume[::-1])
        found = highdicom.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_instance(
            [each.SOPInstanceUID for each in slices],
            segment_numbers=[1],
            assert_missing_frames_are_empty=True,
        )
        np.testing.assert_array_equal(found[..., 0], volume)
        assert dataset.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
        places = {
            tuple(group.PlanePositionSequence[0].ImagePositionPatient)
            for group in dataset.PerFrameFunctionalGroupsSequence
        }
        assert places == {(-3, -4, 15), (-3, -4, 10)}
        assert errors_of(tmp_path / "seg.dcm") == []

    def test_prone_series_is_turned_back(
        self, tmp_path: Path, slices: list[Dataset], mask: np.ndarray
    ) -> None:
        for each in slices:
            each.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        volume = np.stack([mask, mask, mask])
        back = read_segmentation(written(tmp_path, volume, slices), slices)
        np.testing.assert_array_equal(back, volume[:, ::-1, ::-1])

    def test_multiframe_comes_back(self, tmp_path: Path, enhanced: Dataset, mask: np.ndarray) -> None:
        volume = np.stack([np.zeros_like(mask), mask, mask[:, ::-1]])
        dataset = written(tmp_path, volume, enhanced)
        assert dataset.NumberOfFrames == 2
        np.testing.assert_array_equal(read_segmentation(dataset, enhanced), volume)

    def test_several_segments(
        self, tmp_path: Path, slices: list[Dataset], errors_of: Callable[[Path], list[str]]
    ) -> None:
        organs = ["spleen", "right_kidney", "left_kidney", "liver"]
        volume = np.random.default_rng(0).integers(0, 5, (3, 6, 8))
        dataset = written(tmp_path, volume, slices, codes=organs)
        np.testing.assert_array_equal(read_segmentation(dataset, slices), volume)
        assert [each.SegmentLabel for each in dataset.SegmentSequence] == [
            "Spleen",
            "Right kidney",
            "Left kidney",
            "Liver",
        ]
        kidney = dataset.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
        assert kidney.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Right"
        assert errors_of(tmp_path / "seg.dcm") == []

    def test_empty_mask_is_one_empty_frame(
        self,
        tmp_path: Path,
        radiograph: Dataset,
        slices: list[Dataset],
        errors_of: Callable[[Path], list[str]],
    ) -> None:
        for source, shape in ((radiograph, (6, 8)), (slices, (3, 6, 8)), (slices[0], (6, 8))):
            dataset = written(tmp_path, np.zeros(shape, dtype=bool), source)
            assert dataset.NumberOfFrames == 1
            assert not read_segmentation(dataset, source).any()
            assert errors_of(tmp_path / "seg.dcm") == []

    @pytest.mark.parametrize("name", ["chest_cr_monochrome1_j2k.dcm", "dx_image.dcm", "ct_image.dcm"])
    def test_real_images(
        self, name: str, tmp_path: Path, real_data: Path, errors_of: Callable[[Path], list[str]]
    ) -> None:
        source = pydicom.dcmread(real_data / "dicom" / name)
        found = np.random.default_rng(0).random((source.Rows, source.Columns)) > 0.9
        dataset = written(tmp_path, found, source)
        np.testing.assert_array_equal(dataset.pixel_array, found)
        assert [dataset.get(name) for name in PATIENT_AND_STUDY] == [
            source.get(name, "") for name in PATIENT_AND_STUDY
        ]
        assert errors_of(tmp_path / "seg.dcm") == []

    def test_real_series(
        self, tmp_path: Path, real_data: Path, errors_of: Callable[[Path], list[str]]
    ) -> None:
        source = [pydicom.dcmread(path) for path in sorted((real_data / "dicom" / "ct_3slice").glob("*.dcm"))]
        volume = np.random.default_rng(0).random((3, 512, 512)) > 0.99
        dataset = written(tmp_path, volume, source)
        np.testing.assert_array_equal(read_segmentation(dataset, source), volume)
        assert dataset.StudyInstanceUID == source[0].StudyInstanceUID
        assert errors_of(tmp_path / "seg.dcm") == []

    def test_real_series_without_identifiers(
        self, tmp_path: Path, real_data: Path, errors_of: Callable[[Path], list[str]]
    ) -> None:
        source = [pydicom.dcmread(path) for path in sorted((real_data / "dicom" / "ct_series").iterdir())[:4]]
        volume = np.random.default_rng(0).random((4, 512, 512)) > 0.99
        with pytest.warns(UserWarning, match="no StudyInstanceUID and SeriesInstanceUID"):
            dataset = written(tmp_path, volume, source)
        with pytest.warns(UserWarning, match="gets a derived one"):
            np.testing.assert_array_equal(read_segmentation(dataset, source), volume)
        assert source[0].SOPInstanceUID == ""  # the caller's images stay as they were
        referenced = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert {each.ReferencedSOPInstanceUID for each in referenced} == {
            each.file_meta.MediaStorageSOPInstanceUID for each in source
        }
        assert errors_of(tmp_path / "seg.dcm") == []


class TestDescription:
    def test_codes_algorithm_and_equipment(
        self, tmp_path: Path, radiograph: Dataset, mask: np.ndarray
    ) -> None:
        equipment = Equipment(
            manufacturer="Lab", model_name="Bundle", serial_number="9", software_versions="3.2"
        )
        dataset = written(tmp_path, mask, radiograph, equipment=equipment)
        segment = dataset.SegmentSequence[0]
        codes = [
            segment.SegmentedPropertyCategoryCodeSequence[0],
            segment.SegmentedPropertyTypeCodeSequence[0],
            segment.AnatomicRegionSequence[0],
        ]
        assert {code.CodingSchemeDesignator for code in codes} == {"SCT"}
        assert [code.CodeValue for code in codes] == ["49755003", "409609008", "39607008"]
        assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("AUTOMATIC", "SSA")
        assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "0.1.0"
        assert segment.TrackingID == "Pulmonary infiltrate 1"
        assert segment.TrackingUID.startswith("2.25.")
        assert (dataset.Manufacturer, dataset.ManufacturerModelName) == ("Lab", "Bundle")
        assert (dataset.DeviceSerialNumber, dataset.SoftwareVersions) == ("9", "3.2")
        assert "Bundle" in [
            item.get("ManufacturerModelName") for item in dataset.ContributingEquipmentSequence
        ]
        assert dataset.SeriesDescription == "Pulmonary infiltrate, SSA"

    def test_patient_study_and_references(
        self, tmp_path: Path, slices: list[Dataset], mask: np.ndarray
    ) -> None:
        dataset = written(tmp_path, np.stack([mask] * 3), slices)
        for name in PATIENT_AND_STUDY:
            assert dataset.get(name) == slices[0].get(name), name
        assert dataset.SeriesInstanceUID != slices[0].SeriesInstanceUID
        series = dataset.ReferencedSeriesSequence[0]
        assert series.SeriesInstanceUID == slices[0].SeriesInstanceUID
        assert {each.ReferencedSOPInstanceUID for each in series.ReferencedInstanceSequence} == {
            each.SOPInstanceUID for each in slices
        }

    def test_patients_with_little_or_odd_data(
        self, tmp_path: Path, radiograph: Dataset, mask: np.ndarray, caplog: pytest.LogCaptureFixture
    ) -> None:
        del radiograph.AccessionNumber, radiograph.ReferringPhysicianName, radiograph.Manufacturer
        radiograph.PatientSex, radiograph.PatientName = "X", "Secretname"
        radiograph["PatientBirthDate"]._value = "1950"
        with caplog.at_level(logging.DEBUG):
            dataset = written(tmp_path, mask, radiograph)
        assert (dataset.PatientName, dataset.PatientSex, dataset.PatientBirthDate) == ("Secretname", "", "")
        assert "Secretname" not in caplog.text
        assert radiograph.PatientSex == "X"

    @pytest.mark.parametrize("overlay", ["abdomen", "cardiac", "brain", "phantom_heart"])
    def test_classes_of_the_bundle_of_volumes_are_coded(self, overlay: str) -> None:
        folder = (
            Path(__file__).resolve().parents[3] / "bundles" / "tcsa_uda_segmentation" / "configs" / "overlays"
        )
        content = json.loads((folder / f"{overlay}.json").read_text(encoding="utf-8"))
        known = {getattr(SCT, word).value for word in SCT.dir()}
        for name in list(content["labels"].values())[1:]:
            codes = class_codes(name)
            assert (codes.label, is_uncoded(codes)) == (name, False)
            for term in (codes.category, codes.type, codes.anatomy, codes.modifier):
                assert term is None or (term.scheme, term.value in known) == ("SCT", True), term

    def test_classes_without_a_code_are_tissue(self) -> None:
        codes = class_codes("Appendix")
        assert (codes.label, codes.type.meaning, is_uncoded(codes)) == ("Appendix", "Tissue", True)
        assert class_codes("Appendix", own={"Appendix": "polyp"}).type.value == "68496003"
        assert class_codes("Right  Kidney").modifier == segment_codes("right_kidney").modifier
        with pytest.raises(ValueError, match="label must have 1 to 64 characters, got 70"):
            class_codes("a" * 70)
        with pytest.raises(ValueError, match="codes must be one of"):
            class_codes("Appendix", own={"Appendix": "wart"})

    def test_codes_of_ones_own(self, radiograph: Dataset, mask: np.ndarray) -> None:
        own = {
            "label": "Nodule",
            "category": ["49755003", "SCT", "Morphologically Abnormal Structure"],
            "type": ["27925004", "SCT", "Nodule"],
        }
        dataset = segmentation_dataset(mask, radiograph, codes=own, **ALGORITHM)
        assert dataset.SegmentSequence[0].SegmentLabel == "Nodule"
        assert isinstance(segment_codes(own), SegmentCodes)
        assert {"pulmonary_infiltrate", "polyp", "liver"} <= set(segment_code_names())
        for name in segment_code_names():
            codes = segment_codes(name)
            assert {term.scheme for term in (codes.category, codes.type)} == {"SCT"}


class TestDeterminism:
    def test_same_input_and_seed_give_the_same_bytes(
        self, tmp_path: Path, slices: list[Dataset], mask: np.ndarray
    ) -> None:
        volume = np.stack([mask] * 3)
        paths = [
            write_segmentation(volume, slices, tmp_path / name, uid_seed="a", **INFILTRATE) for name in "ab"
        ]
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert pydicom.dcmread(paths[0]).ContentDate == slices[0].StudyDate
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]

    def test_identifiers_differ_where_anything_differs(self, radiograph: Dataset, mask: np.ndarray) -> None:
        def identifier(found: np.ndarray, **options: Any) -> str:
            return segmentation_dataset(found, radiograph, **{**INFILTRATE, **options}).SOPInstanceUID

        same = identifier(mask, uid_seed="a")
        others = {
            identifier(mask, uid_seed="b"),
            identifier(~mask, uid_seed="a"),
            identifier(mask, uid_seed="a", algorithm_version="0.2.0"),
            identifier(mask),
            identifier(mask),
        }
        assert len(others | {same}) == 6

    def test_time_may_be_given(self, radiograph: Dataset, mask: np.ndarray) -> None:
        dataset = segmentation_dataset(mask, radiograph, created=datetime(2025, 6, 7, 8, 9, 10), **INFILTRATE)
        assert (dataset.ContentDate, dataset.ContentTime) == ("20250607", "080910")


class TestErrors:
    def test_masks(self, radiograph: Dataset, slices: list[Dataset], mask: np.ndarray) -> None:
        def attempt(found: np.ndarray, source: Dataset | list[Dataset], **options: Any) -> None:
            segmentation_dataset(found, source, **{**INFILTRATE, **options})

        with pytest.raises(
            ValueError, match=r"must have the shape of its source .*\(3, 6, 8\), got \(6, 8\)"
        ):
            attempt(mask, slices)
        with pytest.raises(ValueError, match=r"booleans or integers \(threshold it first\), got float64"):
            attempt(mask * 0.5, radiograph)
        with pytest.raises(ValueError, match=r"values from 0 to 1 \(one per code\), got 0 to 2"):
            attempt(mask * 2, radiograph)
        with pytest.raises(ValueError, match="grid must be 'display' or 'stored', got 'world'"):
            attempt(mask, radiograph, grid="world")
        with pytest.raises(ValueError, match="algorithm_name must be 1 to 64 characters"):
            attempt(mask, radiograph, algorithm_name="")

    def test_codes(self, radiograph: Dataset, mask: np.ndarray) -> None:
        with pytest.raises(
            ValueError, match=r"codes must be one of \[.*'polyp'.*\] or a mapping, got 'wart'"
        ):
            segmentation_dataset(mask, radiograph, codes="wart", **ALGORITHM)
        with pytest.raises(ValueError, match="codes must describe at least one segment, got none"):
            segmentation_dataset(mask, radiograph, codes=[], **ALGORITHM)
        with pytest.raises(ValueError, match=r"codes must have \('label', 'category', 'type'\)"):
            segment_codes({"label": "x"})
        with pytest.raises(ValueError, match=r"type must be a code \[value, scheme, meaning\], got 'x'"):
            segment_codes({"label": "x", "category": ["1", "SCT", "y"], "type": "x"})

    def test_sources_that_do_not_belong_together(self, slices: list[Dataset], radiograph: Dataset) -> None:
        with pytest.raises(ValueError, match="different images, got the same SOP Instance UID twice"):
            source_images([slices[0], slices[0]])
        slices[1].SeriesInstanceUID += ".9"
        with pytest.raises(ValueError, match="images of one series, got 2 of them"):
            source_images(slices)
        slices[1].SeriesInstanceUID = slices[0].SeriesInstanceUID
        slices[1].Rows = 5
        with pytest.raises(ValueError, match=r"one size \(rows, columns\), got \[\(5, 8\), \(6, 8\)\]"):
            source_images(slices)
        slices[1].Rows = 6
        slices[1].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        with pytest.raises(ValueError, match="one orientation, got several: leave out the localizers"):
            source_images(slices)
        del slices[1].ImageOrientationPatient
        with pytest.raises(
            ValueError, match="one single-frame image, or have Image Position and Orientation"
        ):
            source_images(slices)
        radiograph.NumberOfFrames = 5
        with pytest.raises(ValueError, match="got 5 frames without: write one segmentation per image"):
            source_images(radiograph)

    def test_sources_that_are_no_images(self, radiograph: Dataset, mask: np.ndarray, real_data: Path) -> None:
        with pytest.raises(ValueError, match=r"got a file without Rows and Columns \(SR\)"):
            source_images(pydicom.dcmread(real_data / "dicom" / "sr_document.dcm"))
        with pytest.raises(ValueError, match=r"got a segmentation \(SEG\)"):
            source_images(segmentation_dataset(mask, radiograph, **INFILTRATE))
        with pytest.raises(ValueError, match="at least one image, got none"):
            source_images([])
        with pytest.raises(TypeError, match="must be a pydicom Dataset or a sequence of them"):
            source_images(["a.dcm"])
        radiograph.SOPClassUID = "1.2.3"
        with pytest.raises(ValueError, match="must be of a standard SOP class, got a private or unknown one"):
            source_images(radiograph)
        radiograph.SOPInstanceUID = ""
        with pytest.raises(ValueError, match="must have a SOP Class UID and a SOP Instance UID"):
            source_images(radiograph)

    def test_slice_without_a_frame_of_reference(self, slices: list[Dataset], mask: np.ndarray) -> None:
        del slices[0].FrameOfReferenceUID
        with pytest.raises(ValueError, match="no Frame Of Reference UID"):
            segmentation_dataset(mask, slices[0], **INFILTRATE)

    def test_segmentations_of_other_images(self, slices: list[Dataset], mask: np.ndarray) -> None:
        dataset = segmentation_dataset(mask, slices[0], **INFILTRATE)
        with pytest.raises(ValueError, match="must refer to the given source, got one of other images"):
            read_segmentation(dataset, slices[1])
        with pytest.raises(ValueError, match="must be a binary DICOM segmentation, got CT"):
            read_segmentation(slices[0], slices[0])


def test_importing_is_light(repository: Path) -> None:
    code = "import sys, common.dicom; print(sorted({'highdicom', 'monai', 'torch'} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"

"""Tests of sentences of DICOM images: where they come from, and whose left they mean."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from common.dicom import (
    measurement_report_dataset,
    patient_left,
    report_text,
    says_something,
    segmentation_dataset,
    sentence_for_image,
    sentence_from_dicom,
    usual_laterality,
)
from common.text import read_findings

FINDING = "Opacity in the lower left lung."


def structured_report(*items: tuple[str, str, str], study: str | None = None) -> Dataset:
    """Return a report of sections `(code, heading, text)`, each a container with a text."""
    report = Dataset()
    report.Modality = "SR"
    if study:
        report.StudyInstanceUID = study
    report.ContentSequence = []
    for code, heading, text in items:
        name, leaf, section = Dataset(), Dataset(), Dataset()
        name.CodeValue, name.CodeMeaning = code, heading
        leaf.ValueType, leaf.TextValue = "TEXT", text
        section.ValueType, section.ConceptNameCodeSequence, section.ContentSequence = (
            "CONTAINER",
            [name],
            [leaf],
        )
        report.ContentSequence.append(section)
    return report


class TestSources:
    @pytest.mark.parametrize(
        ("keyword", "source"),
        [
            ("ImageComments", "image_comments"),
            ("StudyDescription", "study_description"),
            ("SeriesDescription", "series_description"),
        ],
    )
    def test_attributes(self, keyword: str, source: str, radiograph: Dataset) -> None:
        setattr(radiograph, keyword, FINDING)
        assert sentence_from_dicom(radiograph) == (FINDING, source)
        assert sentence_from_dicom(radiograph, sources=["sidecar", "report"]) == ("", "none")

    def test_order_is_the_callers(self, radiograph: Dataset) -> None:
        radiograph.ImageComments, radiograph.StudyDescription = FINDING, "Bilateral pulmonary infection."
        assert sentence_from_dicom(radiograph)[1] == "image_comments"
        found = sentence_from_dicom(radiograph, sources=["study_description", "image_comments"])
        assert found == ("Bilateral pulmonary infection.", "study_description")

    def test_nothing_said_goes_on_to_the_next(self, radiograph: Dataset) -> None:
        radiograph.ImageComments, radiograph.SeriesDescription = "Uncompressed", FINDING
        assert sentence_from_dicom(radiograph) == (FINDING, "series_description")

    @pytest.mark.parametrize(
        "name",
        [
            *(
                "CHEST PA",
                "THORAX",
                "CHEST PA LEFT",
                "XR CHEST 1 VIEW",
                "LEFT LATERAL DECUBITUS",
                "L LATERAL",
            ),
            *(
                "CT CHEST W/O CONTRAST LUNG 1.0 B70f",
                "CT THORAX NO CONTRAST",
                "CT Body 3.0",
                "RIGHT SHOULDER",
            ),
            *(
                "CT LEFT LOWER EXTREMITY",
                "Right Kidney",
                "MAMMO LEFT CC",
                "e+1",
                "NORMAL DOSE",
                "Thorax^1HEAD",
            ),
        ],
    )
    def test_names_of_examinations_say_nothing(self, name: str, radiograph: Dataset) -> None:
        radiograph.StudyDescription = radiograph.SeriesDescription = name
        assert sentence_from_dicom(radiograph) == ("", "none")

    @pytest.mark.parametrize(
        "text",
        [
            *(FINDING, "No acute cardiopulmonary abnormality.", "Lungs are clear.", "right upper zone"),
            *("Two infected areas.", "Opacity in the left lateral lung.", "No pneumonia, no contrast given."),
        ],
    )
    def test_findings_and_their_absence_say_something(self, text: str) -> None:
        assert says_something(text)

    @pytest.mark.parametrize("text", ["", "Uncompressed", "without contrast", "left lateral decubitus"])
    def test_other_texts_do_not(self, text: str) -> None:
        assert not says_something(text)

    def test_sidecars(self, tmp_path: Path, radiograph: Dataset) -> None:
        image = tmp_path / "a.dcm"
        assert sentence_from_dicom(radiograph, sidecar=image) == ("", "none")
        (tmp_path / "a.txt").write_text(f"\ufeff{FINDING}\n", encoding="utf-8")
        assert sentence_from_dicom(radiograph, sidecar=image) == (FINDING, "sidecar")
        (tmp_path / "b.json").write_text(json.dumps({"id": 3, "text": FINDING}))
        assert sentence_from_dicom(radiograph, sidecar=tmp_path / "b.json") == (FINDING, "sidecar")
        (tmp_path / "a.dcm.json").write_text(json.dumps("Right upper lung opacity."))
        assert sentence_from_dicom(radiograph, sidecar=image)[0] == "Right upper lung opacity."

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"\xff\xfe\x00", "must be a readable text file in UTF-8, got UnicodeDecodeError"),
            (b"{", "must be valid JSON"),
            (b"[1]", "must be a JSON object or string, got list"),
            (b'{"text": 3}', "must hold its sentence as a string"),
        ],
    )
    def test_bad_sidecars(self, content: bytes, message: str, tmp_path: Path, radiograph: Dataset) -> None:
        path = tmp_path / "a.json"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.json {message}"):
            sentence_from_dicom(radiograph, sidecar=path)

    def test_unknown_source(self, radiograph: Dataset) -> None:
        with pytest.raises(ValueError, match=r"sources must be of .*, got \['rumour'\]"):
            sentence_from_dicom(radiograph, sources=["rumour"])

    def test_nothing_is_logged(self, radiograph: Dataset, caplog: pytest.LogCaptureFixture) -> None:
        radiograph.ImageComments = FINDING
        with caplog.at_level(logging.DEBUG):
            sentence_from_dicom(radiograph)
            sentence_for_image(FINDING, radiograph)
        assert "lung" not in caplog.text


class TestReports:
    def test_impression_before_findings_before_the_rest(self, radiograph: Dataset) -> None:
        report = structured_report(
            ("121060", "History", "Pneumonia of the right upper lung last year."),
            ("121070", "Findings", "Opacity in the left upper lung."),
            ("121072", "Impressions", FINDING),
        )
        assert sentence_from_dicom(radiograph, report=report) == (FINDING, "report")
        assert sentence_from_dicom(report) == (FINDING, "report")
        del report.ContentSequence[2]
        assert report_text(report) == "Opacity in the left upper lung."
        del report.ContentSequence[1]
        assert report_text(report) == "Pneumonia of the right upper lung last year."

    def test_headings_are_known_by_their_words(self) -> None:
        report = structured_report(
            ("F1", "FINDINGS", "Left upper lung opacity."), ("X", "Conclusion", FINDING)
        )
        assert report_text(report) == FINDING

    def test_report_of_another_study(self, radiograph: Dataset) -> None:
        report = structured_report(("121072", "Impressions", FINDING), study="1.2.3")
        with pytest.raises(
            ValueError, match="must be about the study of the image, got one of another study"
        ):
            sentence_from_dicom(radiograph, report=report)
        with pytest.raises(ValueError, match="must be a structured report, got modality CR"):
            sentence_from_dicom(radiograph, report=radiograph)

    def test_measurements_of_algorithms_are_no_reports(self, radiograph: Dataset, mask: np.ndarray) -> None:
        pytest.importorskip("highdicom")
        seg = segmentation_dataset(
            mask, radiograph, codes="pulmonary_infiltrate", algorithm_name="SSA", algorithm_version="1"
        )
        report = measurement_report_dataset(seg, radiograph, sentence=FINDING, laterality="image")
        assert sentence_from_dicom(report) == ("", "none")

    def test_real_files_have_no_sentences(self, real_data: Path) -> None:
        for name in ("chest_cr_monochrome1_j2k.dcm", "dx_image.dcm", "sr_example.dcm", "sr_document.dcm"):
            assert sentence_from_dicom(pydicom.dcmread(real_data / "dicom" / name)) == ("", "none")


class TestLaterality:
    @pytest.mark.parametrize(
        ("orientation", "displayed", "stored"),
        [
            (["L", "F"], "right", "right"),
            (["R", "F"], "right", "left"),
            (["R", "H"], "right", "left"),
            (["L", "H"], "right", "right"),
            (["LA", "F"], "right", "right"),
            (["A", "F"], None, None),
            (["P", "F"], None, None),
            (["F", "L"], "right", None),
        ],
    )
    def test_patient_orientation(
        self, orientation: list[str], displayed: str | None, stored: str | None, radiograph: Dataset
    ) -> None:
        radiograph.PatientOrientation = orientation
        assert patient_left(radiograph).half == displayed
        assert patient_left(radiograph, grid="stored").half == stored
        assert patient_left(radiograph).known
        assert bool(patient_left(radiograph).warning) == (displayed is None)

    @pytest.mark.parametrize(
        ("cosines", "stored"),
        [
            ([1, 0, 0, 0, 1, 0], "right"),
            ([-1, 0, 0, 0, -1, 0], "left"),
            ([0.9, 0.436, 0, -0.436, 0.9, 0], "right"),
            ([0, 1, 0, 0, 0, -1], None),
        ],
    )
    def test_image_orientation(self, cosines: list[float], stored: str | None, slices: list[Dataset]) -> None:
        slices[0].ImageOrientationPatient = cosines
        assert patient_left(slices[0], grid="stored").half == stored
        assert patient_left(slices[0]).half == ("right" if stored else None)

    def test_unknown_orientation_is_assumed_and_said(self, radiograph: Dataset) -> None:
        del radiograph.PatientOrientation
        left = patient_left(radiograph)
        assert (left.half, left.known) == ("right", False)
        sentence, warning = sentence_for_image(FINDING, radiograph)
        assert sentence == "Opacity in the lower right lung."
        assert "does not say how the patient lies" in warning

    def test_mirrored_pixels_as_stored(self, radiograph: Dataset) -> None:
        radiograph.PatientOrientation = ["R", "F"]
        assert sentence_for_image(FINDING, radiograph) == ("Opacity in the lower right lung.", "")
        assert sentence_for_image(FINDING, radiograph, grid="stored") == (FINDING, "")

    def test_bundles_of_the_patients_laterality(self, radiograph: Dataset) -> None:
        assert sentence_for_image(FINDING, radiograph, target="patient") == (FINDING, "")

    def test_lateral_views_are_warned_of(self, radiograph: Dataset) -> None:
        radiograph.PatientOrientation = ["A", "F"]
        assert "from the side" in sentence_for_image(FINDING, radiograph)[1]

    def test_errors(self, radiograph: Dataset) -> None:
        with pytest.raises(ValueError, match="target must be 'image' or 'patient', got 'left'"):
            sentence_for_image(FINDING, radiograph, target="left")
        with pytest.raises(ValueError, match="grid must be 'display', 'stored' or 'volume', got 'x'"):
            patient_left(radiograph, grid="x")

    def test_left_in_a_report_is_the_right_half_of_a_real_radiograph(self, real_data: Path) -> None:
        radiograph = pydicom.dcmread(real_data / "dicom" / "chest_cr_monochrome1_j2k.dcm")
        assert list(radiograph.PatientOrientation) == ["L", "F"]
        report = structured_report(("121072", "Impressions", FINDING))
        said, _ = sentence_from_dicom(radiograph, report=report)
        sentence, warning = sentence_for_image(said, radiograph)
        assert warning == ""
        assert read_findings(sentence).zones == {("right", "lower")}
        assert patient_left(radiograph).half == "right"

    @pytest.mark.parametrize(("orientation", "column"), [(["L", "F"], 7), (["R", "F"], 0)])
    def test_the_display_agrees_with_the_loader(
        self, orientation: list[str], column: int, radiograph: Dataset, tmp_path: Path
    ) -> None:
        """Mark the patient's left in the stored pixels, and find it on the half that `patient_left` names."""
        from common.transforms.loading import load_image

        radiograph.PatientOrientation = orientation
        stored = np.zeros((6, 8), dtype=np.uint8)
        stored[:, column] = 255
        radiograph.PhotometricInterpretation, radiograph.SamplesPerPixel = "MONOCHROME2", 1
        radiograph.BitsAllocated = radiograph.BitsStored = 8
        radiograph.HighBit, radiograph.PixelRepresentation = 7, 0
        radiograph.PixelData = stored.tobytes()
        radiograph["PixelData"].VR = "OB"
        radiograph.file_meta.MediaStorageSOPClassUID = radiograph.SOPClassUID
        radiograph.file_meta.MediaStorageSOPInstanceUID = radiograph.SOPInstanceUID
        radiograph.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        shown = load_image(tmp_path / "a.dcm")[0]
        assert patient_left(radiograph).half == "right"
        assert float(shown[:, 4:].sum()) > 0
        assert float(shown[:, :4].sum()) == 0

    @pytest.mark.parametrize("orientation", [["L", "F"], ["R", "F"]])
    def test_left_in_a_report_lands_on_the_right_half_of_a_real_picture(
        self, orientation: list[str], real_data: Path, tmp_path: Path
    ) -> None:
        """A bright square on the patient's left: the zone of the sentence holds it, and its mask finds it again."""
        from common.dicom import mask_to_frames
        from common.metrics import text_mask_consistency
        from common.text import zone_regions
        from common.transforms.loading import load_image

        radiograph = pydicom.dcmread(real_data / "dicom" / "chest_cr_monochrome1_j2k.dcm")
        stored = np.full((300, 240), 3000, dtype=np.uint16)  # MONOCHROME1: high is dark
        stored[240:280, 170:200] = 100
        radiograph.PatientOrientation = orientation
        radiograph.Rows, radiograph.Columns = stored.shape
        mirrored = orientation[0] == "R"
        radiograph.PixelData = np.ascontiguousarray(stored[:, ::-1] if mirrored else stored).tobytes()
        radiograph["PixelData"].VR, radiograph["PixelData"].is_undefined_length = "OW", False
        radiograph.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        radiograph.save_as(tmp_path / "a.dcm")
        report = structured_report(("121072", "Impressions", FINDING))
        sentence, _ = sentence_for_image(sentence_from_dicom(radiograph, report=report)[0], radiograph)
        shown = load_image(tmp_path / "a.dcm")
        found = (shown[0] == shown.max()).numpy()
        assert found.sum() == 40 * 30
        findings = read_findings(sentence)
        (zone,) = findings.zones
        assert not (found & ~zone_regions(*found.shape)[zone]).any()
        assert found[:, 120:].sum() == found.sum()
        scores = text_mask_consistency(found, findings)
        assert (scores.side, scores.zones) == (1, 1)
        frames = mask_to_frames(found, shown.meta)
        np.testing.assert_array_equal(frames[0], (stored[:, ::-1] if mirrored else stored) == 100)

    def test_volumes_are_displayed_with_the_left_on_the_right(self, slices: list[Dataset]) -> None:
        slices[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        assert patient_left(slices[0]).half is None
        assert patient_left(slices[0], grid="volume").half == "right"
        assert sentence_for_image(FINDING, slices[0], grid="volume") == (
            "Opacity in the lower right lung.",
            "",
        )


def test_endoscopes_know_no_patient() -> None:
    usual = [usual_laterality(name) for name in ("CR", "CT", "", "ES", "es")]
    assert usual == ["patient", "patient", "patient", "image", "image"]

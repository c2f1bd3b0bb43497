"""DICOM images: sentences and their sides, modalities, and the segmentation and report that are written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from common.dicom import read_segmentation
from common.inference import Segmenter, load_bundle, measures, preview, sentence_for_file

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "bundles" / "baseline_segmentation"
SMALL = {"width": 0.125, "image_size": 64}
ROWS, COLUMNS = 90, 70
SAID = "Patchy opacity in the lower left lung."

Writer = Callable[..., Path]


@pytest.fixture
def radiograph(tmp_path: Path) -> Writer:
    """Writes a chest radiograph; keywords are attributes, None leaves one out."""

    def write(name: str = "chest.dcm", **tags: object) -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        values = {
            "SOPClassUID": ComputedRadiographyImageStorage,
            "SOPInstanceUID": "1.2.3.4",
            "StudyInstanceUID": "1.2.3",
            "SeriesInstanceUID": "1.2.3.1",
            "Modality": "CR",
            "PatientID": "7",
            "PatientName": "Doe^Jo",
            "PatientOrientation": ["L", "F"],
            "ImagerPixelSpacing": [0.2, 0.1],
            "ImageComments": SAID,
            "Rows": ROWS,
            "Columns": COLUMNS,
            "BitsAllocated": 8,
            "BitsStored": 8,
            "HighBit": 7,
            "PixelRepresentation": 0,
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            **tags,
        }
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
        rows, columns = np.mgrid[:ROWS, :COLUMNS]
        dataset.PixelData = (
            (120 + 60 * np.sin(rows / 9) + 50 * np.cos(columns / 5)).astype(np.uint8).tobytes()
        )
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


def texts(report: Dataset) -> list[str]:
    """Every text of a structured report."""
    below = [text for item in report.get("ContentSequence") or () for text in texts(item)]
    return [*([str(report.TextValue)] if "TextValue" in report else []), *below]


@pytest.mark.parametrize("orientation", [["L", "F"], ["R", "F"]])
def test_segmentation_and_report(
    baseline: Segmenter, radiograph: Writer, tmp_path: Path, orientation: list[str]
) -> None:
    path = radiograph(PatientOrientation=orientation)
    result = baseline(path, text_source="dicom")
    assert (result.text, result.text_source, result.given_laterality) == (SAID, "image_comments", "patient")
    assert result.sentence == SAID.replace("left", "right")  # displayed, the patient's left is on the right
    written = result.save(tmp_path / "out")
    assert [path.name for path in written.values()] == ["chest.seg.dcm", "chest.sr.dcm"]
    source = pydicom.dcmread(path)
    mask = read_segmentation(pydicom.dcmread(written["segmentation"]), source)[0]
    shown = result.mask if orientation == ["L", "F"] else result.mask[:, ::-1]
    assert np.array_equal(mask, shown)
    assert 0 < mask.mean() < 1
    report = pydicom.dcmread(written["report"])
    assert report.PatientID == "7"
    said = " ".join(texts(report))
    assert f"Sentence given to the algorithm: {result.sentence}" in said
    assert f"Sentence as given, with the patient's left and right: {SAID}" in said
    segment = pydicom.dcmread(written["segmentation"]).SegmentSequence[0]
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "baseline_segmentation"
    assert algorithm.AlgorithmVersion == baseline.info.algorithm_version
    found = measures(result)
    assert found.area_mm2 == pytest.approx(result.mask.sum() * 0.02)
    assert found.spacing_kind == "detector"
    assert preview(result).size == (COLUMNS, ROWS)


def test_as_a_picture(baseline: Segmenter, radiograph: Writer, tmp_path: Path) -> None:
    written = baseline(radiograph(), "lower left lung").save(tmp_path, dicom=False)
    assert {name: path.name for name, path in written.items()} == {"mask": "chest.png"}


def test_an_unknown_orientation_is_said(baseline: Segmenter, radiograph: Writer) -> None:
    path = radiograph(PatientOrientation=None)
    result = baseline(path, "lower left lung", laterality="patient")
    assert result.sentence == "lower right lung"
    assert any("does not say how the patient lies" in warning for warning in result.warnings)
    assert not baseline(path, "lower left lung").warnings  # of the picture: nothing to translate
    assert not baseline(radiograph(), "lower left lung", laterality="patient").warnings


def test_sentence_for_file(baseline: Segmenter, radiograph: Writer, tmp_path: Path) -> None:
    path = radiograph(PatientOrientation=None)
    sentence, source, warning = sentence_for_file(path, baseline.info)
    assert (sentence, source) == (SAID.replace("left", "right"), "image_comments")
    assert "check a side marker" in warning
    sidecar = tmp_path / "chest.txt"
    sidecar.write_text("upper right lung\n", encoding="utf-8")
    assert sentence_for_file([path], baseline.info, sidecar=path)[:2] == ("upper left lung", "sidecar")
    result = baseline(path, text_source="dicom", sidecar=sidecar)
    assert (result.text, result.sentence) == ("upper right lung", "upper left lung")
    silent = radiograph("silent.dcm", ImageComments=None)
    assert sentence_for_file(silent, baseline.info)[:2] == ("", "none")
    assert any("has no sentence" in warning for warning in baseline(silent, text_source="dicom").warnings)
    with pytest.raises(ValueError, match=r"chest\.txt must be a readable DICOM file"):
        sentence_for_file(sidecar, baseline.info)


def test_a_given_sentence_goes_before_the_file_s(baseline: Segmenter, radiograph: Writer) -> None:
    result = baseline(radiograph(), "upper right lung", text_source="dicom")
    assert (result.sentence, result.text_source) == ("upper right lung", "given")


def test_modalities_of_the_bundle(weights: dict[str, Path], radiograph: Writer, tmp_path: Path) -> None:
    folder = tmp_path / "ct_only"
    shutil.copytree(BUNDLE / "configs", folder / "configs")
    file = folder / "configs" / "metadata.json"
    metadata = json.loads(file.read_text(encoding="utf-8"))
    metadata["modalities"] = ["CT", "MR"]
    file.write_text(json.dumps(metadata), encoding="utf-8")
    settings = {"overrides": SMALL, "weights": weights["baseline_segmentation"] / "model.pt", "device": "cpu"}
    path = radiograph()
    with pytest.raises(
        ValueError, match=r"chest\.dcm must be of modality CT or MR, got CR: use a bundle for it"
    ):
        load_bundle(folder, **settings)(path)
    result = load_bundle(folder, force_modality=True, **settings)(path)
    assert "must be of modality CT or MR, got CR (force_modality)" in result.warnings[0]


def test_the_same_files_for_a_seed(baseline: Segmenter, radiograph: Writer, tmp_path: Path) -> None:
    from common.inference import save

    result = baseline(radiograph(), "lower left lung")
    first, second = (save(result, tmp_path / str(turn), uid_seed="seed") for turn in range(2))
    for name in ("segmentation", "report"):
        assert first[name].read_bytes() == second[name].read_bytes()


def test_a_real_radiograph(baseline: Segmenter, real_data: Path, tmp_path: Path) -> None:
    path = real_data / "dicom" / "chest_cr_monochrome1_j2k.dcm"
    result = baseline(path, "infiltrate in the lower left lung", laterality="patient")
    written = result.save(tmp_path)
    mask = read_segmentation(pydicom.dcmread(written["segmentation"]), pydicom.dcmread(path))[0]
    assert mask.shape == (1955, 1841)
    assert np.array_equal(mask, result.mask)
    assert "infiltrate in the lower right lung" in " ".join(texts(pydicom.dcmread(written["report"])))
    assert max(preview(result).size) == 512

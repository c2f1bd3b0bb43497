"""A bundle that segments volumes into classes: no sentence, a modality, label names in what is written."""

from __future__ import annotations

import csv
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from common.data.phantom_volume import phantom_volume, write_volume_phantom
from common.dicom import mask_to_frames, series_headers
from common.inference import Segmentation, Segmenter, class_volumes, load_bundle, measures, preview, save
from common.transforms import read_label_names
from tools import predict as command

BUNDLE = Path(__file__).resolve().parents[3] / "bundles" / "tcsa_uda_segmentation"
SMALL = {"image_size": 64, "width": 0.0625, "depths": [1, 1, 1, 1], "embedding_size": 32}


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_bundle(BUNDLE, overrides=SMALL, device="cpu", allow_random=True)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    return write_volume_phantom(
        phantom_volume(3, size=40, slices=5), folder / "scan.nii.gz", axis_codes="PSR"
    )


def test_classes_lie_on_the_files_grid_with_their_names(
    segmenter: Segmenter, volume: Path, tmp_path: Path
) -> None:
    result = segmenter(volume)
    assert result.mask.shape == (40, 40, 5)
    assert result.mask.max() <= 4
    assert result.probability.size == 0
    written = result.save(tmp_path)["mask"]
    image, original = nibabel.load(written), nibabel.load(volume)
    assert image.shape == original.shape
    assert np.allclose(image.affine, original.affine, atol=1e-5)
    assert read_label_names(written)[4] == "spleen"
    assert np.bincount(np.asarray(image.dataobj).ravel(), minlength=5).tolist() == (
        np.bincount(result.mask.ravel(), minlength=5).tolist()
    )


def test_volumes_of_classes_are_measured(segmenter: Segmenter, volume: Path) -> None:
    result = segmenter(volume)
    voxel = float(np.abs(np.linalg.det(nibabel.load(volume).affine[:3, :3]))) / 1000
    expected = [float((result.mask == number).sum()) * voxel for number in range(1, 5)]
    found = class_volumes(result)
    assert list(found) == ["ml_liver", "ml_right_kidney", "ml_left_kidney", "ml_spleen"]
    assert list(found.values()) == pytest.approx(expected, rel=1e-4)
    whole = measures(result)
    assert whole.volume_ml == pytest.approx(sum(expected), rel=1e-4)
    assert whole.mean_probability is None
    assert preview(result).size == (40, 40)


def test_the_modality_is_the_bundles_unless_it_is_named(segmenter: Segmenter, volume: Path) -> None:
    assert segmenter.prepare({"image": volume})["image"].meta["modality"] == "ct"
    mr = segmenter.prepare({"image": volume, "modality": "mr"})
    assert mr["image"].meta["modality"] == "mr"
    ct = segmenter.prepare({"image": volume})
    assert not np.array_equal(*(segmenter.logits([case])[0].numpy() for case in (ct, mr)))
    with pytest.raises(ValueError, match="modality must be one of ct, mr, flair, t2, got 'pet'"):
        segmenter.prepare({"image": volume, "modality": "pet"})


def test_a_bundle_of_sentences_takes_no_modality(volume: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = load_bundle(
            BUNDLE.with_name("baseline_segmentation"),
            overrides={"width": 0.125, "image_size": 64},
            device="cpu",
            allow_random=True,
        )
    with pytest.raises(ValueError, match="modality must be left out for baseline_segmentation"):
        other.prepare({"image": volume, "modality": "ct"})


def test_contrasts_that_dicom_does_not_tell_apart_are_its_mr() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        brain = load_bundle(BUNDLE, overlays=["brain"], overrides=SMALL, device="cpu", allow_random=True)
    assert (brain.info.modalities, brain.info.contrasts) == (("MR",), ("flair", "t2"))
    assert brain.info.labels == {"0": "background", "1": "whole tumour"}


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_dicom_series_says_its_modality(
    segmenter: Segmenter, real_data: Path, tmp_path: Path, as_folder: bool
) -> None:
    folder = real_data / "dicom" / "ct_3slice"
    files = sorted(folder.glob("*.dcm"), reverse=True)
    prepared = segmenter.prepare({"image": folder if as_folder else files})
    assert prepared["image"].meta["modality"] == "ct"
    assert segmenter.prepare({"image": folder, "modality": "mr"})["image"].meta["modality"] == "mr"
    result = segmenter(folder if as_folder else files)
    assert result.mask.shape == (512, 512, 3)
    written = result.save(tmp_path, dicom=False)
    assert list(written) == ["mask"]
    assert nibabel.load(written["mask"]).shape == (512, 512, 3)
    assert read_label_names(written["mask"])[1] == "liver"


@pytest.fixture(scope="module")
def series(real_data: Path) -> list[Path]:
    return sorted((real_data / "dicom" / "ct_3slice").glob("*.dcm"))


def dicom_errors(path: Path) -> list[str]:
    """What the validator of dicom3tools calls errors; none where it is not installed."""
    program = shutil.which("dciodvfy")
    if program is None:
        return []
    done = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def with_classes(segmenter: Segmenter, series: list[Path], *classes: int) -> Segmentation:
    """A result of a CT series in which each of the classes is a box, at a place of its own."""
    result = segmenter(series)
    mask = np.zeros_like(result.mask)
    for number in classes:
        mask[20 * number : 20 * number + 10, 5 : 5 + 3 * number, number % 2 :] = number
    return replace(result, mask=mask)


def said(report: Dataset) -> list[str]:
    """All texts of a structured report."""
    found = [str(report.TextValue)] if "TextValue" in report else []
    return found + [text for item in report.get("ContentSequence") or () for text in said(item)]


CODES = {  # category, type, modifier of the type
    "liver": ("Anatomical Structure", "10200004", None),
    "right kidney": ("Anatomical Structure", "64033007", "Right"),
    "left kidney": ("Anatomical Structure", "64033007", "Left"),
    "spleen": ("Anatomical Structure", "78961009", None),
}


@pytest.mark.parametrize("classes", [(1, 2, 3, 4), (1, 3), ()], ids=["all", "two", "none"])
def test_a_dicom_series_gets_a_segment_a_class(
    classes: tuple[int, ...], segmenter: Segmenter, series: list[Path], tmp_path: Path
) -> None:
    highdicom = pytest.importorskip("highdicom")
    result = with_classes(segmenter, series, *classes)
    written = result.save(tmp_path)
    assert list(written) == ["segmentation", "report"]
    found = highdicom.seg.segread(written["segmentation"])
    assert list(found.segment_numbers) == [1, 2, 3, 4]
    for number, (name, (category, kind, modifier)) in enumerate(CODES.items(), start=1):
        segment = found.get_segment_description(number)
        assert segment.segment_label == name
        assert segment.segmented_property_category.meaning == category
        assert (segment.segmented_property_type.value, segment.segmented_property_type.scheme_designator) == (
            kind,
            "SCT",
        )
        modifiers = segment.SegmentedPropertyTypeCodeSequence[0].get(
            "SegmentedPropertyTypeModifierCodeSequence"
        )
        assert (modifiers[0].CodeMeaning if modifiers else None) == modifier
        algorithm = segment.algorithm_identification
        assert (algorithm.name, algorithm.version) == (segmenter.info.name, segmenter.info.algorithm_version)
    headers = series_headers(result.meta)
    frames = mask_to_frames(result.mask, result.meta)
    stored = found.get_pixels_by_source_instance(
        [str(header.SOPInstanceUID) for header in headers],
        assert_missing_frames_are_empty=True,
        ignore_spatial_locations=True,
    )
    for number in range(1, 5):
        np.testing.assert_array_equal(stored[..., number - 1], frames == number)
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert found.get(keyword) == headers[0].get(keyword)
    assert dicom_errors(written["segmentation"]) == []


@pytest.mark.parametrize("classes", [(1, 2, 3, 4), (1, 3), ()], ids=["all", "two", "none"])
def test_the_report_has_the_volume_of_every_class(
    classes: tuple[int, ...], segmenter: Segmenter, series: list[Path], tmp_path: Path
) -> None:
    highdicom = pytest.importorskip("highdicom")
    result = with_classes(segmenter, series, *classes)
    path = result.save(tmp_path)["report"]
    groups = highdicom.sr.srread(path).content.get_volumetric_roi_measurement_groups()
    volumes = {
        group.tracking_identifier: value.value
        for group in groups
        for value in group.get_measurements()
        if value.name.meaning == "Volume"
    }
    expected = {f"{name} {number}": 0.0 for number, name in enumerate(CODES, start=1)}
    for number, (identifier, volume) in enumerate(
        zip(expected, class_volumes(result).values(), strict=True), 1
    ):
        assert (volume > 0) == (number in classes)
        expected[identifier] = volume
    assert volumes == pytest.approx(expected, rel=1e-3, abs=1e-9)
    texts = said(pydicom.dcmread(path))
    assert "The network reads no sentence; the image was given to it as ct." in texts
    assert not any(text.startswith("No sentence") for text in texts)
    absent = ", ".join(name for number, name in enumerate(CODES, start=1) if number not in classes)
    assert (f"Looked for and not found: {absent}." in texts) == bool(absent)
    assert any("untrained" in text for text in texts)
    assert dicom_errors(path) == []


def test_the_same_dicom_for_the_same_seed(segmenter: Segmenter, series: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    result = with_classes(segmenter, series, 2)
    first, second = (save(result, tmp_path / name, uid_seed="a") for name in ("first", "second"))
    for kind in ("segmentation", "report"):
        assert first[kind].read_bytes() == second[kind].read_bytes()


def test_classes_that_have_no_code_are_told_by_their_label(
    segmenter: Segmenter, series: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("highdicom")
    labels = {"0": "background", "1": "appendix", "2": "polyp of mine", "3": "Ascending aorta"}
    own = {
        "polyp of mine": {
            "label": "x",
            "category": ["49755003", "SCT", "Morphologically Abnormal Structure"],
            "type": ["68496003", "SCT", "Polyp of colon"],
        }
    }
    info = replace(segmenter.info, labels=labels, segment_codes=own)
    written = replace(with_classes(segmenter, series, 1, 2, 3), info=info).save(tmp_path)
    segments = pydicom.dcmread(written["segmentation"]).SegmentSequence
    assert [segment.SegmentLabel for segment in segments] == list(labels.values())[1:]
    codes = [segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for segment in segments]
    assert codes == ["Tissue", "Polyp of colon", "Ascending aorta"]
    texts = said(pydicom.dcmread(written["report"]))
    assert "Coded as any tissue, the label alone tells what it is: appendix." in texts


def test_a_single_slice_is_no_volume(segmenter: Segmenter, real_data: Path) -> None:
    with pytest.raises(ValueError, match="single"):
        segmenter(real_data / "dicom" / "ct_image.dcm")


@pytest.mark.slow
def test_the_command_line_segments_a_folder_of_volumes(volume: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "small.json"
    overlay.write_text(str(SMALL).replace("'", '"'), encoding="utf-8")
    arguments = [str(BUNDLE), str(volume.parent), "--output", str(tmp_path / "out"), "--modality", "mr"]
    options = ["--overlay", str(overlay), "--allow-random", "--device", "cpu"]
    refused = CliRunner().invoke(command.app, [*arguments, "--text", "", *options])
    assert refused.exit_code == 1
    assert "--text must be left out for tcsa_uda_segmentation" in refused.output
    assert not (tmp_path / "out").exists()
    result = CliRunner().invoke(command.app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    with (tmp_path / "out" / "cases.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["id"] == "scan"
    assert row["text_source"] == "none"
    assert float(row["ml_liver"]) >= 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "right kidney ml" in page
    assert "none: the bundle reads none" in page
    assert read_label_names(tmp_path / "out" / row["mask"])[1] == "liver"

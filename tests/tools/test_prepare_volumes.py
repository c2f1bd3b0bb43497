"""Preparation of volumes for adaptation: layouts, test patients, label values, and every bad source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from typer.testing import CliRunner

from common.data import load_domain_cases, verify_files
from common.transforms import LoadVolumed, load_volume
from tools.datasets.registry import VOLUME_READERS, read_volume_source
from tools.datasets.source import SourceError, SourceOptions
from tools.datasets.volumes import VolumeSource, mapped, prepare_volumes
from tools.prepare_data import app

AFFINE = np.diag([-2.0, 2.0, 4.0, 1.0])


def volume(path: Path, *, values: tuple[int, ...] = (), seed: int = 0, affine: np.ndarray = AFFINE) -> Path:
    """An image, or a label in which each value fills a column of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 100, (8, 9, 4)).astype(np.int16)
    if values:
        array[:] = 0
        for column, value in enumerate(values):
            array[2:5, column, 1:3] = value
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    nibabel.save(image, path)
    return path


def mmwhs(root: Path) -> None:
    for modality in ("ct", "mr"):
        for number in range(1001, 1021):
            folder = root / f"{modality}_train"
            volume(folder / f"{modality}_train_{number}_image.nii.gz", seed=number + (modality == "mr") * 50)
            volume(
                folder / f"{modality}_train_{number}_label.nii.gz", values=(500, 600, 205, 420, 550, 820, 850)
            )


def brats(root: Path, count: int = 20) -> None:
    for number in range(count):
        name = f"BraTS20_Training_{number:03d}"
        for place, kind in enumerate(("flair", "t2", "t1")):
            volume(root / name / f"{name}_{kind}.nii.gz", seed=3 * number + place)
        volume(root / name / f"{name}_seg.nii.gz", values=(1, 2, 4))


def series(folder: Path, number: int) -> None:
    """Three slices of MR whose file names run against their places, and label pictures named alike."""
    for part in ("DICOM_anon", "Ground"):
        (folder / part).mkdir(parents=True)
    uid = generate_uid(entropy_srcs=[str(number)])
    for place in range(3):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = uid, generate_uid(entropy_srcs=["s"])
        dataset.Modality, dataset.PatientID = "MR", ""
        dataset.ImagePositionPatient = [0.0, 0.0, 5.0 * (2 - place)]
        dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [1.0, 1.0]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation, dataset.Rows, dataset.Columns = 0, 8, 10
        pixels = np.random.default_rng(10 * number + place).integers(0, 900, (8, 10)).astype(np.uint16)
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.save_as(folder / "DICOM_anon" / f"IMG-0001-{place + 1:05d}.dcm", enforce_file_format=True)
        label = np.zeros((8, 10), np.uint8)
        label[place, 2] = (63, 126, 252)[place]
        Image.fromarray(label).save(folder / "Ground" / f"IMG-0001-{place + 1:05d}.png")


def chaos_btcv(root: Path) -> None:
    for number in (1, 2, 3, 13, 32, 38):
        series(root / "CHAOS" / "MR" / str(number) / "T2SPIR", number)
    for number in (*range(1, 5), 9, 30, 32, 33, 39):
        volume(root / "RawData" / "img" / f"img{number:04d}.nii.gz", seed=number)
        volume(root / "RawData" / "label" / f"label{number:04d}.nii.gz", values=(1, 2, 3, 6, 11))


def own(root: Path) -> None:
    rows = ["image,label,modality,split,patient"]
    for section, numbers in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 8))):
        for number in numbers:
            for modality in ("ct", "mr"):
                volume(root / modality / f"p{number}.nii.gz", seed=2 * number + (modality == "mr"))
                volume(root / "seg" / f"{modality}{number}.nii.gz", values=(5, 1, 90))
                rows.append(
                    f"{modality}/p{number}.nii.gz,seg/{modality}{number}.nii.gz,{modality},{section},p{number}"
                )
    (root / "volumes.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (root / "labels.json").write_text('{"liver": 5, "spleen": 1, "*": "background"}', encoding="utf-8")


MAKERS: dict[str, Callable[[Path], None]] = {
    "mmwhs": mmwhs,
    "chaos_btcv": chaos_btcv,
    "brats_uda": brats,
    "volumes_folder": own,
}
DIRECTIONS = {"brats_uda": ("flair_to_t2", "t2_to_flair")}


def prepared(name: str, root: Path, **options: Any) -> tuple[Path, dict[str, Any]]:
    source = root / "source"
    source.mkdir()
    MAKERS[name](source)
    data = read_volume_source(name, source, SourceOptions(**options))
    return root / "out", prepare_volumes(data, source, root / "out")


@pytest.mark.parametrize("name", MAKERS)
def test_prepared_data_serve_both_directions_with_no_patient_in_two_places(name: str, tmp_path: Path) -> None:
    output, document = prepared(name, tmp_path)
    assert verify_files(output) > 0
    classes = len(document["labels"])
    for direction in DIRECTIONS.get(name, ("ct_to_mr", "mr_to_ct")):
        seen: dict[str, str] = {}
        for section in ("training", "validation", "test"):
            for case in load_domain_cases(output, section, direction=direction):
                where = f"{section} {case['domain']}"
                assert seen.setdefault(case["subject"], where) == where
        loaded = LoadVolumed(classes=classes)(load_domain_cases(output, "test", direction=direction)[0])
        assert loaded["image"].shape == loaded["label"].shape
        assert loaded["label"].max() > 0


def test_every_reader_is_tested() -> None:
    assert set(MAKERS) == set(VOLUME_READERS)


def test_mmwhs_has_the_published_test_patients_and_classes(tmp_path: Path) -> None:
    output, document = prepared("mmwhs", tmp_path)
    assert sorted(case["id"] for case in document["test"]) == sorted(
        [f"ct_{n}" for n in (1003, 1008, 1014, 1019)] + [f"mr_{n}" for n in (1007, 1009, 1018, 1019)]
    )
    assert document["statistics"]["cases"] == {
        "training": {"ct": 14, "mr": 14},
        "validation": {"ct": 2, "mr": 2},
        "test": {"ct": 4, "mr": 4},
    }
    case = document["test"][0]
    label = load_volume(output / case["label"])[0].numpy()
    # 500 LVC, 600 RVC, 205 MYO, 420 LAC, 550 RAC, 820 AA, 850 PA on the columns 0 to 6 of the file
    original = np.asarray(
        nibabel.load(next((tmp_path / "source").rglob("ct_train_1003_label.nii.gz"))).dataobj
    )
    wanted = {500: 3, 600: 0, 205: 1, 420: 2, 550: 0, 820: 4, 850: 0}
    counts = {value: int((original == value).sum()) for value in wanted}
    for number in range(1, 5):
        assert (label == number).sum() == sum(counts[value] for value, to in wanted.items() if to == number)
    source = nibabel.load(next((tmp_path / "source").rglob("ct_train_1003_image.nii.gz")))
    written = nibabel.load(output / "images" / "ct_1003.nii.gz")
    assert np.array_equal(np.asarray(source.dataobj), np.asarray(written.dataobj))


def test_chaos_and_btcv_name_the_same_organs_by_their_own_values(tmp_path: Path) -> None:
    output, document = prepared("chaos_btcv", tmp_path)
    test = {case["id"] for case in document["test"]}
    assert test == {f"chaos_{n:02d}" for n in (1, 13, 32, 38)} | {
        f"btcv_{n:04d}" for n in (1, 9, 30, 32, 33, 39)
    }
    ct = load_volume(output / "labels" / "btcv_0001.nii.gz")[0].numpy()
    assert set(np.unique(ct)) == {0, 1, 2, 3, 4}  # spleen 1, kidneys 2 and 3, liver 6; 11 is background
    mr = load_volume(output / "labels" / "chaos_01.nii.gz")[0].numpy()
    image = load_volume(output / "images" / "chaos_01.nii.gz")[0].numpy()
    # the file of place 0 lies highest: its picture is the last slice; 63 liver, 126 right kidney, 252 spleen
    assert [(mr[..., slice_].max(), *np.argwhere(mr[..., slice_])[0]) for slice_ in (2, 1, 0)] == [
        (1, 0, 2),
        (2, 1, 2),
        (4, 2, 2),
    ]
    first = pydicom.dcmread(
        tmp_path / "source" / "CHAOS" / "MR" / "1" / "T2SPIR" / "DICOM_anon" / "IMG-0001-00001.dcm"
    )
    assert np.array_equal(image[..., 2], first.pixel_array)


def test_brats_splits_by_patient_and_has_one_class(tmp_path: Path) -> None:
    output, document = prepared("brats_uda", tmp_path)
    flair = {case["subject"] for case in document["training"] if case["modality"] == "flair"}
    t2 = {case["subject"] for case in document["training"] if case["modality"] == "t2"}
    assert not flair & t2
    assert abs(len(flair) - len(t2)) <= 1
    assert len({case["subject"] for case in document["test"]}) == 4
    assert set(np.unique(load_volume(output / document["test"][0]["label"])[0].numpy())) == {0, 1}
    again = prepared("brats_uda", tmp_path / "again" if (tmp_path / "again").mkdir() is None else tmp_path)[1]
    assert again["training"] == document["training"]


def test_a_patient_scanned_twice_keeps_one_modality_in_training(tmp_path: Path) -> None:
    _, document = prepared("volumes_folder", tmp_path)
    assert document["statistics"]["cases"]["training"] == {"ct": 2, "mr": 2}
    assert document["statistics"]["cases"]["test"] == {"ct": 2, "mr": 2}
    assert "4 patients of training were scanned in several modalities" in document["warnings"][0]
    assert document["labels"] == {"0": "background", "1": "liver", "2": "spleen"}


def test_command_line_prepares_and_says_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    own(tmp_path / "source")
    arguments = ["volumes_folder", "--source", str(tmp_path / "source"), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "1 liver, 2 spleen" in result.output
    assert (tmp_path / "out" / "dataset.json").is_file()
    phantom = [
        "phantom_heart",
        "--count",
        "5",
        "--size",
        "32",
        "--slices",
        "4",
        "--output",
        str(tmp_path / "p"),
    ]
    result = CliRunner().invoke(app, phantom)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "p" / "dataset.json").read_text())["name"] == "phantom_heart"


def break_mmwhs(root: Path) -> str:
    mmwhs(root)
    next(root.rglob("mr_train_1009_image.nii.gz")).unlink()
    return "must hold the test patients 1007, 1009, 1018, 1019 of mr, got no 1009"


def break_label(root: Path) -> str:
    mmwhs(root)
    volume(root / "ct_train" / "ct_train_1001_label.nii.gz", values=(500, 7))
    return r"ct_train_1001_label.nii.gz must hold the values 0, 205, .* got 7"


def lose_label(root: Path) -> str:
    mmwhs(root)
    (root / "ct_train" / "ct_train_1001_label.nii.gz").unlink()
    return "must have its label ct_train_1001_label.nii.gz beside it, got none"


def few_patients(root: Path) -> str:
    brats(root, 3)
    return "must hold at least 10 patients .* got 3"


def no_affine(root: Path) -> str:
    own(root)
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 9, 4), np.int16), None), root / "ct" / "p6.nii.gz")
    return r"volumes.csv row 14: .*p6.nii.gz must have an affine .*, got none"


def bad_cell(column: int, cell: str, message: str) -> Callable[[Path], str]:
    def change(root: Path) -> str:
        own(root)
        rows = (root / "volumes.csv").read_text().splitlines()
        cells = rows[2].split(",")
        cells[column] = cell
        rows[2] = ",".join(cells)
        (root / "volumes.csv").write_text("\n".join(rows))
        return message

    return change


def bad_classes(text: str, message: str) -> Callable[[Path], str]:
    def change(root: Path) -> str:
        own(root)
        (root / "labels.json").write_text(text)
        return message

    return change


BAD: dict[str, tuple[str, Callable[[Path], str]]] = {
    "no volumes": ("mmwhs", lambda root: "must hold ct_train_1001_image.nii.gz .* got no ct volume"),
    "a test patient is missing": ("mmwhs", break_mmwhs),
    "an unknown value": ("mmwhs", break_label),
    "a label is missing": ("mmwhs", lose_label),
    "few patients": ("brats_uda", few_patients),
    "no affine": ("volumes_folder", no_affine),
    "no table": ("volumes_folder", lambda root: "must name the classes and their values"),
    "an unknown modality": (
        "volumes_folder",
        bad_cell(2, "us", "volumes.csv row 3: modality must be one of"),
    ),
    "an unknown section": ("volumes_folder", bad_cell(3, "later", "row 3: split must be train, val or test")),
    "a bare section": ("volumes_folder", bad_cell(3, "", "row 3: every row must name its split")),
    "a file that is not there": ("volumes_folder", bad_cell(0, "ct/no.nii.gz", "row 3: image must exist")),
    "a file elsewhere": ("volumes_folder", bad_cell(0, "../out.nii.gz", "row 3: image must stay inside")),
    "classes without values": ("volumes_folder", bad_classes('{"liver": 0}', "a value above 0 of its own")),
    "classes twice": ("volumes_folder", bad_classes('{"a": 5, "b": 5}', "a value above 0 of its own")),
    "unnamed values": (
        "volumes_folder",
        bad_classes('{"liver": 5}', r"must hold the values 0, 5, got 1, 90"),
    ),
    "no json": ("volumes_folder", bad_classes("liver", "must be JSON in UTF-8")),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_sources_have_one_clear_error_and_write_nothing(kind: str, tmp_path: Path) -> None:
    name, change = BAD[kind]
    source = tmp_path / "source"
    source.mkdir()
    message = change(source)
    with pytest.raises(SourceError, match=message):
        prepare_volumes(read_volume_source(name, source), source, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


def test_values_become_classes_by_modality() -> None:
    data = VolumeSource("x", "y", {0: "b", 1: "l"}, {"ct": {6: 1}, "*": {2: 1}}, {}, "", "")
    assert mapped(np.array([[0.0, 6.0]]), data, "ct", where="f").tolist() == [[0, 1]]
    assert mapped(np.array([[0.0, 2.0]]), data, "mr", where="f").tolist() == [[0, 1]]
    with pytest.raises(SourceError, match="f must hold the values 0, 6, got 2"):
        mapped(np.array([2.0]), data, "ct", where="f")

"""Preparation: every source layout, every bad source, and what is written and measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from common.data import load_datalist, verify_files
from tools.datasets import SourceOptions, prepare_dataset, read_source
from tools.datasets.tables import read_table
from tools.prepare_data import app

SIDES = ("left", "right")


def caption(index: int) -> str:
    return f"Unilateral pulmonary infection, one infected area, lower {SIDES[index % 2]} lung."


def draw(path: Path, *, seed: int, size: tuple[int, int] = (16, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size=size, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def draw_mask(path: Path, *, side: str = "left", size: tuple[int, int] = (16, 12), value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, dtype=np.uint8)
    columns = slice(1, 4) if side == "left" else slice(-4, -1)
    mask[10:14, columns] = value
    Image.fromarray(mask).save(path)
    return path


def write_csv(path: Path, rows: Iterable[Iterable[str]], *, separator: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    quote = "" if separator == ";" else '"'
    lines = [separator.join(f"{quote}{value}{quote}" for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_xlsx(path: Path, rows: Iterable[Iterable[str]]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path


def pairs(folder: Path, images: str, masks: str, names: Iterable[int], *, prefix: str = "mask_") -> None:
    for index in names:
        draw(folder / images / f"covid_{index}.png", seed=index)
        draw_mask(folder / masks / f"{prefix}covid_{index}.png", side=SIDES[index % 2])


def rows(names: Iterable[int], header: tuple[str, str] = ("Image", "Description")) -> list[tuple[str, str]]:
    return [header, *((f"mask_covid_{index}.png", caption(index)) for index in names)]


def guide_decoder(root: Path) -> Path:
    for section, table, names in (
        ("Train", "train", range(12, 0, -1)),
        ("Val", "val", [20, 21]),
        ("Test", "test", [30]),
    ):
        pairs(root / section, "Images", "GTs", names)
        write_csv(root / "prompt" / f"{table}.csv", rows(names))
    return root


def kaggle(root: Path) -> Path:
    release = root / "QaTa-COV19" / "QaTa-COV19-v2"
    pairs(release / "Train Set", "Images", "Ground-truths", range(10))
    pairs(release / "Test Set", "Images", "Ground-truths", [30])
    pairs(root / "QaTa-COV19" / "QaTa-COV19-v1", "Images", "Ground-truths", [1, 2])
    return root


def lvit(root: Path) -> Path:
    for folder, names in (("Train_Folder", range(6)), ("Val_Folder", [20]), ("Test_Folder", [30])):
        pairs(root / folder, "img", "labelcol", names)
        write_xlsx(root / folder / f"{folder.split('_')[0]}_text.xlsx", rows(names))
    return root


def sgseg(root: Path) -> Path:
    document: dict[str, list[dict[str, Any]]] = {}
    for section, names in (("train", range(6)), ("valid", [20]), ("test", [30])):
        pairs(root / "images" / section, "images", "masks", names)
        document[section] = [
            {"image_path": name, "caption": text.lower(), "pseudo_label": [0, 0, 1, 0, 0, 0]}
            for name, text in rows(names)[1:]
        ]
    (root / "prompts").mkdir(parents=True)
    (root / "prompts" / "annotation.json").write_text(json.dumps(document), encoding="utf-8")
    return root


def mosmed(root: Path) -> Path:
    for folder, names in (("Train_Folder", range(6)), ("Val_Folder", [20]), ("Test_Folder", [30])):
        pairs(root / folder, "img", "labelcol", names, prefix="")
        table = [("Image", "text"), *((f"covid_{index}.png", caption(index)) for index in names)]
        write_csv(root / f"{folder.split('_')[0].lower()}.csv", table, separator=";")
    return root


def own(root: Path, *, count: int = 20, **columns: Callable[[int], str]) -> Path:
    for index in range(count):
        draw(root / "images" / f"{index}.png", seed=index)
        draw_mask(root / "masks" / f"{index}.png", side=SIDES[index % 2])
    if columns:
        table = [
            ("image", *columns),
            *((f"{i}.png", *(make(i) for make in columns.values())) for i in range(count)),
        ]
        write_csv(root / "cases.csv", table)
    return root


def run(name: str, source: Path, output: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [name, "--source", str(source), "--output", str(output), *arguments])


def prepared(name: str, source: Path, output: Path, *arguments: str) -> dict[str, Any]:
    before = snapshot(source)
    result = run(name, source, output, *arguments)
    assert result.exit_code == 0, result.output + result.stderr
    assert snapshot(source) == before, "the source changed"
    assert [
        child.name for child in output.parent.iterdir() if child.name.endswith((".partial", ".before"))
    ] == []
    return json.loads((output / "dataset.json").read_text(encoding="utf-8"))


def refused(name: str, source: Path, output: Path, *arguments: str) -> str:
    result = run(name, source, output, *arguments)
    assert result.exit_code == 1, result.output
    assert not output.exists()
    assert not [child for child in output.parent.iterdir() if child.name.startswith(f".{output.name}.")]
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    return result.stderr


def snapshot(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def ids(document: dict[str, Any]) -> list[list[str]]:
    return [[case["id"] for case in document[section]] for section in ("training", "validation", "test")]


# --- layouts ---------------------------------------------------------------------------------------------------


def test_guide_decoder_layout_keeps_the_order_of_the_csv(tmp_path: Path) -> None:
    document = prepared("qata_cov19", guide_decoder(tmp_path / "in"), tmp_path / "out")
    training, validation, test = ids(document)
    assert training == [f"covid_{index}" for index in range(12, 0, -1)]
    assert (validation, test) == (["covid_20", "covid_21"], ["covid_30"])
    assert document["training"][0]["text"] == caption(12)
    assert document["caption_version"] == "lvit-raw"
    assert document["anatomy"] == "lung"
    assert document["split"]["source"] == ["prompt/test.csv", "prompt/train.csv", "prompt/val.csv"]
    assert verify_files(tmp_path / "out") == 30
    assert len(load_datalist(tmp_path / "out", "training")) == 12


@pytest.mark.parametrize(("make", "version"), [(lvit, "lvit-raw"), (sgseg, "sgseg-cleaned")])
def test_other_layouts_of_qata(tmp_path: Path, make: Callable[[Path], Path], version: str) -> None:
    document = prepared("qata_cov19", make(tmp_path / "in"), tmp_path / "out")
    assert ids(document) == [[f"covid_{index}" for index in range(6)], ["covid_20"], ["covid_30"]]
    assert document["caption_version"] == version
    assert document["training"][1]["text"].lower() == caption(1).lower()


def test_kaggle_layout_has_no_captions_and_takes_the_tail_for_validation(tmp_path: Path) -> None:
    document = prepared("qata_cov19", kaggle(tmp_path / "in"), tmp_path / "out")
    assert ids(document) == [[f"covid_{index}" for index in range(8)], ["covid_8", "covid_9"], ["covid_30"]]
    assert document["statistics"]["missing_captions"] == 11
    assert any("no caption table" in warning for warning in document["warnings"])


def test_kaggle_layout_with_captions_from_elsewhere(tmp_path: Path) -> None:
    for name, names in (("Train", range(6)), ("Val", range(6, 10)), ("Test", [30])):
        write_xlsx(tmp_path / "captions" / f"{name}_text.xlsx", rows(names))
    document = prepared(
        "qata_cov19", kaggle(tmp_path / "in"), tmp_path / "out", "--captions", str(tmp_path / "captions")
    )
    assert [len(part) for part in ids(document)] == [6, 4, 1]
    assert document["statistics"]["missing_captions"] == 0


def test_names_may_differ_in_case_and_prefix(tmp_path: Path) -> None:
    source = tmp_path / "in"
    draw(source / "Train" / "Images" / "sub-S01_ses-E1.png", seed=1)
    draw_mask(source / "Train" / "GTs" / "mask_sub-S01_ses-E1.png")
    write_csv(source / "train.csv", [("Image", "Description"), ("mask_sub-s01_ses-e1.png", caption(0))])
    options = read_source("qata_cov19", source)
    case = options.sections["training"][0]
    assert (case.id, case.text, case.group) == ("sub-S01_ses-E1", caption(0), "sub-s01")


def test_mosmeddata_semicolons_masks_and_rule(tmp_path: Path) -> None:
    source = mosmed(tmp_path / "in")
    grey = Image.open(source / "Train_Folder" / "labelcol" / "covid_0.png")
    Image.merge("RGB", [grey.point(lambda value: min(value, 250))] * 3).save(
        source / "Train_Folder" / "labelcol" / "covid_0.png"
    )
    document = prepared("mosmeddata_plus", source, tmp_path / "out")
    assert [len(part) for part in ids(document)] == [6, 1, 1]
    assert document["split"]["subset_rule"] == "name_order"
    assert document["training"][3]["text"] == caption(3)
    assert document["statistics"]["subjects_in_two_sections"] == ["covid"]


@pytest.mark.parametrize("header", [("image", "mask", "text"), ("Image", "Mask", "Description")])
def test_polyp_masks_are_cut_at_127(tmp_path: Path, header: tuple[str, str, str]) -> None:
    source = tmp_path / "in"
    sentence = "one small round polyp, located in left of the image"
    for section, index in (("train", 1), ("val", 2), ("test", 3)):
        draw(source / "images" / f"{index}.jpg", seed=index, size=(32, 32))
        draw_mask(source / "masks" / f"{index}.jpg", size=(32, 32))
        write_csv(
            source / f"{section}.csv", [header, (f"images/{index}.jpg", f"masks/{index}.jpg", sentence)]
        )
    document = prepared("kvasir_seg", source, tmp_path / "out")
    assert ids(document) == [["1"], ["2"], ["3"]]
    assert (document["anatomy"], document["mask_threshold"]) == ("polyp", 127)
    written = np.asarray(Image.open(tmp_path / "out" / document["test"][0]["label"]))
    expected = np.asarray(Image.open(source / "masks" / "3.jpg")) > 127
    assert np.array_equal(written, expected * np.uint8(255))
    assert document["training"][0]["image"] == "images/1.jpg"


def test_polyps_in_folders_a_section(tmp_path: Path) -> None:
    document = prepared("cvc_clinicdb", mosmed_like_polyps(tmp_path / "in"), tmp_path / "out")
    assert [len(part) for part in ids(document)] == [9, 1, 1]
    assert "10% of training" in document["split"]["protocol"]


def mosmed_like_polyps(root: Path) -> Path:
    for folder, names in (("Train_Folder", range(10)), ("Test_Folder", [30])):
        pairs(root / folder, "img", "labelcol", names, prefix="")
        table = [("Image", "Description"), *((f"covid_{index}.png", "one polyp") for index in names)]
        write_xlsx(root / folder / f"{folder.split('_')[0]}_text.xlsx", table)
    return root


# --- own folders -----------------------------------------------------------------------------------------------


def test_folder_without_csv_and_text(tmp_path: Path) -> None:
    document = prepared("folder", own(tmp_path / "in"), tmp_path / "out")
    assert [len(part) for part in ids(document)] == [14, 2, 4]
    assert document["split"]["protocol"] == "random 70/10/20, seed 42"
    assert document["statistics"]["missing_captions"] == 20
    assert all(case["text"] == "" for case in load_datalist(tmp_path / "out", "training"))
    again = prepared("folder", tmp_path / "in", tmp_path / "again")
    other = prepared("folder", tmp_path / "in", tmp_path / "other", "--seed", "1")
    assert ids(document) == ids(again)
    assert ids(document) != ids(other)


def test_folder_without_masks(tmp_path: Path) -> None:
    for index in range(10):
        draw(tmp_path / "in" / "images" / f"{index}.png", seed=index)
    document = prepared("folder", tmp_path / "in", tmp_path / "out", "--modality", "chest CT slice")
    assert document["modality"] == "chest CT slice"
    assert not any("label" in case for case in document["training"])
    assert any("10 images have no mask" in warning for warning in document["warnings"])


def test_folder_follows_its_split_column(tmp_path: Path) -> None:
    splits = ("train", "val", "test", "train")
    source = own(tmp_path / "in", count=8, text=caption, split=lambda index: splits[index % 4])
    document = prepared("folder", source, tmp_path / "out")
    assert ids(document) == [["0", "3", "4", "7"], ["1", "5"], ["2", "6"]]


def test_folder_keeps_patients_together(tmp_path: Path) -> None:
    source = own(tmp_path / "in", count=40, text=caption, patient=lambda index: f"p{index // 4}")
    document = prepared("folder", source, tmp_path / "out")
    assert document["statistics"]["subjects_in_two_sections"] == []
    assert document["statistics"]["subjects"] == 10
    assert "by patient" in document["split"]["protocol"]


@pytest.mark.parametrize("text", ["", "None", "nan"])
def test_missing_captions_are_counted(tmp_path: Path, text: str) -> None:
    source = own(tmp_path / "in", count=10, text=lambda index: text if index == 3 else caption(index))
    document = prepared("folder", source, tmp_path / "out")
    assert document["statistics"]["missing_captions"] == 1
    cases = [case for section in ("training", "validation", "test") for case in document[section]]
    assert [case["id"] for case in cases if case["text"] == ""] == ["3"]


@pytest.mark.parametrize("text", ["left lung 🫁 " * 3, "lower left lung " * 65536])
def test_odd_captions_are_kept_whole(tmp_path: Path, text: str) -> None:
    source = own(tmp_path / "in", count=4, text=lambda index: text.strip(), split=lambda index: "train")
    document = prepared("folder", source, tmp_path / "out")
    assert document["training"][0]["text"] == text.strip()
    assert any("longer than 2000" in warning for warning in document["warnings"]) == (len(text) > 2000)


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "P", "1", "LA"])
def test_other_pixel_formats_are_accepted(tmp_path: Path, mode: str) -> None:
    source = own(tmp_path / "in", count=10)
    grey = Image.open(source / "images" / "4.png")
    picture = (
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 200) if mode == "I;16" else grey.convert(mode)
    )
    picture.save(source / "images" / "4.png")
    Image.open(source / "masks" / "4.png").convert("1" if mode == "1" else "L").save(
        source / "masks" / "4.png"
    )
    document = prepared("folder", source, tmp_path / "out")
    assert document["statistics"]["cases"]["training"] == 7
    mask = np.asarray(Image.open(tmp_path / "out" / "labels" / "4.png"))
    assert sorted(np.unique(mask)) == [0, 255]


def test_dicom_images_take_masks_as_displayed(tmp_path: Path, real_data: Path) -> None:
    source = tmp_path / "in" / "images"
    source.mkdir(parents=True)
    radiograph = real_data / "dicom" / "chest_cr_monochrome1_j2k.dcm"
    (source / "chest.dcm").write_bytes(radiograph.read_bytes())
    data = read_source("folder", source.parent)
    found = prepare_dataset(data, source.parent, tmp_path / "out")
    assert sum(found.counts.values()) == 1
    assert (tmp_path / "out" / "images" / "chest.dcm").read_bytes() == radiograph.read_bytes()


# --- what is measured ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("swap", "laterality"), [(0, "image"), (1, "patient")])
def test_laterality_is_measured(tmp_path: Path, swap: int, laterality: str) -> None:
    source = own(tmp_path / "in", text=lambda index: caption(index + swap))
    document = prepared("folder", source, tmp_path / "out")
    assert document["laterality"] == laterality
    assert document["laterality_evidence"] == {
        "source": "measured",
        "one_sided_captions": 20,
        "left_is_image_left": 20 * (1 - swap),
        "share": float(1 - swap),
    }
    assert load_datalist(tmp_path / "out", "test")[0]["laterality"] == laterality


def test_unclear_laterality_is_said(tmp_path: Path) -> None:
    source = own(tmp_path / "in", text=lambda index: caption(index + (index < 8)))
    document = prepared("folder", source, tmp_path / "out")
    assert document["laterality"] == "image"
    assert any("laterality is unclear" in warning and "60%" in warning for warning in document["warnings"])


def test_too_few_captions_measure_nothing(tmp_path: Path) -> None:
    source = own(tmp_path / "in", count=6, text=lambda index: caption(index + 1))
    document = prepared("folder", source, tmp_path / "out")
    assert (document["laterality"], document["laterality_evidence"]["source"]) == ("image", "assumed")
    assert any("not measured (6 one-sided" in warning for warning in document["warnings"])


def test_the_user_overrules_and_is_warned(tmp_path: Path) -> None:
    source = own(tmp_path / "in", text=caption)
    document = prepared("folder", source, tmp_path / "out", "--laterality", "patient")
    assert (document["laterality"], document["laterality_evidence"]["source"]) == ("patient", "user")
    assert any("only 0% of 20" in warning for warning in document["warnings"])


def test_identical_image_stays_in_the_section_judged_on(tmp_path: Path) -> None:
    source = guide_decoder(tmp_path / "in")
    image = Image.open(source / "Test" / "Images" / "covid_30.png")
    image.convert("RGB").save(source / "Train" / "Images" / "covid_5.png")
    document = prepared("qata_cov19", source, tmp_path / "out")
    assert "covid_5" not in ids(document)[0]
    assert len(ids(document)[0]) == 11
    assert document["statistics"]["left_out"] == 1
    assert (
        "covid_5 (training) is the same image as covid_30 (test): left out of training"
        in document["warnings"]
    )
    assert not (tmp_path / "out" / "images" / "covid_5.png").exists()
    assert len(load_datalist(tmp_path / "out", "training")) == 11


def test_repeats_within_a_section_are_counted(tmp_path: Path) -> None:
    source = guide_decoder(tmp_path / "in")
    (source / "Train" / "Images" / "covid_5.png").write_bytes(
        (source / "Train" / "Images" / "covid_6.png").read_bytes()
    )
    document = prepared("qata_cov19", source, tmp_path / "out")
    assert len(ids(document)[0]) == 12
    assert document["statistics"]["repeated_images_in_a_section"] == 1


def test_shared_subjects_are_reported(tmp_path: Path) -> None:
    source = tmp_path / "in"
    names = {"Train": "sub-S09_ses-E1.png", "Test": "sub-s09_ses-E2.png"}
    for seed, (section, name) in enumerate(names.items()):
        draw(source / section / "Images" / name, seed=seed)
        draw_mask(source / section / "GTs" / f"mask_{name}")
    result = run("qata_cov19", source, tmp_path / "out")
    assert result.exit_code == 0
    assert "1 subjects are in two sections (sub-s09)" in result.output


def test_unknown_words_contradictions_and_empty_masks_are_counted(tmp_path: Path) -> None:
    texts = {
        0: "Zorblax in the lower left lung.",
        1: "Unilateral pulmonary infection, one infected area, left and right lung.",
    }
    source = own(tmp_path / "in", text=lambda index: texts.get(index, caption(index)))
    Image.fromarray(np.zeros((16, 12), dtype=np.uint8)).save(source / "masks" / "2.png")
    document = prepared("folder", source, tmp_path / "out")
    assert "zorblax" in {word.lower() for word in document["statistics"]["unknown_words"]}
    assert document["statistics"]["contradictory_captions"] == 1
    assert document["statistics"]["empty_masks"] == 1


# --- bad sources -----------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def spoil(source: Path, name: str) -> None:
    image, mask, table = source / "images" / "3.png", source / "masks" / "3.png", source / "cases.csv"
    text = table.read_text(encoding="utf-8")
    changes: dict[str, Callable[[], object]] = {
        "missing image": image.unlink,
        "truncated image": lambda: truncate(image),
        "empty image": lambda: image.write_bytes(b""),
        "text as image": lambda: image.write_text("not a picture", encoding="utf-8"),
        "1x1": lambda: draw(image, seed=0, size=(1, 1)),
        "nan": lambda: Image.fromarray(np.full((16, 12), np.nan, dtype=np.float32)).save(
            image, format="TIFF"
        ),
        "mask size": lambda: draw_mask(mask, size=(18, 12)),
        "mask values": lambda: draw(mask, seed=1),
        "mask background": lambda: Image.fromarray(np.asarray(Image.open(mask)) // 255 + 1).save(mask),
        "empty csv": lambda: table.write_text("", encoding="utf-8"),
        "header only": lambda: table.write_text("image,text\n", encoding="utf-8"),
        "no image column": lambda: table.write_text(text.replace('"image"', '"file_id"'), encoding="utf-8"),
        "no text column": lambda: table.write_text(text.replace('"text"', '"words"'), encoding="utf-8"),
        "semicolons": lambda: table.write_text(text.replace('","', '";"'), encoding="utf-8"),
        "tabs": lambda: table.write_text(text.replace('","', '"\t"'), encoding="utf-8"),
        "unquoted": lambda: table.write_text(text.replace('"', ""), encoding="utf-8"),
        "duplicate": lambda: table.write_text(f'{text}"3.png","again"\n', encoding="utf-8"),
        "leaves": lambda: table.write_text(text.replace('"3.png"', '"../../3.png"'), encoding="utf-8"),
        "absolute": lambda: table.write_text(text.replace('"3.png"', '"/etc/hostname"'), encoding="utf-8"),
        "no name": lambda: table.write_text(text.replace('"3.png"', '""'), encoding="utf-8"),
        "not utf-8": lambda: table.write_bytes(text.replace("lower", "l\xf6wer").encode("latin-1")),
        "two tables": lambda: (source / "more.csv").write_text(text, encoding="utf-8"),
    }
    changes[name]()


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ("missing image", ["cases.csv, line 5", "image '3.png' must exist", "nearest"]),
        ("truncated image", ["cases.csv, line 5", "3.png must be a readable picture"]),
        ("empty image", ["3.png must be a readable picture, got: an empty file"]),
        ("text as image", ["3.png must be a readable picture"]),
        ("1x1", ["3.png must be at least 2 x 2 pixels, got 1 x 1"]),
        ("nan", ["3.png must hold finite numbers, got NaN"]),
        (
            "mask size",
            ["masks/3.png must have the size of its image", "images/3.png, 16 x 12", "got 18 x 12"],
        ),
        (
            "mask values",
            ["masks/3.png must have two values, 0 and one other, got", "more", "--mask-threshold"],
        ),
        ("mask background", ["masks/3.png must have two values, 0 and one other, got 1, 2"]),
        ("empty csv", ["cases.csv must start with a header row", "got an empty file"]),
        ("header only", ["cases.csv must list at least one image"]),
        ("no image column", ["cases.csv must have a column 'image'", "got the columns 'file_id', 'text'"]),
        ("no text column", ["cases.csv must have a column 'text'", "got the columns 'image', 'words'"]),
        ("semicolons", ["cases.csv must be separated by commas, got semicolons"]),
        ("tabs", ["cases.csv must be separated by commas, got tabs"]),
        ("unquoted", ["cases.csv, line 2 must have 2 values (image, text), got 4", "double quotes"]),
        ("duplicate", ["cases.csv, line 22", "id '3'", "must be unique", "line 5"]),
        ("leaves", ["cases.csv, line 5: image must stay inside", "../../3.png"]),
        ("absolute", ["cases.csv, line 5: image must stay inside", "/etc/hostname"]),
        ("no name", ["cases.csv, line 5 must name an image"]),
        ("not utf-8", ["cases.csv must be text in UTF-8"]),
        ("two tables", ["must hold one csv", "cases.csv, more.csv", "--captions"]),
    ],
)
def test_bad_sources_are_refused_and_leave_nothing(tmp_path: Path, problem: str, expected: list[str]) -> None:
    source = own(tmp_path / "in", text=caption)
    spoil(source, problem)
    message = refused("folder", source, tmp_path / "out")
    for part in expected:
        assert part in message


def test_link_out_of_the_source_is_refused(tmp_path: Path) -> None:
    source = own(tmp_path / "in")
    outside = draw(tmp_path / "secret.png", seed=99)
    (source / "images" / "3.png").unlink()
    (source / "images" / "3.png").symlink_to(outside)
    assert "must stay inside" in refused("folder", source, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "nearest"), [("qata", "qata_cov19"), ("kvasir", "kvasir_seg"), ("MosMedData", "mosmeddata_plus")]
)
def test_unknown_data_set_offers_the_nearest(tmp_path: Path, name: str, nearest: str) -> None:
    message = refused(name, tmp_path, tmp_path / "out")
    assert f"got '{name}'; nearest: {nearest}" in message


def test_qata_errors_name_the_row(tmp_path: Path) -> None:
    source = guide_decoder(tmp_path / "in")
    (source / "Train" / "Images" / "covid_7.png").unlink()
    message = refused("qata_cov19", source, tmp_path / "out")
    assert "train.csv, line 7: image 'mask_covid_7.png' must be one of the 14 images" in message
    draw(source / "Train" / "Images" / "covid_7.png", seed=7)
    (source / "Train" / "GTs" / "mask_covid_7.png").unlink()
    assert "must have a mask in" in refused("qata_cov19", source, tmp_path / "out")


def test_one_image_in_two_lists_is_refused(tmp_path: Path) -> None:
    source = guide_decoder(tmp_path / "in")
    write_csv(source / "prompt" / "test.csv", rows([30, 4]))
    message = refused("qata_cov19", source, tmp_path / "out")
    assert "id 'covid_4'" in message
    assert "list an image once" in message


def test_two_caption_versions_must_be_chosen_between(tmp_path: Path) -> None:
    source = sgseg(tmp_path / "in")
    table = write_csv(source / "prompts" / "train.csv", rows(range(6)))
    message = refused("qata_cov19", source, tmp_path / "out")
    assert "one caption table must list the training section" in message
    assert "--captions" in message
    document = prepared("qata_cov19", source, tmp_path / "out", "--captions", str(table))
    assert document["caption_version"] == "lvit-raw"


def test_sources_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert "must hold a folder images/" in refused("folder", tmp_path / "in", tmp_path / "out")
    assert "must hold folders of images" in refused("qata_cov19", tmp_path / "in", tmp_path / "out")
    assert "source must be a folder, got" in refused("folder", tmp_path / "nowhere", tmp_path / "out")


# --- output ----------------------------------------------------------------------------------------------------


def test_output_in_use_needs_overwrite(tmp_path: Path) -> None:
    source, output = own(tmp_path / "in"), tmp_path / "out"
    output.mkdir()
    prepared("folder", source, output)
    (output / "note.txt").write_text("mine", encoding="utf-8")
    result = run("folder", source, output)
    assert result.exit_code == 1
    assert "output must be new or empty" in result.stderr
    assert (output / "note.txt").exists()
    prepared("folder", source, output, "--overwrite")
    assert not (output / "note.txt").exists()


def test_a_failed_overwrite_keeps_what_was_there(tmp_path: Path) -> None:
    source, output = own(tmp_path / "in"), tmp_path / "out"
    prepared("folder", source, output)
    before = snapshot(output)
    truncate(source / "images" / "19.png")
    result = run("folder", source, output, "--overwrite")
    assert result.exit_code == 1
    assert snapshot(output) == before


def test_overwrite_spares_folders_that_are_no_data_set(tmp_path: Path) -> None:
    source = own(tmp_path / "in")
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years", encoding="utf-8")
    result = run("folder", source, home, "--overwrite")
    assert result.exit_code == 1
    assert "must find a dataset.json" in result.stderr
    assert (home / "thesis.txt").exists()


def test_output_inside_the_source_is_refused(tmp_path: Path) -> None:
    source = own(tmp_path / "in")
    result = run("folder", source, source / "prepared")
    assert result.exit_code == 1
    assert "must lie outside of the source" in result.stderr


def test_link_shares_the_file_and_copy_does_not(tmp_path: Path) -> None:
    source = own(tmp_path / "in")
    prepared("folder", source, tmp_path / "linked", "--link")
    prepared("folder", source, tmp_path / "copied", "--copy")
    original = (source / "images" / "1.png").stat().st_ino
    assert (tmp_path / "linked" / "images" / "1.png").stat().st_ino == original
    assert (tmp_path / "copied" / "images" / "1.png").stat().st_ino != original
    assert verify_files(tmp_path / "linked") == verify_files(tmp_path / "copied") == 40


def test_summary_and_help_tell_what_matters(tmp_path: Path) -> None:
    result = run("qata_cov19", guide_decoder(tmp_path / "in"), tmp_path / "out")
    for part in (
        "training 12, validation 2, test 1",
        "distinct",
        "laterality",
        "identical images",
        "license",
    ):
        assert part in result.output
    text = CliRunner().invoke(app, ["--help"]).output
    for part in ("qata_cov19", "--captions", "--overwrite", "python -m tools.prepare_data folder"):
        assert part in text


def test_mask_threshold_can_be_given(tmp_path: Path) -> None:
    source = own(tmp_path / "in")
    draw(source / "masks" / "3.png", seed=1)
    prepared("folder", source, tmp_path / "out", "--mask-threshold", "127")
    written = np.asarray(Image.open(tmp_path / "out" / "labels" / "3.png"))
    assert np.array_equal(written > 0, np.asarray(Image.open(source / "masks" / "3.png")) > 127)


def test_phantoms_are_written_whole(tmp_path: Path) -> None:
    arguments = ["phantom", "--output", str(tmp_path / "out"), "--count", "10", "--size", "64"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output + result.stderr
    total = sum(len(load_datalist(tmp_path / "out", name)) for name in ("training", "validation", "test"))
    assert total == 10
    assert CliRunner().invoke(app, arguments).exit_code == 1


# --- real data -------------------------------------------------------------------------------------------------


def test_real_sources_are_read_whole(real_data: Path) -> None:
    counts = {"qata_cov19": [1600, 300, 500], "kvasir_seg": [240, 40, 60], "cvc_clinicdb": [160, 30, 40]}
    for name, expected in counts.items():
        data = read_source(name, real_data / name)
        assert [len(cases) for cases in data.sections.values()] == expected
        assert all(case.mask and case.text for cases in data.sections.values() for case in cases)


@pytest.mark.parametrize(
    ("name", "count"), [("text/mosmeddata_plus_train.csv", 2183), ("text/mosmeddata_plus_val.csv", 273)]
)
def test_real_semicolon_tables(real_data: Path, name: str, count: int) -> None:
    listed = read_table(real_data / name, separators=(";", ","))
    assert len(listed) == count
    assert all(row.image.endswith(".png") and row.text for row in listed)


def test_real_spreadsheet(real_data: Path) -> None:
    listed = read_table(real_data / "xlsx" / "Test_text.xlsx")
    assert listed[0].text == "The nuclei are sparsely distributed."
    assert listed[0].place.endswith("Test_text.xlsx, line 2")


def test_real_slices_without_csv(real_data: Path, tmp_path: Path) -> None:
    data = read_source("folder", real_data / "covid_ct", SourceOptions(anatomy="lung"))
    found = prepare_dataset(data, real_data / "covid_ct", tmp_path / "out")
    assert found.counts == {"training": 35, "validation": 5, "test": 10}
    assert verify_files(tmp_path / "out") == 100


@pytest.mark.slow
def test_real_qata_laterality(real_data: Path, tmp_path: Path) -> None:
    document = prepared("qata_cov19", real_data / "qata_cov19", tmp_path / "out")
    assert document["laterality"] == "image"
    assert document["laterality_evidence"]["share"] > 0.95
    assert document["statistics"]["left_out"] == 0
    assert document["statistics"]["subjects_in_two_sections"] == []

"""The data list: what it returns, and every list that it refuses."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from common.data import load_datalist, load_labelled_split, read_datalist, subset_in_file_order, verify_files

COUNTS = {"training": 8, "validation": 2, "test": 3}


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """A valid list of 13 cases whose files exist in ``tmp_path``."""
    content: dict[str, Any] = {"name": "tiny", "laterality": "patient", "sha256": {}}
    for section, count in COUNTS.items():
        content[section] = []
        for index in range(count):
            case_id = f"{section}_{index}"
            entry = {"id": case_id, "text": f"Sentence {index}."}
            for key, folder in (("image", "images"), ("label", "labels")):
                file = tmp_path / folder / f"{case_id}.png"
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(f"{key} of {case_id}".encode())
                entry[key] = f"{folder}/{case_id}.png"
                content["sha256"][entry[key]] = hashlib.sha256(file.read_bytes()).hexdigest()
            content[section].append(entry)
    return content


def write(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "dataset.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_cases_are_absolute_ordered_and_carry_the_laterality(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    path = write(tmp_path, document)
    cases = load_datalist(path, "training")
    assert [case["id"] for case in cases] == [f"training_{index}" for index in range(8)]
    assert cases[0] == {
        "id": "training_0",
        "image": str(tmp_path / "images" / "training_0.png"),
        "label": str(tmp_path / "labels" / "training_0.png"),
        "text": "Sentence 0.",
        "laterality": "patient",
    }
    assert load_datalist(tmp_path, "training") == cases


def test_laterality_defaults_to_image_and_a_case_may_differ(tmp_path: Path, document: dict[str, Any]) -> None:
    del document["laterality"]
    document["test"][1]["laterality"] = "patient"
    cases = load_datalist(write(tmp_path, document), "test")
    assert [case["laterality"] for case in cases] == ["image", "patient", "image"]


def test_missing_text_is_the_empty_prompt_and_missing_label_is_absent(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    document["test"][0]["text"] = None
    del document["test"][1]["text"]
    del document["test"][1]["label"]
    cases = load_datalist(write(tmp_path, document), "test")
    assert [case["text"] for case in cases] == ["", "", "Sentence 2."]
    assert ["label" in case for case in cases] == [True, False, True]


@pytest.mark.parametrize("text", ["x" * 1_000_000, "🫁 infection", "left\nlung"])
def test_any_sentence_survives(tmp_path: Path, document: dict[str, Any], text: str) -> None:
    document["test"][0]["text"] = text
    assert load_datalist(write(tmp_path, document), "test")[0]["text"] == text


def test_fraction_draws_the_documented_subset(tmp_path: Path, document: dict[str, Any]) -> None:
    path = write(tmp_path, document)
    everything = load_datalist(path, "training")
    assert load_datalist(path, "training", fraction=0.5) == subset_in_file_order(everything, 0.5)
    assert load_datalist(path, "training", fraction=0.5, seed=1) == subset_in_file_order(
        everything, 0.5, seed=1
    )
    document["split"] = {"subset_rule": "name_order"}
    path = write(tmp_path, document)
    assert len(load_datalist(path, "training", fraction=0.7)) == 5  # floor, where round would give 6


def test_labelled_split_hides_the_labels_of_the_rest(tmp_path: Path, document: dict[str, Any]) -> None:
    path = write(tmp_path, document)
    labelled, unlabelled = load_labelled_split(path, fraction=0.25)
    assert labelled == load_datalist(path, "training", fraction=0.25)
    assert len(unlabelled) == 6
    assert not any("label" in case for case in unlabelled)
    assert {case["id"] for case in labelled + unlabelled} == {f"training_{index}" for index in range(8)}


def test_other_sections_may_be_absent_on_disk(tmp_path: Path, document: dict[str, Any]) -> None:
    (tmp_path / "images" / "test_0.png").unlink()
    path = write(tmp_path, document)
    assert len(load_datalist(path, "training")) == 8
    with pytest.raises(
        FileNotFoundError, match=r"test\[0\] \(test_0\) image must exist, got 'images/test_0.png'"
    ):
        load_datalist(path, "test")


@pytest.mark.parametrize(
    ("asked", "nearest"), [("train", "training"), ("testing", "test"), ("val", "validation")]
)
def test_unknown_section_offers_the_nearest(
    tmp_path: Path, document: dict[str, Any], asked: str, nearest: str
) -> None:
    with pytest.raises(ValueError, match=rf"section must be one of .* got '{asked}'; nearest: .*{nearest}"):
        load_datalist(write(tmp_path, document), asked)


def broken(document: dict[str, Any], change: str) -> dict[str, Any]:
    document = copy.deepcopy(document)
    training, test = document["training"], document["test"]
    changes = {
        "duplicate id": lambda: test[1].update(id="training_3"),
        "same path": lambda: test[1].update(image=training[0]["image"]),
        "same content": lambda: document["sha256"].update(
            {test[1]["image"]: document["sha256"][training[0]["image"]]}
        ),
        "leaves": lambda: training[2].update(image="../secret.png"),
        "absolute": lambda: training[2].update(label="/etc/hostname"),
        "no id": lambda: training[2].pop("id"),
        "empty image": lambda: training[2].update(image=""),
        "numeric text": lambda: training[2].update(text=5),
        "not an object": lambda: training.append("case"),
        "not a list": lambda: document.update(test={}),
        "laterality": lambda: document.update(laterality="viewer"),
        "case laterality": lambda: training[2].update(laterality="mirror"),
    }
    changes[change]()
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("duplicate id", r"id 'training_3' must be unique, got it in training\[3\] and test\[1\]"),
        ("same path", r"same image must not be in two sections, got training\[0\] and test\[1\]"),
        ("same content", r"same image must not be in two sections, got training\[0\] and test\[1\]"),
        ("leaves", r"training\[2\] \(training_2\) image must stay inside .*, got '\.\./secret\.png'"),
        ("absolute", r"training\[2\] \(training_2\) label must stay inside"),
        ("no id", r"training\[2\] must have a non-empty string 'id', got None"),
        ("empty image", r"training\[2\] must have a non-empty string 'image', got ''"),
        ("numeric text", r"training\[2\] \(training_2\) must have a string 'text' or none, got 5"),
        ("not an object", r"training\[8\] must be an object, got str"),
        ("not a list", r"test must be a list of cases, got dict"),
        ("laterality", r"laterality must be 'image' or 'patient', got 'viewer'"),
        (
            "case laterality",
            r"training\[2\] \(training_2\) laterality must be 'image' or 'patient', got 'mirror'",
        ),
    ],
)
def test_invalid_lists_are_refused(
    tmp_path: Path, document: dict[str, Any], change: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_datalist(write(tmp_path, broken(document, change)), "training")


def test_equal_files_without_recorded_checksums_are_found(tmp_path: Path, document: dict[str, Any]) -> None:
    del document["sha256"]
    path = write(tmp_path, document)
    assert len(load_datalist(path, "training")) == 8
    (tmp_path / "images" / "test_2.png").write_bytes((tmp_path / "images" / "training_5.png").read_bytes())
    with pytest.raises(ValueError, match=r"got training\[5\] and test\[2\]"):
        load_datalist(path, "training")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}_outside.png"
    outside.write_bytes(b"secret")
    image = tmp_path / "images" / "training_0.png"
    image.unlink()
    image.symlink_to(outside)
    with pytest.raises(ValueError, match=r"training\[0\] \(training_0\) image must stay inside"):
        load_datalist(write(tmp_path, document), "training")


def test_missing_and_unreadable_lists(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data list at .*prepare_data"):
        load_datalist(tmp_path, "training")
    path = tmp_path / "dataset.json"
    path.write_text("{not json", encoding="utf-8")
    with pytest.raises(ValueError, match="must be JSON in UTF-8"):
        load_datalist(path, "training")
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="must hold a JSON object, got list"):
        read_datalist(path)


def test_verify_files_counts_and_finds_a_change(tmp_path: Path, document: dict[str, Any]) -> None:
    path = write(tmp_path, document)
    assert verify_files(path) == 26
    (tmp_path / "labels" / "test_1.png").write_bytes(b"edited")
    with pytest.raises(ValueError, match=r"test_1\.png must have SHA-256 .*, got .*: it changed"):
        verify_files(path)
    (tmp_path / "labels" / "test_1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"sha256 names 'labels/test_1\.png', which is missing"):
        verify_files(path)

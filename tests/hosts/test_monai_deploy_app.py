"""The parts of the MONAI Deploy application that need no host."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from tools.hosts.monai_deploy.app.guided_segmentation import sentences
from tools.hosts.monai_deploy.app.guided_segmentation.arguments import parse_options
from tools.hosts.monai_deploy.app.guided_segmentation.bundle import dicom_modalities, open_bundle
from tools.hosts.monai_deploy.app.guided_segmentation.privacy import WithoutStudies
from tools.hosts.monai_deploy.app.guided_segmentation.selection import (
    only_series,
    read_rules,
    selection_rules,
)

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "tools" / "hosts" / "monai_deploy"


def bundle(folder: Path, *, modality: str = "chest radiograph, CT slice") -> Path:
    """Write what a packed bundle has at least."""
    for place in ("configs", "models", "scripts/common/inference"):
        (folder / place).mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text("{}", encoding="utf-8")
    (folder / "configs" / "metadata.json").write_text(json.dumps({"modality": modality}), encoding="utf-8")
    (folder / "models" / "model.pt").write_bytes(b"weights")
    return folder


class TestOptions:
    def test_environment_stands_in_for_the_command_line(self) -> None:
        environment = {"HOLOSCAN_INPUT_PATH": "a", "HOLOSCAN_MODEL_PATH": "m", "GUIDED_TEXT": "lower left"}
        options = parse_options(["-i", "b"], environment)
        assert (options.input, options.model, options.output) == (Path("b"), Path("m"), Path("output"))
        assert (options.text, options.laterality, options.log_level) == ("lower left", None, "WARNING")

    def test_an_empty_sentence_is_a_choice_on_the_command_line_alone(self) -> None:
        assert parse_options(["--text", ""], {}).text == ""
        assert parse_options([], {"GUIDED_TEXT": ""}).text is None

    def test_a_modality_is_one_that_networks_know(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert parse_options([], {"GUIDED_MODALITY": "flair"}).modality == "flair"
        assert parse_options([], {}).modality is None
        with pytest.raises(SystemExit, match="2"):
            parse_options(["--modality", "MR"], {})
        assert "must be one of ct, mr, flair, t2, got 'MR'" in capsys.readouterr().err

    def test_choices_are_checked_in_the_environment_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            parse_options([], {"GUIDED_LATERALITY": "mine"})
        assert "must be one of patient, image, got 'mine'" in capsys.readouterr().err


class TestBundle:
    def test_is_found_in_the_folder_of_a_package(self, tmp_path: Path) -> None:
        made = bundle(tmp_path / "models" / "some_segmentation")
        assert open_bundle(made) == open_bundle(tmp_path / "models")
        assert open_bundle(made).modalities == ("CR", "DX", "CT")

    def test_a_bundle_of_classes_has_the_modalities_of_dicom(self, tmp_path: Path) -> None:
        made = bundle(tmp_path / "brain_segmentation")
        config = {"labels": {"0": "background", "1": "whole tumour"}, "modalities": ["flair", "t2", "ct"]}
        (made / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
        assert open_bundle(made).modalities == ("MR", "CT")
        assert open_bundle(made).classes
        assert not open_bundle(bundle(tmp_path / "other_segmentation")).classes

    def test_refuses_none_and_several(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"must be one packed bundle.*got none"):
            open_bundle(tmp_path)
        bundle(tmp_path / "first"), bundle(tmp_path / "second")
        with pytest.raises(ValueError, match="got 2 of them"):
            open_bundle(tmp_path)

    def test_refuses_what_cannot_run(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="must name a kind of image"):
            open_bundle(bundle(tmp_path / "a", modality="photographs"))
        made = bundle(tmp_path / "b")
        (made / "models" / "model.pt").unlink()
        with pytest.raises(ValueError, match=r"must have weights.*--weights"):
            open_bundle(made)
        (made / "scripts" / "common" / "inference").rmdir()
        with pytest.raises(ValueError, match="pack it first"):
            open_bundle(made)
        (made / "configs" / "metadata.json").write_text("[", encoding="utf-8")
        (made / "scripts" / "common" / "inference").mkdir()
        (made / "models" / "model.pt").write_bytes(b"")
        with pytest.raises(ValueError, match=r"metadata\.json must be a readable JSON file"):
            open_bundle(made)

    def test_every_bundle_names_its_modalities(self) -> None:
        for file in (ROOT / "bundles").glob("*/configs/metadata.json"):
            metadata = json.loads(file.read_text(encoding="utf-8"))
            assert metadata.get("modalities") or dicom_modalities(metadata["modality"]), file


class TestSelection:
    def test_rules_leave_out_localizers(self) -> None:
        rules = json.loads(selection_rules(("CR", "CT")))["selections"]
        assert [rule["conditions"]["Modality"] for rule in rules] == ["^CR$", "^CT$"]
        assert [rule["conditions"].get("ImageType") for rule in rules] == [None, ["!LOCALIZER"]]

    def test_takes_the_only_series_or_the_wanted_one(self) -> None:
        found = [("1.2", "CT", 3), ("1.3", "CT", 9)]
        assert only_series(found[:1], wanted=None, present=["CT"]) == "1.2"
        assert only_series([*found, found[0]], wanted="1.3", present=["CT"]) == "1.3"
        with pytest.raises(ValueError, match=r"got 2: 1\.2 \(CT, 3 images\); 1\.3 .*--series"):
            only_series(found, wanted=None, present=["CT"])
        with pytest.raises(ValueError, match=r"must have series 1\.4.*got CT"):
            only_series(found, wanted="1.4", present=["CT", "CT"])

    def test_rules_of_a_file_are_checked(self, tmp_path: Path) -> None:
        file = tmp_path / "rules.json"
        file.write_text('{"selection": []}', encoding="utf-8")
        with pytest.raises(ValueError, match='list "selections"'):
            read_rules(file)
        file.write_text(selection_rules(["MR"]), encoding="utf-8")
        assert json.loads(read_rules(file))["selections"][0]["name"] == "image MR"


class TestSentences:
    def test_sidecar_of_a_study(self, tmp_path: Path) -> None:
        one, two = tmp_path / "a.dcm", tmp_path / "b.dcm"
        assert sentences.chosen_sidecar(tmp_path, [one]) == one
        assert sentences.chosen_sidecar(tmp_path, [one, two]) is None
        (tmp_path / "sentence.txt").write_text("x", encoding="utf-8")
        assert sentences.chosen_sidecar(tmp_path, [one, two]) == tmp_path / "sentence.txt"

    def test_a_named_sidecar_must_be_one(self, tmp_path: Path) -> None:
        sentences.check_sidecar(None)
        for name in ("missing.txt", "image.png"):
            with pytest.raises(ValueError, match=r"must be a \.txt or \.json file"):
                sentences.check_sidecar(tmp_path / name)

    def test_reports_go_before_attributes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        import common.dicom
        import common.dicom.sentence

        monkeypatch.setitem(sys.modules, "scripts.common.dicom", common.dicom)
        monkeypatch.setitem(sys.modules, "scripts.common.dicom.sentence", common.dicom.sentence)
        image, report, item = Dataset(), Dataset(), Dataset()
        image.ImageComments = "opacity in the lower left lung"
        item.ValueType, item.TextValue = "TEXT", "opacity in the upper right lung"
        report.Modality, report.ContentSequence = "SR", [item]
        assert sentences.found_sentence(image, [report], sidecar=None) == (item.TextValue, "report")
        assert sentences.found_sentence(image, [], sidecar=None) == (image.ImageComments, "image_comments")
        assert sentences.found_sentence(Dataset(), [], sidecar=None) == ("", "none")


def test_operators_that_read_studies_are_not_logged() -> None:
    def record(file: str) -> logging.LogRecord:
        return logging.LogRecord("root", logging.INFO, file, 1, "Doe^Jo", None, None)

    assert not WithoutStudies().filter(record("operators/dicom_series_selector_operator.py"))
    assert WithoutStudies().filter(record("operators/monai_bundle_inference_operator.py"))


def test_package_asks_for_the_same_versions_as_the_environment() -> None:
    lines = [
        set((HOST / name).read_text(encoding="utf-8").splitlines())
        for name in ("app/requirements.txt", "requirements.txt")
    ]
    wanted = {line for line in lines[0] if not line.startswith("#")}
    assert wanted <= lines[1]
    pins = set((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    assert wanted <= pins, "the versions must be those of constraints.txt"


def test_application_imports_nothing_of_the_repository() -> None:
    for path in (HOST / "app").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "from tools" not in text, path
        assert "from common" not in text, path

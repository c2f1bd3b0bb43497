"""tools.pack_bundle: one small bundle packed once and looked at from all sides; slow: every bundle, and real runs."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from typer.testing import CliRunner

import common
from tools.pack_bundle import app
from tools.packing import (
    STEPS,
    BundleSource,
    Overlay,
    Packed,
    PackError,
    PackRequest,
    check_plain,
    describe_data,
    manifest_differences,
    merged,
    merged_configs,
    pack_bundle,
    packed_configs,
    prove,
    read_source,
    relaid,
    with_moved_targets,
    write_archive,
)
from tools.packing import isolated as isolated_program
from tools.packing.merging import check_known, merged_into_evaluate

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted((ROOT / "bundles").glob("*_segmentation"))
VOLUMES = "tcsa_uda_segmentation"
PICTURES = [bundle for bundle in BUNDLES if bundle.name != VOLUMES]
BUNDLE = "baseline_segmentation"
OVERLAYS = ("light", "qata_cov19")
CONFIG = {"a": 1, "b": {"c": [1, 2], "d": {"e": 1}}, "list": [1], "kept": "x"}
QUICK = {"image_size": 64, "batch_size": 4, "max_epochs": 1, "patience": 0}

WORDS = st.text(alphabet='a ,:"\\[]{}\né', max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def request(output: Path, **values: Any) -> PackRequest:
    return PackRequest(
        **{"bundle": BUNDLE, "bundles": ROOT / "bundles", "output": output, "proof": False, **values}
    )


@pytest.fixture(scope="module")
def source() -> BundleSource:
    return read_source(BUNDLE, bundles=ROOT / "bundles")


@pytest.fixture(scope="module")
def inputs(source: BundleSource, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Overlays, weights that belong to them, and the list of cases that the weights might come from."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "narrow.json").write_text('{"width": 0.125}', encoding="utf-8")
    overlays = (*OVERLAYS, str(folder / "narrow.json"))
    configs = merged_configs(source, [source.overlay(name) for name in overlays])
    network = ConfigParser(config=configs["configs/inference.json"]).get_parsed_content("network_def")
    torch.save(network.state_dict(), folder / "best.pt")
    dataset = {"name": "Some lungs", "laterality": "image", "training": []}
    (folder / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    return {"overlays": overlays, "weights": folder / "best.pt", "dataset": folder / "dataset.json"}


@pytest.fixture(scope="module")
def packed(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack_bundle(request(tmp_path_factory.mktemp("dist"), **inputs, proof=True))


class TestFolder:
    def test_it_runs_alone_with_its_weights(self, packed: Packed) -> None:
        proof = packed.proof
        assert proof is not None
        assert proof.network == "MMIUNet"
        assert proof.weights
        assert proof.text_changes_output
        assert proof.output == [1, 1, 96, 96]
        assert proof.targets > 20
        assert proof.modules > 20

    def test_every_target_moved(self, packed: Packed, source: BundleSource, inputs: dict[str, Any]) -> None:
        merged = merged_configs(source, [source.overlay(name) for name in inputs["overlays"]])
        for path in packed.folder.glob("configs/**/*.json"):
            text, name = path.read_text(encoding="utf-8"), path.relative_to(packed.folder).as_posix()
            assert '"common.' not in text, name
            original = (
                json.dumps(merged[name]) if name in merged else (source.folder / name).read_text("utf-8")
            )
            assert text.count('"scripts.common.') == original.count('"common.'), name

    def test_all_of_the_shared_code_is_inside_and_nothing_else_of_the_repository(
        self, packed: Packed
    ) -> None:
        package = Path(common.__file__).parent
        expected = {
            path.relative_to(package)
            for path in package.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        inside = packed.folder / "scripts" / "common"
        assert {path.relative_to(inside) for path in inside.rglob("*") if path.is_file()} == expected
        assert Path("text/vocab.txt") in expected
        for path in expected:
            assert sha256(inside / path) == sha256(package / path), path
        assert {path.name for path in packed.folder.iterdir()} == {
            *("LICENSE", "configs", "docs", "manifest.json", "models", "scripts")
        }

    def test_overlays_are_merged_as_the_runner_merges_them(
        self, packed: Packed, source: BundleSource, inputs: dict[str, Any]
    ) -> None:
        overlays = [source.overlays().get(name, Path(name)) for name in inputs["overlays"]]
        files = [source.folder / "configs" / "train.json", *overlays]
        merged = with_moved_targets(ConfigParser.load_config_files(files))
        known = read(files[0])  # of an overlay, training gets the keys that it has, as inference does
        expected = {key: value for key, value in merged.items() if key in known}
        assert read(packed.folder / "configs/train.json") == expected

    def test_inference_gets_the_keys_that_it_has(self, packed: Packed, source: BundleSource) -> None:
        inference = read(packed.folder / "configs/inference.json")
        original = read(source.folder / "configs/inference.json")
        assert list(inference) == list(original)
        changed = {key for key in original if with_moved_targets(original[key]) != inference[key]}
        assert changed == {"image_size", "modalities", "width"}
        assert inference["image_size"] == read(source.overlays()["light"])["image_size"]

    def test_named_overlays_are_gone_and_the_others_stay(self, packed: Packed, source: BundleSource) -> None:
        kept = {path.stem for path in packed.folder.glob("configs/overlays/*.json")}
        assert kept == set(source.overlays()) - set(OVERLAYS)
        assert not (packed.folder / "configs/experiments").exists()

    def test_configs_are_laid_out_as_their_sources(self, packed: Packed, source: BundleSource) -> None:
        for path in packed.folder.glob("configs/*.json"):
            text = path.read_text(encoding="utf-8")
            original = (source.folder / "configs" / path.name).read_text(encoding="utf-8")
            assert len(text.splitlines()) == len(original.splitlines()), path.name
            assert text.endswith("}\n")

    def test_without_weights_the_models_folder_is_empty(self, source: BundleSource, tmp_path: Path) -> None:
        result = pack_bundle(request(tmp_path))
        assert [path.name for path in (result.folder / "models").iterdir()] == [".gitkeep"]
        assert result.manifest["weights"] is None
        assert result.manifest["training_data"] is None
        assert result.manifest["overlays"] == []


class TestManifest:
    def test_it_lists_every_file_with_its_true_hash(self, packed: Packed) -> None:
        manifest = read(packed.folder / "manifest.json")
        assert manifest == packed.manifest
        paths = [path for path in packed.folder.rglob("*") if path.is_file()]
        names = sorted(path.relative_to(packed.folder).as_posix() for path in paths)
        assert list(manifest["files"]) == [name for name in names if name != "manifest.json"]
        for name, entry in manifest["files"].items():
            path = packed.folder / name
            assert entry == {"size": path.stat().st_size, "sha256": sha256(path)}
        assert manifest_differences(packed.folder) == []

    def test_it_says_what_was_packed(self, packed: Packed, inputs: dict[str, Any]) -> None:
        manifest = packed.manifest
        metadata = read(packed.folder / "configs/metadata.json")
        assert manifest["bundle"] == BUNDLE
        assert manifest["version"] == metadata["version"]
        assert manifest["project_version"] == common.__version__
        assert manifest["requires"]["monai"] == metadata["monai_version"]
        assert manifest["requires"]["packages"] == metadata["required_packages_version"]
        assert manifest["laterality"] == read(packed.folder / "configs/inference.json")["laterality"]
        assert manifest["overlays"] == [*OVERLAYS, "narrow"]
        assert manifest["training_data"] == {"name": "Some lungs", "sha256": sha256(inputs["dataset"])}
        assert manifest["weights"] == {"path": "models/model.pt", "sha256": sha256(inputs["weights"])}

    def test_it_names_no_place_of_one_machine(self, packed: Packed, inputs: dict[str, Any]) -> None:
        text = (packed.folder / "manifest.json").read_text(encoding="utf-8")
        for place in (packed.folder.parent, inputs["weights"].parent, ROOT):
            assert str(place) not in text
        assert not re.search(r'"(/|[A-Z]:)', text)

    def test_without_a_checkout_there_is_no_commit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tools.packing.manifest.commit", lambda folder: "unknown")
        assert pack_bundle(request(tmp_path)).manifest["commit"] is None

    def test_differences_are_found(self, tmp_path: Path) -> None:
        for name in ("changed", "added", "missing", "kept"):
            (tmp_path / name).write_text(name, encoding="utf-8")
        table = {
            name: {"size": len(name), "sha256": hashlib.sha256(name.encode()).hexdigest()}
            for name in ("changed", "missing", "kept")
        }
        (tmp_path / "manifest.json").write_text(json.dumps({"files": table}), encoding="utf-8")
        (tmp_path / "changed").write_text("another", encoding="utf-8")
        (tmp_path / "missing").unlink()
        found = manifest_differences(tmp_path)
        assert found == ["added: not in the manifest", "changed: changed", "missing: missing"]

    def test_data_of_the_other_laterality_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps({"name": "reports", "laterality": "patient"}), encoding="utf-8")
        with pytest.raises(PackError, match="has the laterality patient, the bundle would say image"):
            describe_data(tmp_path, laterality="image")
        assert describe_data(path, laterality="patient")["name"] == "reports"
        path.write_text(json.dumps({"name": "/data/of/someone/lungs"}), encoding="utf-8")
        assert describe_data(path, laterality="image")["name"] == "lungs"


class TestArchive:
    def test_packing_twice_gives_the_same_bytes(
        self, packed: Packed, inputs: dict[str, Any], tmp_path: Path
    ) -> None:
        again = pack_bundle(request(tmp_path, **inputs))
        assert again.archive.name == packed.archive.name == f"{BUNDLE}-{packed.manifest['version']}.zip"
        assert sha256(again.archive) == sha256(packed.archive)

    def test_entries_are_sorted_timeless_and_without_caches(self, packed: Packed) -> None:
        with zipfile.ZipFile(packed.archive) as archive:
            entries = archive.infolist()
            assert archive.testzip() is None
        names = [entry.filename for entry in entries]
        assert names == sorted(names)
        assert all(name.startswith(f"{BUNDLE}/") for name in names)
        assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
        files = {name.removeprefix(f"{BUNDLE}/") for name in names} - {"manifest.json"}
        assert files == set(packed.manifest["files"])

    def test_a_changed_file_is_noticed_before_anything_runs(self, packed: Packed, tmp_path: Path) -> None:
        folder = tmp_path / BUNDLE
        with zipfile.ZipFile(packed.archive) as archive:
            archive.extractall(tmp_path)
        (folder / "scripts" / "common" / "inferers.py").write_text("", encoding="utf-8")
        write_archive(folder, tmp_path / "changed.zip")
        with pytest.raises(PackError, match=r"scripts/common/inferers\.py: changed"):
            prove(tmp_path / "changed.zip")


class TestOverlays:
    @pytest.mark.parametrize(
        "values",
        [
            {"a": 2},
            {"b": {"new": 1}},
            {"b#c#0": 5, "b::d#e": {"f": 2}},
            {"+b": {"d": 3, "g": 4}},
            {"+list": [2, 3], "a": "@list#0"},
            {"b#h": [7]},
        ],
    )
    def test_merge_is_that_of_monai(self, values: dict[str, Any], tmp_path: Path) -> None:
        before = json.dumps(CONFIG)
        files = {"config": CONFIG, "overlay": values}
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        expected = ConfigParser.load_config_files([tmp_path / f"{name}.json" for name in files])
        assert merged(CONFIG, Overlay(name="o", values=values), where="config") == expected
        assert json.dumps(CONFIG) == before

    def test_keys_of_the_other_configuration_are_left_out(self) -> None:
        overlay = Overlay(name="o", values={"train#x": 1, "+handlers": [1], "a": 2})
        assert merged(CONFIG, overlay, where="config") == CONFIG | {"a": 2}

    def test_errors_name_overlay_and_key(self) -> None:
        with pytest.raises(PackError, match=r"overlay o: b#nothing#x cannot be merged into train\.json"):
            merged(CONFIG, Overlay(name="o", values={"b#nothing#x": 1}), where="train.json")
        with pytest.raises(PackError, match=r"overlay o: \+a cannot be merged"):
            merged(CONFIG, Overlay(name="o", values={"+a": [1]}), where="train.json")
        with pytest.raises(PackError, match="overlay o sets strange#x, which neither"):
            check_known([Overlay(name="o", values={"a": 1, "strange#x": 1})], ["a"], ["b"])

    def test_an_overlay_wins_over_evaluate_as_in_the_repository(self) -> None:
        evaluate = {"section": "test", "validate#dataset#cache_rate": 0.0}
        overlay = Overlay(name="o", values={"validate::dataset::cache_rate": 0.5, "a": 1})
        assert merged_into_evaluate(evaluate, overlay) == evaluate | {"validate#dataset#cache_rate": 0.5}
        for values in ({"validate": {}}, {"validate#dataset#cache_rate#x": 1}, {"+section": ["x"]}):
            with pytest.raises(PackError, match="one is a part of the other"):
                merged_into_evaluate(evaluate, Overlay(name="o", values=values))

    def test_laterality_is_set_in_both_configurations(self, source: BundleSource) -> None:
        configs = packed_configs(source, [], laterality="patient")
        for name in ("train", "inference"):
            assert json.loads(configs[f"configs/{name}.json"])["laterality"] == "patient"
        with pytest.raises(PackError, match="laterality must be image or patient, got 'left'"):
            packed_configs(source, [], laterality="left")

    def test_an_overlay_may_be_a_file(self, source: BundleSource, tmp_path: Path) -> None:
        path = tmp_path / "tiny.json"
        path.write_text('{"width": 0.125}', encoding="utf-8")
        overlay = source.overlay(str(path))
        assert (overlay.name, overlay.values) == ("tiny", {"width": 0.125})
        path.write_text("[1]", encoding="utf-8")
        with pytest.raises(PackError, match="must hold a JSON object, got a list"):
            source.overlay(str(path))
        path.write_text("{", encoding="utf-8")
        with pytest.raises(PackError, match="must be a file of JSON"):
            source.overlay(str(path))

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("%configs/train.json#width", "refers to another file"),
            ("$@_meta_#version", "refers to the metadata"),
            ("$__import__('common.networks')", "names common in an expression"),
        ],
    )
    def test_what_would_not_stand_alone_is_refused(self, text: str, reason: str) -> None:
        with pytest.raises(PackError, match=rf"train\.json: .* {reason}"):
            check_plain({"a": [{"b": text}]}, where="train.json")


class TestLayout:
    def test_only_what_changed_is_written_anew(self) -> None:
        text = '{\n    "a": 1e-06, "b": [1, 2],\n    "c": {\n        "d": "x"\n    }\n}\n'
        value = {"a": 1e-06, "b": [1, 3], "c": {"d": "y"}}
        assert relaid(text, value) == text.replace("2]", "3]").replace('"x"', '"y"')

    def test_a_value_on_one_line_stays_on_one_line(self) -> None:
        text = '{\n    "a": {"b": 1}\n}\n'
        assert relaid(text, {"a": {"c": "x" * 120}}) == '{\n    "a": {"c": "' + "x" * 120 + '"}\n}\n'

    def test_long_values_are_indented_by_four(self) -> None:
        value = {"a": [{"b": "x" * 80}, {"c": "y" * 80}]}
        lines = relaid('{\n    "a": {\n        "z": 0\n    }\n}', value).splitlines()
        assert [len(line) - len(line.lstrip()) for line in lines] == [0, 4, 8, 8, 4, 0]
        assert json.loads("\n".join(lines)) == value

    @given(
        old=st.dictionaries(st.sampled_from("abc"), JSON),
        new=st.dictionaries(st.sampled_from("abc"), JSON),
        indent=st.sampled_from([None, 4]),
    )
    def test_the_result_holds_the_value_whatever_the_text(self, old: Any, new: Any, indent: Any) -> None:
        text = json.dumps(old, indent=indent)
        assert json.dumps(json.loads(relaid(text, new))) == json.dumps(new)
        assert relaid(text, old) == text + "\n"


class TestErrors:
    def test_unknown_names_offer_the_nearest(self, tmp_path: Path) -> None:
        with pytest.raises(PackError, match="got 'ligth': did you mean light"):
            pack_bundle(request(tmp_path, overlays=("ligth",)))
        with pytest.raises(PackError, match="did you mean baseline_segmentation"):
            pack_bundle(request(tmp_path, bundle="baseline_segmentatoin"))

    def test_weights_of_another_network_name_the_overlays(
        self, inputs: dict[str, Any], tmp_path: Path
    ) -> None:
        with pytest.raises(
            PackError, match=r"(?s)entries differ.*\(--overlay\): none\. .*an overlay is missing"
        ):
            pack_bundle(request(tmp_path / "dist", weights=inputs["weights"]))
        assert not (tmp_path / "dist").exists()

    def test_weights_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(
            PackError, match=r"must be a file, got .*none\.pt, which does not exist \(--weights\)"
        ):
            pack_bundle(request(tmp_path, weights=tmp_path / "none.pt"))

    def test_pickled_objects_are_no_weights(self, tmp_path: Path) -> None:
        torch.save({"network": Path("x")}, tmp_path / "objects.pt")
        with pytest.raises(PackError, match="must be tensors alone"):
            pack_bundle(request(tmp_path / "dist", weights=tmp_path / "objects.pt", overlays=OVERLAYS))

    def test_existing_output_is_replaced_when_asked_alone(self, tmp_path: Path) -> None:
        first = pack_bundle(request(tmp_path))
        before = sha256(first.archive)
        with pytest.raises(PackError, match="must not exist yet: --overwrite"):
            pack_bundle(request(tmp_path, overlays=("light",)))
        assert sha256(first.archive) == before
        second = pack_bundle(request(tmp_path, overlays=("light",), overwrite=True))
        assert second.manifest["overlays"] == ["light"]
        assert manifest_differences(second.folder) == []
        assert sorted(path.name for path in tmp_path.iterdir()) == [BUNDLE, second.archive.name]

    def test_other_folders_are_never_replaced(self, tmp_path: Path) -> None:
        own = tmp_path / BUNDLE / "notes.txt"
        own.parent.mkdir()
        own.write_text("mine", encoding="utf-8")
        with pytest.raises(PackError, match="was not written by this tool and is kept"):
            pack_bundle(request(tmp_path, overwrite=True))
        assert own.read_text(encoding="utf-8") == "mine"
        with pytest.raises(PackError, match="is the bundle itself"):
            pack_bundle(request(ROOT / "bundles", overwrite=True))

    @pytest.mark.parametrize("step", STEPS)
    def test_nothing_is_left_after_a_failure(self, step: str, tmp_path: Path) -> None:
        def fail(current: str) -> None:
            if current == step:
                raise PackError("stopped")

        with pytest.raises(PackError, match="stopped"):
            pack_bundle(request(tmp_path / "a" / "dist"), on_step=fail)
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_keeps_what_was_there(self, tmp_path: Path) -> None:
        first = pack_bundle(request(tmp_path))

        def fail(current: str) -> None:
            if current == STEPS[-1]:
                raise PackError("stopped")

        with pytest.raises(PackError, match="stopped"):
            pack_bundle(request(tmp_path, overlays=("light",), overwrite=True), on_step=fail)
        assert manifest_differences(first.folder) == []
        assert read(first.folder / "manifest.json")["overlays"] == []
        assert sorted(path.name for path in tmp_path.iterdir()) == [BUNDLE, first.archive.name]


class TestCommand:
    def test_it_tells_what_it_wrote(self, tmp_path: Path) -> None:
        options = ["--output", str(tmp_path), "--bundles", str(ROOT / "bundles"), "--no-proof"]
        result = CliRunner().invoke(app, [BUNDLE, "--overlay", "light", "kvasir_seg", *options])
        assert result.exit_code == 0, result.output
        archive = next(tmp_path.glob("*.zip"))
        assert sha256(archive) in result.output
        assert re.search(r"overlays +light, kvasir_seg", result.output)
        assert re.search(r"weights +none", result.output)

    def test_errors_are_one_message_and_a_status(self, tmp_path: Path) -> None:
        options = ["--output", str(tmp_path), "--bundles", str(ROOT / "bundles")]
        result = CliRunner().invoke(app, [BUNDLE, "--overlay", "qata", *options])
        assert result.exit_code == 2
        assert "did you mean qata_cov19" in result.output
        assert "Traceback" not in result.output


class TestIsolation:
    def test_packages_of_the_repository_are_refused(self) -> None:
        finder = isolated_program.RepositoryRefused()
        for name in ("common", "common.networks", "tools.report"):
            with pytest.raises(ModuleNotFoundError, match=f"must not import {name}"):
                finder.find_spec(name)
        for name in ("scripts.common", "commonmark", "torch"):
            assert finder.find_spec(name) is None

    def test_references_to_nothing_are_found(self) -> None:
        parser = ConfigParser(config={"a": 1, "b": {"c": "@a"}, "d": "$@b#c + @x"})
        with pytest.raises(ValueError, match="refers to x, which is not there"):
            isolated_program._check_references(parser, where="train")


@pytest.mark.slow
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_bundle_runs_alone(bundle: Path, tmp_path: Path) -> None:
    result = pack_bundle(request(tmp_path, bundle=bundle.name, overlays=("light",), proof=True))
    assert result.proof is not None
    assert result.proof.output[:2] == [1, 5 if bundle.name == VOLUMES else 1]


@pytest.mark.slow
def test_a_bundle_that_needs_more_than_itself_fails_with_the_reason(packed: Packed, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed.archive) as archive:
        archive.extractall(tmp_path)
    path = tmp_path / BUNDLE / "scripts" / "common" / "inferers.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nimport common.text\n", encoding="utf-8")
    manifest = read(tmp_path / BUNDLE / "manifest.json")
    manifest["files"]["scripts/common/inferers.py"] = {"size": path.stat().st_size, "sha256": sha256(path)}
    (tmp_path / BUNDLE / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    write_archive(tmp_path / BUNDLE, tmp_path / "broken.zip")
    with pytest.raises(PackError, match=r"(?s)must run alone, but it failed:.*must not import common"):
        prove(tmp_path / "broken.zip")


ALONE = """
import runpy, sys
runpy.run_path(sys.argv[1])["isolate"](sys.argv[2])
sys.argv = ["monai.bundle", *sys.argv[3:]]
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
strangers = [name for name in sys.modules if name.partition(".")[0] in ("common", "tools")]
assert "scripts.common" in sys.modules and not strangers, strangers
"""


def run_alone(folder: Path, names: list[str], cwd: Path, **overrides: Any) -> None:
    files = [str(folder / "configs" / f"{name}.json") for name in names]
    arguments = ["run", "--config_file", str(files), "--bundle_root", str(folder)]
    for key, value in overrides.items():
        arguments += [f"--{key}", str(value)]
    program = [sys.executable, "-I", "-c", ALONE, isolated_program.__file__, str(folder), *arguments]
    result = subprocess.run(program, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("bundle", PICTURES, ids=lambda path: path.name)
def test_an_unpacked_bundle_trains_evaluates_and_infers_from_elsewhere(bundle: Path, tmp_path: Path) -> None:
    from common.data.phantom_chest import write_phantom_dataset

    write_phantom_dataset(tmp_path / "data", count=20, size=64, seed=1)
    result = pack_bundle(request(tmp_path / "dist", bundle=bundle.name, overlays=("light",)))
    with zipfile.ZipFile(result.archive) as archive:
        archive.extractall(tmp_path / "unpacked")
    folder, elsewhere = tmp_path / "unpacked" / bundle.name, tmp_path / "elsewhere"
    elsewhere.mkdir()
    run_alone(folder, ["train"], elsewhere, dataset_dir=tmp_path / "data", **QUICK)
    assert (folder / "models" / "model.pt").is_file()
    evaluation = tmp_path / "evaluation"
    options = QUICK | {"dataset_dir": tmp_path / "data", "output_dir": evaluation}
    run_alone(folder, ["train", "evaluate"], elsewhere, **options)
    assert read(evaluation / "summary.json")["count"] == 4
    case = read(tmp_path / "data" / "dataset.json")["test"][0]
    inference = tmp_path / "inference"
    run_alone(
        folder,
        ["inference"],
        elsewhere,
        image_size=64,
        image=tmp_path / "data" / case["image"],
        text=case["text"],
        output_dir=inference,
    )
    with (inference / "cases.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1
    assert list(elsewhere.iterdir()) == []

"""tools.verify_bundle: sound bundles pass, and each way of breaking one is named with its remedy."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from tools import verify_bundle as command
from tools.packing import PackError, PackRequest, file_table, pack_bundle
from tools.packing import isolated as isolated_program
from tools.verification import (
    STATIC_CHECKS,
    Result,
    Status,
    Verification,
    failures,
    opened_bundle,
    static_results,
    verify_bundle,
)
from tools.verification import probes as programs
from tools.verification.golden import golden_result, write_golden
from tools.verification.logging_conf import logging_conf
from tools.verification.process import Observed, read_only
from tools.verification.running import FIXES, running_results

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted((ROOT / "bundles").glob("*_segmentation"))
BUNDLE = ROOT / "bundles" / "baseline_segmentation"
VOLUMES = "tcsa_uda_segmentation"  # reads no sentence
IGNORED = shutil.ignore_patterns("output", "data", "*.pt")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def copy(folder: Path, *, name: str = BUNDLE.name) -> Path:
    return Path(shutil.copytree(BUNDLE, folder / name, ignore=IGNORED))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise ValueError(f"{path} must contain {old!r}: change this test")
    path.write_text(text.replace(old, new, 1), encoding="utf-8", newline="\n")


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = read(path)
    edit(content)
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8", newline="\n")


def in_config(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda bundle: replace(bundle / "configs" / name, old, new)


def in_metadata(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda bundle: change(bundle / "configs" / "metadata.json", edit)


def pickled(bundle: Path) -> None:
    torch.save({"network": Path("x")}, bundle / "models" / "model.pt")


def nested(bundle: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}}, bundle / "models" / "model.pt")


def formats(metadata: dict[str, Any]) -> dict[str, Any]:
    return metadata["network_data_format"]


FIRST = '{\n    "bundle_root": ".",\n'
MANY = FIRST + "".join(f'    "width_{i}": 0,\n' for i in range(80))
BROKEN = {
    "missing licence": ("required files", "LICENSE is missing", lambda b: (b / "LICENSE").unlink()),
    "version not in changelog": (
        "version in changelog",
        "an entry for the version 7.0.0",
        in_metadata(lambda m: m.update(version="7.0.0")),
    ),
    "reference to another file": (
        "configurations stand alone",
        "train.json: %inference.json#seed refers to another file",
        in_config("train.json", '"seed": 42', '"seed": "%inference.json#seed"'),
    ),
    "reference to the metadata": (
        "configurations stand alone",
        "inference.json: @_meta_#version refers to the metadata",
        in_config("inference.json", '"text": "",', '"text": "@_meta_#version",'),
    ),
    "forbidden expression": (
        "expressions",
        "train.json: $__import__('os').getcwd() is none of the allowed kinds",
        in_config("train.json", "\"$@dataset_dir + '/dataset.json'\"", "\"$__import__('os').getcwd()\""),
    ),
    "code behind an allowed beginning": (
        "expressions",
        "is none of the allowed kinds",
        in_config("train.json", "$torch.manual_seed(@seed)", "$torch.manual_seed(@seed) or print()"),
    ),
    "long expression": (
        "short expressions",
        "characters, at most 80",
        in_config("train.json", "'/dataset.json'", f"'/{'x' * 80}.json'"),
    ),
    "over budget": (
        "line budgets",
        "inference.json has 157 lines, at most 80",
        in_config("inference.json", FIRST, MANY),
    ),
    "train and inference disagree": (
        "train and inference agree",
        "laterality: patient in train.json, image in inference.json",
        in_config("train.json", '"laterality": "image"', '"laterality": "patient"'),
    ),
    "overlay of a misspelt key": (
        "overlays",
        "overlays/light.json: image_sice is in neither",
        in_config("overlays/light.json", '"image_size"', '"image_sice"'),
    ),
    "forbidden class of logging": (
        "logging.conf",
        "[handler_console] class=rich.logging.RichHandler is no handler",
        in_config("logging.conf", "class=StreamHandler", "class=rich.logging.RichHandler"),
    ),
    "code in logging": (
        "logging.conf",
        "args=(os.getcwd(),) is more than literals",
        in_config("logging.conf", "args=(sys.stdout,)", "args=(os.getcwd(),)"),
    ),
    "metadata without a key": (
        "metadata",
        "description is missing",
        in_metadata(lambda m: m.pop("description")),
    ),
    "metadata of another type": (
        "metadata",
        "supported_apps must be of type dict, got list",
        in_metadata(lambda m: m.update(supported_apps=[])),
    ),
    "pin of MONAI that ends in 9": (
        "pins",
        "must not end in 9, got 1.6.9",
        in_metadata(lambda m: m.update(monai_version="1.6.9")),
    ),
    "a range as pin": (
        "pins",
        "scipy must be one version, got '>=1.17'",
        in_metadata(lambda m: m["required_packages_version"].update(scipy=">=1.17")),
    ),
    "text as network input": (
        "network inputs",
        "must be image alone, got image, text",
        in_metadata(lambda m: formats(m)["inputs"].update(text=formats(m)["inputs"]["image"])),
    ),
    "shape with an unknown name": (
        "network inputs",
        "spatial_shape may use *, p and n alone, got '32*k'",
        in_metadata(lambda m: formats(m)["inputs"]["image"].update(spatial_shape=["32*k"])),
    ),
    "channel without a name": (
        "network outputs",
        "channel_def must name the channels 0 to 2",
        in_metadata(lambda m: formats(m)["outputs"]["pred"].update(num_channels=3)),
    ),
    "personal path": (
        "no personal paths",
        "docs/README.md:1: /home/someone/data",
        lambda b: replace(b / "docs" / "README.md", "# ", "# /home/someone/data "),
    ),
    "heading of the model card": (
        "licence and model card",
        "no heading '## Limitations",
        lambda b: replace(b / "docs" / "README.md", "## Limitations", "## Limits"),
    ),
    "key twice": (
        "JSON layout",
        "the key section stands twice",
        in_config("evaluate.json", "{\n", '{\n    "section": "test",\n'),
    ),
    "indentation": ("JSON layout", "evaluate.json:2", in_config("evaluate.json", "\n    ", "\n  ")),
    "large file": (
        "file sizes",
        "models/notes has 26.0 MiB, at most 25",
        lambda b: (b / "models" / "notes").write_bytes(bytes(26 * 2**20)),
    ),
    "pickle beside the weights": (
        "no pickles",
        "models/cache is a pickle",
        lambda b: (b / "models" / "cache").write_bytes(pickle.dumps([1])),
    ),
    "pickled object in the weights": ("weights are tensors", "holds pickled Python objects", pickled),
    "state dict inside another": ("weights are tensors", "must be a tensor, but model are not", nested),
}


class TestBroken:
    @pytest.mark.parametrize("way", BROKEN)
    def test_is_found_by_one_check_that_says_what_to_do(self, way: str, tmp_path: Path) -> None:
        name, detail, break_it = BROKEN[way]
        bundle = copy(tmp_path)
        break_it(bundle)
        with opened_bundle(bundle) as opened:
            found = failures(static_results(opened))
        assert [result.name for result in found] == [name]
        assert detail in found[0].detail
        assert len(found[0].fix) > 20

    def test_folder_name(self, tmp_path: Path) -> None:
        with opened_bundle(copy(tmp_path, name="baseline")) as opened:
            found = failures(static_results(opened))
        assert [(r.name, r.detail) for r in found] == [
            ("folder name", "the name must contain 'segmentation', got 'baseline'")
        ]
        assert "rename the folder" in found[0].fix

    def test_a_file_above_one_mebibyte_is_a_warning(self, tmp_path: Path) -> None:
        bundle = copy(tmp_path)
        (bundle / "docs" / "picture.png").write_bytes(bytes(2**21))
        with opened_bundle(bundle) as opened:
            results = {result.name: result for result in static_results(opened)}
        assert results["small files"].status is Status.WARNING
        assert failures(results.values()) == []

    def test_metadata_that_are_missing_fail_once_and_skip_the_rest(self, tmp_path: Path) -> None:
        bundle = copy(tmp_path)
        (bundle / "configs" / "metadata.json").unlink()
        with opened_bundle(bundle) as opened:
            results = {result.name: result for result in static_results(opened)}
        assert [result.name for result in failures(results.values())] == ["required files"]
        assert results["pins"].status is Status.SKIPPED


class TestSound:
    @pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
    def test_files_of_every_bundle(self, bundle: Path) -> None:
        with opened_bundle(bundle) as opened:
            results = static_results(opened)
        assert [(r.name, r.detail) for r in failures(results)] == []
        assert len({result.name for result in results}) == len(STATIC_CHECKS) + 1
        assert not any(result.fix for result in results if result.status is Status.PASS)

    @pytest.mark.parametrize(
        "line",
        [
            "class=FileHandler\nargs=('run.log', 'a')",
            "class=logging.handlers.RotatingFileHandler\nargs=('run.log',)",
            "class=logging.Formatter",
            "class=StreamHandler\nargs=(sys.stderr,)\nkwargs={}",
        ],
    )
    def test_what_monai_accepts_in_logging_is_accepted(self, line: str, tmp_path: Path) -> None:
        bundle = copy(tmp_path)
        replace(bundle / "configs" / "logging.conf", "class=StreamHandler", line)
        text = (bundle / "configs" / "logging.conf").read_text(encoding="utf-8")
        (bundle / "configs" / "logging.conf").write_text(
            text.replace("\nargs=(sys.stdout,)", ""), encoding="utf-8"
        )
        with opened_bundle(bundle) as opened:
            assert logging_conf(opened).detail == ""

    def test_schema(self, tmp_path: Path) -> None:
        schema = tmp_path / "schema.json"
        schema.write_text(json.dumps({"type": "object", "required": ["version"]}), encoding="utf-8")
        with opened_bundle(copy(tmp_path)) as opened:
            assert static_results(opened)[-1].status is Status.SKIPPED
            assert static_results(opened, schema=schema)[-1].status is Status.PASS
            schema.write_text(json.dumps({"properties": {"version": {"type": "number"}}}), encoding="utf-8")
            result = static_results(opened, schema=schema)[-1]
            assert result.status is Status.FAIL
            assert result.detail.startswith("$.version: ")
            with pytest.raises(PackError, match="schema must be a file of JSON"):
                static_results(opened, schema=tmp_path / "none.json")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dist")
    request = PackRequest(bundle=str(BUNDLE), overlays=("light",), output=output, proof=False)
    return pack_bundle(request).folder


class TestPacked:
    def test_files_of_a_packed_bundle(self, packed: Path) -> None:
        with opened_bundle(packed) as opened:
            assert opened.packed
            results = {result.name: result for result in static_results(opened)}
        assert [(r.name, r.detail) for r in failures(results.values())] == []
        assert results["manifest"].status is results["needs no repository"].status is Status.PASS

    def test_a_changed_file(self, packed: Path, tmp_path: Path) -> None:
        bundle = Path(shutil.copytree(packed, tmp_path / packed.name))
        (bundle / "scripts" / "common" / "inferers.py").write_text(
            "from common.text import x\n", encoding="utf-8"
        )
        with opened_bundle(bundle) as opened:
            found = failures(static_results(opened))
        assert [(result.name, result.detail) for result in found] == [
            ("manifest", "scripts/common/inferers.py: changed"),
            ("needs no repository", "scripts/common/inferers.py:1 imports common.text"),
        ]
        assert "pack the bundle" in found[0].fix

    def test_zip(self, packed: Path) -> None:
        archive = next(packed.parent.glob("*.zip"))
        with opened_bundle(archive) as opened:
            assert file_table(opened.folder) == file_table(packed)
            folder = opened.folder
        assert not folder.exists()

    def test_what_is_no_bundle(self, tmp_path: Path) -> None:
        with (
            pytest.raises(PackError, match="must be a folder or a zip"),
            opened_bundle(tmp_path / "none.zip"),
        ):
            pass


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow network with weights of its own."""
    bundle = copy(tmp_path_factory.mktemp("small"))
    for name in ("train.json", "inference.json"):
        replace(bundle / "configs" / name, '"width": 1.0', '"width": 0.125')
        replace(bundle / "configs" / name, '"image_size": 224', '"image_size": 64')
    save_weights(bundle, width=0.125)
    return bundle


def save_weights(bundle: Path, *, width: float) -> None:
    config = read(bundle / "configs" / "inference.json") | {"width": width}
    network = ConfigParser(config=config).get_parsed_content("network_def")
    torch.save(network.state_dict(), bundle / "models" / "model.pt")


class TestRunning:
    def test_weights_of_another_network(self, small: Path, tmp_path: Path) -> None:
        bundle = Path(shutil.copytree(small, tmp_path / small.name))
        save_weights(bundle, width=0.25)
        fact = programs.observed("network run", lambda: programs.network_run(bundle, tmp_path))
        with opened_bundle(bundle) as opened:
            results = running_results(opened, Observed(facts={"network run": fact}, written=[]))
        result = next(r for r in results if r.name == "weights fit the network")
        assert result.status is Status.FAIL
        assert "entries differ" in result.detail
        assert "overlays of their training" in result.fix

    def test_unknown_target(self, tmp_path: Path) -> None:
        bundle = copy(tmp_path)
        replace(bundle / "configs" / "train.json", "common.losses.", "common.losses.No")
        fact = programs.observed("components", lambda: isolated_program.check_configs(bundle))
        with opened_bundle(bundle) as opened:
            result = running_results(opened, Observed(facts={"components": fact}, written=[]))[0]
        assert result.status is Status.FAIL
        assert "the target common.losses.No" in result.detail
        assert "correct the name" in result.fix

    def test_golden_output(self, small: Path, tmp_path: Path) -> None:
        bundle = Path(shutil.copytree(small, tmp_path / small.name))
        run = programs.network_run(bundle, tmp_path)
        assert run["weights"]
        assert run["text_changes_output"]
        assert programs.network_run(bundle, tmp_path)["golden"] == run["golden"]
        with opened_bundle(bundle) as opened:
            assert golden_result(opened, run["golden"]).status is Status.SKIPPED
            write_golden(opened, run["golden"])
            assert golden_result(opened, run["golden"]).status is Status.PASS
            nearly = run["golden"] | {"sha256": "", "values": [v + 0.001 for v in run["golden"]["values"]]}
            assert "rounding" in golden_result(opened, nearly).detail
            (bundle / "models" / "model.pt").unlink()
            save_weights(bundle, width=0.125)
            other = programs.network_run(bundle, tmp_path)["golden"]
            result = golden_result(opened, other)
            assert result.status is Status.FAIL
            assert "the weights are others" in result.detail
            assert failures(static_results(opened)) == []  # the file itself keeps to the rules

    def test_torchscript_is_traced_where_it_cannot_be_scripted(self, small: Path, tmp_path: Path) -> None:
        fact = programs.observed("TorchScript", lambda: programs.torchscript(small, tmp_path))
        with opened_bundle(small) as opened:
            results = running_results(opened, Observed(facts={"TorchScript": fact}, written=[]))
        result = next(r for r in results if r.name == "TorchScript")
        assert result.status is Status.PASS, result.detail
        assert "traced: same output within" in result.detail
        assert "not scriptable (" in result.detail

    def test_torchscript_needs_weights(self, tmp_path: Path) -> None:
        fact = programs.observed("TorchScript", lambda: programs.torchscript(BUNDLE, tmp_path))
        with opened_bundle(BUNDLE) as opened:
            results = running_results(opened, Observed(facts={"TorchScript": fact}, written=[]))
        result = next(r for r in results if r.name == "TorchScript")
        assert (result.status, result.detail) == (Status.SKIPPED, "there are no weights")

    def test_golden_output_is_the_repositorys_alone(self, packed: Path) -> None:
        with opened_bundle(packed) as opened, pytest.raises(PackError, match="never changed"):
            write_golden(opened, {})
        with opened_bundle(BUNDLE) as opened, pytest.raises(PackError, match=r"there is no models/model\.pt"):
            write_golden(opened, {})

    def test_whatever_was_seen_becomes_a_result(self) -> None:
        with opened_bundle(BUNDLE) as opened:
            results = running_results(opened, Observed(facts={}, written=["models/x"], end="killed"))
        found = {result.name: result for result in failures(results)}
        assert len(found) == len(FIXES)
        assert found["components"].detail == "it did not run: killed"
        assert found["read-only copy"].detail == "models/x was written"
        fact = {"seen": {"weights": False, "text_changes_output": False, "golden": {}}}
        with opened_bundle(BUNDLE) as opened:
            results = running_results(opened, Observed(facts={"network run": fact}, written=[]))
        found = {result.name: result for result in results}
        assert found["weights fit the network"].status is Status.SKIPPED
        assert found["the sentence changes the output"].status is Status.FAIL

    def test_permissions_come_back(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("x", encoding="utf-8")
        before = path.stat().st_mode
        with read_only(tmp_path):
            assert not path.stat().st_mode & 0o222
        assert path.stat().st_mode == before


class TestCommand:
    @pytest.mark.parametrize(("status", "code"), [(Status.PASS, 0), (Status.WARNING, 0), (Status.FAIL, 1)])
    def test_exit_code_table_and_json(
        self, status: Status, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = Result(name="pins", status=status, detail="[red]", fix="repair it")
        found = Verification(bundle="a_segmentation", packed=False, results=(result,))
        monkeypatch.setattr(command, "verify_bundle", lambda path, **values: found)
        output = CliRunner().invoke(command.app, ["anything", "--json", str(tmp_path / "results.json")])
        assert output.exit_code == code
        assert "repair it" in output.output
        assert "[red]" in output.output
        assert read(tmp_path / "results.json") == {
            "bundle": "a_segmentation",
            "packed": False,
            "passed": code == 0,
            "results": [{"name": "pins", "status": status.value, "detail": "[red]", "fix": "repair it"}],
        }

    def test_what_cannot_be_opened(self, tmp_path: Path) -> None:
        output = CliRunner().invoke(command.app, [str(tmp_path / "nothing")])
        assert output.exit_code == 2
        assert "must be a folder or a zip" in output.output


def all_pass(path: Path, **values: Any) -> dict[str, Result]:
    before = file_table(path) if path.is_dir() else {}
    found = verify_bundle(path, **values)
    assert [(result.name, result.detail) for result in failures(found.results)] == []
    assert found.passed
    assert before == (file_table(path) if path.is_dir() else {})
    return {result.name: result for result in found.results}


@pytest.mark.parametrize(
    "bundle",
    [pytest.param(b, marks=[pytest.mark.slow] if i else [], id=b.name) for i, b in enumerate(BUNDLES)],
)
def test_every_bundle_passes(bundle: Path) -> None:
    results = all_pass(bundle)
    volumes = bundle.name == VOLUMES
    reads = Status.SKIPPED if volumes else Status.PASS
    assert results["the sentence changes the output"].status is reads
    assert ("fixed.nii.gz" if volumes else "fixed.png") in results["inference elsewhere"].detail


@pytest.mark.slow
def test_a_packed_zip_passes(packed: Path) -> None:
    results = all_pass(next(packed.parent.glob("*.zip")))
    assert results["code of the bundle"].status is Status.PASS


@pytest.mark.slow
def test_a_bundle_with_weights_passes_and_reproduces_its_golden_output(small: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(small, tmp_path / small.name))
    assert verify_bundle(bundle, golden=True).passed
    results = all_pass(bundle)
    assert results["weights fit the network"].status is Status.PASS
    assert results["golden output"].status is Status.PASS
    assert results["TorchScript"].status is Status.PASS
    packed = pack_bundle(PackRequest(bundle=str(bundle), output=tmp_path / "dist", proof=False)).folder
    results = all_pass(packed)
    for name in ("golden output", "TorchScript", "card of a packed bundle"):
        assert results[name].status is Status.PASS, results[name]


@pytest.mark.slow
def test_what_only_running_shows_is_found(tmp_path: Path) -> None:
    bundle = copy(tmp_path)
    change(
        bundle / "configs" / "metadata.json", lambda m: formats(m)["outputs"]["pred"].update(dtype="int64")
    )
    replace(bundle / "configs" / "train.json", '"interval": "@val_interval"', '"interval": 1')
    replace(bundle / "configs" / "train.json", "\"$@output_dir + '/logs'\"", "\"$@bundle_root + '/logs'\"")
    output = CliRunner().invoke(command.app, [str(bundle), "--json", str(tmp_path / "results.json")])
    assert output.exit_code == 1
    found = {row["name"]: row for row in read(tmp_path / "results.json")["results"]}
    failed = {name for name, row in found.items() if row["status"] == "fail"}
    # An administrator may write into a read-only folder, which is noticed afterwards; others fail at once.
    assert failed - {"read-only copy"} == {
        "network in and out",
        "properties of train",
        "properties of evaluate",
    }
    assert "dtype" in found["network in and out"]["detail"]
    train = found["properties of train"]["detail"]
    assert "read-only copy" in failed or "Permission" in train
    assert all(found[name]["fix"] for name in failed)

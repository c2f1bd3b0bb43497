"""Every bundle in the repository: its configuration files, without running them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out
from monai.bundle.config_item import ComponentLocator
from monai.utils.module import instantiate

from common.networks import ZoneUNet

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted((ROOT / "bundles").glob("*_segmentation"))
BUDGETS = {"train.json": 150, "inference.json": 80, "evaluate.json": 40}
SHARED_KEYS = ("network_def", "preprocessing", "image_size", "max_tokens", "laterality", "tokenizer", "width")
SWITCHES = ("backbone",)
ALLOWED_EXPRESSIONS = [
    r"@[\w#]+ \+ '[/\w.]*'",  # paths
    r"torch\.device\(.*\)",
    r"@network_def\.to\(@device\)",
    r"@(training_)?network\.parameters\(\)",
    r"@aligned_network\.to\(@device\)",
    r"@dsot != 'off'",
    r"@[\w#]+\.run\(\)",
    r"type\(@network_def\)\.__name__",
    r"@max_epochs \* len\(@train#dataloader\)",
    r"import (os|torch\.distributed as dist)",
    r"(not )?dist\.is_initialized\(\) .*",
    r"torch\.cuda\.is_available\(\)",
    r"torch\.manual_seed\(@seed\)",
    r"torch\.cuda\.is_available\(\) and torch\.cuda\.set_device\(@device\)",
    r"'nccl' if torch\.cuda\.is_available\(\) else 'gloo'",
    r"os\.environ\['LOCAL_RANK'\]",
    r"\[@device\] if @backend == 'nccl' else None",
]


def configs(bundle: Path) -> list[Path]:
    return sorted(bundle.glob("configs/**/*.json"))


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [s for pair in value.items() for part in pair for s in strings(part)]
    if isinstance(value, list):
        return [s for part in value for s in strings(part)]
    return [value] if isinstance(value, str) else []


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_there_is_a_bundle() -> None:
    assert BUNDLES


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_the_files_of_a_bundle_exist(bundle: Path) -> None:
    names = ["metadata", "train", "inference", "evaluate", "multi_gpu_train", "multi_gpu_evaluate"]
    files = [f"configs/{name}.json" for name in names]
    files += ["configs/logging.conf", "docs/README.md", "docs/data_license.txt", "LICENSE", "models/.gitkeep"]
    assert [f for f in files if not (bundle / f).is_file()] == []


@pytest.mark.filterwarnings("ignore:No hash value provided:UserWarning")
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_metadata_fits_the_schema_of_monai(bundle: Path, tmp_path: Path) -> None:
    schema = ROOT.parent / "shared" / "schema" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("the metadata schema is not at hand")
    copy = tmp_path / "schema.json"  # MONAI downloads a schema only where no file is
    copy.write_bytes(schema.read_bytes())
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(copy))
    metadata = read(bundle / "configs" / "metadata.json")
    assert metadata["version"] in metadata["changelog"]


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_the_network_takes_and_gives_what_the_metadata_say(bundle: Path) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        device="cpu",
        n=2,
        bundle_root=str(bundle),
        width=0.125,
    )


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_configs_stay_within_their_line_budgets(bundle: Path) -> None:
    for name, budget in BUDGETS.items():
        lines = (bundle / "configs" / name).read_text(encoding="utf-8").splitlines()
        assert len(lines) <= budget, f"{name}: {len(lines)} lines, at most {budget}"


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_expressions_are_short_and_of_the_allowed_kinds(bundle: Path) -> None:
    for path in configs(bundle):
        for text in strings(read(path)):
            if text.startswith("$"):
                assert any(re.fullmatch(p, text[1:]) for p in ALLOWED_EXPRESSIONS), f"{path.name}: {text}"
                assert "common" not in text, f"{path.name}: {text}"
                assert len(text) <= 80, f"{path.name}: {text}"
            assert not text.startswith("%"), f"{path.name}: {text} refers to another file"
            assert "@_meta_" not in text, f"{path.name}: {text} refers to the metadata"


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_train_and_inference_agree_on_what_they_share(bundle: Path) -> None:
    train, inference = read(bundle / "configs/train.json"), read(bundle / "configs/inference.json")
    for key in [*SHARED_KEYS, *(switch for switch in SWITCHES if switch in train)]:
        assert train[key] == inference[key], key


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_every_component_can_be_found(bundle: Path) -> None:
    locator = ComponentLocator()
    for path in configs(bundle):
        for text in _targets(read(path)):
            known = locator.get_component_module_name(text)
            target = text if known is None else f"{known if isinstance(known, str) else known[0]}.{text}"
            assert callable(instantiate(target, "callable")), f"{path.name}: {text}"


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_overlays_only_name_known_keys(bundle: Path) -> None:
    known = set(read(bundle / "configs/train.json")) | set(read(bundle / "configs/inference.json"))
    for path in sorted(bundle.glob("configs/overlays/*.json")):
        unknown = {key.lstrip("+").split("#")[0] for key in read(path)} - known
        assert not unknown, f"{path.name}: {unknown}"


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
@pytest.mark.parametrize("config", ["train.json", "inference.json"])
def test_every_overlay_merges_into_every_config(bundle: Path, config: str) -> None:
    for path in sorted(bundle.glob("configs/overlays/*.json")):
        parser = ConfigParser()
        parser.read_config([bundle / "configs" / config, path])
        assert "network_def" in parser, path.name


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_rows_of_experiments_ask_nothing_of_a_network_that_it_cannot_do(bundle: Path) -> None:
    for table in sorted(bundle.glob("configs/experiments/*.json")):
        for row in read(table)["rows"]:
            parser = ConfigParser()
            overlays = [bundle / f"configs/overlays/{name}.json" for name in row.get("overlays", [])]
            parser.read_config([bundle / "configs/train.json", *overlays])
            parser.update({"bundle_root": str(bundle), **row.get("overrides", {})})
            where = f"{table.name}, {row['name']}"
            reads_zones = parser["tokenizer"] == "zones"
            pretrained = parser["pretrained"]
            parser.update({"tokenizer": "zones" if reads_zones else "embedded", "width": 0.125})
            network = parser.get_parsed_content("network_def")
            assert hasattr(network, "load_pretrained") or not pretrained, where
            assert reads_zones == isinstance(network, ZoneUNet), where


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
@pytest.mark.parametrize("config", ["train.json", "inference.json"])
def test_a_config_stands_alone_and_builds_its_network(bundle: Path, config: str) -> None:
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / config)
    parser["bundle_root"] = str(bundle)
    parser["width"] = 0.25
    network = parser.get_parsed_content("network_def")
    assert sum(parameter.numel() for parameter in network.parameters()) > 0


def _targets(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["_target_"]] if "_target_" in value else []
        return own + [t for part in value.values() for t in _targets(part)]
    if isinstance(value, list):
        return [t for part in value for t in _targets(part)]
    return []

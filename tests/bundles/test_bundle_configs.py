"""Every bundle in the repository: its configuration files, without running them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out
from monai.bundle.config_item import ComponentLocator
from monai.utils.module import instantiate

from common.networks import ZoneUNet
from tools.verification import Check, Status, opened_bundle
from tools.verification.configs import (
    expression_lengths,
    expressions,
    foreign_references,
    line_budgets,
    overlay_keys,
    shared_keys,
)

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted((ROOT / "bundles").glob("*_segmentation"))
CONFIG_CHECKS = (
    *(line_budgets, expressions, expression_lengths),
    *(foreign_references, shared_keys, overlay_keys),
)


def configs(bundle: Path) -> list[Path]:
    return sorted(bundle.glob("configs/**/*.json"))


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


@pytest.mark.parametrize("check", CONFIG_CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_configs_keep_to_the_rules(bundle: Path, check: Check) -> None:
    """Line budgets, allowed and short expressions, no foreign references, train and inference alike, known overlays."""
    with opened_bundle(bundle) as opened:
        result = check(opened)
    assert result.status is Status.PASS, f"{result.detail}: {result.fix}"


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_every_component_can_be_found(bundle: Path) -> None:
    locator = ComponentLocator()
    for path in configs(bundle):
        for text in _targets(read(path)):
            known = locator.get_component_module_name(text)
            target = text if known is None else f"{known if isinstance(known, str) else known[0]}.{text}"
            assert callable(instantiate(target, "callable")), f"{path.name}: {text}"


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
            reads_zones = parser.get("tokenizer") == "zones"
            pretrained = parser.get("pretrained", "")
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

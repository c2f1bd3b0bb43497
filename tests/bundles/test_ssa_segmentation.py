"""What the SSA bundle promises beyond every bundle: its switches, and inference at the price of its base network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from common.checks import load_weights
from common.networks import AlignedNetwork, GuideDecoder, MMIUNet

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "ssa_segmentation" / "configs"
SMALL = {"width": 0.125, "image_size": 64}


def parse(*names: str, configs: Path = CONFIGS, **overrides: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([configs / f"{name}.json" for name in names])
    parser.update({"bundle_root": str(configs.parent), **SMALL, **overrides})
    return parser


@pytest.mark.parametrize(("backbone", "kind"), [("mmi_unet", MMIUNet), ("guide_decoder", GuideDecoder)])
def test_the_inference_network_is_the_base_network(backbone: str, kind: type, tmp_path: Path) -> None:
    """The projections of training are in no file that inference reads, and nothing warns of them."""
    train = parse("train", backbone=backbone)
    trained = train.get_parsed_content("training_network")
    assert isinstance(trained, AlignedNetwork)
    network = train.get_parsed_content("network")
    assert trained.network is network
    torch.save(network.state_dict(), tmp_path / "model.pt")

    inference = parse("inference", backbone=backbone).get_parsed_content("network")
    assert type(inference) is kind
    load_weights(inference, tmp_path / "model.pt")
    baseline = ROOT / "bundles" / "baseline_segmentation" / "configs"
    base = parse("inference", f"overlays/{backbone}", configs=baseline).get_parsed_content("network")
    load_weights(base, tmp_path / "model.pt")
    image, text = torch.randn(1, 3, 64, 64), torch.ones(1, 2, 24, dtype=torch.long)
    with torch.no_grad():
        torch.testing.assert_close(inference.eval()(image, text), base.eval()(image, text), rtol=0, atol=0)
        torch.testing.assert_close(trained.eval()(image, text), base(image, text), rtol=0, atol=0)


def test_the_optimizer_and_the_state_hold_the_projections_and_the_best_weights_do_not() -> None:
    parser = parse("train")
    optimizer = parser.get_parsed_content("optimizer")
    trained = parser.get_parsed_content("training_network")
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(trained.parameters()))
    handlers = {item["_target_"].split(".")[-1]: item for item in parser["train"]["handlers"]}
    assert handlers["TrainingState"]["network"] == "@training_network"
    assert handlers["SaveBestWeights"]["network"] == "@network"


@pytest.mark.parametrize("dsot", ["off", "global", "local", "both"])
@pytest.mark.parametrize("cdg", [False, True])
def test_every_switch_builds(dsot: str, cdg: bool) -> None:
    parser = parse("train", dsot=dsot, cdg=cdg, ot_mode="semi_relaxed", prior_frame="image")
    objective = parser.get_parsed_content("objective")
    trained = parser.get_parsed_content("training_network")
    assert (trained.image_projection is None) == (dsot == "off")
    assert objective.cdg is cdg
    assert objective.ot_mode == "semi_relaxed"
    assert objective.guidance.prior_frame == "image"


def test_laterality_reaches_the_guidance() -> None:
    assert parse("train", laterality="patient").get_parsed_content("guidance").laterality == "patient"

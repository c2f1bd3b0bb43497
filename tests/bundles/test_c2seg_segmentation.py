"""What the C2Seg bundle promises beyond every bundle: two stages, its switches, and cases without a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from common.checks import load_weights
from common.data.phantom_chest import write_phantom_dataset
from common.networks import C2Seg, ContrastiveEncoder
from common.text.tokenizer import build_tokenizer

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "c2seg_segmentation" / "configs"
SMALL = {"width": 0.125, "image_size": 64, "batch_size": 4, "pretrain_batch_size": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantom_dataset(folder, count=20, size=64, seed=1)
    return folder


def parse(*names: str, **overrides: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([CONFIGS / f"{name}.json" for name in names])
    parser.update({"bundle_root": str(CONFIGS.parent), **SMALL, **overrides})
    return parser


def places(tmp_path: Path, phantoms: Path, **overrides: Any) -> dict[str, Any]:
    paths = {"dataset_dir": phantoms, "model_dir": tmp_path / "models", "output_dir": tmp_path / "out"}
    return (
        {key: str(path) for key, path in paths.items()} | {"max_epochs": 1, "pretrain_epochs": 2} | overrides
    )


def test_the_second_stage_picks_up_the_first(phantoms: Path, tmp_path: Path) -> None:
    options = places(tmp_path, phantoms)
    parse("train", **options).get_parsed_content("pretrain")
    pretrained = torch.load(tmp_path / "models" / "pretrained.pt", weights_only=True)
    assert {key.partition(".")[0] for key in pretrained} == {"encoder", "text_encoder", "projection"}
    assert torch.load(tmp_path / "models/training/pretrain_last.pt", weights_only=True)["epoch"] == 2

    second = parse("train", **options)
    optimizer = second.get_parsed_content("optimizer")
    rates = [group["lr"] for group in optimizer.param_groups]  # visual encoder, text encoder, the rest
    assert rates == pytest.approx([1e-4, 1e-4, 1e-3])
    second.get_parsed_content("train#handlers")[1](None)
    network = second.get_parsed_content("network")
    for key, value in network.state_dict().items():
        if key in pretrained:
            assert torch.equal(value, pretrained[key]), key


def test_without_the_first_the_second_trains_the_visual_encoder_at_the_full_rate(
    phantoms: Path, tmp_path: Path
) -> None:
    parser = parse("train", **places(tmp_path, phantoms))
    optimizer = parser.get_parsed_content("optimizer")
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-3, 1e-4, 1e-3])
    grouped = sum(len(group["params"]) for group in optimizer.param_groups)
    assert grouped == len(list(parser.get_parsed_content("network").parameters()))


def test_the_first_stage_trains_the_visual_encoder_and_its_projection() -> None:
    parser = parse("train")
    wrapper = parser.get_parsed_content("stage_one#training_network")
    assert isinstance(wrapper, ContrastiveEncoder)
    optimizer = parser.get_parsed_content("stage_one#optimizer")
    trained = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    chosen = {key.partition(".")[0] for key, weight in wrapper.named_parameters() if id(weight) in trained}
    assert chosen == {"encoder", "projection"}


def test_no_sentences_no_first_stage(phantoms: Path, tmp_path: Path) -> None:
    document = json.loads((phantoms / "dataset.json").read_text(encoding="utf-8"))
    for case in document["training"]:
        case["text"] = ""
    path = phantoms / "mute.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    parser = parse("train", **places(tmp_path, phantoms, datalist=str(path)))
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("stage_one#training_cases")
    assert "at least two different sentences" in str(error.value.__cause__ or error.value)


def test_no_epochs_no_first_stage(phantoms: Path, tmp_path: Path) -> None:
    options = places(tmp_path, phantoms, pretrain_epochs=0, fusion="off")
    parse("train", **options).get_parsed_content("pretrain")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    "switch",
    [
        *({"encoder": value} for value in ("cnn", "kan")),
        *({"fusion": value} for value in ("duala", "off")),
        *({"kgate": value} for value in ("mlp", "off")),
        {"bcam_proj": "linear"},
        {"bcam_scales": [2, 3]},
        {"fl_rescale": "none"},
    ],
    ids=str,
)
def test_every_switch_fits_training_and_inference(switch: dict[str, Any], tmp_path: Path) -> None:
    trained = parse("train", **switch).get_parsed_content("network")
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    network = parse("inference", **switch).get_parsed_content("network")
    assert isinstance(network, C2Seg)
    load_weights(network, tmp_path / "model.pt")


def test_rho_and_temperature_reach_the_objective() -> None:
    objective = parse("train", rho=0.0, temperature=0.1).get_parsed_content("stage_one#objective")
    assert (objective.rho, objective.temperature, objective.center_text) == (0.0, 0.1, True)


def test_a_blank_sentence_leaves_the_visual_path_alone() -> None:
    network = parse("inference").get_parsed_content("network").eval()
    image = torch.randn(1, 3, 64, 64)
    blank = build_tokenizer("embedded", max_tokens=24).encode(" ")[None]
    assert torch.equal(network(image, blank), network(image))


def test_the_papers_settings() -> None:
    for data, rate in (
        ("qata_cov19", 1e-3),
        ("cvc_clinicdb", 1e-3),
        ("mosmeddata_plus", 3e-4),
        ("kvasir_seg", 3e-4),
    ):
        parser = ConfigParser()
        parser.read_config(
            [CONFIGS / f"{name}.json" for name in ("train", f"overlays/{data}", "overlays/paper")]
        )
        assert parser["learning_rate"] == rate
        keys = (
            "image_size",
            "batch_size",
            "pretrain_batch_size",
            "temperature",
            "rho",
            "center_text",
            "mirror",
        )
        assert [parser[key] for key in keys] == [224, 32, 256, 0.07, 0.8, False, 0.0]

"""What the BiCLIP bundle promises beyond every bundle: its switches, EF-UNet among them, and what training adds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from common.checks import load_weights
from common.data.phantom_chest import write_phantom_dataset
from common.engines import loss_terms
from common.networks import BiCLIP, EFUNet, FusionTraining
from common.text.laterality import mirror_sentence
from common.text.tokenizer import build_tokenizer
from tools.experiments import read_table

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "biclip_segmentation" / "configs"
BASELINE = ROOT / "bundles" / "baseline_segmentation" / "configs"
TABLES = sorted(path.stem for path in CONFIGS.glob("experiments/*.json"))
SMALL = {"width": 0.125, "image_size": 64, "batch_size": 4, "cache_rate": 0.0, "device": "cpu"}
EF_UNET = {"bmf": False, "iac": False, "cycle": False}
TRAINING_CASES = 14


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantom_dataset(folder, count=20, size=64, seed=1)
    return folder


def parse(*names: str, configs: Path = CONFIGS, **overrides: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([configs / f"{name}.json" for name in names])
    parser.update({"bundle_root": str(configs.parent), **SMALL, **overrides})
    return parser


def places(phantoms: Path, tmp_path: Path) -> dict[str, str]:
    return {"dataset_dir": str(phantoms), "model_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    tokenizer = build_tokenizer("embedded", max_tokens=32)
    text = torch.stack([tokenizer.encode(sentence) for sentence in ("Upper left lung.", "")])
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), text


def test_inference_has_the_network_alone(tmp_path: Path) -> None:
    """The heads of training are in no file that inference reads, and nothing asks for them."""
    train = parse("train")
    training, network = (train.get_parsed_content(name) for name in ("training_network", "network"))
    assert isinstance(training, FusionTraining)
    assert training.network is network
    assert training.projection is not None
    assert training.reader is not None
    torch.save(network.state_dict(), tmp_path / "model.pt")
    inference = parse("inference").get_parsed_content("network")
    assert isinstance(inference, BiCLIP)
    load_weights(inference, tmp_path / "model.pt")
    with torch.no_grad():
        assert torch.equal(inference.eval()(*inputs()), training.eval()(*inputs()))


def test_the_optimizer_and_the_state_hold_the_heads_and_the_best_weights_do_not() -> None:
    parser = parse("train")
    optimizer = parser.get_parsed_content("optimizer")
    training = parser.get_parsed_content("training_network")
    grouped = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    assert grouped == {id(weight) for weight in training.parameters()}
    handlers = {item["_target_"].split(".")[-1]: item for item in parser["train"]["handlers"]}
    assert handlers["TrainingState"]["network"] == "@training_network"
    assert handlers["SaveBestWeights"]["network"] == "@network"


def test_training_alone_is_given_the_label() -> None:
    parser = parse("train", "evaluate")
    extra = {name: parser[f"{name}#extra_keys"] for name in ("prepare_batch", "train#prepare_batch")}
    assert extra == {
        "prepare_batch": {"text": "text"},
        "train#prepare_batch": {"text": "text", "label": "label"},
    }
    assert parser["validate#evaluator#network"] == "@network"


@pytest.mark.parametrize(
    "switch",
    [{"bmf": False}, {"use_text": False}, {"iac": False}, {"cycle": False}, {"vector_side": 8}, EF_UNET],
    ids=str,
)
def test_every_switch_fits_training_and_inference(switch: dict[str, Any], tmp_path: Path) -> None:
    train = parse("train", **switch)
    training, network = (train.get_parsed_content(name) for name in ("training_network", "network"))
    text = train["use_text"]
    assert (network.refinement is not None) == (text and train["bmf"])
    assert (network.prompt is not None) == text
    assert (training.projection is not None) == train["iac"]
    assert (training.reader is not None) == (text and train["cycle"])
    torch.save(network.state_dict(), tmp_path / "model.pt")
    load_weights(parse("inference", **switch).get_parsed_content("network"), tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("switch", "names"),
    [
        ({}, {"dice", "bce", "generator", "iac", "cycle"}),
        (EF_UNET, {"dice", "bce", "generator"}),
        ({"use_text": False, "iac": False}, {"dice", "bce"}),
    ],
    ids=["BiCLIP", "EF-UNet", "U-Net"],
)
def test_the_terms_of_the_loss_are_those_of_the_parts(switch: dict[str, Any], names: set[str]) -> None:
    parser = parse("train", **switch)
    training, objective = (parser.get_parsed_content(name) for name in ("training_network", "objective"))
    label = torch.zeros(2, 1, 64, 64)
    label[:, :, 8:30, 8:30] = 1
    terms = objective(training.train()(*inputs(), label), {})
    assert set(terms) == names


def test_with_its_parts_off_it_is_the_ef_unet_of_the_baselines(tmp_path: Path) -> None:
    network = parse("train", **EF_UNET).get_parsed_content("network").eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    other = parse("inference", "overlays/ef_unet", configs=BASELINE).get_parsed_content("network").eval()
    assert type(other) is EFUNet
    load_weights(other, tmp_path / "model.pt")
    with torch.no_grad():
        assert torch.equal(other(*inputs()), network(*inputs()))


@pytest.mark.parametrize("name", ["train", "inference"])
def test_both_bundles_prepare_alike(name: str) -> None:
    ours, theirs = parse(name), parse(name, "overlays/ef_unet", configs=BASELINE)
    assert ours["preprocessing"] == theirs["preprocessing"]
    assert ours["max_tokens"] == theirs["max_tokens"] == 32


def test_the_ef_unet_of_the_baselines_learns_to_draw(phantoms: Path, tmp_path: Path) -> None:
    options = places(phantoms, tmp_path) | {"max_epochs": 1}
    parser = parse("train", "overlays/ef_unet", configs=BASELINE, **options)
    parser.get_parsed_content("run")
    trainer = parser.get_parsed_content("train#trainer")
    assert set(loss_terms(trainer.state.output)) == {"loss", "dice", "bce", "generator"}
    assert (tmp_path / "model.pt").is_file()


def test_numbers_reach_what_they_are_for() -> None:
    parser = parse(
        "train",
        **{"generator_weight": 0.5, "iac_weight": 0.6, "cycle_weight": 0.7, "cycle_norm": "l2"},
        **{"stop_gradient": "none", "aug": "ef", "loss": "dice_only", "learning_rate": 0.002},
    )
    objective, training = (parser.get_parsed_content(name) for name in ("objective", "training_network"))
    assert objective.weights == {"generator": 0.5, "iac": 0.6, "cycle": 0.7}
    assert (objective.cycle_norm, objective.stop_gradient) == ("l2", "none")
    assert (training.stop_gradient, training.augmentation.kind) == ("none", "ef")
    assert training.augmentation.intensity.blur_kernel == 5
    light = parse("train", "overlays/light").get_parsed_content("training_network")
    assert light.augmentation.intensity.blur_kernel == 3
    assert light.network.vector_channels == 144
    schedule = parser.get_parsed_content("lr_scheduler")
    assert parser["max_epochs"] == schedule.T_0
    assert schedule.base_lrs == pytest.approx([0.0002, 0.002])  # of the text encoder and of the rest


@pytest.mark.parametrize("corruption", ["none", "low_dose/110"])
def test_the_network_sees_pictures_from_0_to_1(phantoms: Path, tmp_path: Path, corruption: str) -> None:
    parser = parse("train", **places(phantoms, tmp_path), mirror=0.5, image_corruption=corruption)
    for name in ("train#dataset", "validate#dataset"):
        image = parser.get_parsed_content(name)[0]["image"]
        assert image.shape == (3, 64, 64)
        assert (float(image.min()), float(image.max())) == (0.0, 1.0)
    label = parser.get_parsed_content("train#dataset")[0]["label"]
    assert set(label.unique().tolist()) <= {0.0, 1.0}


def test_pictures_move_before_the_fusion_only_together_with_their_sentences(
    phantoms: Path, tmp_path: Path
) -> None:
    still, mirrored = (
        parse("train", **places(phantoms, tmp_path), mirror=mirror).get_parsed_content("train#dataset")
        for mirror in (0.0, 1.0)
    )
    for index in range(3):
        one, other = still[index], mirrored[index]
        assert torch.equal(one["image"].flip(-1), other["image"])
        assert torch.equal(one["label"].flip(-1), other["label"])
        assert other["sentence"] == mirror_sentence(one["sentence"])


def test_a_share_of_the_cases_has_a_seed_of_its_own(phantoms: Path, tmp_path: Path) -> None:
    def drawn(**seeds: Any) -> list[str]:
        parser = parse("train", **places(phantoms, tmp_path), train_fraction=0.3, **seeds)
        return sorted(case["id"] for case in parser.get_parsed_content("train#dataset").data)

    assert len(drawn()) == round(0.3 * TRAINING_CASES)
    assert drawn() == drawn(seed=7) != drawn(fraction_seed=7)
    assert drawn(fraction_seed=7) == drawn(seed=7, fraction_seed="@seed")


@pytest.mark.parametrize("table", TABLES)
def test_tables_set_keys_that_exist_and_build(table: str) -> None:
    known = json.loads((CONFIGS / "train.json").read_text(encoding="utf-8"))
    for row in read_table(CONFIGS.parent, table).rows:
        changed = {key for part in (row, *row.evaluations) for key in part.overrides}
        assert changed <= set(known), row.name
        overlays = [f"overlays/{name}" for name in row.overlays]
        parser = parse("train", *overlays, **row.overrides)
        if not row.name.startswith("U-Net"):
            # a mirrored sentence beside free mirroring would be neither the paper's augmentation nor ours
            assert (parser["mirror"] > 0) == (parser["aug"] == "consistent"), row.name
        objective = parser.get_parsed_content("objective")
        assert objective.weights == {"generator": 0.1, "iac": 0.05, "cycle": 0.07}


@pytest.mark.parametrize("data", ["qata_cov19", "mosmeddata_plus"])
def test_the_papers_settings(data: str) -> None:
    parser = ConfigParser()
    parser.read_config([CONFIGS / f"{name}.json" for name in ("train", f"overlays/{data}", "overlays/paper")])
    expected = {
        **{"image_size": 224, "max_tokens": 32, "vector_side": 28, "batch_size": 16, "max_epochs": 150},
        **{"learning_rate": 1e-4, "generator_weight": 0.1, "iac_weight": 0.05, "cycle_weight": 0.07},
        **{"aug": "biclip", "mirror": 0.0, "augment": 0.0, "cycle_norm": "l1", "stop_gradient": "strong"},
        **{"bmf": True, "iac": True, "cycle": True, "use_text": True, "loss": "dice_bce", "patience": 0},
    }
    assert {key: parser[key] for key in expected} == expected

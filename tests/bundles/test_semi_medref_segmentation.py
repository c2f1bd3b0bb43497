"""What the Semi-MedRef bundle promises beyond every bundle: its switches, cases without a mask, student and teacher."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from common.checks import load_weights
from common.data.phantom_chest import write_phantom_dataset
from common.networks import GuideDecoder, MMIUNet, ReferringPair

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "semi_medref_segmentation" / "configs"
SMALL = {"width": 0.125, "image_size": 64, "batch_size": 4, "cache_rate": 0.0, "device": "cpu"}
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


def cause(error: BaseException) -> str:
    """The first error of the chain that MONAI's parser makes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def ids(dataset: Any) -> list[str]:
    return [case["id"] for case in dataset.data]


@pytest.mark.parametrize(("backbone", "kind"), [("mmi_unet", MMIUNet), ("guide_decoder", GuideDecoder)])
def test_the_inference_network_is_the_backbone_alone(backbone: str, kind: type, tmp_path: Path) -> None:
    train = parse("train", backbone=backbone)
    pair = train.get_parsed_content("training_network")
    network = train.get_parsed_content("network")
    assert isinstance(pair, ReferringPair)
    assert pair.network is network
    assert pair.image_head is not None
    torch.save(network.state_dict(), tmp_path / "model.pt")
    inference = parse("inference", backbone=backbone).get_parsed_content("network")
    assert type(inference) is kind
    load_weights(inference, tmp_path / "model.pt")
    baseline = ROOT / "bundles" / "baseline_segmentation" / "configs"
    base = parse("inference", f"overlays/{backbone}", configs=baseline).get_parsed_content("network")
    load_weights(base, tmp_path / "model.pt")
    image, text = torch.randn(1, 3, 64, 64), torch.ones(1, 2, 24, dtype=torch.long)
    with torch.no_grad():
        expected = pair.eval()(image, text)
        torch.testing.assert_close(inference.eval()(image, text), expected, rtol=0, atol=0)
        torch.testing.assert_close(base.eval()(image, text), expected, rtol=0, atol=0)


def test_the_optimizer_and_the_state_hold_the_head_and_the_best_weights_do_not() -> None:
    parser = parse("train")
    pair = parser.get_parsed_content("training_network")
    optimizer = parser.get_parsed_content("optimizer")
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(pair.parameters()))
    handlers = {item["_target_"].split(".")[-1]: item for item in parser["train"]["handlers"]}
    assert handlers["TrainingState"]["network"] == "@training_network"
    assert handlers["TrainingState"]["parts"] == {"teacher": "@teacher"}
    assert parser.get_parsed_content("chosen#saved") is parser.get_parsed_content("network")
    assert parser.get_parsed_content("chosen#validated") is pair


def test_the_teacher_may_be_what_is_validated_and_kept() -> None:
    parser = parse("train", chosen_weights="teacher")
    teacher = parser.get_parsed_content("teacher").network
    assert parser.get_parsed_content("chosen#saved") is teacher
    assert parser.get_parsed_content("chosen#validated") is teacher
    with pytest.raises(RuntimeError) as error:
        parse("train", chosen_weights="teacher", ssl="off").get_parsed_content("chosen#saved")
    assert "chosen_weights must be 'student' with ssl 'off'" in cause(error.value)


@pytest.mark.parametrize("contrastive", ["off", "clip", "itcl"])
def test_contrast_brings_its_head(contrastive: str) -> None:
    parser = parse("train", contrastive=contrastive)
    assert (parser.get_parsed_content("training_network").image_head is None) == (contrastive == "off")
    objective = parser.get_parsed_content("objective")
    assert (objective.contrastive, objective.needs_weak) == (contrastive, contrastive != "off")


@pytest.mark.parametrize("mix", ["off", "cutmix", "position", "probability"])
@pytest.mark.parametrize(("pos_aug", "text_strong", "spc"), [(True, False, False), (False, True, True)])
def test_every_switch_of_the_view_builds(mix: str, pos_aug: bool, text_strong: bool, spc: bool) -> None:
    switches = {"mix": mix, "pos_aug": pos_aug, "text_strong": text_strong, "spc": spc}
    view = parse("train", **switches).get_parsed_content("train#view")
    assert (view.mix.mode if view.mix else "off") == mix
    assert [type(change).__name__ for change in view.wording] == [
        name for name, on in (("PositionAugmentation", pos_aug), ("WordAugmentation", text_strong)) if on
    ]
    assert (view.mirror is not None) == spc


def test_numbers_reach_what_they_are_for() -> None:
    parser = parse(
        "train",
        **{"block": 8, "mix_rate": 0.3, "accept": 0.4, "mixed_threshold": 0.6, "threshold": 0.7},
        **{"laterality": "patient", "burn_in": 2, "ramp_epochs": 3, "unsupervised_weight": 0.9},
        **{"ema_start": 0.5, "ema_end": 0.6, "ema_ramp_epochs": 4, "temperature": 0.1},
    )
    view = parser.get_parsed_content("train#view")
    mix = view.mix
    assert (mix.block, mix.rate, mix.accept, mix.mixed_threshold) == (8, 0.3, 0.4, 0.6)
    assert mix.threshold == view.threshold == 0.7
    assert view.tokenize.laterality == "patient"
    objective = parser.get_parsed_content("objective")
    assert [objective.unsupervised_weight_at(epoch) for epoch in (2, 3, 5, 9)] == pytest.approx(
        [0, 0.3, 0.9, 0.9]
    )
    assert objective.temperature == 0.1
    teacher = parser.get_parsed_content("teacher")
    assert [teacher.decay(epoch) for epoch in (2, 6, 9)] == pytest.approx([0.5, 0.6, 0.6])


@pytest.mark.parametrize("fraction", [0.15, 0.5])
def test_masks_that_are_not_drawn_are_withheld(phantoms: Path, fraction: float) -> None:
    parser = parse("train", dataset_dir=str(phantoms), label_fraction=fraction)
    labelled, unlabelled = (parser.get_parsed_content(f"train#{name}") for name in ("dataset", "unlabelled"))
    assert len(labelled) == round(TRAINING_CASES * fraction)
    assert len(set(ids(labelled)) | set(ids(unlabelled))) == TRAINING_CASES == len(labelled) + len(unlabelled)
    assert not any("label" in case for case in unlabelled.data)
    assert len(parser.get_parsed_content("train#dataloader")) == -(-len(unlabelled) // 4)


def test_the_draw_of_the_masks_has_a_seed_of_its_own(phantoms: Path) -> None:
    def drawn(**seeds: Any) -> list[str]:
        parser = parse("train", dataset_dir=str(phantoms), label_fraction=0.3, **seeds)
        return ids(parser.get_parsed_content("train#dataset"))

    assert drawn() == drawn(seed=7) != drawn(labelled_seed=7)
    assert drawn(labelled_seed=7) == drawn(seed=7, labelled_seed="@seed")


def test_the_supervised_baseline_has_the_same_steps_and_loads_no_case_without_mask(phantoms: Path) -> None:
    options = {"dataset_dir": str(phantoms), "label_fraction": 0.3}
    ours, baseline = (
        parse("train", **options, ssl=ssl).get_parsed_content("train#dataloader") for ssl in ("ema", "off")
    )
    assert len(ours) == len(baseline) == 3
    assert ids(ours.dataset) == ids(baseline.dataset)
    assert baseline.unlabelled is None
    ours.set_epoch(6)
    baseline.set_epoch(6)
    for our, their in zip(ours, baseline, strict=True):
        assert our["labelled"]["id"] == their["labelled"]["id"]
        assert "unlabelled" in our
        assert "unlabelled" not in their


def test_with_all_masks_an_epoch_is_a_pass_over_them(phantoms: Path) -> None:
    for ssl in ("ema", "off"):
        parser = parse("train", dataset_dir=str(phantoms), label_fraction=1.0, ssl=ssl)
        loader = parser.get_parsed_content("train#dataloader")
        assert (len(loader.dataset), loader.unlabelled, len(loader)) == (TRAINING_CASES, None, 4)


def test_cases_without_a_mask_and_a_folder_of_images_are_unlabelled(phantoms: Path, tmp_path: Path) -> None:
    document = json.loads((phantoms / "dataset.json").read_text(encoding="utf-8"))
    for case in document["training"][3:]:
        del case["label"]
    further = document["test"][:2]
    document["test"] = document["test"][2:]
    folder = tmp_path / "data"
    shutil.copytree(phantoms, folder)
    (folder / "dataset.json").write_text(json.dumps(document), encoding="utf-8")
    images = tmp_path / "images"
    images.mkdir()
    for case in further:
        name = Path(case["image"]).name
        shutil.copy(folder / case["image"], images / name)
        (images / name).with_suffix(".txt").write_text(case["text"], encoding="utf-8")

    options = {"dataset_dir": str(folder), "label_fraction": 1.0}
    parser = parse("train", **options, unlabelled_images=str(images))
    assert len(parser.get_parsed_content("train#dataset")) == 3
    unlabelled = parser.get_parsed_content("train#unlabelled")
    assert len(unlabelled) == TRAINING_CASES - 3 + 2
    assert {unlabelled[TRAINING_CASES - 3 + index]["sentence"] for index in (0, 1)} == {
        case["text"] for case in further
    }
    assert len(parse("train", **options).get_parsed_content("train#unlabelled")) == TRAINING_CASES - 3


def test_a_host_brings_labelled_cases_and_needs_no_list(phantoms: Path, tmp_path: Path) -> None:
    document = json.loads((phantoms / "dataset.json").read_text(encoding="utf-8"))
    cases = [{key: str(phantoms / case[key]) for key in ("image", "label")} for case in document["training"]]
    parser = parse("train", dataset_dir=str(tmp_path))
    parser.update({"train#dataset#data": cases})
    loader = parser.get_parsed_content("train#dataloader")
    assert (len(loader.dataset), loader.unlabelled, len(loader)) == (TRAINING_CASES, None, 4)
    assert loader.dataset.is_from_host


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["student", "teacher"])
def test_the_chosen_weights_are_kept(chosen: str, phantoms: Path, tmp_path: Path) -> None:
    places = {"dataset_dir": str(phantoms), "model_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    options = {
        "chosen_weights": chosen,
        "max_epochs": 1,
        "burn_in": 0,
        "label_fraction": 0.3,
        "mix_rate": 0.5,
    }
    parse("train", **places, **options).get_parsed_content("run")
    kept = torch.load(tmp_path / "model.pt", weights_only=True)
    state = torch.load(tmp_path / "training" / "checkpoint_last.pt", weights_only=True)
    weights = {
        "student": {
            key.removeprefix("network."): value
            for key, value in state["network"].items()
            if key.startswith("network.")
        },
        "teacher": state["teacher"]["network"],
    }
    assert state["teacher"]["steps"] == 3
    other = weights["teacher" if chosen == "student" else "student"]
    assert list(kept) == list(weights[chosen])
    assert all(torch.equal(kept[key], value) for key, value in weights[chosen].items())
    assert not all(torch.equal(kept[key], value) for key, value in other.items())


@pytest.mark.parametrize("data", ["qata_cov19", "mosmeddata_plus"])
def test_the_papers_settings(data: str) -> None:
    parser = ConfigParser()
    parser.read_config([CONFIGS / f"{name}.json" for name in ("train", f"overlays/{data}", "overlays/paper")])
    expected = {
        **{"image_size": 224, "batch_size": 32, "max_epochs": 100, "patience": 30, "learning_rate": 3e-4},
        **{"burn_in": 5, "ema_start": 0.99, "ema_end": 0.999, "ema_ramp_epochs": 20},
        **{"block": 16, "mix_rate": 0.08, "accept": 0.55, "threshold": 0.55, "mixed_threshold": 0.5},
        **{"labelled_weight": 0.02, "unlabelled_weight": 0.1, "unsupervised_weight": 0.3, "ramp_epochs": 15},
        **{"loss": "dice_only", "mirror": 0.0, "augment": 0.0, "mix": "position", "contrastive": "itcl"},
    }
    assert {key: parser[key] for key in expected} == expected

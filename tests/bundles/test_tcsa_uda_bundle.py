"""What the TCSA-UDA bundle promises beyond every bundle: two domains, three phases, classes of volumes, switches."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser

from common.checks import load_weights, read_tensors
from common.data.phantom_volume import write_volume_phantom_dataset
from common.transforms import read_label_names
from tools.packing import merged_configs, read_source
from tools.packing.configs import with_classes

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "tcsa_uda_segmentation" / "configs"
SMALL = {
    **{"image_size": 64, "width": 0.0625, "depths": [1, 1, 1, 1], "embedding_size": 32, "device": "cpu"},
}
TRAIN = {
    **SMALL,
    **{"discriminator_width": 0.0625, "batch_size": 2, "steps": 2, "start_iteration": 1, "val_interval": 1},
    **{"pretrain_epochs": 1, "warmup_epochs": 1, "max_epochs": 2},
}
DIRECTIONS = {
    "cardiac": ("mr_to_ct", "ct_to_mr"),
    "abdomen": ("mr_to_ct", "ct_to_mr"),
    "brain": ("flair_to_t2", "t2_to_flair"),
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_volume_phantom_dataset(folder, count=5, size=32, slices=4, seed=1)
    return folder


def parse(*names: str, **overrides: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([CONFIGS / f"{name}.json" for name in names])
    small = SMALL if names[0] == "inference" else TRAIN
    parser.update({"bundle_root": str(CONFIGS.parent), **small, **overrides})
    return parser


def cause(error: BaseException) -> str:
    """The first error of the chain that MONAI's parser makes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("overlay", "direction"), [(o, d) for o, ds in DIRECTIONS.items() for d in ds])
def test_every_direction_of_every_overlay_builds(overlay: str, direction: str, tmp_path: Path) -> None:
    train = parse("train", f"overlays/{overlay}", direction=direction)
    network = train.get_parsed_content("network")
    objective = train.get_parsed_content("train#objective")
    assert set(direction.split("_to_")) == set(network.modalities)
    assert objective.covariance.center == (overlay != "brain")
    assert network.num_classes == len(train["labels"])
    torch.save(network.state_dict(), tmp_path / "model.pt")
    inference = parse("inference", f"overlays/{overlay}").get_parsed_content("network")
    assert inference.modality == ("t2" if overlay == "brain" else "ct")
    load_weights(inference, tmp_path / "model.pt")
    assert torch.equal(inference.class_embeddings, network.class_embeddings)
    steps = parse("inference", f"overlays/{overlay}").get_parsed_content("preprocessing").transforms
    assert steps[0].classes == network.num_classes
    assert steps[-1].plane == ("coronal" if overlay == "cardiac" else "axial")


@pytest.mark.parametrize("overlay", ["phantom_abdomen", "phantom_heart"])
def test_the_classes_of_phantoms_are_those_of_their_overlay(overlay: str, tmp_path: Path) -> None:
    anatomy = overlay.removeprefix("phantom_")
    write_volume_phantom_dataset(tmp_path / "data", anatomy=anatomy, count=5, size=16, slices=2)
    document = json.loads((tmp_path / "data" / "dataset.json").read_text(encoding="utf-8"))
    assert parse("train", f"overlays/{overlay}")["labels"] == document["labels"]
    other = "phantom_heart" if anatomy == "abdomen" else "phantom_abdomen"
    parser = parse("train", f"overlays/{other}", dataset_dir=str(tmp_path / "data"))
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("train#dataset")
    assert "must have the classes background, " in cause(error.value)


def test_the_metadata_name_the_classes_also_when_an_overlay_changes_them() -> None:
    own = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    prediction = own["network_data_format"]["outputs"]["pred"]
    labels = parse("inference")["labels"]
    assert prediction["channel_def"] == labels
    assert with_classes(own, labels) == own
    source = read_source("tcsa_uda_segmentation", bundles=ROOT / "bundles")
    packed = merged_configs(source, [source.overlay("brain")])
    brain = packed["configs/metadata.json"]["network_data_format"]["outputs"]["pred"]
    assert brain["channel_def"] == {"0": "background", "1": "whole tumour"}
    assert brain["num_channels"] == 2
    assert packed["configs/inference.json"]["modality"] == "t2"


def test_the_parts_can_be_switched_off(phantoms: Path) -> None:
    on = parse("train", dataset_dir=str(phantoms))
    objective = on.get_parsed_content("train#objective")
    assert (objective.vlcc_weight, objective.prototype_weight) == (1.0, 1.0)
    assert objective.modalities == ("mr", "ct")
    off = parse("train", dataset_dir=str(phantoms), adv=False, vlcc=False, proto=False)
    bare = off.get_parsed_content("train#objective")
    assert (bare.covariance, bare.prototypes) == (None, None)
    trainer = off.get_parsed_content("train#trainer")
    assert trainer.adversaries is None
    assert off.get_parsed_content("selector") is None
    chosen = parse("train", dataset_dir=str(phantoms), selection="source_validation")
    assert chosen.get_parsed_content("selector") is chosen.get_parsed_content("validate#evaluator")


@pytest.mark.parametrize(
    ("options", "modalities", "slices"),
    [
        ({}, ("mr", "ct"), 12),
        ({"direction": "ct_to_mr"}, ("ct", "mr"), 12),
        ({"use_target": False}, ("mr", None), 0),
        ({"direction": "ct_to_ct"}, ("ct", None), 0),
    ],
)
def test_the_direction_says_which_volumes_teach_how(
    options: dict[str, Any], modalities: tuple[str, str | None], slices: int, phantoms: Path
) -> None:
    parser = parse("train", dataset_dir=str(phantoms), augment=0.0, **options)
    loader = parser.get_parsed_content("train#dataloader")
    batch = next(iter(loader))
    assert set(batch["source"]["modality"]) == {modalities[0]}
    assert "label" in batch["source"]
    target = parser.get_parsed_content("train#target")
    assert len(target) == slices
    if slices:
        assert set(batch["target"]["modality"]) == {modalities[1]}
        assert "label" not in batch["target"]
    else:
        assert list(batch) == ["source"]


def test_a_host_brings_labelled_cases_and_needs_no_list(phantoms: Path, tmp_path: Path) -> None:
    document = json.loads((phantoms / "dataset.json").read_text(encoding="utf-8"))
    cases = [
        {key: str(phantoms / case[key]) for key in ("image", "label")}
        for case in document["training"]
        if case["modality"] == "mr"
    ]
    parser = parse("train", dataset_dir=str(tmp_path))
    parser.update({"train#dataset#data": cases})
    loader = parser.get_parsed_content("train#dataloader")
    assert loader.target is None
    assert loader.dataset.is_from_host


@pytest.mark.parametrize("text", ["random", "embedded"])
def test_the_descriptions_are_what_the_text_makes_of_the_prompt(text: str) -> None:
    vectors = {
        prompt: parse("train", text=text, prompt=prompt).get_parsed_content("network").class_embeddings
        for prompt in ("v1", "v3")
    }
    assert vectors["v3"].shape == (2, 5, 32)
    assert torch.equal(vectors["v1"][0], vectors["v1"][1])  # that prompt names no modality
    assert not torch.equal(vectors["v3"][0], vectors["v3"][1])


def test_a_text_model_that_is_not_here_is_one_clear_error() -> None:
    with pytest.raises(RuntimeError) as error:
        parse("train", text="clip", text_folder="/nowhere").get_parsed_content("network")
    assert "/nowhere" in cause(error.value)


def test_the_papers_settings() -> None:
    parser = ConfigParser()
    parser.read_config([CONFIGS / f"{name}.json" for name in ("train", "overlays/cardiac", "overlays/paper")])
    expected = {
        **{
            "image_size": 256,
            "width": 1.0,
            "depths": [3, 4, 23, 3],
            "batch_size": 4,
            "learning_rate": 2.5e-4,
        },
        **{"momentum": 0.9, "weight_decay": 5e-4, "discriminator_rate": 1e-4, "bank_momentum": 0.5},
        **{"prototype_momentum": 0.01, "aux_weight": 0.1, "start_iteration": 100, "text": "clip"},
        **{"adv_weights": {"logits": 0.003, "aux_logits": 2e-5}, "vlcc_weight": 1.0, "proto_weight": 1.0},
        **{"convention": "caffe", "freeze_norm": True, "output_stride": 8, "center": False},
    }
    assert {key: parser[key] for key in expected} == expected
    assert parser["max_epochs"] * parser["steps"] == 50_000


def trained(phantoms: Path, folder: Path, *phases: str, **options: Any) -> dict[str, Any]:
    """Run phases one after the other, each in a parser of its own; return the last state."""
    places = {"dataset_dir": str(phantoms), "model_dir": str(folder), "output_dir": str(folder / "out")}
    for phase in phases:
        torch.manual_seed(0)
        parse("train", **places, **options).get_parsed_content(phase)
    names = {"run": "checkpoint", "warmup": "warmup", "pretrain": "pretrain"}
    state: dict[str, Any] = read_tensors(folder / "training" / f"{names[phases[-1]]}_last.pt")
    return state


def flat(state: Any, path: str = "") -> dict[str, torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return {path: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {name: value for key, part in items for name, value in flat(part, f"{path}.{key}").items()}


@pytest.mark.slow
def test_phases_chain_resume_evaluate_and_infer(phantoms: Path, tmp_path: Path) -> None:
    whole = trained(phantoms, tmp_path / "whole", "pretrain", "warmup", "run", oracle_interval=1)
    left = {path.name for path in (tmp_path / "whole").glob("*.pt")}
    assert left == {"pretrained.pt", "warmup.pt", "warmup_discriminators.pt", "model.pt"}
    oracle = json.loads((tmp_path / "whole" / "out" / "oracle.json").read_text(encoding="utf-8"))
    assert set(oracle["epochs"]) == {"1", "2"}

    trained(phantoms, tmp_path / "parts", "pretrain", "warmup")
    state = trained_in_two(phantoms, tmp_path / "parts", oracle_interval=1)
    again = json.loads((tmp_path / "parts" / "out" / "oracle.json").read_text(encoding="utf-8"))
    assert again["epochs"] == oracle["epochs"]
    ours, theirs = flat(whole), flat(state)
    assert list(ours) == list(theirs)
    assert any("adversaries.discriminators" in name for name in ours)
    assert any("objective.covariance.bank" in name for name in ours)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name

    summary, row = evaluated(phantoms, tmp_path / "whole")
    assert (summary["direction"], summary["count"], summary["dataset"]) == ("mr_to_ct", 1, "phantom_abdomen")
    assert str(tmp_path) not in json.dumps(summary)
    check_measures(summary, row)
    inferred(phantoms, tmp_path / "whole", row)


def trained_in_two(phantoms: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """Run the last phase, end it after its first epoch, and go on."""
    places = {"dataset_dir": str(phantoms), "model_dir": str(folder), "output_dir": str(folder / "out")}
    torch.manual_seed(0)
    first = parse("train", **places, **options)
    trainer = first.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: trainer.terminate())
    trainer.run()
    assert read_tensors(folder / "training" / "checkpoint_last.pt")["epoch"] == 1
    return trained(phantoms, folder, "run", **options)


def evaluated(phantoms: Path, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    output = folder / "evaluation"
    places = {"dataset_dir": str(phantoms), "model_dir": str(folder), "output_dir": str(output)}
    parse("train", "evaluate", **places).get_parsed_content("run")
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    (row,) = table(output / "cases.csv")
    return summary, row


def check_measures(summary: dict[str, Any], row: dict[str, str]) -> None:
    """What has no surface to measure is null, an empty cell, and counted."""
    empty = 0
    for name in ("liver", "right_kidney", "left_kidney", "spleen"):
        missing = row[f"empty_{name}"] == "1"
        empty += missing
        for measure in ("assd_mm", "assd_voxel"):
            assert (row[f"{measure}_{name}"] == "") == (summary["metrics"][f"{measure}_{name}"] is None)
            assert row[f"{measure}_{name}"] == "" or not missing
    assert summary["metrics"]["n_empty_prediction"] == empty
    assert 0 <= summary["metrics"]["dice"] <= 1


def inferred(phantoms: Path, folder: Path, row: dict[str, str]) -> None:
    """Inference of the same volume writes the same classes, on the grid of the file, with their names."""
    image = next(phantoms.glob(f"images/{row['id']}.nii.gz"))
    output = folder / "inference"
    options = {"image": str(image), "modality": "ct", "model_dir": str(folder), "output_dir": str(output)}
    parse("inference", **options).get_parsed_content("run")
    written, original = nibabel.load(output / "predictions" / image.name), nibabel.load(image)
    assert written.shape == original.shape
    assert np.allclose(written.affine, original.affine, atol=1e-5)
    assert read_label_names(output / "predictions" / image.name)[2] == "right kidney"
    same = nibabel.load(folder / "evaluation" / row["prediction"])
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(same.dataobj))
    (measured,) = table(output / "cases.csv")
    assert float(measured["ml_liver"]) == pytest.approx(float(row["ml_liver"]))
    assert "dice_liver" not in measured

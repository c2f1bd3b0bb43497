"""Every bundle, run through MONAI's runner on a handful of phantoms."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from common.data.phantom_chest import write_phantom_dataset
from common.data.phantom_volume import write_volume_phantom_dataset

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted((ROOT / "bundles").glob("*_segmentation"))
QUICK = {"image_size": 64, "width": 0.25, "batch_size": 4, "max_epochs": 1, "patience": 0}
VOLUMES = "tcsa_uda_segmentation"
PICTURES = [bundle for bundle in BUNDLES if bundle.name != VOLUMES]
OWN = {
    "semi_medref_segmentation": {"burn_in": 0, "label_fraction": 0.3, "mix_rate": 0.5},
    VOLUMES: {
        **{"width": 0.0625, "depths": [1, 1, 1, 1], "discriminator_width": 0.0625, "embedding_size": 32},
        **{"steps": 4, "start_iteration": 2, "val_interval": 1},
    },
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantom_dataset(folder, count=20, size=64, seed=1)
    return folder


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes") / "data"
    write_volume_phantom_dataset(folder, count=15, size=32, slices=3, seed=1)
    return folder


@pytest.fixture
def data(bundle: Path, request: pytest.FixtureRequest) -> Path:
    """What a bundle is trained on: pictures, or volumes in two modalities."""
    found: Path = request.getfixturevalue("volumes" if bundle.name == VOLUMES else "phantoms")
    return found


def files(bundle: Path, *names: str) -> list[str]:
    return [str(bundle / "configs" / f"{name}.json") for name in names]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def workflow(bundle: Path, kind: str, names: list[str], **overrides: object) -> ConfigWorkflow:
    flow = ConfigWorkflow(
        config_file=files(bundle, *names),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(bundle),
        **overrides,
    )
    flow.initialize()
    return flow


def command(bundle: Path, names: list[str], **overrides: object) -> list[str]:
    parts = ["-m", "monai.bundle", "run", "--config_file", str(files(bundle, *names))]
    parts += ["--bundle_root", str(bundle)]
    for key, value in overrides.items():
        parts += [f"--{key}", str(value)]
    return parts


@pytest.mark.parametrize("bundle", PICTURES, ids=lambda p: p.name)
def test_train_evaluate_infer(bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    paths = {"dataset_dir": str(phantoms), "model_dir": str(tmp_path / "models")}
    own = OWN.get(bundle.name, {})
    train = workflow(bundle, "train", ["train"], **QUICK, **own, **paths, output_dir=str(tmp_path / "train"))
    assert train.check_properties() == []
    train.run()
    assert (tmp_path / "models" / "model.pt").is_file()

    size = {key: QUICK[key] for key in ("image_size", "width")}
    folder = tmp_path / "evaluation"
    evaluate = workflow(bundle, "train", ["train", "evaluate"], **QUICK, **paths, output_dir=str(folder))
    assert evaluate.check_properties() == []
    evaluate.run()
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    rows = table(folder / "cases.csv")
    assert summary["count"] == len(rows) == 4
    assert summary["laterality"] == "image"
    assert summary["dataset"] == json.loads((phantoms / "dataset.json").read_text(encoding="utf-8"))["name"]
    assert str(tmp_path) not in json.dumps(summary)
    counted = [sum(int(row[key]) for row in rows) for key in ("tp", "fp", "fn")]
    expected = 2 * counted[0] / max(sum(counted) + counted[0], 1)
    assert summary["metrics"]["dice_micro"] == pytest.approx(expected)
    for row in rows:
        assert pixels(folder / row["prediction"]).shape == (64, 64)

    case = json.loads((phantoms / "dataset.json").read_text(encoding="utf-8"))["test"][0]
    folder = tmp_path / "inference"
    infer = workflow(
        bundle,
        "infer",
        ["inference"],
        **size,
        model_dir=paths["model_dir"],
        output_dir=str(folder),
        image=str(phantoms / case["image"]),
        text=case["text"],
    )
    assert infer.check_properties() == []
    infer.run()
    evaluated = tmp_path / "evaluation" / next(row["prediction"] for row in rows if row["id"] == case["id"])
    written = list(folder.glob("predictions/*.png"))
    assert len(written) == 1
    assert np.array_equal(pixels(written[0]), pixels(evaluated))


def test_a_folder_with_a_broken_image_is_segmented_but_for_that_one(phantoms: Path, tmp_path: Path) -> None:
    bundle = ROOT / "bundles" / "baseline_segmentation"
    source = tmp_path / "images"
    source.mkdir()
    for path in sorted((phantoms / "images").glob("*.png"))[:2]:
        (source / path.name).write_bytes(path.read_bytes())
    (source / "broken.png").write_bytes(b"not an image")
    overrides = {
        "image_size": 64,
        "width": 0.25,
        "model_dir": str(tmp_path),
        "image": str(source),
        "text": "",
    }
    flow = workflow(bundle, "infer", ["inference"], **overrides, output_dir=str(tmp_path / "out"))
    torch.save(flow.parser.get_parsed_content("network").state_dict(), tmp_path / "model.pt")
    flow.run()
    failures = table(tmp_path / "out" / "failures.csv")
    assert [failure["id"] for failure in failures] == ["broken"]
    assert "broken.png" in failures[0]["error"]
    assert len(list((tmp_path / "out" / "predictions").iterdir())) == 2


def test_a_single_broken_image_is_an_error(tmp_path: Path) -> None:
    bundle = ROOT / "bundles" / "baseline_segmentation"
    (tmp_path / "broken.png").write_bytes(b"not an image")
    overrides = {
        "image_size": 64,
        "width": 0.25,
        "model_dir": str(tmp_path),
        "image": str(tmp_path / "broken.png"),
    }
    flow = workflow(bundle, "infer", ["inference"], **overrides, output_dir=str(tmp_path / "out"))
    torch.save(flow.parser.get_parsed_content("network").state_dict(), tmp_path / "model.pt")
    with pytest.raises(RuntimeError) as error:  # MONAI's runner wraps what an expression raised
        flow.run()
    assert isinstance(error.value.__cause__, ValueError)
    assert "case broken: " in str(error.value.__cause__)
    assert "broken.png" in str(error.value.__cause__)
    assert not (tmp_path / "out" / "cases.csv").exists()


@pytest.mark.slow
def test_the_runner_works_from_another_folder(phantoms: Path, tmp_path: Path) -> None:
    bundle = ROOT / "bundles" / "baseline_segmentation"
    overrides = QUICK | {
        "dataset_dir": phantoms,
        "model_dir": tmp_path / "models",
        "output_dir": tmp_path / "out",
    }
    subprocess.run([sys.executable, *command(bundle, ["train"], **overrides)], cwd=tmp_path, check=True)
    assert (tmp_path / "models" / "model.pt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_killed_and_resumed_equals_uninterrupted(bundle: Path, data: Path, tmp_path: Path) -> None:
    overrides = QUICK | {"dataset_dir": data, "max_epochs": 4, "batch_size": 2, "mirror": 0.5}
    overrides |= OWN.get(bundle.name, {})
    straight = command(
        bundle, ["train"], **overrides, model_dir=tmp_path / "a", output_dir=tmp_path / "out_a"
    )
    subprocess.run([sys.executable, *straight], check=True)

    killed = [
        sys.executable,
        *command(bundle, ["train"], **overrides, model_dir=tmp_path / "b", output_dir=tmp_path / "out_b"),
    ]
    process = subprocess.Popen(killed)
    checkpoint = tmp_path / "b" / "training" / "checkpoint_last.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert torch.load(checkpoint, weights_only=True)["epoch"] < 4
    subprocess.run(killed, check=True)

    for name in ("training/checkpoint_last.pt", "model.pt"):
        a, b = (torch.load(tmp_path / run / name, weights_only=True) for run in ("a", "b"))
        a, b = (state.get("network", state) | state.get("teacher", {}).get("network", {}) for state in (a, b))
        assert list(a) == list(b)
        for key in a:
            assert torch.equal(a[key], b[key]), key


def run_in(processes: int, bundle: Path, names: list[str], overlays: list[str], overrides: dict) -> None:
    """Run a bundle in one process, or in several with the overlay for them."""
    prefix, multi = [sys.executable], []
    if processes > 1:
        prefix += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        multi = [f"multi_gpu_{names[-1]}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    parts = [*prefix, *command(bundle, [*names, *multi, *overlays], **overrides)]
    subprocess.run(parts, check=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda p: p.name)
def test_two_processes_train_weights_that_one_process_evaluates_alike(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    overrides = QUICK | {"dataset_dir": data, "batch_size": 2, "model_dir": tmp_path / "models"}
    overrides |= OWN.get(bundle.name, {})
    run_in(2, bundle, ["train"], [], overrides | {"output_dir": tmp_path / "out"})
    summaries = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        run_in(processes, bundle, ["train", "evaluate"], [], overrides | {"output_dir": folder})
        summaries.append(json.loads((folder / "summary.json").read_text(encoding="utf-8"))["metrics"])
    for name, value in summaries[0].items():
        assert summaries[1][name] == pytest.approx(value, abs=1e-6) or value is None, name


@pytest.mark.slow
def test_two_processes_train_and_evaluate_like_one(phantoms: Path, tmp_path: Path) -> None:
    bundle = ROOT / "bundles" / "baseline_segmentation"
    overrides = QUICK | {"dataset_dir": phantoms, "max_epochs": 2, "learning_rate": 1e-3}
    results = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        own = overrides | {"batch_size": 4 // processes, "model_dir": folder, "output_dir": folder / "out"}
        run_in(processes, bundle, ["train"], ["overlays/unet"], own)
        run_in(processes, bundle, ["train", "evaluate"], ["overlays/unet"], own)
        summary = json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8"))
        results.append(summary)
    assert results[0]["count"] == results[1]["count"] == 4
    for name, value in results[0]["metrics"].items():
        if isinstance(value, float):
            assert results[1]["metrics"][name] == pytest.approx(value, abs=1e-4), name

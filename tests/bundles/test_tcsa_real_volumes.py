"""Real scans go through all phases of TCSA-UDA, in both directions, and come back on their own grids."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from typer.testing import CliRunner

from tools.prepare_data import app

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "tcsa_uda_segmentation" / "configs"
TINY = {
    **{"image_size": 64, "width": 0.0625, "depths": [1, 1, 1, 1], "embedding_size": 32, "device": "cpu"},
    **{"discriminator_width": 0.0625, "batch_size": 2, "steps": 2, "start_iteration": 0, "val_interval": 1},
    **{"pretrain_epochs": 1, "warmup_epochs": 1, "max_epochs": 1},
}
ORGANS = {"liver": 5, "right kidney": 2, "left kidney": 3, "spleen": 1}
SCANS = {
    # one patient a modality: what is adapted to is what is then segmented
    "abdomen": [
        ("example_ct.nii.gz", "example_seg_fast_force_split.nii.gz", "ct", "train", "first"),
        ("example_mr_sm.nii.gz", "example_seg_mr.nii.gz", "mr", "train", "second"),
    ],
    "sts": [
        ("STS_001/CT/image.nii.gz", "STS_001/CT/mask.nii.gz", "ct", "train", "1"),
        ("STS_002/MR_T1/image.nii.gz", "STS_002/MR_T1/mask.nii.gz", "mr", "train", "2"),
        ("STS_003/CT/image.nii.gz", "STS_003/CT/mask.nii.gz", "ct", "test", "3"),
        ("STS_003/MR_T1/image.nii.gz", "STS_003/MR_T1/mask.nii.gz", "mr", "test", "3"),
    ],
}
CLASSES = {"abdomen": {**ORGANS, "*": "background"}, "sts": {"tumour": 1}}


@pytest.fixture(scope="module", params=list(SCANS))
def scans(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real scans as a user would hand them to `tools.prepare_data`."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(real_data / "volumes" / request.param, folder / "source")
    with (folder / "source" / "volumes.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "modality", "split", "patient"])
        rows.writerows(SCANS[request.param])
    (folder / "source" / "labels.json").write_text(json.dumps(CLASSES[request.param]), encoding="utf-8")
    wanted = ["volumes_folder", "--source", str(folder / "source"), "--output", str(folder / "data")]
    result = CliRunner().invoke(app, wanted)
    assert result.exit_code == 0, result.output
    return folder / "data"


def parse(*names: str, **overrides: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([CONFIGS / f"{name}.json" for name in names])
    known = {key: value for key, value in TINY.items() if key in parser}
    parser.update({"bundle_root": str(CONFIGS.parent), **known, **overrides})
    return parser


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["mr_to_ct", "ct_to_mr"])
def test_real_scans_teach_and_are_segmented_on_their_own_grids(
    scans: Path, direction: str, tmp_path: Path
) -> None:
    document = json.loads((scans / "dataset.json").read_text(encoding="utf-8"))
    classes = document["labels"]
    places = {"dataset_dir": str(scans), "model_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    options = {"direction": direction, "labels": classes, "center": len(classes) > 2}
    for phase in ("pretrain", "warmup", "run"):
        torch.manual_seed(0)
        parse("train", **places, **options).get_parsed_content(phase)
    assert (tmp_path / "model.pt").is_file()

    target = direction.split("_to_")[1]
    if document["test"]:
        parse("train", "evaluate", **places, **options).get_parsed_content("run")
        summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
        assert summary["count"] == sum(case["modality"] == target for case in document["test"]) == 1

    for case in [case for name in ("training", "test") for case in document[name]]:
        image = scans / case["image"]
        output = tmp_path / case["id"]
        wanted = {"image": str(image), "modality": case["modality"], "model_dir": str(tmp_path)}
        parse("inference", **wanted, output_dir=str(output), labels=classes).get_parsed_content("run")
        on_the_grid_of(image, *(output / "predictions").iterdir(), classes=len(classes))
        with (output / "cases.csv").open(encoding="utf-8", newline="") as file:
            assert len(list(csv.DictReader(file))) == 1


def on_the_grid_of(image: Path, prediction: Path, *, classes: int) -> None:
    written, original = nibabel.load(prediction), nibabel.load(image)
    assert written.shape == original.shape
    assert nibabel.aff2axcodes(written.affine) == nibabel.aff2axcodes(original.affine)
    assert np.allclose(written.affine, original.affine, atol=1e-5)
    assert set(np.unique(np.asarray(written.dataobj))) <= set(range(classes))

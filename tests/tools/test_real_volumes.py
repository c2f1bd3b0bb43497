"""Real CT and MR volumes from their files to predictions on their own grids, in both directions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import decollate_batch, list_data_collate
from torch import Tensor, nn
from torch.nn import functional

from common.data import CaseLoader, SliceDataset, load_domain_cases
from common.metrics import VolumeTable
from common.transforms import read_label_names, volume_postprocessing, volume_preprocessing
from common.volume_inferer import VolumeInferer
from tools.datasets.registry import read_volume_source
from tools.datasets.volumes import prepare_volumes

ABDOMEN = {"liver": 5, "right kidney": 2, "left kidney": 3, "spleen": 1, "*": "background"}
DIRECTIONS = ("ct_to_mr", "mr_to_ct")


class OneLayer(nn.Module):
    """The least network that has weights, keeps the size and takes a modality."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, classes, 3, padding=1)
        self.modalities: set[str] = set()

    def forward(
        self, image: Tensor, text: Tensor | None = None, *, modality: list[str] | None = None
    ) -> Tensor:
        self.modalities |= set(modality or ())
        return self.layer(image)


def prepared(source: Path, output: Path, rows: list[tuple[str, ...]], classes: dict[str, object]) -> Path:
    source.chmod(0o755)  # a copy of a folder that may be read-only
    lines = [",".join(row) for row in [("image", "label", "modality", "split", "patient"), *rows]]
    (source / "volumes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (source / "labels.json").write_text(json.dumps(classes), encoding="utf-8")
    prepare_volumes(read_volume_source("volumes_folder", source), source, output)
    return output


@pytest.fixture(scope="module")
def abdomen(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CT (RAS) and MR (LPS) of two people with four organs, one volume each: the test of either direction."""
    root = tmp_path_factory.mktemp("abdomen")
    source = shutil.copytree(real_data / "volumes" / "abdomen", root / "source")
    rows = [
        ("example_ct_sm.nii.gz", "example_seg.nii.gz", "ct", "test", "a"),
        ("example_mr_sm.nii.gz", "example_seg_mr.nii.gz", "mr", "test", "b"),
    ]
    return prepared(source, root / "data", rows, ABDOMEN)


@pytest.fixture(scope="module")
def sarcoma(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CT and T1 MR of the same three patients, each of whom may be in one domain alone."""
    root = tmp_path_factory.mktemp("sarcoma")
    source = shutil.copytree(real_data / "volumes" / "sts", root / "source")
    rows = [
        (
            f"STS_00{number}/{folder}/image.nii.gz",
            f"STS_00{number}/{folder}/mask.nii.gz",
            modality,
            section,
            str(number),
        )
        for number, section in ((1, "train"), (2, "train"), (3, "test"))
        for folder, modality in (("CT", "ct"), ("MR_T1", "mr"))
    ]
    return prepared(source, root / "data", rows, {"tumour": 1})


def predicted(data: Path, direction: str, output: Path, *, perfect: bool) -> VolumeTable:
    """Segment every test case of a direction with an untrained network, or with the truth in its place."""
    labels = json.loads((data / "dataset.json").read_text(encoding="utf-8"))["labels"]
    cases = load_domain_cases(data, "test", direction=direction)
    prepare = volume_preprocessing(classes=len(labels), image_size=256, keep_label_grid=True)
    fitted = volume_preprocessing(classes=len(labels), image_size=256)
    finish = volume_postprocessing(labels=labels, output_dir=output)
    network, table = OneLayer(len(labels)).eval(), VolumeTable(labels=labels, surface=perfect)
    for case in cases:
        batch = list_data_collate([prepare(case)])
        with torch.inference_mode():
            batch["pred"] = VolumeInferer()(batch["image"], network)
        if perfect:
            truth = functional.one_hot(fitted(case)["label"].as_tensor().long()[0], len(labels))
            batch["pred"] = 20 * truth.movedim(-1, 0)[None].float()
        done = finish(decollate_batch(batch)[0])
        check_grid(Path(done["pred_path"]), case, labels)
        table.update([done])
    assert len(table.rows) == len(cases) > 0
    assert len(list((output / "predictions").iterdir())) == len(cases)
    assert network.modalities == {direction.partition("_to_")[2]}
    return table


def check_grid(prediction: Path, case: dict[str, str], labels: dict[str, str]) -> None:
    written, image = nibabel.load(prediction), nibabel.load(case["image"])
    assert written.shape == image.shape
    assert np.allclose(written.affine, image.affine, atol=1e-5)
    assert nibabel.aff2axcodes(written.affine) == nibabel.aff2axcodes(image.affine)
    assert written.get_data_dtype() == np.uint8
    assert read_label_names(prediction) == {int(number): name for number, name in labels.items()}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["abdomen", "sarcoma"])
def test_predictions_lie_on_the_grid_of_the_original(
    name: str, direction: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    predicted(request.getfixturevalue(name), direction, tmp_path, perfect=False)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["abdomen", "sarcoma"])
def test_the_truth_goes_through_the_network_s_grid_and_back(
    name: str, direction: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    metrics = predicted(request.getfixturevalue(name), direction, tmp_path, perfect=True).compute()
    assert metrics["dice"] > 0.95
    assert metrics["assd_voxel"] < 0.2
    assert metrics["n_empty_prediction"] == 0


def test_images_stay_as_they_were_and_labels_fit_the_originals(abdomen: Path, real_data: Path) -> None:
    """Organs have their number of voxels and their centre of mass (in mm) from the label file of the source."""
    folder = real_data / "volumes" / "abdomen"
    for name, original in (("example_ct_sm", "example_seg"), ("example_mr_sm", "example_seg_mr")):
        written = nibabel.load(abdomen / "labels" / f"{name}.nii.gz")
        source = nibabel.load(folder / f"{original}.nii.gz")
        assert (abdomen / "images" / f"{name}.nii.gz").read_bytes() == (
            folder / f"{name}.nii.gz"
        ).read_bytes()
        ours, theirs = np.asarray(written.dataobj), np.asarray(source.dataobj)
        for number, value in enumerate((5, 2, 3, 1), 1):
            assert (ours == number).sum() == (theirs == value).sum() > 0
            places = [
                nibabel.affines.apply_affine(image.affine, np.argwhere(array == each).mean(0))
                for image, array, each in ((written, ours, number), (source, theirs, value))
            ]
            assert np.allclose(*places, atol=1e-3)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_slices_of_both_domains_train_a_network(sarcoma: Path, direction: str) -> None:
    preprocess = volume_preprocessing(classes=2, image_size=128)
    domains = {
        name: SliceDataset(
            load_domain_cases(sarcoma, "training", direction=direction, domain=name),
            preprocess,
            keep="labelled",
            progress=False,
        )
        for name in ("source", "target")
    }
    assert (
        len({item["case"] for item in domains["source"]} & {item["case"] for item in domains["target"]}) == 0
    )
    assert "label" not in domains["target"][0]
    batch = next(iter(CaseLoader(domains["source"], batch_size=4, shuffle=True)))
    assert batch["image"].shape == (4, 3, 128, 128)
    assert batch["image"].abs().mean() < 1
    network = OneLayer(2)
    loss = functional.cross_entropy(network(batch["image"]), batch["label"][:, 0].long())
    loss.backward()
    assert network.layer.weight.grad.abs().sum() > 0


def test_left_and_right_kidney_are_on_their_sides_in_both_orientations(abdomen: Path) -> None:
    """CT is stored RAS and MR LPS: what the network sees has the patient's right on the left in both."""
    for case in load_domain_cases(abdomen, "test", direction="ct_to_mr") + load_domain_cases(
        abdomen, "test", direction="mr_to_ct"
    ):
        label = volume_preprocessing(classes=5, image_size=128)(case)["label"][0]
        right, left = (torch.nonzero(label == number)[:, 1].float().mean() for number in (2, 3))
        liver = torch.nonzero(label == 1)[:, 1].float().mean()
        assert right < left
        assert liver < 64

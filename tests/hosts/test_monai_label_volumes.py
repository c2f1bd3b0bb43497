"""A packed bundle of classes and volumes in the stock server of MONAI Label: names, modality, geometry, values."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from common.data.phantom_volume import phantom_volume, write_volume_phantom
from common.inference import Segmenter, load_bundle
from tools.hosts.monai_label.server import LabelServer
from tools.packing import PackRequest, pack_bundle

pytestmark = pytest.mark.hosts

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = "tcsa_uda_segmentation"
STEPS = "steps_segmentation"
TINY = {
    **{"image_size": 64, "width": 0.0625, "depths": [1, 1, 1, 1], "embedding_size": 32},
    **{"discriminator_width": 0.0625, "steps": 4},
}
LABELS = {"liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4}
ROWS, COLUMNS, SLICES = 64, 96, 5
LOWEST, STEP = -160, 100  # of the gray values of classes 0 to 4: the window of CT
CODE = """
import torch


class Steps(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, image, text=None, *, modality=None):
        gray = image.mean(1, keepdim=True)
        gray = 4 * (gray - gray.min()) / (gray.max() - gray.min())
        turned = torch.tensor([name == "mr" for name in modality]).reshape(-1, 1, 1, 1)
        gray = torch.where(turned, 4 - gray, gray)
        return -100 * self.scale * (gray - torch.arange(5.0).reshape(1, 5, 1, 1)) ** 2
"""


@pytest.fixture(scope="module")
def host_python() -> Path:
    python = Path(os.environ.get("MONAI_LABEL_PYTHON", ROOT / ".hosts" / "monai_label" / "bin" / "python"))
    if not python.is_file():
        pytest.skip(f"no MONAI Label at {python}: `make hosts`, or set MONAI_LABEL_PYTHON")
    return python


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("overlay") / "tiny.json"
    path.write_text(json.dumps(TINY), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def segmenter(overlay: Path, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """A tiny network with random weights, which lie in a file beside the overlay."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_bundle(ROOT / "bundles" / BUNDLE, overlays=[overlay], device="cpu", allow_random=True)
    weights = overlay.with_name("model.pt")
    torch.save(varied(found.network), weights)
    return load_bundle(ROOT / "bundles" / BUNDLE, overlays=[overlay], device="cpu", weights=weights)


@pytest.fixture(scope="module")
def packed(
    host_python: Path, segmenter: Segmenter, overlay: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The bundle, and one whose network tells classes by their gray values, of MR in reverse."""
    output = tmp_path_factory.mktemp("packed")
    request = PackRequest(
        bundle=BUNDLE,
        bundles=ROOT / "bundles",
        overlays=(str(overlay),),
        weights=overlay.with_name("model.pt"),
        output=output,
        proof=False,
    )
    folder = pack_bundle(request).folder
    return {BUNDLE: folder, STEPS: with_steps(folder, output / STEPS)}


def varied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Random weights of a head, which untrained finds one class alone, with which it finds several."""
    state, generator = network.state_dict(), torch.Generator().manual_seed(0)
    for name, values in state.items():
        if name.startswith("head.") and values.ndim > 1:
            values.copy_(torch.randn(values.shape, generator=generator) / values[0].numel() ** 0.5)
    return state


def with_steps(bundle: Path, copy: Path) -> Path:
    shutil.copytree(bundle, copy)
    (copy / "scripts" / "steps.py").write_text(CODE, encoding="utf-8")
    path = copy / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"network_def": {"_target_": "scripts.steps.Steps"}, "image_size": [ROWS, COLUMNS]}
    path.write_text(json.dumps(config), encoding="utf-8")
    torch.save({"scale": torch.ones(())}, copy / "models" / "model.pt")
    return copy


@pytest.fixture(scope="module")
def server(
    host_python: Path, packed: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "studies").mkdir()
    write_volume_phantom(
        phantom_volume(3, size=40, slices=SLICES), folder / "studies" / "scan.nii.gz", axis_codes="PSR"
    )
    with LabelServer(
        python=host_python,
        folder=folder,
        studies=folder / "studies",
        bundles=packed,
        environment={"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def log_of_the_server(request: pytest.FixtureRequest) -> Iterator[None]:
    """Put what the server logged into the report of a test that fails."""
    yield
    if "server" in request.fixturenames:
        print(request.getfixturevalue("server").log_tail())


def answer(server: LabelServer, model: str, image: str | Path, folder: Path, **params: Any) -> Any:
    """Ask for the labels of a volume, as nibabel reads them."""
    path = folder / f"{len(list(folder.iterdir()))}.nii.gz"
    path.write_bytes(server.client.infer(model, image, params=params or None))
    return nibabel.load(path)


def stairs(axis_codes: str) -> nibabel.Nifti1Image:
    """An oblique volume of five gray values without any symmetry, its axes in the order that the letters say."""
    classes = np.zeros((COLUMNS, ROWS, SLICES), dtype=np.int16)
    classes[10:20, 8:56], classes[20:60, 8:16], classes[20:44, 28:36] = 1, 2, 3
    classes[70:90, 50:54, 1:], classes[60:66, 20:40, 3:] = 4, 2
    angle = 0.15
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.8, -0.8, 3.0])  # square pixels: slices keep their size
    affine[:3, 3] = [11.0, -20.5, 7.25]
    image = nibabel.Nifti1Image(classes * STEP + LOWEST, affine)
    return image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(axis_codes)))


def test_info_lists_the_classes_and_the_modality(server: LabelServer, packed: dict[str, Path]) -> None:
    info = server.client.info()
    assert sorted(info["models"]) == sorted(packed)
    for model in info["models"].values():
        assert model["type"] == "segmentation"
        assert model["labels"] == LABELS
        assert model["config"]["modality"] == "ct"
        assert "text" not in model["config"]


@pytest.mark.parametrize("axis_codes", ["LPS", "RAS", "PSR", "SLA"])
@pytest.mark.parametrize("modality", [None, "ct", "mr"])
def test_labels_come_back_on_the_volumes_own_grid(
    axis_codes: str, modality: str | None, server: LabelServer, tmp_path: Path
) -> None:
    image = stairs(axis_codes)
    file = tmp_path / "stairs.nii.gz"
    nibabel.save(image, file)
    found = answer(server, STEPS, file, tmp_path, **({"modality": modality} if modality else {}))
    classes = (np.asarray(image.dataobj) - LOWEST) // STEP
    np.testing.assert_array_equal(np.asarray(found.dataobj), 4 - classes if modality == "mr" else classes)
    np.testing.assert_allclose(found.affine, image.affine, atol=1e-4)


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_the_network_gives_what_it_gives_in_python(
    modality: str, server: LabelServer, segmenter: Segmenter, tmp_path: Path
) -> None:
    scan = server.studies / "scan.nii.gz"
    found = np.asarray(answer(server, BUNDLE, "scan", tmp_path, modality=modality).dataobj)
    result = segmenter(scan, modality=modality)
    expected = np.asarray(nibabel.load(result.save(tmp_path)["mask"]).dataobj)
    assert found.shape == expected.shape
    assert len(np.unique(expected)) > 1, "the labels must differ for this test to say anything"
    # another version of PyTorch: voxels on the border between two classes may differ
    assert np.mean(found != expected) < 0.01


def test_json_names_the_classes(server: LabelServer) -> None:
    content = json.loads(server.client.infer(BUNDLE, "scan", params={"modality": "mr"}, output="json"))
    assert content["label_names"] == LABELS


def test_a_wrong_modality_ends_in_an_error_and_the_server_goes_on(
    server: LabelServer, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    for modality in ("pet", ["mr"], f"$__import__('pathlib').Path({str(trace)!r}).touch()", "@network"):
        with pytest.raises(RuntimeError, match="status 500"):
            server.client.infer(BUNDLE, "scan", params={"modality": modality})
    assert not trace.exists()
    assert answer(server, BUNDLE, "scan", tmp_path).shape == (40, SLICES, 40)

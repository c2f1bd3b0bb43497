"""Fixtures of the inference tests: small untrained bundles of the repository, and images of every kind."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from common.data.phantom_chest import write_phantom_dataset
from common.inference import Segmenter, load_bundle

ROOT = Path(__file__).resolve().parents[3]
VOLUMES = (
    ROOT / "bundles" / "tcsa_uda_segmentation"
)  # classes of volumes, no sentence: see test_inference_classes
BUNDLES = sorted(bundle for bundle in (ROOT / "bundles").glob("*_segmentation") if bundle != VOLUMES)
SMALL = {"width": 0.125, "image_size": 64}
SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."


@pytest.fixture(scope="session")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twenty phantoms of 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("chests") / "data"
    write_phantom_dataset(folder, count=20, size=64, seed=1)
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, chests: Path) -> dict[str, Path]:
    """A folder of weights for every bundle: random, but such that a mask covers some of a phantom."""
    picture = sorted((chests / "images").glob("*.png"))[0]
    folders = {}
    for bundle in BUNDLES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmenter = load_bundle(bundle, overrides=SMALL, device="cpu", allow_random=True)
        generator = torch.Generator().manual_seed(5)
        # large enough that a mask has edges everywhere
        for values in segmenter.network.state_dict().values():
            if values.is_floating_point() and values.ndim > 1:
                values.copy_(torch.randn(values.shape, generator=generator) / values[0].numel() ** 0.5)
        median = float(np.median(segmenter.logits([segmenter.prepare({"image": picture})])[0]))
        state = segmenter.network.state_dict()
        last = [name for name, value in state.items() if name.endswith("bias") and value.numel() == 1][-1]
        state[last] = state[last] - median
        folder = tmp_path_factory.mktemp(bundle.name)
        torch.save(state, folder / "model.pt")
        folders[bundle.name] = folder
    return folders


@pytest.fixture(scope="session")
def segmenters(weights: dict[str, Path]) -> dict[str, Segmenter]:
    """Every bundle of the repository, loaded once."""
    return {
        bundle.name: load_bundle(
            bundle, overrides={**SMALL, "model_dir": str(weights[bundle.name])}, device="cpu"
        )
        for bundle in BUNDLES
    }


@pytest.fixture(params=[bundle.name for bundle in BUNDLES])
def segmenter(request: pytest.FixtureRequest, segmenters: dict[str, Segmenter]) -> Segmenter:
    """Each bundle of the repository in turn."""
    found: Segmenter = segmenters[request.param]
    return found


@pytest.fixture
def baseline(segmenters: dict[str, Segmenter]) -> Segmenter:
    """One bundle, where any will do."""
    return segmenters["baseline_segmentation"]


def pattern(*shape: int) -> np.ndarray:
    """Gray values that are nowhere symmetric."""
    axes = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    waves = sum(50 * np.sin(axis / (4 + 3 * number)) for number, axis in enumerate(axes))
    return np.clip(120 + waves + axes[0] / 2, 0, 255).astype(np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """One file of every kind that is no DICOM, none of them square."""
    folder = tmp_path / "images"
    folder.mkdir()
    gray = pattern(90, 70)
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(np.stack([gray, gray[::-1], gray[:, ::-1]], axis=-1)).save(folder / "colour.jpg")
    Image.fromarray(gray.astype(np.uint16) * 200).save(folder / "deep.png")
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.7, 0.8, 2.0])
    affine[:3, 3] = (10, -20, 30)
    nibabel.save(nibabel.Nifti1Image(pattern(70, 90, 1).astype(np.int16), affine), folder / "oblique.nii.gz")
    nibabel.save(nibabel.Nifti1Image(pattern(40, 48, 5).astype(np.int16), affine), folder / "volume.nii.gz")
    return {path.name.split(".")[0]: path for path in sorted(folder.iterdir())}

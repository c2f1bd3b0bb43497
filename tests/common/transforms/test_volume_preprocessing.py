"""Volumes before the network: the same in every file, back to the same voxel, and refused with one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.data.phantom_volume import phantom_volume, write_volume_phantom
from common.transforms import FitVolumed, LoadVolumed, NormaliseVolumed, load_volume, volume_preprocessing
from common.transforms.volumes import PLANES, fitted_box, from_plane, to_plane, unfit_slices

RAS = np.diag([2.0, 2.0, 5.0, 1.0])


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = RAS, *, code: int = 1) -> Path:
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(affine, code=code)
    image.set_qform(None, code=0)
    nibabel.save(image, path)
    return path


def scan(shape: tuple[int, ...] = (12, 10, 6)) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 30, shape).astype(np.float32)


def singular(path: Path) -> Path:
    write(path, scan())
    image = nibabel.load(path)
    affine = RAS.copy()
    affine[:3, 1] = affine[:3, 0]
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = affine[:3]
    array = np.asarray(image.dataobj)
    broken = nibabel.Nifti1Image(array, None, image.header)
    nibabel.save(broken, path)
    return path


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no affine": (
        lambda p: write(p, scan(), code=0),
        r"must have an affine .* got none: without it left and right",
    ),
    "singular affine": (singular, "must have an affine with three directions, got a singular one"),
    "four dimensions": (
        lambda p: write(p, scan((8, 8, 4, 5))),
        r"2 or 3 dimensions, got shape \(8, 8, 4, 5\)",
    ),
    "one slice": (lambda p: write(p, scan((8, 8, 1))), "must be a volume of at least 2 slices, got shape"),
    "colours": (lambda p: write(p, scan((8, 8, 4, 1, 3))), "must have one channel, got 3"),
    "not finite": (lambda p: write(p, np.full((8, 8, 4), np.nan, np.float32)), "must hold finite values"),
    "no volume": (lambda p: p.write_bytes(b"nothing"), "must be a readable NIfTI file"),
    "missing": (lambda p: None, "does not exist"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_volumes_have_one_clear_error(kind: str, tmp_path: Path) -> None:
    make, message = BAD[kind]
    path = tmp_path / "volume.nii.gz"
    make(path)
    with pytest.raises(ValueError, match=message) as caught:
        load_volume(path)
    assert "volume.nii.gz" in str(caught.value)


@pytest.mark.parametrize("value", [7, -1, 2.5])
def test_labels_with_unknown_values_are_refused(value: float, tmp_path: Path) -> None:
    label = np.zeros((12, 10, 6), np.float32)
    label[2, 3, 4] = value
    case = {"image": write(tmp_path / "i.nii.gz", scan()), "label": write(tmp_path / "l.nii.gz", label)}
    with pytest.raises(ValueError, match=rf"l\.nii\.gz must hold the classes 0 to 4, got {value:g}"):
        LoadVolumed(classes=5)(case)


def test_labels_elsewhere_or_of_another_size_are_refused(tmp_path: Path) -> None:
    image = write(tmp_path / "i.nii.gz", scan())
    smaller = write(tmp_path / "small.nii.gz", np.zeros((12, 10, 5), np.uint8))
    with pytest.raises(ValueError, match=r"small\.nii\.gz must have the size of .*i\.nii\.gz"):
        LoadVolumed(classes=2)({"image": image, "label": smaller})
    moved = RAS.copy()
    moved[0, 3] = 1.0
    away = write(tmp_path / "away.nii.gz", np.zeros((12, 10, 6), np.uint8), moved)
    with pytest.raises(ValueError, match=r"must lie where .* lies, got corners 1 mm away"):
        LoadVolumed(classes=2)({"image": image, "label": away})


def test_image_and_label_may_have_different_axes(tmp_path: Path) -> None:
    phantom = phantom_volume(1, size=32, slices=6)
    write_volume_phantom(phantom, tmp_path / "i.nii.gz", axis_codes="LPS")
    write_volume_phantom(phantom, tmp_path / "x.nii.gz", label_path=tmp_path / "l.nii.gz", axis_codes="PSR")
    case = LoadVolumed(classes=5)({"image": tmp_path / "i.nii.gz", "label": tmp_path / "l.nii.gz"})
    assert np.array_equal(case["label"][0].numpy(), phantom.label)
    assert case["label"].dtype == torch.uint8


def test_modality_is_that_of_the_case_else_the_default(tmp_path: Path) -> None:
    path = write(tmp_path / "i.nii.gz", scan())
    load = LoadVolumed(classes=2, modality="mr")
    assert load({"image": path})["image"].meta["modality"] == "mr"
    assert load({"image": path, "modality": "ct"})["image"].meta["modality"] == "ct"
    assert "modality" not in LoadVolumed(classes=2)({"image": path})["image"].meta
    with pytest.raises(ValueError, match="modality must be one of ct, mr, flair, t2, got 'us'"):
        load({"image": path, "modality": "us"})


def test_a_tensor_of_a_host_is_passed_on() -> None:
    image = torch.rand(1, 8, 8, 4)
    assert torch.equal(LoadVolumed(classes=2)({"image": image})["image"].as_tensor(), image)
    with pytest.raises(ValueError, match="image must be a volume"):
        LoadVolumed(classes=2)({"image": torch.rand(3, 8, 8)})


@pytest.mark.parametrize("plane", PLANES)
def test_planes_turn_back(plane: str) -> None:
    volume = torch.rand(2, 5, 6, 7)
    assert torch.equal(from_plane(to_plane(volume, plane), plane), volume)


def test_coronal_has_head_on_top_and_sagittal_the_front_on_the_left() -> None:
    volume = torch.zeros(1, 5, 6, 7)
    volume[0, 0, 2, 6] = 1  # in front, on top
    assert to_plane(volume, "coronal").shape == (1, 7, 6, 5)
    assert to_plane(volume, "coronal")[0, 0, 2, 0] == 1
    assert to_plane(volume, "sagittal").shape == (1, 7, 5, 6)
    assert to_plane(volume, "sagittal")[0, 0, 0, 2] == 1


@pytest.mark.parametrize("plane", PLANES)
def test_fitting_keeps_the_aspect_and_the_affine_follows(plane: str) -> None:
    """A blob's centre is at the same place of the patient on both grids, and it is as wide as it is high."""
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    axes = torch.meshgrid(torch.arange(40.0), torch.arange(30.0), torch.arange(20.0), indexing="ij")
    centre = torch.tensor([23.0, 11.0, 8.0])
    squared = sum(((axis - c) * s) ** 2 for axis, c, s in zip(axes, centre, (2, 3, 4), strict=True))
    volume = MetaTensor(torch.exp(-squared / 2 / 12**2)[None], affine=affine)
    fitted = FitVolumed("image", size=(64, 96), plane=plane)({"image": volume})["image"]
    weights = fitted[0].as_tensor().double()
    grid = torch.meshgrid(*[torch.arange(side).double() for side in weights.shape], indexing="ij")
    middle = torch.stack([(axis * weights).sum() / weights.sum() for axis in grid])
    place = fitted.affine @ torch.cat([middle, torch.ones(1)]).double()
    assert torch.allclose(place[:3], affine[:3, :3] @ centre.double(), atol=1.0)  # mm
    spread = [
        ((axis - m) ** 2 * weights).sum() / weights.sum()
        for axis, m in zip(grid[:2], middle[:2], strict=True)
    ]
    assert float(spread[0] / spread[1]) == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("plane", PLANES)
def test_slices_come_back_to_their_own_grid(plane: str) -> None:
    smooth = torch.nn.functional.interpolate(torch.rand(1, 1, 4, 4, 4), (30, 36, 24), mode="trilinear")[0]
    image = MetaTensor(smooth, affine=torch.diag(torch.tensor([1.0, 1.5, 2.0, 1.0])))
    fitted = FitVolumed("image", size=(96, 64), plane=plane)({"image": image})["image"]
    restored = from_plane(unfit_slices(fitted.as_tensor(), fitted.meta), plane)
    assert restored.shape == smooth.shape
    assert (restored - smooth).abs().mean() < 0.01


def test_filling_is_darkest_and_labels_stay_classes(tmp_path: Path) -> None:
    phantom = phantom_volume(2, size=32, slices=6)
    write_volume_phantom(phantom, tmp_path / "i.nii.gz", label_path=tmp_path / "l.nii.gz")
    case = {"image": tmp_path / "i.nii.gz", "label": tmp_path / "l.nii.gz", "modality": "ct"}
    fitted = volume_preprocessing(classes=5, image_size=(64, 96))(case)
    image, label = fitted["image"], fitted["label"]
    assert image.shape == label.shape == (1, 64, 96, 6)
    filling = image[..., :16, :].unique()
    assert len(filling) == 1
    assert float(filling) == pytest.approx(float(image.min()), abs=0.05)  # bicubic values go a little lower
    assert (label[..., :16, :] == 0).all()
    assert set(label.unique().tolist()) == {0, 1, 2, 3, 4}
    assert fitted_box((32, 32), (1, 1), (64, 96)) == (0, 16, 64, 64)
    kept = volume_preprocessing(classes=5, image_size=64, keep_label_grid=True)(case)
    assert np.array_equal(kept["label"][0].numpy(), phantom.label)


def test_normalisation_follows_its_formula_and_forgets_gain_and_offset() -> None:
    values = torch.rand(1, 20, 20, 10) ** 2 * 500
    normalise = NormaliseVolumed("image", percentiles=(0, 100))
    scored = normalise({"image": values})["image"]
    assert torch.allclose(scored, (values - values.mean()) / (3 * values.std(correction=0)), atol=1e-5)
    other = normalise({"image": values * 7 + 40})["image"]
    assert torch.allclose(scored, other, atol=1e-5)
    assert (normalise({"image": torch.full((1, 4, 4, 4), 3.0)})["image"] == 0).all()


def test_percentiles_cut_outliers_and_windows_are_for_their_modality() -> None:
    values = torch.rand(1, 20, 20, 10) * 100
    values[0, 0, 0, 0] = 1e6
    cut = NormaliseVolumed("image", percentiles=(0.5, 99.5))({"image": values})["image"]
    assert cut.max() < 1.2
    window = NormaliseVolumed("image", windows={"ct": (20, 60)})
    ct, mr = (
        window({"image": MetaTensor(values.clone(), meta={"modality": name})})["image"]
        for name in ("ct", "mr")
    )
    clipped = values.clamp(20, 60)
    assert torch.allclose(
        ct.as_tensor(), (clipped - clipped.mean()) / (3 * clipped.std(correction=0)), atol=1e-5
    )
    assert not torch.allclose(ct.as_tensor(), mr.as_tensor())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, "classes must be at least 2"),
        ({"classes": 5, "image_size": 100}, "multiples of 32"),
        ({"classes": 5, "plane": "oblique"}, "plane must be one of axial, coronal, sagittal"),
        ({"classes": 5, "percentiles": (99, 1)}, "percentiles must be two rising numbers"),
        ({"classes": 5, "percentiles": (-1, 99)}, r"percentiles must lie in 0\.\.100"),
        ({"classes": 5, "windows": {"ct": (3,)}}, r"windows\[ct\] must be two rising numbers"),
        ({"classes": 5, "modality": "us"}, "modality must be one of"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        volume_preprocessing(**arguments)

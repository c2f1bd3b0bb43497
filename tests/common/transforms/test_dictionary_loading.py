"""Tests of the dictionary loader and of masks."""

from __future__ import annotations

import copy
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from common.transforms import LoadImageAsDisplayedd, binary_mask, load_image


def save(path: Path, pixels: np.ndarray, **options: object) -> str:
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def two_valued(high: int = 255) -> np.ndarray:
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[3:9, 4:16] = high
    return mask


def test_case_gets_three_channels_a_mask_and_its_paths(tmp_path: Path, phantom: np.ndarray) -> None:
    image = save(tmp_path / "i.png", phantom)
    label = save(tmp_path / "m.png", np.where(phantom > 150, 255, 0).astype(np.uint8))
    case = {"id": "a", "image": image, "label": label, "text": "left lung"}
    before = copy.deepcopy(case)
    loaded = LoadImageAsDisplayedd()(case)
    assert case == before
    assert loaded["image"].shape == (3, 64, 96)
    np.testing.assert_array_equal(loaded["image"].numpy(), np.stack([phantom] * 3))
    assert loaded["label"].shape == (1, 64, 96)
    np.testing.assert_array_equal(loaded["label"][0].numpy(), phantom > 150)
    assert (loaded["image_path"], loaded["label_path"], loaded["text"]) == (image, label, "left lung")


@pytest.mark.parametrize("case", [{}, {"label": None}])
def test_label_may_be_missing(case: dict[str, None], tmp_path: Path, phantom: np.ndarray) -> None:
    loaded = LoadImageAsDisplayedd()({"image": save(tmp_path / "i.png", phantom), **case})
    assert "label" not in loaded


def test_image_is_needed_and_must_be_a_path() -> None:
    with pytest.raises(ValueError, match=r"image must be a path, got a case without one: \['text'\]"):
        LoadImageAsDisplayedd()({"text": "left"})
    with pytest.raises(TypeError, match="image must be a path, got int"):
        LoadImageAsDisplayedd()({"image": 3})


def test_image_that_a_host_loaded_passes() -> None:
    loaded = LoadImageAsDisplayedd()({"image": torch.rand(1, 8, 9)})
    assert loaded["image"].shape == (3, 8, 9)


def test_sizes_must_agree(tmp_path: Path, phantom: np.ndarray) -> None:
    case = {"image": save(tmp_path / "i.png", phantom), "label": save(tmp_path / "m.png", two_valued())}
    with pytest.raises(
        ValueError, match=r"m\.png must have the size of its image .*i\.png, \(64, 96\), got \(20, 30\)"
    ):
        LoadImageAsDisplayedd()(case)


def test_dimensions(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4)), tmp_path / "v.nii")
    case = {"image": str(tmp_path / "v.nii")}
    assert LoadImageAsDisplayedd(dimensions=3)(case)["image"].shape == (3, 5, 4, 6)
    with pytest.raises(ValueError, match=r"v\.nii must have 2 dimensions, got shape \(5, 4, 6\)"):
        LoadImageAsDisplayedd(dimensions=2)(case)
    with pytest.raises(ValueError, match="dimensions must be 2, 3 or None, got 4"):
        LoadImageAsDisplayedd(dimensions=4)


@pytest.mark.parametrize("high", [1, 38, 128, 255])
def test_two_values_are_a_mask(high: int, tmp_path: Path) -> None:
    mask = binary_mask(load_image(save(tmp_path / "m.png", two_valued(high))))
    np.testing.assert_array_equal(mask[0].numpy(), two_valued() > 0)
    assert mask.dtype == torch.float32


@pytest.mark.parametrize("value", [0, 255])
def test_masks_of_one_value(value: int, tmp_path: Path) -> None:
    mask = binary_mask(load_image(save(tmp_path / "m.png", np.full((6, 7), value, np.uint8))))
    assert mask.mean() == (value > 0)


def test_colour_palette_16_bit_and_boolean_masks(tmp_path: Path) -> None:
    mask = two_valued()
    expected = mask > 0
    colour = np.zeros((*mask.shape, 3), dtype=np.uint8)
    colour[..., 0] = mask
    palette = Image.fromarray((mask > 0).astype(np.uint8), mode=None).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(tmp_path / "p.png")
    sources = [
        save(tmp_path / "c.png", colour),
        str(tmp_path / "p.png"),
        save(tmp_path / "s.png", mask.astype(np.uint16) * 257),
    ]
    Image.fromarray(mask).convert("1").save(tmp_path / "b.png")
    for source in [*sources, str(tmp_path / "b.png")]:
        np.testing.assert_array_equal(binary_mask(load_image(source))[0].numpy(), expected)


def test_jpeg_noise_is_thresholded(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[10:40, 12:44] = 255
    loaded = load_image(save(tmp_path / "m.jpg", mask, quality=75))
    assert len(np.unique(loaded.numpy())) > 2
    np.testing.assert_array_equal(binary_mask(loaded)[0].numpy(), mask > 127)


def test_soft_edges_are_thresholded(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[10:40, 12:44] = 255
    soft = Image.fromarray(mask).resize((71, 71), Image.Resampling.BILINEAR)
    soft.save(tmp_path / "m.png")
    np.testing.assert_array_equal(
        binary_mask(load_image(tmp_path / "m.png"))[0].numpy(), np.asarray(soft) > 127
    )


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0, 1, 2], r"3 values \(0, 1, 2\)"),
        ([0, 128, 255], r"3 values \(0, 128, 255\)"),
        ([7, 255], r"2 values \(7, 255\)"),
    ],
)
def test_other_values_are_refused(values: list[int], shown: str, tmp_path: Path) -> None:
    pixels = np.resize(np.array(values, dtype=np.uint8), (10, 12))
    with pytest.raises(
        ValueError, match=rf"classes\.png must be a mask of two values, such as 0 and 255, got {shown}"
    ):
        binary_mask(load_image(save(tmp_path / "classes.png", pixels)))


def test_a_photograph_is_no_mask(tmp_path: Path, phantom: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"photo\.jpg must be a mask of two values"):
        binary_mask(load_image(save(tmp_path / "photo.jpg", phantom)))


def test_negative_values_are_no_mask(tmp_path: Path) -> None:
    values = np.array([[-1, 0], [1, 1]], dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "m.nii")
    with pytest.raises(ValueError, match=r"m\.nii must be a mask of two values"):
        binary_mask(load_image(tmp_path / "m.nii"))


def test_real_masks_are_read(real_data: Path) -> None:
    for folder in ("kvasir_seg/masks", "cvc_clinicdb/masks", "covid_ct/masks", "qata_cov19/Test/GTs"):
        files = sorted((real_data / folder).iterdir())[:40]
        shares = [binary_mask(load_image(file)).mean().item() for file in files]
        assert all(0 <= share < 0.95 for share in shares)
        assert np.mean(shares) > 0.01

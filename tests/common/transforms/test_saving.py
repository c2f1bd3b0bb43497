"""Tests of postprocessing and saving: masks that overlay exactly, read back by independent readers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import SaveImaged
from PIL import Image
from torch.nn import functional

from common.transforms import (
    LoadImageAsDisplayedd,
    MaskOnFileGridd,
    SaveImageMaskd,
    binary_mask,
    image_text_preprocessing,
    load_image,
    save_mask,
    segmentation_postprocessing,
)
from common.transforms.saving import safe_name


def predicted(case: dict[str, Any], phantom: np.ndarray) -> dict[str, Any]:
    """A case with confident logits for the bright parts of the phantom, as if out of an evaluator."""
    batch = list_data_collate([case, case])
    logits = torch.from_numpy(np.where(phantom > 150, 8.0, -8.0)).float()
    batch["pred"] = logits.expand(2, 1, *logits.shape).clone()
    return decollate_batch(batch)[1]


def bright(values: np.ndarray, format_name: str) -> np.ndarray:
    """Where the stored pixels show the phantom's bright parts."""
    scaled = values.astype(float)
    scaled = (scaled - scaled.min()) / (scaled.max() - scaled.min()) * 230
    return scaled > 165


def test_saved_masks_overlay_exactly_on_the_file(
    phantom_file: Path,
    format_name: str,
    phantom: np.ndarray,
    tmp_path: Path,
    read_stored: Callable[[Path], np.ndarray],
) -> None:
    preprocess = image_text_preprocessing(image_size=(64, 96))
    case = predicted(preprocess({"id": "case 1", "image": str(phantom_file), "text": "upper left"}), phantom)
    done = segmentation_postprocessing(output_dir=tmp_path / "out")(case)
    assert done["pred"].shape == (1, 64, 96)
    assert done["pred"].dtype == torch.uint8
    saved = Path(done["pred_path"])
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]
    stored = read_stored(phantom_file)
    if format_name.startswith("nifti"):
        assert saved == tmp_path / "out" / "predictions" / "case_1.nii.gz"
        mask, source = nibabel.load(saved), nibabel.load(phantom_file)
        np.testing.assert_allclose(mask.affine, source.affine, atol=1e-6)
        assert mask.header["sform_code"] == source.header["sform_code"]
        assert mask.header["qform_code"] == source.header["qform_code"]
        pixels = np.asarray(mask.dataobj)
        assert pixels.dtype == np.uint8
        assert set(np.unique(pixels)) == {0, 1}
    else:
        assert saved == tmp_path / "out" / "predictions" / "case_1.png"
        with Image.open(saved) as picture:
            assert picture.mode == "L"
            pixels = np.asarray(picture)
        assert set(np.unique(pixels)) == {0, 255}
    assert pixels.shape == stored.shape
    np.testing.assert_array_equal(pixels > 0, bright(stored, format_name))


def test_saved_masks_load_as_displayed(phantom_file: Path, phantom: np.ndarray, tmp_path: Path) -> None:
    image = load_image(phantom_file)
    saved = save_mask(torch.from_numpy(phantom > 150)[None], image.meta, tmp_path / "mask")
    np.testing.assert_array_equal(binary_mask(load_image(saved))[0].numpy(), phantom > 150)
    case = LoadImageAsDisplayedd()({"image": str(phantom_file), "label": str(saved)})
    assert case["label"].shape == (1, 64, 96)


def test_probability_is_restored_bilinearly_before_the_threshold(tmp_path: Path, phantom: np.ndarray) -> None:
    Image.fromarray(phantom).save(tmp_path / "i.png")
    case = image_text_preprocessing(image_size=32)({"image": str(tmp_path / "i.png")})
    logits = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(case)
    done = segmentation_postprocessing(threshold=0.4, keep_probability=True)({**case, "pred": logits})
    expected = functional.interpolate(
        torch.sigmoid(logits)[None], (64, 96), mode="bilinear", align_corners=False
    )[0]
    torch.testing.assert_close(done["probability"].as_tensor(), expected)
    assert torch.equal(done["pred"].as_tensor(), (expected >= 0.4).to(torch.uint8))
    assert torch.equal(case["image"].as_tensor(), before["image"].as_tensor())
    assert "pred_path" not in done


def test_mask_on_the_file_grid_is_what_monai_label_writes(
    phantom_file: Path, format_name: str, phantom: np.ndarray, read_stored: Callable[[Path], np.ndarray]
) -> None:
    case = image_text_preprocessing(image_size=(64, 96))({"image": str(phantom_file)})
    logits = torch.from_numpy(np.where(phantom > 150, 8.0, -8.0)).float()[None]
    done = segmentation_postprocessing(file_grid=True)({**case, "pred": logits})
    result, meta = done["pred"], done["image"].meta
    assert result.dtype == torch.uint8
    # The host compares all axes but the first with the image's, and resizes when they differ.
    assert tuple(meta["spatial_shape"][-(result.ndim - 1) :]) == tuple(result.shape[1:])
    assert len(meta["spatial_shape"]) == result.ndim
    # Then it writes the transposed array with ITK, whose x comes last; NIfTI stores x first again.
    stored = read_stored(phantom_file)
    written = result.numpy() if format_name.startswith("nifti") else result.numpy().T
    # A NIfTI file of two axes comes back with a third of length 1: without it there would be no affine.
    written = written[..., 0] if written.ndim > stored.ndim else written
    np.testing.assert_array_equal(written > 0, bright(stored, format_name))
    np.testing.assert_array_equal(meta["original_affine"], meta["file_affine"])
    assert done["pred_displayed"].shape == (1, 64, 96)
    np.testing.assert_array_equal(done["pred_displayed"][0].numpy() > 0, phantom > 150)
    assert "spatial_shape" in case["image"].meta
    assert tuple(case["image"].meta["spatial_shape"]) == (64, 96)


def test_image_loaded_by_a_host_keeps_its_own_grid(tmp_path: Path) -> None:
    preprocess = image_text_preprocessing(image_size=32)
    preprocess.transforms = preprocess.transforms[1:]
    case = preprocess({"image": MetaTensor(torch.rand(3, 40, 50)), "text": "left"})
    done = segmentation_postprocessing(file_grid=True)({**case, "pred": torch.randn(1, 32, 32)})
    assert done["pred"].shape == (1, 40, 50)


def test_hosts_leave_saving_out() -> None:
    assert issubclass(SaveImageMaskd, SaveImaged)
    assert "SaveImage" in SaveImageMaskd.__name__
    names = [
        type(part).__name__ for part in segmentation_postprocessing(output_dir="o", file_grid=True).transforms
    ]
    assert names == ["ProbabilityOnImaged", "Thresholdd", "SaveImageMaskd", "MaskOnFileGridd"]


def test_volumes_are_saved_with_their_affine(tmp_path: Path, real_data: Path) -> None:
    for name in ("example_seg", "example_seg_mr"):
        source = real_data / "volumes" / "abdomen" / f"{name}.nii.gz"
        image = load_image(source)
        saved = save_mask((image == 5).as_tensor(), image.meta, tmp_path / name)
        mask, original = nibabel.load(saved), nibabel.load(source)
        np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(original.dataobj) == 5)
        np.testing.assert_allclose(mask.affine, original.affine, atol=1e-5)


def test_real_dicom_mask_lies_on_the_stored_pixels(tmp_path: Path, real_data: Path) -> None:
    image = load_image(real_data / "dicom" / "dx_image.dcm")
    saved = save_mask((image > image.mean()).as_tensor(), image.meta, tmp_path / "dx")
    with Image.open(saved) as picture:
        assert picture.size == (211, 169)


def test_a_failed_write_leaves_nothing(
    tmp_path: Path, phantom: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(phantom).save(tmp_path / "i.png")
    image = load_image(tmp_path / "i.png")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_mask(torch.zeros(1, 64, 96), image.meta, tmp_path / "out" / "m")
    assert list((tmp_path / "out").iterdir()) == []


def test_bad_masks_and_names(tmp_path: Path, phantom: np.ndarray) -> None:
    Image.fromarray(phantom).save(tmp_path / "i.png")
    image = load_image(tmp_path / "i.png")
    with pytest.raises(ValueError, match=r"i\.png must have shape \[1, 64, 96\], got \[1, 96, 64\]"):
        save_mask(torch.zeros(1, 96, 64), image.meta, tmp_path / "m")
    with pytest.raises(ValueError, match=r"threshold must be between 0 and 1, got 1\.0"):
        segmentation_postprocessing(threshold=1.0)
    assert safe_name("../sub/case 1") == "_sub_case_1"
    with pytest.raises(ValueError, match=r"id must be a name that a file can have, got '\.\.'"):
        safe_name("..")


def test_name_comes_from_the_file_without_an_id(
    tmp_path: Path, phantom: np.ndarray, writers: dict[str, Any]
) -> None:
    for name, expected in (
        ("nifti_ras_axial", "ras.nii.gz"),
        ("png", "p.png"),
        ("dicom_no_suffix", "1.2.840.10008.png"),
    ):
        image = load_image(writers[name](tmp_path, phantom))
        case = SaveImageMaskd("pred", output_dir=tmp_path)({"image": image, "pred": torch.zeros(1, 64, 96)})
        assert Path(case["pred_path"]).name == expected
    assert MaskOnFileGridd("pred")({"image": image, "pred": torch.zeros(1, 64, 96)})["pred"].shape == (96, 64)

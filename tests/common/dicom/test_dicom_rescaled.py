"""DICOM series as volumes of measured values: no window, no missing slice, predictions back on its grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch

from common.dicom.rescaled import load_rescaled_series
from common.dicom.volume import load_series
from common.transforms import load_volume, read_label_names, volume_postprocessing, volume_preprocessing

Write = Callable[..., list[Path]]
SAGITTAL = (0, 1, 0, 0, 0, -1)


@pytest.mark.parametrize("cosines", [(1, 0, 0, 0, 1, 0), SAGITTAL])
def test_values_are_hounsfield_units_whatever_the_window(
    ct_files: Write, cosines: tuple[float, ...], tmp_path: Path
) -> None:
    plain = ct_files(tmp_path / "plain", cosines=cosines)
    windowed = ct_files(tmp_path / "windowed", cosines=cosines, WindowCenter=40, WindowWidth=80)
    image = load_rescaled_series(tmp_path / "windowed")
    shown = load_series(tmp_path / "plain")  # without a window the display is the rescaled values
    assert torch.equal(image.as_tensor(), shown.as_tensor())
    assert not torch.equal(image.as_tensor(), load_series(tmp_path / "windowed").as_tensor())
    stored = np.stack([pydicom.dcmread(file).pixel_array for file in windowed]).astype(np.float32) - 10
    assert sorted(image.as_tensor().ravel().tolist()) == sorted(stored.ravel().tolist())
    assert np.allclose(image.affine, shown.affine)
    assert len(plain) == image.as_tensor().numel() // 30


def test_a_missing_slice_is_an_error_that_names_the_place(ct_files: Write, tmp_path: Path) -> None:
    ct_files(tmp_path / "ct", depths=(0, 2, 4, 8, 10))
    with pytest.raises(
        ValueError, match=r"must have every slice, got a distance of 4 mm after 3\.dcm where 2 mm"
    ):
        load_volume(tmp_path / "ct")


def test_mixed_orientations_in_one_folder_are_an_error(ct_files: Write, tmp_path: Path) -> None:
    first = ct_files(tmp_path / "ct")
    for number, file in enumerate(ct_files(tmp_path / "other", cosines=SAGITTAL), 1):
        dataset = pydicom.dcmread(file)
        dataset.SeriesInstanceUID = pydicom.dcmread(first[0]).SeriesInstanceUID
        dataset.save_as(tmp_path / "ct" / f"other{number}.dcm")
    with pytest.raises(ValueError, match=r"must be slices of one (orientation|size|pixel spacing)"):
        load_volume(tmp_path / "ct")


def test_two_series_and_single_images_are_errors(ct_files: Write, tmp_path: Path) -> None:
    ct_files(tmp_path / "one", depths=(0,))
    with pytest.raises(ValueError, match="must hold the slices of a volume, got a single image"):
        load_volume(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold one series of images"):
        load_volume(tmp_path / "empty")


@pytest.mark.parametrize("cosines", [(1, 0, 0, 0, 1, 0), SAGITTAL])
def test_a_prediction_of_a_series_is_nifti_on_its_stored_grid(
    ct_files: Write, cosines: tuple[float, ...], tmp_path: Path
) -> None:
    files = ct_files(tmp_path / "ct", cosines=cosines)
    case = volume_preprocessing(classes=2, image_size=32, modality="ct")(
        {"id": "ct", "image": tmp_path / "ct"}
    )
    case["pred"] = torch.stack([torch.zeros(case["image"].shape[1:]), torch.ones(case["image"].shape[1:])])
    done = volume_postprocessing(labels={"0": "background", "1": "all"}, output_dir=tmp_path)(case)
    written = nibabel.load(done["pred_path"])
    assert written.shape == (5, 6, len(files))  # rows, columns and slices as stored
    assert (np.asarray(written.dataobj) == 1).all()
    assert np.allclose(written.affine, case["image"].meta["file_affine"])
    corner = pydicom.dcmread(files[0]).ImagePositionPatient
    places = written.affine @ np.array([0, 0, 0, 1.0]), written.affine @ np.array([0, 0, len(files) - 1, 1.0])
    wanted = np.array(corner, dtype=float) * (-1, -1, 1)
    assert any(np.allclose(place[:3], wanted, atol=1e-4) for place in places)
    assert read_label_names(done["pred_path"]) == {0: "background", 1: "all"}
    assert int(written.header["sform_code"]) == 1

"""Classes of volumes back on the file's grid, with their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from torch.nn import functional

from common.data.phantom_organs import ABDOMEN
from common.data.phantom_volume import AXIS_CODES, phantom_volume, write_volume_phantom
from common.transforms import read_label_names, save_labels, volume_postprocessing, volume_preprocessing
from common.transforms.label_volumes import checked_labels, labels_on_file_grid, restored_labels

LABELS = {str(number): name for number, name in ABDOMEN.items()}


def logits_of(label: torch.Tensor) -> torch.Tensor:
    """Sure logits `(5, H, W, slices)` of a label `(1, H, W, slices)`."""
    return 20 * functional.one_hot(torch.as_tensor(label)[0].long(), 5).movedim(-1, 0).float()


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return min(
        2 * ((one == k) & (two == k)).sum() / ((one == k).sum() + (two == k).sum()) for k in range(1, 5)
    )


@pytest.mark.parametrize("plane", ["axial", "coronal"])
@pytest.mark.parametrize("codes", AXIS_CODES)
def test_a_perfect_network_gives_the_label_file_back(codes: str, plane: str, tmp_path: Path) -> None:
    phantom = phantom_volume(1, size=40, slices=14)
    files = tmp_path / "case.nii.gz", tmp_path / "label.nii.gz"
    write_volume_phantom(phantom, files[0], label_path=files[1], axis_codes=codes)
    case = {"id": "case", "image": files[0], "label": files[1]}
    batch = list_data_collate([volume_preprocessing(classes=5, image_size=160, plane=plane)(case)])
    batch["pred"] = logits_of(batch["label"][0])[None]
    done = volume_postprocessing(labels=LABELS, output_dir=tmp_path / "out")(decollate_batch(batch)[0])
    written, true = nibabel.load(done["pred_path"]), nibabel.load(files[1])
    assert done["pred_path"] == str(tmp_path / "out" / "predictions" / "case.nii.gz")
    assert written.shape == true.shape
    assert np.allclose(written.affine, true.affine, atol=1e-4)
    assert nibabel.aff2axcodes(written.affine) == tuple(codes)
    assert written.get_data_dtype() == np.uint8
    assert dice(np.asarray(written.dataobj), np.asarray(true.dataobj)) > 0.97
    assert done["pred"].shape == (1, *phantom.label.shape)
    assert np.allclose(done["pred"].affine, phantom.affine, atol=1e-4)
    assert read_label_names(done["pred_path"]) == dict(ABDOMEN)
    assert written.header["intent_code"] == 1002
    codes_of = [int(nibabel.load(files[0]).header[name]) for name in ("sform_code", "qform_code")]
    assert [int(written.header[name]) for name in ("sform_code", "qform_code")] == codes_of


def test_classes_are_the_most_probable_after_resizing() -> None:
    logits = torch.randn(5, 64, 64, 3)
    image = MetaTensor(
        torch.zeros(1, 64, 64, 3),
        meta={
            "volume_plane": "axial",
            "volume_shape": np.array([32, 32, 3]),
            "volume_fit": np.array([0, 0, 64, 64]),
        },
    )
    wanted = functional.interpolate(
        torch.softmax(logits, 0).movedim(-1, 0), (32, 32), mode="bilinear", align_corners=False
    )
    assert torch.equal(restored_labels(logits, image)[0].as_tensor(), wanted.argmax(1).movedim(0, -1).byte())


def test_hosts_get_the_files_own_axes(tmp_path: Path) -> None:
    phantom = phantom_volume(1, size=32, slices=6)
    write_volume_phantom(phantom, tmp_path / "i.nii.gz", label_path=tmp_path / "l.nii.gz", axis_codes="PSR")
    case = volume_preprocessing(classes=5, image_size=128)(
        {"image": tmp_path / "i.nii.gz", "label": tmp_path / "l.nii.gz"}
    )
    case["pred"] = logits_of(case["label"])
    done = volume_postprocessing(labels=LABELS, file_grid=True)(case)
    true = np.asarray(nibabel.load(tmp_path / "l.nii.gz").dataobj)
    assert done["pred"].shape == true.shape
    assert dice(done["pred"].numpy(), true) > 0.95
    assert done["pred_displayed"].shape == (1, 32, 32, 6)
    assert np.allclose(done["image"].meta["original_affine"], nibabel.load(tmp_path / "i.nii.gz").affine)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"0": "background"}, "labels must name the classes 0, 1, 2"),
        ({"0": "background", "2": "liver"}, "labels must name the classes 0, 1, 2"),
        ({"0": "background", "1": "background"}, "each by a name of its own"),
        ({"0": "background", "one": "liver"}, "numbers of the classes as keys"),
    ],
)
def test_bad_names_are_refused(labels: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_labels(labels)
    with pytest.raises(ValueError, match=message):
        volume_postprocessing(labels=labels)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    phantom = phantom_volume(1, size=32, slices=4)
    write_volume_phantom(phantom, tmp_path / "i.nii.gz")
    image: Any = volume_preprocessing(classes=5, image_size=32)({"image": tmp_path / "i.nii.gz"})["image"]
    with pytest.raises(ValueError, match=r"pred must be logits \(classes, 32, 32, 4\), got \(5, 32, 32, 3\)"):
        restored_labels(torch.zeros(5, 32, 32, 3), image)
    with pytest.raises(ValueError, match="must be a volume of volume_preprocessing"):
        restored_labels(torch.zeros(5, 32, 32, 4), torch.zeros(1, 32, 32, 4))
    with pytest.raises(ValueError, match=r"must have shape \[1, 32, 32, 4\]"):
        labels_on_file_grid(torch.zeros(1, 32, 32, 5), image.meta)
    with pytest.raises(ValueError, match="the classes must be among 0 to 4, got 9"):
        save_labels(torch.full((1, 32, 32, 4), 9), image.meta, tmp_path / "o.nii.gz", labels=LABELS)
    assert not (tmp_path / "o.nii.gz").exists()
    assert read_label_names(tmp_path / "i.nii.gz") == {}

"""Volumes through preprocessing, inferer and postprocessing: the same as their slices one by one."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from PIL import Image
from torch import Tensor, nn

from common.inferers import TextGuidedInferer
from common.transforms import (
    image_text_preprocessing,
    load_image,
    save_mask,
    segmentation_postprocessing,
)
from common.transforms.preprocessing import resize, z_score

SENTENCE = "Unilateral pulmonary infection, one infected area, upper left lung."


class Bright(nn.Module):
    """Logits that depend on the pixels and on the text."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor:
        self.batches.append(len(image))
        shift = 0.0 if text is None else text[:, 0].float().mean(dim=1)[:, None, None, None] / 1000
        return 3 * image[:, :1] - shift


def write_volume(path: Path, *, affine: np.ndarray, shape: tuple[int, int, int] = (40, 50, 5)) -> np.ndarray:
    values = np.random.default_rng(3).normal(100, 30, shape).astype(np.float32)
    values[5:15, 10:30, 1:4] += 200
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return values


def segment(path: Path, network: Bright, tmp_path: Path, *, slice_batch: int = 2) -> dict:
    case = image_text_preprocessing(image_size=64)({"id": "v", "image": str(path), "text": SENTENCE})
    batch = list_data_collate([case])
    inferer = TextGuidedInferer(slice_batch=slice_batch)
    batch["pred"] = inferer(batch["image"], network, text=batch["text"])
    post = segmentation_postprocessing(output_dir=tmp_path, keep_probability=True)
    return post(decollate_batch(batch)[0])


def test_a_volume_is_its_slices_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    write_volume(path, affine=np.diag([-2.0, -2.0, 3.0, 1.0]))
    network = Bright()
    whole = segment(path, network, tmp_path)
    assert network.batches == [2, 2, 1]
    displayed = load_image(path).as_tensor()
    assert whole["pred"].shape == displayed.shape == (1, 50, 40, 5)
    for position in range(5):
        one = resize(displayed[..., position], (64, 64), mode="bicubic")
        logits = network(z_score(one)[None].expand(1, 3, 64, 64), whole["text"][None])[0]
        probability = resize(torch.sigmoid(logits), (50, 40), mode="bilinear")
        torch.testing.assert_close(
            whole["probability"][..., position].as_tensor(), probability, atol=1e-6, rtol=0
        )
    assert 0 < whole["pred"].float().mean() < 1


def test_the_text_reaches_every_slice_also_from_the_meta_data(tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    write_volume(path, affine=np.eye(4))
    case = image_text_preprocessing(image_size=32)({"image": str(path), "text": SENTENCE})
    image = list_data_collate([case])["image"]
    network = Bright()
    spoken = TextGuidedInferer()(image, network)
    silent = TextGuidedInferer()(image.as_tensor(), network)
    difference = (silent - spoken).flatten(0, 3)
    assert torch.all(difference > 0)
    torch.testing.assert_close(
        spoken, TextGuidedInferer(slice_batch=1)(image, network, text=case["text"][None])
    )


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "SAL"])
def test_the_mask_of_a_volume_lies_where_the_file_has_it(tmp_path: Path, codes: str) -> None:
    oblique = nibabel.affines.from_matvec(
        nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt(codes), (40, 50, 5))[:3, :3]
        @ np.diag([1.5, 1.0, 4.0]),
        [10, -20, 30],
    )
    values = write_volume(tmp_path / "v.nii.gz", affine=oblique)
    mask = load_image(tmp_path / "v.nii.gz").as_tensor() > 250
    meta = load_image(tmp_path / "v.nii.gz").meta
    saved = nibabel.load(save_mask(mask, meta, tmp_path / "mask"))
    np.testing.assert_array_equal(np.asarray(saved.dataobj), (values > 250).astype(np.uint8))
    np.testing.assert_allclose(saved.affine, oblique)


def test_the_affine_of_a_resized_volume_follows_the_new_grid(tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    write_volume(path, affine=np.diag([-2.0, -2.0, 3.0, 1.0]), shape=(64, 64, 3))
    image = image_text_preprocessing(image_size=32)({"image": str(path), "text": ""})["image"]
    spacing = image.affine[:3, :3].norm(dim=0)
    torch.testing.assert_close(spacing, torch.tensor([4.0, 4.0, 3.0], dtype=spacing.dtype))


def test_a_picture_takes_the_same_way_as_before(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)).save(path)
    network = Bright()
    case = image_text_preprocessing(image_size=32)({"image": str(path), "text": SENTENCE})
    output = TextGuidedInferer()(case["image"][None], network)
    assert output.shape == (1, 1, 32, 32)
    assert network.batches == [1]


def test_a_volume_cannot_be_trained_on() -> None:
    with pytest.raises(ValueError, match=r"must have 4 dimensions.*\(1, 3, 32, 32, 4\): split volumes"):
        TextGuidedInferer()(torch.zeros(1, 3, 32, 32, 4), lambda image, text: {"logits": image})
    with pytest.raises(ValueError, match="slice_batch must be at least 1, got 0"):
        TextGuidedInferer(slice_batch=0)


def test_text_in_the_meta_data_of_a_volume_is_one_per_volume() -> None:
    tokens = torch.ones(2, 6, dtype=torch.int64)
    image = MetaTensor(torch.zeros(2, 3, 32, 32, 3), meta={"text": tokens})
    network = Bright()
    assert TextGuidedInferer()(image, network).shape == (2, 1, 32, 32, 3)

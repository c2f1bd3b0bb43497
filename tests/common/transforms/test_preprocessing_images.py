"""Tests of the preprocessing: one network input for every format, inversion, text."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Invertd, MapTransform
from PIL import Image
from torch.nn import functional

from common.text.tokenizer import build_tokenizer
from common.transforms import (
    ResizeImaged,
    StandardizeImaged,
    TokenizeTextd,
    image_text_preprocessing,
)
from common.transforms.preprocessing import z_score

SENTENCE = "Unilateral pulmonary infection, one infected area, upper left lung."


def save(path: Path, pixels: np.ndarray) -> str:
    Image.fromarray(pixels).save(path)
    return str(path)


def test_every_format_gives_the_same_network_input(
    phantom_file: Path, format_name: str, phantom: np.ndarray, tmp_path: Path
) -> None:
    preprocess = image_text_preprocessing(image_size=(32, 64))
    reference = preprocess({"image": save(tmp_path / "reference.png", phantom), "text": SENTENCE})
    case = preprocess({"image": str(phantom_file), "text": SENTENCE})
    assert case["image"].shape == (3, 32, 64)
    # JPEG of quality 98 differs by its compression, the others by rounding alone.
    tolerance = 0.1 if format_name == "jpg" else 2e-4
    torch.testing.assert_close(
        case["image"].as_tensor(), reference["image"].as_tensor(), atol=tolerance, rtol=0
    )
    assert torch.equal(case["text"], reference["text"])


def test_compose_is_flat_and_hosts_can_strip_the_loader() -> None:
    preprocess = image_text_preprocessing(image_size=64)
    names = [type(transform).__name__ for transform in preprocess.transforms]
    assert "LoadImage" in names[0]
    assert not any("LoadImage" in name or "SaveImage" in name for name in names[1:])
    assert not any(isinstance(transform, Compose) for transform in preprocess.transforms)
    assert all(isinstance(transform, MapTransform) for transform in preprocess.transforms)


def test_input_is_standardized_per_channel(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 200, (40, 50, 3), dtype=np.uint8)
    colours[..., 1] //= 3
    image = image_text_preprocessing(image_size=32)({"image": save(tmp_path / "c.png", colours)})["image"]
    torch.testing.assert_close(image.as_tensor().mean(dim=(1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        image.as_tensor().std(dim=(1, 2), correction=0), torch.ones(3), atol=1e-4, rtol=0
    )


def test_z_score_equals_its_definition_and_flat_channels_become_zero() -> None:
    image = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) * 50 + 1000
    image[1] = 7.3
    scored = z_score(image)
    expected = (image.double() - image.double().mean((1, 2), True)) / image.double().std(
        (1, 2), keepdim=True, correction=0
    )
    torch.testing.assert_close(scored[[0, 2]], expected[[0, 2]].float(), atol=1e-3, rtol=0)
    assert not scored[1].any()
    assert not z_score(torch.full((1, 4, 4), 65535.0)).any()
    repeated = image[:1].expand(3, 5, 7)
    torch.testing.assert_close(z_score(repeated), z_score(repeated.contiguous()))


def test_resize_is_torch_bicubic_and_antialiases_only_shrinking() -> None:
    image = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0))
    for size in ((32, 64), (32, 32)):
        resized = ResizeImaged("image", size=size)({"image": MetaTensor(image)})["image"]
        expected = functional.interpolate(image[None], size, mode="bicubic", align_corners=False)[0]
        torch.testing.assert_close(resized.as_tensor(), expected)
    checkerboard = (torch.arange(256)[:, None] + torch.arange(256)) % 2 * 1.0
    small = ResizeImaged("image", size=(32, 32))({"image": checkerboard[None]})["image"]
    torch.testing.assert_close(small.as_tensor(), torch.full((1, 32, 32), 0.5), atol=0.01, rtol=0)


def test_affine_follows_the_new_grid() -> None:
    resized = ResizeImaged("image", size=(32, 64))(
        {"image": MetaTensor(torch.rand(1, 64, 64), affine=torch.eye(4))}
    )
    affine = resized["image"].affine
    torch.testing.assert_close(affine.diagonal(), torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(affine[:3, 3], torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64))


def test_invertd_brings_a_prediction_back_bilinearly(tmp_path: Path, phantom: np.ndarray) -> None:
    preprocess = image_text_preprocessing(image_size=32)
    case = preprocess({"image": save(tmp_path / "i.png", phantom), "text": SENTENCE})
    batch = list_data_collate([case, case])
    # Networks hand on the meta data of their input.
    batch["pred"] = MetaTensor(torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    one = decollate_batch(batch)[1]
    inverted = Invertd("pred", transform=preprocess, orig_keys="image", nearest_interp=False)(one)["pred"]
    expected = functional.interpolate(
        batch["pred"][1:].as_tensor(), (64, 96), mode="bilinear", align_corners=False
    )[0]
    torch.testing.assert_close(inverted.as_tensor(), expected)


def test_preprocessing_is_deterministic_and_changes_no_input(tmp_path: Path, phantom: np.ndarray) -> None:
    preprocess = image_text_preprocessing(image_size=64)
    case = {"id": "a", "image": save(tmp_path / "i.png", phantom), "text": SENTENCE, "laterality": "image"}
    before = copy.deepcopy(case)
    first, second = preprocess(case), pickle.loads(pickle.dumps(preprocess))(case)
    assert case == before
    assert torch.equal(first["image"].as_tensor(), second["image"].as_tensor())
    assert torch.equal(first["text"], second["text"])


def test_formats_share_a_batch(tmp_path: Path, phantom: np.ndarray, writers: dict[str, Any]) -> None:
    preprocess = image_text_preprocessing(image_size=32)
    names = ("png", "nifti_ras_axial", "nifti_two_dimensional", "dicom_r_f")
    cases = [preprocess({"id": name, "image": str(writers[name](tmp_path, phantom))}) for name in names]
    batch = list_data_collate(cases)
    assert batch["image"].shape == (4, 3, 32, 32)
    assert batch["text"].shape == batch["image"].meta["text"].shape == (4, 2, 24)
    for case, name in zip(decollate_batch(batch), names, strict=True):
        assert case["image"].meta["filename_or_obj"] == case["image_path"]
        assert case["id"] == name


@pytest.mark.parametrize("size", [0, 33, -32, 224.0, (224, 100), (32, 32, 32), "224"])
def test_image_size_must_be_a_multiple_of_32(size: Any) -> None:
    with pytest.raises(ValueError, match="image_size must be one or two positive multiples of 32"):
        image_text_preprocessing(image_size=size)


def test_standardize_takes_plain_tensors() -> None:
    scored = StandardizeImaged("image")({"image": torch.tensor([[[1.0, 3.0]]])})["image"]
    torch.testing.assert_close(scored, torch.tensor([[[-1.0, 1.0]]]))


class TestTokenizeText:
    def test_text_becomes_tokens_and_stays_readable(self) -> None:
        case = TokenizeTextd(max_tokens=24)({"text": SENTENCE, "image": MetaTensor(torch.zeros(3, 4, 4))})
        expected = build_tokenizer("embedded", max_tokens=24).encode(SENTENCE)
        assert torch.equal(case["text"], expected)
        assert torch.equal(case["image"].meta["text"], expected)
        assert case["sentence"] == SENTENCE
        assert case["laterality"] == "image"

    @pytest.mark.parametrize("case", [{}, {"text": None}, {"text": ""}])
    def test_missing_text_is_the_empty_prompt(self, case: dict[str, Any]) -> None:
        read = TokenizeTextd()(case)
        assert torch.equal(read["text"], build_tokenizer("embedded", max_tokens=24).encode(""))
        assert read["sentence"] == ""

    def test_sentence_of_the_other_laterality_is_translated(self) -> None:
        tokenize = TokenizeTextd(laterality="image")
        translated = tokenize({"text": "upper left lung", "laterality": "patient"})
        assert translated["sentence"] == "upper right lung"
        assert translated["laterality"] == "image"
        assert torch.equal(translated["text"], tokenize({"text": "upper right lung"})["text"])
        same = TokenizeTextd(laterality="patient")({"text": "upper left lung", "laterality": "patient"})
        assert same["sentence"] == "upper left lung"

    def test_long_and_odd_sentences(self) -> None:
        with pytest.warns(UserWarning, match="text has 1000000 characters and was cut to 100000"):
            case = TokenizeTextd()({"text": "left lung " * 100_000})
        assert len(case["sentence"]) == 100_000
        assert TokenizeTextd()({"text": "🫁🫁 left 🤒"})["text"].shape == (2, 24)

    def test_bad_values(self) -> None:
        with pytest.raises(TypeError, match="text must be a string or None, got float"):
            TokenizeTextd()({"text": float("nan")})
        with pytest.raises(ValueError, match="laterality must be image or patient, got 'left'"):
            TokenizeTextd(laterality="left")
        with pytest.raises(ValueError, match="laterality must be image or patient, got 'viewer'"):
            TokenizeTextd()({"text": "a", "laterality": "viewer"})

    def test_tokens_of_two_cases_share_no_memory(self) -> None:
        tokenize = TokenizeTextd()
        first, second = tokenize({"text": SENTENCE})["text"], tokenize({"text": SENTENCE})["text"]
        first.zero_()
        assert second.any()

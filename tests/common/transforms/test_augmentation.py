"""Tests of the training augmentation: alignment, truth of the sentence, seeds."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose
from torch.nn import functional

from common.text.laterality import mirror_sentence
from common.transforms import (
    RandAlignedAffined,
    RandIntensityd,
    RandMirrorWithSentenced,
    ResizeLabeld,
    TokenizeTextd,
    flat_compose,
    text_safe_augmentation,
)
from common.transforms.augmentation import sampling_grid

SENTENCE = "one infected area, upper left lung."


def make_case(size: tuple[int, int] = (64, 64)) -> dict[str, Any]:
    mask = torch.zeros(1, *size)
    mask[:, size[0] // 8 : size[0] // 2, size[1] // 8 : size[1] // 3] = 1
    image = MetaTensor(mask.expand(3, *size) * 2 - 0.5)
    return TokenizeTextd()({"image": image, "label": MetaTensor(mask), "text": SENTENCE, "id": "a"})


def overlap(case: dict[str, Any]) -> float:
    bright, label = case["image"].as_tensor()[0], case["label"].as_tensor()[0] > 0
    bright = bright > (bright.min() + bright.max()) / 2
    return float((bright & label).sum() / (bright | label).sum())


def test_image_and_label_stay_aligned_and_the_text_in_step() -> None:
    augment = flat_compose([text_safe_augmentation(image_size=64, mirror=0.5)])
    augment.set_random_state(0)
    original = make_case()
    sentences = set()
    for _ in range(40):
        case = augment(original)
        assert case["image"].shape == (3, 64, 64)
        assert case["label"].unique().tolist() == [0, 1]
        assert overlap(case) > 0.9
        left = case["label"].as_tensor()[0].nonzero()[:, 1].float().mean() < 32
        assert ("left" in case["sentence"]) == bool(left)
        expected = TokenizeTextd()({"text": case["sentence"]})["text"]
        assert torch.equal(case["text"], expected)
        assert torch.equal(case["image"].meta["text"], expected)
        sentences.add(case["sentence"])
    assert sentences == {SENTENCE, mirror_sentence(SENTENCE)}


def test_input_is_not_changed_and_seeds_repeat() -> None:
    original = make_case()
    before = copy.deepcopy(original)
    augment = flat_compose([text_safe_augmentation(image_size=64, zoom=1, affine=1, intensity=1, mirror=1)])
    results = []
    for _ in range(2):
        augment.set_random_state(7)
        results.append([augment(original) for _ in range(3)])
    for first, second in zip(*results, strict=True):
        assert torch.equal(first["image"].as_tensor(), second["image"].as_tensor())
        assert torch.equal(first["label"].as_tensor(), second["label"].as_tensor())
    assert not torch.equal(results[0][0]["image"].as_tensor(), results[0][1]["image"].as_tensor())
    assert torch.equal(original["image"].as_tensor(), before["image"].as_tensor())
    assert torch.equal(original["label"].as_tensor(), before["label"].as_tensor())
    assert original["sentence"] == before["sentence"]


def test_probability_zero_changes_nothing() -> None:
    original = make_case()
    case = Compose(text_safe_augmentation(image_size=64, zoom=0, affine=0, intensity=0))(original)
    assert torch.equal(case["image"].as_tensor(), original["image"].as_tensor())
    assert torch.equal(case["label"].as_tensor(), original["label"].as_tensor())


def test_case_without_label_passes() -> None:
    case = make_case()
    del case["label"]
    augmented = Compose(text_safe_augmentation(image_size=64, mirror=1, affine=1))(case)
    assert "label" not in augmented
    assert augmented["sentence"] == mirror_sentence(SENTENCE)


def test_label_is_resized_to_the_nearest_pixel() -> None:
    label = MetaTensor((torch.rand(1, 100, 70, generator=torch.Generator().manual_seed(0)) > 0.5).float())
    resized = ResizeLabeld("label", size=(64, 96))({"label": label})["label"]
    rows = ((torch.arange(64) + 0.5) * 100 / 64).long()
    columns = ((torch.arange(96) + 0.5) * 70 / 96).long()
    assert torch.equal(resized.as_tensor(), label.as_tensor()[:, rows][:, :, columns])


@pytest.mark.parametrize(
    ("move", "expected"),
    [
        pytest.param({"down": 4 / 16}, lambda p: torch.roll(p, 4, 0), id="down"),
        pytest.param({"right": 8 / 32}, lambda p: torch.roll(p, 8, 1), id="right"),
        pytest.param({}, lambda p: p, id="nothing"),
    ],
)
def test_sampling_grid_shifts(move: dict[str, float], expected: Any) -> None:
    picture = torch.zeros(16, 32)
    picture[5:7, 10:14] = 1
    still = {"angle": 0.0, "magnification": 1.0, "down": 0.0, "right": 0.0}
    grid = sampling_grid((16, 32), **{**still, **move})
    moved = functional.grid_sample(picture[None, None], grid, align_corners=False)[0, 0]
    torch.testing.assert_close(moved, expected(picture), atol=1e-5, rtol=0)


def test_sampling_grid_rotates_counter_clockwise_by_the_angle_in_pixels() -> None:
    picture = torch.zeros(65, 97)
    picture[32, 68:73] = 1  # right of the centre (32, 48), by 22 pixels
    grid = sampling_grid((65, 97), angle=math.radians(90), magnification=1.0, down=0.0, right=0.0)
    moved = functional.grid_sample(picture[None, None], grid, align_corners=False)[0, 0]
    rows, columns = (moved > 0.5).nonzero().float().mean(dim=0).tolist()
    assert (rows, columns) == pytest.approx((32 - 22, 48), abs=0.5)


def test_sampling_grid_magnifies_about_the_centre() -> None:
    picture = torch.zeros(64, 64)
    picture[28:36, 28:36] = 1
    grid = sampling_grid((64, 64), angle=0.0, magnification=2.0, down=0.0, right=0.0)
    moved = functional.grid_sample(picture[None, None], grid, mode="nearest", align_corners=False)[0, 0]
    assert moved.sum() == 16 * 16
    assert moved[24:40, 24:40].all()


def test_affine_draws_stay_in_their_ranges() -> None:
    affine = RandAlignedAffined(prob=0.5, zoom_prob=0.1)
    affine.set_random_state(0)
    draws = np.array([affine.randomize() for _ in range(4000)])
    assert np.abs(draws[:, 0]).max() <= math.radians(10)
    assert draws[:, 1].min() >= 0.9 * 0.95
    assert draws[:, 1].max() <= 1.1 * 1.2
    assert np.abs(draws[:, 2:]).max() <= 0.05
    assert (draws[:, 0] != 0).mean() == pytest.approx(0.5, abs=0.03)
    zoomed = (draws[:, 0] == 0) & (draws[:, 1] != 1)
    assert zoomed.sum() / (draws[:, 0] == 0).sum() == pytest.approx(0.1, abs=0.02)


def test_intensity_is_the_formula_and_alike_in_all_channels() -> None:
    image = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0)).expand(3, 16, 16)
    change = RandIntensityd("image", prob=1.0)
    change.set_random_state(3)
    _, shift, gain, gamma = np.random.RandomState(3).uniform(size=4)
    shift, gain, gamma = 0.15 * (2 * shift - 1), 1 + 0.15 * (2 * gain - 1), 0.8 * (1.25 / 0.8) ** gamma
    changed = change({"image": image})["image"]
    low, high = image.min(), image.max()
    expected = gain * (low + (high - low) * ((image - low) / (high - low)) ** gamma) + shift
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(changed[0], changed[2])
    flat = RandIntensityd("image", prob=1.0)({"image": torch.zeros(3, 4, 4)})["image"]
    assert torch.isfinite(flat).all()


def test_mirror_twice_is_the_original() -> None:
    mirror = RandMirrorWithSentenced(TokenizeTextd(), prob=1.0)
    original = make_case()
    once, twice = mirror(original), mirror(mirror(original))
    assert torch.equal(once["image"].as_tensor(), original["image"].as_tensor().flip(-1))
    assert torch.equal(twice["image"].as_tensor(), original["image"].as_tensor())
    assert torch.equal(twice["text"], original["text"])
    assert twice["sentence"] == original["sentence"]


def test_flat_compose_keeps_caches_working() -> None:
    tokenize = TokenizeTextd()
    flat = flat_compose(
        [Compose([tokenize, Compose([tokenize])]), text_safe_augmentation(image_size=32), tokenize]
    )
    assert [type(part).__name__ for part in flat.transforms] == [
        "TokenizeTextd",
        "TokenizeTextd",
        "ResizeLabeld",
        "RandAlignedAffined",
        "RandIntensityd",
        "TokenizeTextd",
    ]
    cached = CacheDataset([{"text": SENTENCE}], transform=flat_compose([tokenize]), progress=False)
    assert "sentence" in cached._cache[0]


@pytest.mark.parametrize("name", ["zoom", "affine", "intensity", "mirror"])
def test_probabilities_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=r"must be a probability between 0 and 1, got 1\.5"):
        text_safe_augmentation(**{"image_size": 32, name: 1.5})

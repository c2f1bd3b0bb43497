"""The strong view: each change is its formula, happens as often as told, and moves nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor
from torch.testing import assert_close

from common.transforms import FusedAugmentation, StrongIntensity, motion_kernels
from common.transforms.strong_intensity import correlated

OFF = {
    "gamma": (1.0, 1.0),
    "noise_probability": 0.0,
    "brightness_probability": 0.0,
    "contrast_probability": 0.0,
    "blur_probability": 0.0,
}


def pictures(count: int, size: int = 12) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def applied(image: Tensor, seed: int = 3, **changes: object) -> Tensor:
    return StrongIntensity(**{**OFF, **changes})(image, generator=np.random.default_rng(seed))


def draws(count: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((9, count))


def test_everything_off_changes_nothing() -> None:
    image = pictures(4)
    assert_close(applied(image), image, atol=1e-7, rtol=0)


def test_gamma_brightness_and_contrast_are_their_formulas() -> None:
    image, drawn = pictures(8), draws(8)
    gamma = applied(image, gamma=(0.9, 1.1))
    bright = applied(image, brightness_probability=0.5)
    contrasted = applied(image, contrast_probability=0.5)
    assert 0 < (drawn[2] < 0.5).sum() < 8
    assert 0 < (drawn[4] < 0.5).sum() < 8
    for case in range(8):
        assert_close(gamma[case], image[case] ** float(0.9 + 0.2 * drawn[0, case]), atol=1e-6, rtol=1e-5)
        shift = -0.3 + 0.6 * drawn[3, case] if drawn[2, case] < 0.5 else 0.0
        assert_close(bright[case], (image[case] + shift).clamp(0, 1), atol=1e-6, rtol=1e-5)
        factor = 0.7 + 0.6 * drawn[5, case] if drawn[4, case] < 0.5 else 1.0
        assert_close(contrasted[case], (image[case] * factor).clamp(0, 1), atol=1e-6, rtol=1e-5)


def test_noise_has_its_mean_and_deviation_where_it_is_drawn() -> None:
    image = torch.full((400, 3, 16, 16), 0.5)
    noise = applied(image, noise_probability=0.5) - image
    chosen = torch.from_numpy(draws(400)[1] < 0.5)
    assert not noise[~chosen].any()
    assert float(chosen.float().mean()) == pytest.approx(0.5, abs=0.06)
    assert float(noise[chosen].std()) == pytest.approx(0.01, rel=0.01)
    assert float(noise[chosen].mean()) == pytest.approx(0.0, abs=2e-4)
    # each channel has a noise of its own
    assert float((noise[chosen][:, 0] - noise[chosen][:, 1]).abs().mean()) > 0.005


def test_blur_is_the_correlation_with_its_kernel() -> None:
    image, drawn = pictures(6).double(), draws(6)
    blurred = applied(image, blur_probability=0.5)
    chosen = drawn[6] < 0.5
    assert 0 < chosen.sum() < 6
    for case in range(6):
        expected = image[case].numpy()
        if chosen[case]:
            angle = np.deg2rad(20) * (2 * drawn[7, case : case + 1] - 1)
            kernel = motion_kernels(5, angle=angle, direction=drawn[8, case : case + 1] - 0.5)[0].numpy()
            expected = np.stack([ndimage.correlate(channel, kernel, mode="mirror") for channel in expected])
        np.testing.assert_allclose(blurred[case].numpy(), expected, atol=1e-9)


def test_known_kernels() -> None:
    flat = motion_kernels(5, angle=np.zeros(1), direction=np.zeros(1))[0]
    assert_close(flat[2], torch.full((5,), 0.2, dtype=torch.float64))
    assert float(flat.sum()) == pytest.approx(1)
    falling = motion_kernels(3, angle=np.zeros(1), direction=np.ones(1))[0]
    assert_close(falling[1], torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64) / 3)
    upright = motion_kernels(5, angle=np.array([math.pi / 2]), direction=np.zeros(1))[0]
    assert_close(upright, flat.T, atol=1e-12, rtol=0)
    assert motion_kernels(1, angle=np.array([0.3]), direction=np.array([1.0])).tolist() == [[[1.0]]]
    # counter-clockwise as seen: the right end is higher, which is a smaller row
    raised = motion_kernels(5, angle=np.array([math.pi / 4]), direction=np.array([-1.0]))[0]
    assert raised[:2, 3:].sum() > raised[3:, :2].sum()


@settings(deadline=None, max_examples=50)
@given(
    length=st.sampled_from([1, 3, 5, 9]),
    angle=st.floats(-math.pi, math.pi),
    direction=st.floats(-1, 1),
)
def test_kernels_sum_to_1_and_leave_constants(length: int, angle: float, direction: float) -> None:
    kernels = motion_kernels(length, angle=np.array([angle]), direction=np.array([direction]))
    assert kernels.shape == (1, length, length)
    assert float(kernels.min()) >= 0
    assert float(kernels.sum()) == pytest.approx(1, abs=1e-12)
    constant = torch.full((1, 2, 9, 11), 0.3, dtype=torch.float64)
    assert_close(correlated(constant, kernels), constant, atol=1e-12, rtol=0)


def test_the_whole_stays_in_range_and_depends_on_the_generator_alone() -> None:
    image = pictures(50)
    first, again, other = (
        FusedAugmentation().strong(image, generator=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(image, pictures(50))


def test_a_strong_view_of_one_s_own() -> None:
    image = pictures(3)
    augmentation = FusedAugmentation(strong=StrongIntensity(**OFF))
    assert_close(augmentation.strong(image, generator=np.random.default_rng(0)), image, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": (1.1, 0.9)}, r"gamma must be two rising numbers above 0, got \(1\.1, 0\.9\)"),
        ({"noise": -1}, "noise must be at least 0, got -1"),
        ({"brightness": -1}, "brightness must be at least 0, got -1"),
        ({"blur_kernel": 4}, "blur_kernel must be an odd number of pixels, got 4"),
        ({"blur_probability": 2}, "blur_probability must be"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StrongIntensity(**changes)


def test_an_image_smaller_than_the_blur_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 rows and columns, got"):
        applied(torch.zeros(1, 3, 2, 8))

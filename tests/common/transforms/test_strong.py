"""Tests of the strong changes of batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from common.text.findings import read_findings
from common.text.laterality import mirror_sentence
from common.transforms.strong import MirrorAugmentation, StrongAugmentation, gaussian_blur


def batch_of(count: int, size: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_brightness_and_contrast_are_the_formula() -> None:
    image = batch_of(6)
    changed = StrongAugmentation(blur_probability=0)(image, generator=np.random.default_rng(3))
    colored, shift, gain, _, _ = np.random.default_rng(3).random((5, 6))
    assert 0 < (colored < 0.8).sum() < 6
    for case in range(6):
        mean = image[case].mean()
        expected = mean + (0.8 + 0.4 * gain[case]) * (image[case] - mean) + 0.4 * shift[case] - 0.2
        if colored[case] < 0.8:
            torch.testing.assert_close(changed[case], expected.float(), atol=1e-5, rtol=1e-5)
        else:
            assert torch.equal(changed[case], image[case])


def test_blur_is_the_correlation_with_a_gaussian() -> None:
    image, sigmas = batch_of(3).double(), torch.tensor([0.1, 0.9, 2.0])
    blurred = gaussian_blur(image, sigmas)
    for case, sigma in enumerate(sigmas.tolist()):
        weights = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2)
        expected = image[case].numpy()
        for axis in (1, 2):
            expected = ndimage.correlate1d(expected, weights / weights.sum(), axis=axis, mode="mirror")
        np.testing.assert_allclose(
            blurred[case].numpy(), expected, atol=1e-6
        )  # the weights' sigma is float32
    torch.testing.assert_close(blurred[0], image[0], atol=1e-12, rtol=0)


def test_blur_keeps_what_is_flat() -> None:
    flat = torch.full((2, 1, 5, 9), 3.0)
    torch.testing.assert_close(gaussian_blur(flat, torch.tensor([0.5, 2.0])), flat, atol=1e-6, rtol=0)


def test_each_image_is_changed_as_often_as_told_and_by_itself() -> None:
    image = batch_of(1, 8).expand(4000, 3, 8, 8)
    color = StrongAugmentation(blur_probability=0)(image, generator=np.random.default_rng(0))
    blur = StrongAugmentation(color_probability=0)(image, generator=np.random.default_rng(0))
    changed = [(result != image).flatten(1).any(dim=1).float().mean() for result in (color, blur)]
    assert changed[0] == pytest.approx(0.8, abs=0.03)
    assert changed[1] == pytest.approx(0.5, abs=0.04)  # a sigma near 0.1 changes nothing
    shifts = (color.mean(dim=(1, 2, 3)) - image.mean(dim=(1, 2, 3)))[(color != image).flatten(1).any(dim=1)]
    gains = color.std(dim=(1, 2, 3)) / image.std(dim=(1, 2, 3))
    assert (shifts.min(), shifts.max()) == (pytest.approx(-0.2, abs=2e-3), pytest.approx(0.2, abs=2e-3))
    assert (gains.min(), gains.max()) == (pytest.approx(0.8, abs=2e-3), pytest.approx(1.2, abs=2e-3))
    assert abs(np.corrcoef(shifts[1:], shifts[:-1])[0, 1]) < 0.06


def test_seeds_repeat_and_the_input_stays() -> None:
    image = batch_of(8)
    before = image.clone()
    first, second = (StrongAugmentation()(image, generator=np.random.default_rng(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, image)
    assert torch.equal(image, before)
    assert first.dtype == image.dtype
    untouched = StrongAugmentation(color_probability=0, blur_probability=0)
    assert torch.equal(untouched(image, generator=np.random.default_rng(1)), image)


def test_repeated_gray_stays_gray() -> None:
    image = batch_of(4)[:, :1].expand(4, 3, 16, 16)
    changed = StrongAugmentation()(image, generator=np.random.default_rng(1))
    assert torch.equal(changed[:, 0], changed[:, 2])


def test_mirroring_takes_image_probability_and_sentence_along() -> None:
    sentences = ["upper left lung", "RLL opacity", "", "no side", "lower right lung", None]
    image, probability = batch_of(6), torch.rand(6, 1, 16, 16)
    mirrored, flipped, written = MirrorAugmentation()(
        image, probability, sentences, generator=np.random.default_rng(0)
    )
    chosen = np.random.default_rng(0).random(6) < 0.5
    assert 0 < chosen.sum() < 6
    for case, flip in enumerate(chosen):
        assert torch.equal(mirrored[case], image[case].flip(-1) if flip else image[case])
        assert torch.equal(flipped[case], probability[case].flip(-1) if flip else probability[case])
        assert written[case] == (mirror_sentence(sentences[case]) if flip else sentences[case] or "")
    assert isinstance(written, list)


def test_mirrored_sentences_stay_true() -> None:
    probability = torch.zeros(1, 1, 12, 12)
    probability[..., :4, :6] = 1.0
    image, flipped, written = MirrorAugmentation(1.0)(
        probability.clone(), probability, ["upper left lung"], generator=np.random.default_rng(0)
    )
    assert read_findings(written[0]).zones == {("right", "upper")}
    assert flipped[0, 0, 0].tolist() == [0.0] * 6 + [1.0] * 6
    assert torch.equal(image, flipped)
    same, _, text = MirrorAugmentation(0.0)(
        image, flipped, ["upper left lung"], generator=np.random.default_rng(0)
    )
    assert same is image
    assert text == ["upper left lung"]


def test_half_of_the_cases_are_mirrored() -> None:
    image = torch.arange(2.0).expand(20000, 1, 1, 2)
    mirrored, _, _ = MirrorAugmentation()(image, image, [""] * 20000, generator=np.random.default_rng(0))
    assert mirrored[:, 0, 0, 0].mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"brightness": -0.1}, r"brightness must be at least 0, got -0\.1"),
        ({"contrast": 1.2}, r"contrast must be between 0 and 1, got 1\.2"),
        ({"color_probability": 2}, "color_probability must be between 0 and 1, got 2"),
        ({"blur_probability": 2}, "blur_probability must be between 0 and 1, got 2"),
        ({"blur_kernel": 4}, "blur_kernel must be an odd number of pixels, got 4"),
        ({"blur_sigma": (2.0, 1.0)}, r"blur_sigma must be two rising numbers above 0, got \(2\.0, 1\.0\)"),
        ({"blur_sigma": (0.0, 1.0)}, "blur_sigma must be two rising numbers above 0"),
    ],
)
def test_arguments_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StrongAugmentation(**options)


def test_batches_are_checked() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"at least 4 rows and columns, got \(2, 3, 3, 16\)"):
        StrongAugmentation()(torch.zeros(2, 3, 3, 16), generator=generator)
    with pytest.raises(ValueError, match="probability must be between 0 and 1, got 7"):
        MirrorAugmentation(7)
    with pytest.raises(ValueError, match=r"sentences must be one per image \(2\), got 1"):
        MirrorAugmentation()(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8), [""], generator=generator)

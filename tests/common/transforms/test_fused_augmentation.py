"""One motion for image, pseudo image and label: that it is the right one, the same for all, and differentiable."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from common.transforms import FusedAugmentation, affine_matrices
from common.transforms.augmentation import sampling_grid
from common.transforms.fused_augmentation import MOTIONS

KINDS = tuple(MOTIONS)


def batch(count: int = 6, rows: int = 24, columns: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(count, 3, rows, columns, generator=generator)
    label = torch.zeros(count, 1, rows, columns)
    label[:, :, 4:12, 6:14] = 1
    return image, torch.rand(count, 3, rows, columns, generator=generator), label


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def bilinear(picture: np.ndarray, row: float, column: float) -> np.ndarray:
    """The value of a picture `(C, H, W)` between its pixels; 0 beyond them."""
    total = np.zeros(picture.shape[0])
    for y in (math.floor(row), math.floor(row) + 1):
        for x in (math.floor(column), math.floor(column) + 1):
            if 0 <= y < picture.shape[1] and 0 <= x < picture.shape[2]:
                total += picture[:, y, x] * (1 - abs(row - y)) * (1 - abs(column - x))
    return total


def test_the_motion_pixel_by_pixel() -> None:
    image, pseudo, label = batch(count=4, rows=10, columns=14)
    result = FusedAugmentation("biclip")(image, pseudo, label, generator=seeded(4))
    draws = seeded(4).random((7, 4))
    assert 0 < (draws[2] < 0.7).sum() < 4  # else nothing is learnt about one of the two
    for case in range(4):
        joined = torch.cat([image[case], pseudo[case], label[case]]).numpy()
        joined = joined[:, :, ::-1] if draws[0, case] < 0.5 else joined
        joined = joined[:, ::-1] if draws[1, case] < 0.5 else joined
        expected = joined
        if draws[2, case] < 0.7:
            angle, scale = math.radians(20 * (2 * draws[3, case] - 1)), 0.8 + 0.4 * draws[4, case]
            down, right = 10 * 0.1 * (2 * draws[5, case] - 1), 14 * 0.1 * (2 * draws[6, case] - 1)
            expected = np.zeros(joined.shape)
            for row in range(10):
                for column in range(14):
                    # undo the shift, then the turn about the centre, then the scale; rows grow downwards
                    y, x = row - 4.5 - down, column - 6.5 - right
                    source_row = (math.sin(angle) * x + math.cos(angle) * y) / scale + 4.5
                    source_column = (math.cos(angle) * x - math.sin(angle) * y) / scale + 6.5
                    expected[:, row, column] = bilinear(joined, source_row, source_column)
        moved = torch.cat([result.image[case], result.pseudo[case]])
        np.testing.assert_allclose(moved.numpy(), expected[:6], atol=1e-4)
        away_from_a_tie = np.abs(expected[6] - 0.5) > 0.25
        np.testing.assert_array_equal(
            result.label[case, 0].numpy()[away_from_a_tie], (expected[6] > 0.5)[away_from_a_tie]
        )


@settings(deadline=None, max_examples=40)
@given(
    angle=st.floats(-90, 90),
    scale=st.floats(0.5, 1.5),
    down=st.floats(-0.125, 0.125),
    right=st.floats(-0.125, 0.125),
)
def test_the_matrices_are_the_motion_of_single_cases(
    angle: float, scale: float, down: float, right: float
) -> None:
    turned = math.radians(angle)
    given_arrays = {"angle": turned, "scale": scale, "down": down, "right": right}
    theta = affine_matrices((24, 32), **{name: np.array([value]) for name, value in given_arrays.items()})
    grid = F.affine_grid(theta.float(), [1, 1, 24, 32], align_corners=False)
    expected = sampling_grid((24, 32), angle=turned, magnification=scale, down=down, right=right)
    assert_close(grid, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_label_and_pictures_move_alike(kind: str, seed: int) -> None:
    _, _, label = batch()
    # pictures of the mask itself must lie where the mask lies
    image, pseudo, moved = FusedAugmentation(kind)(
        label.expand(-1, 3, -1, -1), label, label, generator=seeded(seed)
    )
    assert torch.equal(image[:, :1], image[:, 1:2])
    assert_close(image[:, :1], pseudo)
    inner, outer = pseudo > 0.75, pseudo < 0.25
    assert moved[inner].eq(1).all()
    assert moved[outer].eq(0).all()
    assert set(moved.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_same_generator_same_result_and_the_inputs_stay(kind: str) -> None:
    given_tensors = batch()
    before = [tensor.clone() for tensor in given_tensors]
    first, second = (FusedAugmentation(kind)(*given_tensors, generator=seeded(3)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    for tensor, copy in zip(given_tensors, before, strict=True):
        assert torch.equal(tensor, copy)


def test_none_moves_nothing() -> None:
    image, pseudo, label = batch()
    result = FusedAugmentation("none")(image, pseudo, label, generator=seeded(0))
    for one, other in zip(result, (image, pseudo, label), strict=True):
        assert torch.equal(one, other)


def test_an_image_that_does_not_move_stays_as_it_is() -> None:
    image, pseudo, label = batch(count=40)
    result = FusedAugmentation("consistent")(image, pseudo, label, generator=seeded(1))
    moves = seeded(1).random((7, 40))[2] < 0.7
    for case, moved in enumerate(moves):
        assert torch.equal(result.image[case], image[case]) == (not moved)


def mirrored_share(kind: str, axis: int) -> float:
    """The share of cases whose bright half has changed sides along an axis."""
    image = torch.zeros(2000, 1, 16, 16)
    image.narrow(axis, 0, 8).fill_(1.0)
    moved = FusedAugmentation(kind)(image, None, image, generator=seeded(0)).image
    return float(
        (moved.narrow(axis, 0, 8).sum((1, 2, 3)) < moved.narrow(axis, 8, 8).sum((1, 2, 3))).float().mean()
    )


@pytest.mark.parametrize(("kind", "expected"), [("none", 0.0), ("biclip", 0.5), ("consistent", 0.0)])
@pytest.mark.parametrize("axis", [2, 3])
def test_how_often_sides_change(kind: str, expected: float, axis: int) -> None:
    assert mirrored_share(kind, axis) == pytest.approx(expected, abs=0.04)


def test_gradients_go_through_the_motion_to_the_pseudo_image() -> None:
    _, _, label = (tensor.double() for tensor in batch(count=3, rows=6, columns=5))
    image, pseudo = (torch.rand(3, 1, 6, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def moved(image: Tensor, pseudo: Tensor) -> tuple[Tensor, Tensor]:
        return FusedAugmentation("biclip")(image, pseudo, label, generator=seeded(2))[:2]

    assert torch.autograd.gradcheck(moved, (image, pseudo))


def test_without_a_pseudo_image() -> None:
    image, pseudo, label = batch()
    alone = FusedAugmentation("ef")(image, None, label, generator=seeded(5))
    together = FusedAugmentation("ef")(image, pseudo, label, generator=seeded(5))
    assert alone.pseudo is None
    assert torch.equal(alone.image, together.image)
    assert torch.equal(alone.label, together.label)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="aug must be one of none, ef, biclip, consistent, got 'flip'"):
        FusedAugmentation("flip")
    image, pseudo, label = batch()
    with pytest.raises(ValueError, match=r"must be \(B, C, H, W\) of one size, got .*\(6, 1, 24, 30\)"):
        FusedAugmentation()(image, pseudo, label[..., :30], generator=seeded(0))

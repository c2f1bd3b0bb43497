"""Surface distances against medpy, MONAI, scipy and brute force, and by their properties."""

from __future__ import annotations

import medpy.metric.binary as medpy_metrics
import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage

from common.metrics import assd, hd95, surface_distances, surface_pixels

SHAPES = [(24, 31), (40, 17), (12, 14, 9)]


def blobs(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping masks of several smooth components, some on the border."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(2, *shape)), (0, *[2.0] * len(shape)))
    noise[1] = 0.6 * noise[0] + 0.4 * noise[1]
    first, second = (field > np.quantile(field, 0.7) for field in noise)
    return first, second


def brute_force(prediction: np.ndarray, label: np.ndarray, spacing: tuple[float, ...]) -> list[np.ndarray]:
    """All pairs of surface pixels, the surface by looking at every neighbour."""
    points = []
    for mask in (prediction, label):
        padded = np.pad(mask, 1)
        surface = [
            index
            for index in np.argwhere(mask)
            if any(
                not padded[tuple(index + 1 + step * np.eye(mask.ndim, dtype=int)[axis])]
                for axis in range(mask.ndim)
                for step in (-1, 1)
            )
        ]
        points.append(np.array(surface) * spacing)
    distances = np.sqrt(((points[0][:, None] - points[1][None]) ** 2).sum(-1))
    return [distances.min(1), distances.min(0)]


def monai(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask[None, None])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spaced", [False, True])
def test_equals_medpy_and_brute_force(shape: tuple[int, ...], seed: int, spaced: bool) -> None:
    prediction, label = blobs(shape, seed)
    spacing = (0.7, 1.3, 2.5)[: len(shape)] if spaced else None
    forth = medpy_metrics.asd(prediction, label, voxelspacing=spacing)
    back = medpy_metrics.asd(label, prediction, voxelspacing=spacing)
    assert assd(prediction, label, spacing=spacing) == pytest.approx((forth + back) / 2, abs=1e-9)
    expected = medpy_metrics.hd95(prediction, label, voxelspacing=spacing)
    assert hd95(prediction, label, spacing=spacing) == pytest.approx(expected, abs=1e-9)
    ours = surface_distances(prediction, label, spacing=spacing)
    naive = brute_force(prediction, label, spacing or (1.0,) * len(shape))
    for mine, theirs in zip(ours, naive, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spaced", [False, True])
def test_equals_monai_where_the_definitions_agree(shape: tuple[int, ...], spaced: bool) -> None:
    prediction, label = blobs(shape, 5)
    spacing = list((0.7, 1.3, 2.5)[: len(shape)]) if spaced else None
    ours = surface_distances(prediction, label, spacing=spacing)
    pair = monai(prediction), monai(label)
    options = {"include_background": True, "spacing": spacing}
    hausdorff = compute_hausdorff_distance(*pair, **options).item()
    assert ours.percentile(100) == pytest.approx(hausdorff, abs=1e-5)
    directed = [
        compute_hausdorff_distance(*pair, percentile=95, directed=True, **options).item(),
        compute_hausdorff_distance(*pair[::-1], percentile=95, directed=True, **options).item(),
    ]
    assert [np.percentile(d, 95) for d in ours] == pytest.approx(directed, abs=1e-5)
    means = [
        compute_average_surface_distance(*pair, **options).item(),
        compute_average_surface_distance(*pair[::-1], **options).item(),
    ]
    assert ours.average() == pytest.approx(np.mean(means), abs=1e-5)
    pooled = compute_average_surface_distance(*pair, symmetric=True, **options).item()
    assert np.concatenate(ours).mean() == pytest.approx(pooled, abs=1e-5)


def test_definitions_differ_from_the_pooled_mean_and_the_larger_percentile() -> None:
    prediction, label = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    prediction[5, 5] = True
    label[5, 5:35] = True
    # from the prediction: 0; from the label: 0 … 29
    assert assd(prediction, label) == pytest.approx((0 + 14.5) / 2)
    assert medpy_metrics.assd(prediction, label) == pytest.approx(sum(range(30)) / 31)
    assert hd95(prediction, label) == pytest.approx(np.percentile([0, *range(30)], 95))
    theirs = compute_hausdorff_distance(
        monai(prediction), monai(label), include_background=True, percentile=95
    )
    assert theirs.item() == pytest.approx(np.percentile(range(30), 95))


@pytest.mark.parametrize("shape", SHAPES)
def test_surface_is_the_mask_without_its_erosion(shape: tuple[int, ...]) -> None:
    mask, _ = blobs(shape, 7)
    np.testing.assert_array_equal(surface_pixels(mask), mask ^ ndimage.binary_erosion(mask))
    assert surface_pixels(np.ones((3, 3))).sum() == 8


def test_two_points_and_a_shifted_square_in_closed_form() -> None:
    first, second = np.zeros((2, 30, 30), bool)
    first[3, 4] = True
    second[6, 8] = True
    assert hd95(first, second) == assd(first, second) == pytest.approx(5)
    assert assd(first, second, spacing=(2, 0.5)) == pytest.approx(np.hypot(6, 2))
    square, shifted = np.zeros((2, 30, 30), bool)
    square[5:15, 5:15] = True
    shifted[5:15, 8:18] = True
    assert surface_distances(square, shifted).percentile(100) == pytest.approx(3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("metric", [hd95, assd])
def test_properties(metric, shape: tuple[int, ...]) -> None:
    prediction, label = blobs(shape, 11)
    spacing = (0.7, 1.3, 2.5)[: len(shape)]
    value = metric(prediction, label)
    assert metric(prediction, prediction) == 0
    assert metric(label, prediction) == pytest.approx(value, abs=1e-12)
    assert metric(prediction[::-1, ::-1], label[::-1, ::-1]) == pytest.approx(value, abs=1e-12)
    assert metric(prediction.swapaxes(0, 1), label.swapaxes(0, 1)) == pytest.approx(value, abs=1e-12)
    assert metric(prediction, label, spacing=(3.0,) * len(shape)) == pytest.approx(3 * value, abs=1e-9)
    doubled = metric(prediction, label, spacing=[2 * size for size in spacing])
    assert doubled == pytest.approx(2 * metric(prediction, label, spacing=spacing), abs=1e-9)


@pytest.mark.parametrize("metric", [hd95, assd])
def test_padding_around_the_masks_does_not_matter(metric) -> None:
    prediction, label = blobs((24, 31), 13)
    padded = np.pad(prediction, ((5, 90), (40, 2))), np.pad(label, ((5, 90), (40, 2)))
    assert metric(*padded) == pytest.approx(metric(prediction, label), abs=1e-12)


def test_a_volume_of_one_slice_measures_as_the_image_where_no_pixel_is_interior() -> None:
    ring, other = np.zeros((2, 20, 20), bool)
    ring[4, 4:12] = True
    other[9, 6:17] = True
    assert hd95(ring[..., None], other[..., None]) == pytest.approx(hd95(ring, other))


@pytest.mark.parametrize("metric", [hd95, assd, surface_distances])
def test_an_empty_mask_leaves_the_distance_undefined(metric) -> None:
    empty, full = np.zeros((8, 8)), np.ones((8, 8))
    assert metric(empty, full) is None
    assert metric(full, empty) is None
    assert metric(empty, empty) is None


@pytest.mark.parametrize(
    ("shapes", "spacing", "message"),
    [
        (((4, 4), (4, 5)), None, r"same shape, got \(4, 4\) and \(4, 5\)"),
        (((4,), (4,)), None, "2 or 3 dimensions"),
        (((4, 4), (4, 4)), (1.0,), "2 positive numbers"),
        (((4, 4), (4, 4)), (1.0, 0.0), "2 positive numbers"),
        (((4, 4, 4), (4, 4, 4)), (1.0, 1.0, float("nan")), "3 positive numbers"),
    ],
)
def test_errors_name_what_came(shapes, spacing, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        surface_distances(np.ones(shapes[0]), np.ones(shapes[1]), spacing=spacing)
    with pytest.raises(ValueError, match="prediction must hold only 0 and 1"):
        surface_distances(np.full((3, 3), 0.5), np.ones((3, 3)))

"""The benchmark of corruptions: its rows, that both sides do the same, and that the batch is faster."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from common.transforms import CORRUPTIONS
from tools.benchmarks import corruption
from tools.benchmarks.registry import BENCHMARKS, COLUMNS

DRAWN_ALIKE = {  # and how far they may be apart
    "motion_blur": 1e-5,
    "motion_blur_any": 1e-5,
    "under_exposure": 1e-6,
    "over_exposure": 1e-6,
    "missing_corner": 0.0,
    "jpeg": 0.02,  # gray is stored as gray by one and as colour by the other
    "low_resolution": 0.02,
}


def test_every_kind_has_a_row_and_all_have_one() -> None:
    rows = corruption.corruption_benchmarks(
        repeats=1, batch_size=2, image_size=32, kinds=("jpeg", "low_dose")
    )
    names = [f"corruption_{kind}_{c}" for c in ("gray", "colour") for kind in ("jpeg", "low_dose", "all")]
    assert [row["name"] for row in rows] == names
    for row in rows:
        assert set(COLUMNS) <= set(row)
    assert rows[2]["ours"] == pytest.approx(rows[0]["ours"] + rows[1]["ours"])
    assert BENCHMARKS["corruption"] == "tools.benchmarks.corruption:corruption_benchmarks"
    assert {*corruption.PLAIN} == {*CORRUPTIONS}


@pytest.mark.parametrize("kind", DRAWN_ALIKE)
def test_both_sides_make_the_same_images(kind: str) -> None:
    for _, images in corruption._batches(3, 64, seed=0):
        ours, loop = corruption._ours(images, kind, 4), corruption._loop(images, kind, 4)
        assert (ours - loop).abs().max() <= DRAWN_ALIKE[kind]


def test_both_sides_turn_and_count_alike() -> None:
    images = corruption._batches(3, 64, seed=0)[0][1]
    smooth = torch.from_numpy(ndimage.gaussian_filter(images.numpy(), (0, 0, 2, 2)))
    turned = [side(smooth, "rotation", 4) for side in (corruption._ours, corruption._loop)]
    torch.testing.assert_close(turned[0], turned[1], atol=0.02, rtol=0)
    noise = [side(images, "low_dose", 4) - images for side in (corruption._ours, corruption._loop)]
    np.testing.assert_allclose(noise[0].std(), noise[1].std(), rtol=0.05)


@pytest.mark.slow
def test_a_batch_of_gray_images_is_five_times_as_fast_as_a_loop() -> None:
    rows = {row["name"]: row["ratio"] for row in corruption.corruption_benchmarks(repeats=5)}
    print(rows)
    assert rows["corruption_all_gray"] >= 5

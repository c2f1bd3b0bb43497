"""Corruptions: their definitions, their seeds, and where they enter the preprocessing."""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from PIL import Image
from scipy import ndimage, stats
from torch import Tensor

from common.transforms import (
    CORRUPTIONS,
    CorruptImaged,
    ScaleToUnitd,
    StandardizeImaged,
    corrupt,
    corrupt_label,
    corruption_seed,
    image_text_preprocessing,
    parse_corruption,
    split_at_corruption,
    with_corruption,
)
from common.transforms.degradations import motion_kernel
from common.transforms.poisson import PoissonTable, alias_tables
from common.transforms.preprocessing import scale_to_unit, z_score

ROOT = Path(__file__).resolve().parents[3]
BUNDLES = ("baseline", "ssa", "c2seg", "semi_medref")
EVERY = [(kind, level) for kind, levels in CORRUPTIONS.items() for level in levels]
DRAWN = ("low_dose", "motion_blur_any", "rotation", "missing_corner")


def pictures(count: int = 3, *, colour: bool = False, rows: int = 64, columns: int = 96) -> Tensor:
    """Smooth pictures with grain in [0, 1]."""
    grain = np.random.default_rng(0).random((count, 3, rows, columns), dtype=np.float32)
    smooth = ndimage.gaussian_filter(grain, (0, 0, 4, 4))
    images = torch.from_numpy(0.8 * (smooth - smooth.min()) / np.ptp(smooth) + 0.2 * grain)
    return images if colour else images[:, :1].repeat(1, 3, 1, 1)


class TestEveryKind:
    @pytest.mark.parametrize(("kind", "level"), EVERY)
    @pytest.mark.parametrize("colour", [False, True])
    def test_an_image_of_a_batch_becomes_what_it_becomes_alone(
        self, kind: str, level: float, colour: bool
    ) -> None:
        images, seeds = pictures(colour=colour), [5, 6, 7]
        before = images.clone()
        batch = corrupt(images, kind, level, seed=seeds)
        assert batch.shape == images.shape
        assert batch.dtype == torch.float32
        assert torch.equal(images, before)
        assert 0 <= batch.min() <= batch.max() <= 1
        assert not torch.equal(batch, images)
        for image, seed, corrupted in zip(images, seeds, batch, strict=True):
            torch.testing.assert_close(corrupt(image, kind, level, seed=seed), corrupted, atol=1e-6, rtol=0)
        assert torch.equal(corrupt(images, kind, level, seed=seeds), batch)

    @pytest.mark.parametrize("kind", CORRUPTIONS)
    def test_gray_among_colour_becomes_what_it_becomes_alone(self, kind: str) -> None:
        mixed = torch.cat([pictures(1), pictures(2, colour=True)])
        level = CORRUPTIONS[kind][0]
        corrupted = corrupt(mixed, kind, level, seed=[1, 2, 3])
        torch.testing.assert_close(corrupted[0], corrupt(mixed[0], kind, level, seed=1), atol=1e-6, rtol=0)
        torch.testing.assert_close(corrupted[2], corrupt(mixed[2], kind, level, seed=3), atol=1e-6, rtol=0)
        assert (corrupted[0] - corrupted[0, :1]).abs().max() <= 1e-6

    @pytest.mark.parametrize("kind", CORRUPTIONS)
    def test_the_seed_decides_whatever_is_drawn_and_nothing_else(self, kind: str) -> None:
        image, level = pictures(1)[0], CORRUPTIONS[kind][0]
        torch.manual_seed(1)
        results = [corrupt(image, kind, level, seed=seed) for seed in range(8)]
        torch.manual_seed(2)
        np.random.seed(3)
        again = [corrupt(image, kind, level, seed=seed) for seed in range(8)]
        assert all(torch.equal(one, two) for one, two in zip(results, again, strict=True))
        differs = any(not torch.equal(results[0], other) for other in results[1:])
        assert differs == (kind in DRAWN)

    @pytest.mark.parametrize("kind", CORRUPTIONS)
    def test_a_later_level_is_worse(self, kind: str) -> None:
        images = pictures(4)
        errors = [
            (corrupt(images, kind, level, seed=range(4)) - images).abs().mean().item()
            for level in CORRUPTIONS[kind]
        ]
        assert errors == sorted(errors)
        assert len(set(errors)) == len(errors)

    @pytest.mark.parametrize("kind", sorted({*CORRUPTIONS} - {"low_dose"}))
    def test_a_repeated_channel_stays_repeated_and_flat_black_stays_black(self, kind: str) -> None:
        black = torch.zeros(1, 3, 32, 48)
        level = CORRUPTIONS[kind][0]
        corrupted = corrupt(black, kind, level, seed=[0])
        assert torch.all(corrupted == (level if kind == "over_exposure" else 0))
        repeated = pictures(1)[0, :1].expand(3, 64, 96)
        assert torch.equal(*corrupt(repeated, kind, level, seed=0)[:2])


class TestLowDose:
    @pytest.mark.parametrize("photons", [140, 120, 110])
    @pytest.mark.parametrize("value", [0.05, 0.25, 0.5, 0.7])
    def test_mean_and_variance_are_those_of_theory(self, photons: int, value: float) -> None:
        """Where clipping does not matter: 4 deviations below white. 1 % are 11 standard errors."""
        image = torch.full((3, 900, 900), value)
        image[1, 0, 0] += 1e-6  # else it counted once for all channels
        noisy = corrupt(image, "low_dose", photons, seed=1).double()
        assert noisy.mean().item() == pytest.approx(value, rel=0.002)
        assert noisy.var().item() == pytest.approx(value / photons, rel=0.01)
        counts = noisy * photons
        torch.testing.assert_close(counts, counts.round(), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("mean", [0.0, 0.3, 2.5, 35.0, 139.9, 140.0])
    def test_counts_have_the_poisson_distribution(self, mean: float) -> None:
        size = 400_000
        share = np.full(size, mean / 140, dtype=np.float32)
        counts = PoissonTable(140).draw(share, generator=np.random.default_rng(0)).astype(int)
        possible = np.arange(counts.max() + 1)
        expected = stats.poisson.pmf(possible, mean) * size
        seen = np.bincount(counts)
        common = expected > 25
        chi_square = ((seen - expected) ** 2 / np.maximum(expected, 1))[common].sum()
        assert chi_square < stats.chi2.ppf(0.9999, common.sum())

    def test_neighbours_and_images_are_independent(self) -> None:
        image = torch.full((1, 300, 300), 0.5)
        one, two = (corrupt(image, "low_dose", 120, seed=seed)[0].numpy() - 0.5 for seed in (1, 2))
        bound = 5 / 300  # five standard errors of a correlation of 90000 pairs
        pairs = [(one, two), (one[:, 1:], one[:, :-1]), (one[1:], one[:-1]), (one[:, 2:], one[:, :-2])]
        assert all(abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < bound for a, b in pairs)

    def test_white_is_clipped_and_a_gray_image_counts_once(self) -> None:
        noisy = corrupt(torch.ones(3, 64, 64), "low_dose", 110, seed=0)
        assert noisy.max() == 1
        assert noisy.min() < 1
        assert torch.equal(noisy[0], noisy[1])
        colour = corrupt(pictures(1, colour=True), "low_dose", 110, seed=[0])[0] - pictures(1, colour=True)[0]
        assert abs(np.corrcoef(colour[0].flatten(), colour[1].flatten())[0, 1]) < 0.1

    def test_alias_tables_hold_the_distributions(self) -> None:
        probabilities = np.random.default_rng(0).dirichlet(np.full(9, 0.3), size=40)
        probabilities[0] = np.eye(9)[4]
        keep, other = alias_tables(probabilities)
        held = keep / 9
        for row, column in np.ndindex(keep.shape):
            held[row, other[row, column]] += (1 - keep[row, column]) / 9
        np.testing.assert_allclose(held, probabilities, atol=1e-14)
        assert 0 <= keep.min() <= keep.max() <= 1

    def test_the_largest_mean_has_a_range(self) -> None:
        with pytest.raises(ValueError, match="largest mean must be from 1 to 700, got 701"):
            PoissonTable(701)
        counts = PoissonTable(700).draw(np.ones(50_000, np.float32), generator=np.random.default_rng(0))
        assert counts.mean() == pytest.approx(700, abs=0.6)  # five standard errors
        assert counts.var() == pytest.approx(700, rel=0.04)


class TestMotionBlur:
    @pytest.mark.parametrize("length", [3, 5, 7, 31])
    def test_kernels_add_to_one(self, length: int) -> None:
        for angle in np.linspace(0, math.pi, 37):
            kernel = motion_kernel(length, float(angle))
            assert kernel.sum().item() == pytest.approx(1, abs=1e-12)
            assert kernel.min() >= 0
            torch.testing.assert_close(kernel, kernel.flip(0, 1), atol=1e-12, rtol=0)

    def test_the_kernel_of_angle_0_is_a_row_and_of_90_degrees_a_column(self) -> None:
        row = torch.zeros(5, 5, dtype=torch.float64)
        row[2] = 0.2
        torch.testing.assert_close(motion_kernel(5, 0.0), row, atol=1e-15, rtol=0)
        torch.testing.assert_close(motion_kernel(5, math.pi / 2), row.T, atol=1e-15, rtol=0)
        rising = motion_kernel(5, math.pi / 4)
        assert rising[1, 3] > 0.1
        assert rising[0, 4] < 0.05  # the line is as long in every direction
        assert rising[3, 3] == 0

    @pytest.mark.parametrize("kind", ["motion_blur", "motion_blur_any"])
    @pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
    def test_a_constant_stays(self, kind: str, value: float) -> None:
        image = torch.full((2, 3, 40, 50), value)
        for length in CORRUPTIONS[kind]:
            torch.testing.assert_close(corrupt(image, kind, length, seed=[3, 4]), image, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("length", [3, 5, 7])
    def test_blur_along_the_rows_is_its_definition(self, length: int) -> None:
        image = pictures(1, colour=True)[0].double().numpy()
        half = length // 2
        expected = np.zeros_like(image)
        columns = image.shape[-1]
        for column in range(columns):
            for offset in range(-half, half + 1):
                near = abs(column + offset)  # reflected at column 0, and at the last one
                near = 2 * (columns - 1) - near if near >= columns else near
                expected[..., column] += image[..., near] / length
        blurred = corrupt(torch.from_numpy(image).float(), "motion_blur", length, seed=0)
        np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-6)

    def test_blur_along_any_line_is_its_definition(self) -> None:
        image, seed = pictures(1, colour=True)[0], 11
        kernel = motion_kernel(7, np.random.default_rng(seed).uniform(0, math.pi)).numpy()
        expected = ndimage.correlate(image.numpy(), kernel[None].astype(np.float32), mode="mirror")
        blurred = corrupt(image, "motion_blur_any", 7, seed=seed)
        np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)


class TestOtherKinds:
    def test_exposure_shifts_and_loses_what_leaves_the_range(self) -> None:
        image = torch.tensor([[[0.0, 0.1, 0.5, 0.9, 1.0]]])
        for kind, expected in {
            "under_exposure": [0.0, 0.0, 0.3, 0.7, 0.8],
            "over_exposure": [0.2, 0.3, 0.7, 1.0, 1.0],
        }.items():
            torch.testing.assert_close(
                corrupt(image, kind, 0.2, seed=0), torch.tensor([[expected]]), atol=1e-6, rtol=0
            )

    @pytest.mark.parametrize("sides", [(64, 64), (64, 96)])
    def test_rotation_turns_to_both_sides_as_another_library_does(self, sides: tuple[int, int]) -> None:
        image = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(0).random(sides), 4)).float()
        image = ((image - image.min()) / (image.max() - image.min()))[None]
        found = set()
        for seed in range(12):
            turned = corrupt(image, "rotation", 10, seed=seed)[0].numpy()
            errors = {
                side: np.abs(
                    turned - ndimage.rotate(image[0].numpy(), side * 10, reshape=False, mode="nearest")
                )[12:-12, 12:-12].max()
                for side in (1, -1)
            }
            side = min(errors, key=lambda each: errors[each])
            assert errors[side] < 0.01 < errors[-side]
            found.add(side)
        assert found == {1, -1}

    def test_the_label_turns_with_the_image_also_on_another_grid(self) -> None:
        image = torch.zeros(1, 64, 64)
        image[:, 10:20, 40:56] = 1
        label = torch.nn.functional.interpolate(image[None], (128, 192), mode="nearest")[0]
        for seed in range(4):
            turned = corrupt(image, "rotation", 10, seed=seed)
            mask = corrupt_label(label, "rotation", 10, seed=seed, sides=(64, 64))
            assert set(mask.unique().tolist()) <= {0.0, 1.0}
            enlarged = torch.nn.functional.interpolate(turned[None], (128, 192), mode="bilinear")[0] > 0.5
            overlap = 2 * (enlarged * mask).sum() / (enlarged.sum() + mask.sum())
            assert overlap > 0.96
            assert not torch.equal(mask, label)
        batch = corrupt_label(label[None].byte(), "rotation", 10, seed=[3], sides=(64, 64))
        assert batch.dtype == torch.uint8
        assert torch.equal(batch[0], mask.byte())

    @pytest.mark.parametrize("kind", sorted({*CORRUPTIONS} - {"rotation"}))
    def test_the_other_kinds_leave_the_label(self, kind: str) -> None:
        label = torch.ones(1, 8, 8)
        assert corrupt_label(label, kind, CORRUPTIONS[kind][0], seed=1) is label

    def test_every_corner_goes_missing_and_no_other_pixel(self) -> None:
        image = torch.full((1, 40, 60), 0.5)
        places = set()
        for seed in range(40):
            black = corrupt(image, "missing_corner", 0.25, seed=seed)[0] == 0
            rows, columns = np.nonzero(black.numpy())
            assert len(rows) == 10 * 15
            places.add((int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())))
        assert places == {(0, 9, 0, 14), (0, 9, 45, 59), (30, 39, 0, 14), (30, 39, 45, 59)}

    @pytest.mark.parametrize("colour", [False, True])
    def test_jpeg_is_what_a_file_of_that_quality_holds(self, colour: bool) -> None:
        image = pictures(1, colour=colour)[0]
        pixels = (image.numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels if colour else pixels[..., 0]).save(file, "JPEG", quality=30)
        with Image.open(file) as stored:
            expected = np.asarray(stored, dtype=np.float32).reshape(64, 96, -1) / 255
        compressed = corrupt(image, "jpeg", 30, seed=0).numpy().transpose(1, 2, 0)
        np.testing.assert_allclose(compressed, np.broadcast_to(expected, (64, 96, 3)), atol=1e-6)

    def test_low_resolution_keeps_what_is_smooth_and_loses_what_is_fine(self) -> None:
        rows = torch.linspace(0.2, 0.8, 64)[:, None].expand(64, 64)[None]
        torch.testing.assert_close(
            corrupt(rows, "low_resolution", 2, seed=0)[:, 4:-4], rows[:, 4:-4], atol=2e-3, rtol=0
        )
        fine = (torch.arange(64) % 2).float().expand(1, 64, 64)
        assert corrupt(fine, "low_resolution", 2, seed=0)[:, 4:-4, 4:-4].std() < 0.05


class TestNames:
    def test_every_name_is_read(self) -> None:
        assert parse_corruption("none") is None
        for kind, level in EVERY:
            assert parse_corruption(f"{kind}/{level:g}") == (kind, level)
        assert parse_corruption("low_dose/100") == ("low_dose", 100)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "low_doze/110",
                "must be none or one of low_dose/140, .*got 'low_doze/110'; did you mean 'low_dose/110'",
            ),
            ("motion_blur", "must be none or one of .*did you mean 'motion_blur/"),
            ("", "must be none or one of .*got ''$"),
            ("motion_blur/4", r"level of motion_blur must be from 3 to 31 \(pixels, odd\), got '4'"),
            ("jpeg/30.5", r"level of jpeg must be from 1 to 100 \(quality, whole\), got '30.5'"),
            ("rotation/nan", r"level of rotation must be from 0 to 180 \(degrees\), got 'nan'"),
            ("low_dose/high", "level of low_dose must be from 1 to 700 .* got 'high'"),
        ],
    )
    def test_other_names_are_refused(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            parse_corruption(text)

    def test_bad_arguments_are_refused(self) -> None:
        image = pictures(2)
        with pytest.raises(ValueError, match=r"kind of corruption must be one of .*did you mean 'jpeg'"):
            corrupt(image, "jpg", 30, seed=[0, 1])
        with pytest.raises(ValueError, match="level of low_resolution must be from 1 to 32"):
            corrupt(image, "low_resolution", 0.5, seed=[0, 1])
        with pytest.raises(ValueError, match="seed must be one number an image, got 1 for 2 images"):
            corrupt(image, "jpeg", 30, seed=0)
        with pytest.raises(ValueError, match=r"image must be in \[0, 1\], got values from 0 to 2: scale it"):
            corrupt(torch.tensor([[[0.0, 2.0]]]), "jpeg", 30, seed=0)
        with pytest.raises(ValueError, match=r"image must be in \[0, 1\], got values from nan to nan"):
            corrupt(torch.full((1, 4, 4), float("nan")), "jpeg", 30, seed=0)
        with pytest.raises(ValueError, match="1 or 3 channels"):
            corrupt(torch.zeros(2, 8, 8), "jpeg", 30, seed=0)
        with pytest.raises(ValueError, match="kind of corruption must be one of"):
            corrupt_label(torch.zeros(1, 8, 8), "turn", 10, seed=0)

    def test_seeds_belong_to_the_case_and_the_kind(self) -> None:
        seeds = {
            corruption_seed(name, kind, seed=seed)
            for name in ("a", "b", 7)
            for kind in CORRUPTIONS
            for seed in (0, 1)
        }
        assert len(seeds) == 3 * len(CORRUPTIONS) * 2
        assert corruption_seed("a", "jpeg") == corruption_seed("a", "jpeg", seed=0)


class TestPreprocessing:
    @pytest.fixture
    def case(self, tmp_path: Path, phantom: np.ndarray) -> dict[str, Any]:
        Image.fromarray(phantom).save(tmp_path / "i.png")
        Image.fromarray((phantom > 190).astype(np.uint8) * 255).save(tmp_path / "m.png")
        return {
            "id": "case-1",
            "image": str(tmp_path / "i.png"),
            "label": str(tmp_path / "m.png"),
            "text": "left",
        }

    def test_unit_is_0_to_1_in_every_format_and_zscore_is_as_before(
        self, phantom_file: Path, format_name: str, phantom: np.ndarray, tmp_path: Path
    ) -> None:
        unit = image_text_preprocessing(image_size=(32, 64), normalise="unit")
        Image.fromarray(phantom).save(tmp_path / "reference.png")
        image = unit({"image": str(phantom_file)})["image"].as_tensor()
        reference = unit({"image": str(tmp_path / "reference.png")})["image"].as_tensor()
        assert image.shape == (3, 32, 64)
        assert (image.min(), image.max()) == (0, 1)
        tolerance = 0.03 if format_name == "jpg" else 1e-4
        torch.testing.assert_close(image, reference, atol=tolerance, rtol=0)
        scored = image_text_preprocessing(image_size=(32, 64))({"image": str(phantom_file)})["image"]
        torch.testing.assert_close(z_score(image), scored.as_tensor(), atol=2e-4, rtol=0)

    def test_normalise_is_one_of_two(self) -> None:
        with pytest.raises(ValueError, match="normalise must be one of zscore, unit, got 'none'"):
            image_text_preprocessing(normalise="none")

    def test_scaling_keeps_hues_treats_slices_apart_and_makes_flat_0(self) -> None:
        image = torch.tensor([10.0, 20.0, 50.0])[:, None, None].repeat(1, 4, 4)
        image[0, 0, 0] = 110.0
        expected = (image - 10) / 100
        torch.testing.assert_close(scale_to_unit(image), expected)
        assert not scale_to_unit(torch.full((3, 4, 4), 1e6)).any()
        volume = torch.stack([image, image * 3 + 1, torch.full_like(image, 7)], dim=-1)
        scaled = scale_to_unit(volume)
        torch.testing.assert_close(scaled[..., :2], expected[..., None].expand(-1, -1, -1, 2))
        assert not scaled[..., 2].any()
        plain = ScaleToUnitd("image")({"image": image})["image"]
        assert not isinstance(plain, MetaTensor)

    def test_none_leaves_the_preprocessing(self) -> None:
        preprocess = image_text_preprocessing(image_size=32)
        assert with_corruption(preprocess, "none") is preprocess

    @pytest.mark.parametrize("normalise", ["zscore", "unit"])
    @pytest.mark.parametrize(
        ("kind", "level"), [("low_dose", 110.0), ("jpeg", 30.0), ("missing_corner", 0.25)]
    )
    def test_corruption_comes_after_resizing_and_before_normalising(
        self, case: dict[str, Any], normalise: str, kind: str, level: float
    ) -> None:
        preprocess = image_text_preprocessing(image_size=64, normalise=normalise)
        corrupted = with_corruption(preprocess, f"{kind}/{level:g}")(case)
        clean = image_text_preprocessing(image_size=64, normalise="unit")(case)
        expected = corrupt(clean["image"].as_tensor(), kind, level, seed=corruption_seed("case-1", kind))
        if normalise == "zscore":
            expected = z_score(expected)
        torch.testing.assert_close(corrupted["image"].as_tensor(), expected, atol=1e-5, rtol=0)
        assert corrupted["image"].meta["filename_or_obj"] == case["image"]
        assert torch.equal(corrupted["label"], clean["label"])
        assert torch.equal(corrupted["text"], clean["text"])
        names = [type(step).__name__ for step in with_corruption(preprocess, "jpeg/30").transforms]
        assert names.index("ResizeImaged") < names.index("ScaleToUnitd") < names.index("CorruptImaged")
        assert names.count("ScaleToUnitd") == 1

    def test_a_rotated_case_has_its_label_rotated_on_its_own_grid(self, case: dict[str, Any]) -> None:
        preprocess = image_text_preprocessing(image_size=64, normalise="unit")
        clean, turned = preprocess(case), with_corruption(preprocess, "rotation/10")(case)
        seed = corruption_seed("case-1", "rotation")
        expected = corrupt_label(clean["label"].as_tensor(), "rotation", 10, seed=seed, sides=(64, 64))
        assert turned["label"].shape == (1, 64, 96)
        assert torch.equal(turned["label"].as_tensor(), expected)
        assert not torch.equal(turned["label"].as_tensor(), clean["label"].as_tensor())

    def test_the_parts_of_a_split_make_the_whole(self, case: dict[str, Any]) -> None:
        for normalise in ("zscore", "unit"):
            preprocess = image_text_preprocessing(image_size=32, normalise=normalise)
            before, after = split_at_corruption(preprocess)
            middle = before(case)
            assert (middle["image"].min(), middle["image"].max()) == (0, 1)
            torch.testing.assert_close(
                after(middle)["image"].as_tensor(),
                preprocess(case)["image"].as_tensor(),
                atol=1e-5,
                rtol=0,
            )
        with pytest.raises(ValueError, match="must have StandardizeImaged or ScaleToUnitd, got ResizeImaged"):
            split_at_corruption(type(preprocess)([preprocess.transforms[1]]))

    def test_it_can_be_pickled_and_repeats_itself(self, case: dict[str, Any]) -> None:
        preprocess = with_corruption(image_text_preprocessing(image_size=32), "low_dose/120")
        again = pickle.loads(pickle.dumps(preprocess))
        assert torch.equal(preprocess(case)["image"].as_tensor(), again(case)["image"].as_tensor())
        other = preprocess(case | {"id": "case-2"})["image"].as_tensor()
        assert not torch.equal(preprocess(case)["image"].as_tensor(), other)
        reseeded = with_corruption(image_text_preprocessing(image_size=32), "low_dose/120", seed=1)
        assert not torch.equal(preprocess(case)["image"].as_tensor(), reseeded(case)["image"].as_tensor())

    def test_slices_of_a_volume_are_corrupted_one_by_one(self) -> None:
        slices = pictures(4, rows=32, columns=32)
        volume = MetaTensor(slices.movedim(0, -1), meta={"kept": 1})
        mask = (slices[:, :1] > 0.6).float().movedim(0, -1)
        step = CorruptImaged("image", corruption="rotation/10")
        corrupted = step({"id": 3, "image": volume, "label": mask})
        seed = corruption_seed(3, "rotation")
        expected = corrupt(slices, "rotation", 10, seed=[seed] * 4)
        torch.testing.assert_close(corrupted["image"].as_tensor(), expected.movedim(0, -1))
        assert corrupted["image"].meta["kept"] == 1
        turned = corrupt_label(mask.movedim(-1, 0), "rotation", 10, seed=[seed] * 4)
        assert torch.equal(corrupted["label"], turned.movedim(0, -1))

    def test_a_case_must_have_an_id(self) -> None:
        with pytest.raises(ValueError, match="a case must have an id"):
            CorruptImaged(corruption="jpeg/30")({"image": torch.zeros(1, 8, 8)})
        assert CorruptImaged(corruption="none")({"image": 1}) == {"image": 1}


@pytest.mark.parametrize("name", BUNDLES)
class TestBundles:
    def parser(self, name: str, **overrides: Any) -> ConfigParser:
        folder = ROOT / "bundles" / f"{name}_segmentation"
        parser = ConfigParser()
        parser.read_config([folder / "configs" / f"{config}.json" for config in ("train", "evaluate")])
        parser.update({"bundle_root": str(folder), "image_size": 64, **overrides})
        return parser

    def test_validation_is_corrupted_and_training_is_not(self, name: str) -> None:
        parser = self.parser(name, image_corruption="motion_blur/7")
        kinds = [type(step) for step in parser.get_parsed_content("validate#preprocessing").transforms]
        assert kinds.index(CorruptImaged) + 1 == kinds.index(StandardizeImaged)
        training = parser.get_parsed_content("train#preprocessing").transforms
        assert not any(isinstance(step, CorruptImaged) for step in training)

    def test_the_key_is_off_and_recorded(self, name: str) -> None:
        parser = self.parser(name)
        assert parser["image_corruption"] == "none"
        steps = parser.get_parsed_content("validate#preprocessing").transforms
        assert not any(isinstance(step, (CorruptImaged, ScaleToUnitd)) for step in steps)
        table = next(each for each in parser["validate"]["handlers"] if "EvaluationTable" in each["_target_"])
        assert table["description"]["image_corruption"] == "@image_corruption"

    def test_an_unknown_corruption_stops_the_evaluation(self, name: str) -> None:
        parser = self.parser(name, image_corruption="low_dose/0")
        with pytest.raises(RuntimeError) as error:
            parser.get_parsed_content("validate#preprocessing")
        assert "level of low_dose must be from 1 to 700" in str(error.value.__cause__)

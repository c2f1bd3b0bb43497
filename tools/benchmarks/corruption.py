"""Time of corrupting a batch of images beside a loop over the images with NumPy, SciPy and Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from common.transforms import CORRUPTIONS, corrupt
from common.transforms.degradations import motion_kernel
from tools.benchmarks.timing import comparison, interleaved_medians

LEVELS = {name: levels[len(levels) // 2] for name, levels in CORRUPTIONS.items()}

Loop = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def corruption_benchmarks(
    *,
    repeats: int = 5,
    batch_size: int = 16,
    image_size: int = 224,
    kinds: Sequence[str] = tuple(LEVELS),
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure every kind of corruption at its middle level, and all of them together.

    Ours is one call for the batch. The reference treats image by image and all three channels, as it is written
    down with the libraries at hand: `poisson` of NumPy, filters and rotation (cubic splines) of SciPy, JPEG and
    resizing of Pillow. The two draw other noise and interpolate in slightly other ways. Both run on the CPU.

    Args:
        repeats: rounds of each; medians are reported.
        batch_size: number of images.
        image_size: rows and columns.
        kinds: names of `CORRUPTIONS`.
        seed: of the images and of what is drawn.

    Returns:
        A row a kind for gray images in three channels (``corruption_…_gray``) and for colour
        (``corruption_…_colour``), and one for the sum of the kinds (``corruption_all_…``).
    """
    rows = []
    sizes = {"batch": batch_size, "image": [image_size] * 2, "repeats": repeats}
    device = torch.device("cpu")
    for colours, images in _batches(batch_size, image_size, seed):
        seconds = []
        for kind in kinds:
            took = interleaved_medians(
                partial(_ours, images, kind, seed), partial(_loop, images, kind, seed), repeats=repeats
            )
            seconds.append(took)
            rows.append(_row(f"corruption_{kind}_{colours}", took, sizes | {"level": LEVELS[kind]}, device))
        total = (sum(ours for ours, _ in seconds), sum(loop for _, loop in seconds))
        rows.append(_row(f"corruption_all_{colours}", total, sizes | {"kinds": len(kinds)}, device))
    return rows


def _row(
    name: str, seconds: tuple[float, float], sizes: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    per_image = 1e3 / sizes["batch"]
    return comparison(name, seconds, sizes=sizes, device=device, unit="ms per image", scale=per_image)


def _batches(batch_size: int, image_size: int, seed: int) -> list[tuple[str, Tensor]]:
    """Smooth pictures with grain, gray and coloured."""
    generator = np.random.default_rng(seed)
    grain = generator.random((batch_size, 3, image_size, image_size), dtype=np.float32)
    smooth = ndimage.gaussian_filter(grain, (0, 0, image_size / 20, image_size / 20))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    colour = torch.from_numpy(0.9 * smooth + 0.1 * grain)
    return [("gray", colour[:, :1].repeat(1, 3, 1, 1)), ("colour", colour)]


def _ours(images: Tensor, kind: str, seed: int) -> Tensor:
    return corrupt(images, kind, LEVELS[kind], seed=range(seed, seed + len(images)))


def _loop(images: Tensor, kind: str, seed: int) -> Tensor:
    corrupted = []
    for index, image in enumerate(images.numpy()):
        generator = np.random.default_rng(seed + index)
        corrupted.append(PLAIN[kind](image, LEVELS[kind], generator).astype(np.float32))
    return torch.from_numpy(np.stack(corrupted))


def _low_dose(image: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    return np.clip(generator.poisson(image * level) / level, 0, 1)


def _motion_blur(image: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    blurred: np.ndarray = ndimage.convolve1d(image, np.full(int(level), 1 / level), axis=-1, mode="mirror")
    return blurred


def _motion_blur_any(image: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    kernel = motion_kernel(int(level), generator.uniform(0, np.pi)).numpy()
    blurred: np.ndarray = ndimage.convolve(image, kernel[None], mode="mirror")
    return blurred


def _under_exposure(image: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    return np.clip(image - level, 0, 1)


def _over_exposure(image: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    return np.clip(image + level, 0, 1)


def _rotation(image: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    angle = level if generator.random() < 0.5 else -level
    turned = ndimage.rotate(image, angle, axes=(2, 1), reshape=False, order=3, mode="nearest")
    return np.clip(turned, 0, 1)


def _missing_corner(image: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    rows, columns = (round(level * side) for side in image.shape[1:])
    lower, right = divmod(int(generator.integers(4)), 2)
    spoiled = image.copy()
    band = slice(-rows, None) if lower else slice(rows)
    strip = slice(-columns, None) if right else slice(columns)
    spoiled[:, band, strip] = 0
    return spoiled


def _jpeg(image: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    pixels = np.ascontiguousarray(np.moveaxis((image * 255).round().astype(np.uint8), 0, -1))
    Image.fromarray(pixels).save(file, "JPEG", quality=int(level))
    with Image.open(file) as read:
        return np.moveaxis(np.asarray(read), -1, 0) / 255


def _low_resolution(image: np.ndarray, level: float, generator: np.random.Generator) -> np.ndarray:
    rows, columns = image.shape[1:]
    small = (round(columns / level), round(rows / level))
    enlarged = []
    for channel in image:
        shrunk = Image.fromarray(channel).resize(small, Image.Resampling.BICUBIC)
        enlarged.append(np.asarray(shrunk.resize((columns, rows), Image.Resampling.BILINEAR)))
    return np.clip(np.stack(enlarged), 0, 1)


PLAIN: dict[str, Loop] = {
    "low_dose": _low_dose,
    "motion_blur": _motion_blur,
    "motion_blur_any": _motion_blur_any,
    "under_exposure": _under_exposure,
    "over_exposure": _over_exposure,
    "rotation": _rotation,
    "missing_corner": _missing_corner,
    "jpeg": _jpeg,
    "low_resolution": _low_resolution,
}
"""Each kind for one image `(3, rows, columns)`, written plainly."""

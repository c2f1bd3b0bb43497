"""What spoils pictures in practice: noise, movement, exposure, turning, missing parts, compression, few pixels.

Every function takes images `(B, C, rows, columns)` float32 in [0, 1], a level and one seed an image, and returns new
images of the same shape in [0, 1]. What an image becomes depends on itself, the level and its own seed alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .poisson import poisson_table

WHITE = 255


def low_dose(images: Tensor, level: float, seeds: Sequence[int]) -> Tensor:
    """Count photons: `clip(Poisson(x D) / D, 0, 1)`; a gray image counts once for all its channels.

    Args:
        images: `(B, C, rows, columns)` in [0, 1].
        level: D, the expected number of photons of a white pixel, in [1, 700].
        seeds: one an image.
    """
    table = poisson_table(float(level))

    def counted(image: np.ndarray, gray: bool, seed: int) -> np.ndarray:
        counts = table.draw(image[:1] if gray else image, generator=np.random.default_rng(seed))
        return np.minimum(counts / np.float32(level), 1)

    return _one_by_one(counted, images, images, seeds)


def motion_blur(images: Tensor, level: float, seeds: Sequence[int]) -> Tensor:
    """Average each pixel with its neighbours in the row, as a sideways movement does; edges are reflected.

    Args:
        images: `(B, C, rows, columns)` in [0, 1].
        level: number of pixels that are averaged, odd.
        seeds: not used.
    """
    length = int(level)
    padded = functional.pad(images, (length // 2, length // 2, 0, 0), mode="reflect")
    total = padded[..., : images.shape[-1]].clone()
    for start in range(1, length):
        total += padded[..., start : start + images.shape[-1]]
    return total.div_(length).clamp_(0, 1)


def motion_blur_any(images: Tensor, level: float, seeds: Sequence[int]) -> Tensor:
    """Blur along a line of random direction, each image along its own; edges are reflected.

    Args:
        images: `(B, C, rows, columns)` in [0, 1].
        level: length of the line in pixels, odd.
        seeds: one an image.
    """
    length = int(level)
    angles = [np.random.default_rng(seed).uniform(0, math.pi) for seed in seeds]
    kernels = torch.stack([motion_kernel(length, angle) for angle in angles]).to(images)
    count, channels = images.shape[:2]
    padded = functional.pad(images, (length // 2,) * 4, mode="reflect")
    weights = kernels.repeat_interleave(channels, dim=0)[:, None]
    blurred = functional.conv2d(
        padded.reshape(1, -1, *padded.shape[2:]), weights, groups=count * channels
    ).reshape(images.shape)
    return blurred.clamp(0, 1)


def motion_kernel(length: int, angle: float) -> Tensor:
    """Return the kernel of a movement along a line through the centre; its weights add to 1.

    Args:
        length: in pixels, odd; the side of the kernel.
        angle: of the line against the rows, in radians; 0 is 1 / length along the middle row.

    Returns:
        `(length, length)` float64.
    """
    kernel = torch.zeros(length, length, dtype=torch.float64)
    centre = length // 2
    for offset in range(-centre, centre + 1):
        row, column = centre - offset * math.sin(angle), centre + offset * math.cos(angle)
        for near_row in (math.floor(row), math.floor(row) + 1):
            for near_column in (math.floor(column), math.floor(column) + 1):
                weight = max(0.0, 1 - abs(row - near_row)) * max(0.0, 1 - abs(column - near_column))
                if weight > 0:
                    kernel[min(max(near_row, 0), length - 1), min(max(near_column, 0), length - 1)] += weight
    return kernel / length


def under_exposure(images: Tensor, level: float, seeds: Sequence[int]) -> Tensor:
    """Darken by a share of the range; what would be darker than black is lost."""
    return (images - level).clamp_min_(0)


def over_exposure(images: Tensor, level: float, seeds: Sequence[int]) -> Tensor:
    """Brighten by a share of the range; what would be brighter than white is lost."""
    return (images + level).clamp_max_(1)


def rotation(images: Tensor, level: float, seeds: Sequence[int]) -> Tensor:
    """Turn about the centre by `level` degrees, each image to a side of its own; edges are repeated.

    Args:
        images: `(B, C, rows, columns)` in [0, 1].
        level: degrees.
        seeds: one an image.
    """
    return turned(images, turns(level, seeds), mode="bicubic", padding="border").clamp(0, 1)


def turns(level: float, seeds: Sequence[int]) -> list[float]:
    """Return the angle by which `rotation` turns each image counter-clockwise, in radians: plus or minus `level`."""
    return [math.radians(level) * (1 if np.random.default_rng(seed).random() < 0.5 else -1) for seed in seeds]


def turned(
    images: Tensor, angles: Sequence[float], *, mode: str, padding: str, sides: Sequence[int] | None = None
) -> Tensor:
    """Turn images counter-clockwise about their centres.

    Args:
        images: `(B, C, rows, columns)`.
        angles: one an image, in radians.
        mode: of sampling: "nearest", "bilinear" or "bicubic".
        padding: "border" or "zeros": what lies outside.
        sides: rows and columns of the grid on which the pixels are square, where the images are another sampling of
            the same picture; None: their own.
    """
    rows, columns = sides or images.shape[-2:]
    angle = torch.tensor(angles, dtype=torch.float64)
    cosine, sine, nothing = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Output point to input point, in units of half a side (x right, y down).
    x = torch.stack([cosine, -sine * rows / columns, nothing], dim=1)
    y = torch.stack([sine * columns / rows, cosine, nothing], dim=1)
    theta = torch.stack([x, y], dim=1).to(images)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def missing_corner(images: Tensor, level: float, seeds: Sequence[int]) -> Tensor:
    """Blacken a corner, each image one of its own, as a collimator or a cropped screenshot does.

    Args:
        images: `(B, C, rows, columns)` in [0, 1].
        level: sides of the corner, as a share of the image's.
        seeds: one an image.
    """
    rows, columns = (max(1, round(level * side)) for side in images.shape[-2:])
    spoiled = images.clone(memory_format=torch.contiguous_format)
    for image, seed in zip(spoiled, seeds, strict=True):
        lower, right = divmod(int(np.random.default_rng(seed).integers(4)), 2)
        band = slice(-rows, None) if lower else slice(rows)
        strip = slice(-columns, None) if right else slice(columns)
        image[:, band, strip] = 0
    return spoiled


def jpeg(images: Tensor, level: float, seeds: Sequence[int]) -> Tensor:
    """Store and read as 8-bit JPEG, gray images as gray, colour with half the resolution of the hues.

    Args:
        images: `(B, C, rows, columns)` in [0, 1], C 1 or 3.
        level: quality, 1 to 100, as libjpeg counts it.
        seeds: not used.
    """

    def stored(image: np.ndarray, gray: bool, seed: int) -> np.ndarray:
        file = io.BytesIO()
        picture = Image.fromarray(image[0] if gray else np.ascontiguousarray(np.moveaxis(image, 0, -1)))
        picture.save(file, "JPEG", quality=int(level))
        with Image.open(file) as read:
            values = np.array(read)
        return values[None] if gray else np.moveaxis(values, -1, 0)

    pixels = images.mul(WHITE).round_().to(torch.uint8)
    return _one_by_one(stored, images, pixels, seeds).to(torch.float32).div_(WHITE)


def low_resolution(images: Tensor, level: float, seeds: Sequence[int]) -> Tensor:
    """Shrink by a factor (bicubic, anti-aliased) and enlarge again (bilinear).

    Args:
        images: `(B, C, rows, columns)` in [0, 1].
        level: the factor.
        seeds: not used.
    """
    size = tuple(images.shape[-2:])
    small = [max(1, round(side / level)) for side in size]
    shrunk = functional.interpolate(images, small, mode="bicubic", antialias=True, align_corners=False)
    return functional.interpolate(shrunk.clamp(0, 1), size, mode="bilinear", align_corners=False)


def is_gray(image: Tensor) -> bool:
    """Whether all channels of `(C, rows, columns)` are the same."""
    return are_gray(image[None])


def are_gray(images: Tensor) -> bool:
    """Whether all channels are the same in each of `(B, C, rows, columns)`."""
    shared = images.shape[1] == 1 or images.stride(1) == 0
    return shared or all(torch.equal(images[:, 0], channel) for channel in images.unbind(1)[1:])


def _one_by_one(
    change: Callable[[np.ndarray, bool, int], np.ndarray],
    images: Tensor,
    values: Tensor,
    seeds: Sequence[int],
) -> Tensor:
    """Change the `values` of every image by itself, gray ones in one channel, on as many threads as PyTorch may use."""
    grays = [is_gray(image) for image in images]
    threads = min(len(images), torch.get_num_threads())
    arguments = (list(values.cpu().numpy()), grays, seeds)
    if threads == 1:
        changed = list(map(change, *arguments))
    else:
        with ThreadPoolExecutor(max_workers=threads) as pool:
            changed = list(pool.map(change, *arguments))
    whole = np.stack([np.broadcast_to(each, images.shape[1:]) for each in changed])
    return torch.from_numpy(whole).to(images.device)

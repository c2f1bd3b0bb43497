"""The strong view of augmentation consistency: other intensities, noise and motion blur, at the same place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .mixing import checked_share


class StrongIntensity:
    """Change the intensities of images in [0, 1], each image by itself and alike in all channels but for the noise.

    In this order: `x^gamma`; Gaussian noise; brightness added; a factor on the contrast; motion blur along a line.
    The result is clipped to [0, 1].

    Args:
        gamma: smallest and largest exponent, of every image.
        noise: standard deviation of the noise, >= 0.
        noise_probability: 0..1.
        brightness: largest shift to either side, >= 0.
        brightness_probability: 0..1.
        contrast: largest change of the factor 1, 0..1.
        contrast_probability: 0..1.
        blur_kernel: length of the line in pixels, odd, >= 1.
        blur_angle: largest angle of the line with a row, in degrees.
        blur_direction: largest unevenness of the weights along the line, 0..1: 1 falls from the double to 0.
        blur_probability: 0..1.

    Raises:
        ValueError: if an argument is outside its range.

    Reference:
        BiCLIP, section 2.2, the strong view, with the values of its code.

    Differences from the paper:
        Its code passes brightness and contrast as single numbers, which its library would read as fixed factors;
        here they are the ranges 0.7 to 1.3 that they stand for, brightness as a shift of -0.3 to 0.3. The paper gives
        no probability for gamma; here every image has one. The blur reflects the image at its border.
    """

    def __init__(
        self,
        *,
        gamma: Sequence[float] = (0.9, 1.1),
        noise: float = 0.01,
        noise_probability: float = 0.5,
        brightness: float = 0.3,
        brightness_probability: float = 0.5,
        contrast: float = 0.3,
        contrast_probability: float = 0.5,
        blur_kernel: int = 5,
        blur_angle: float = 20.0,
        blur_direction: float = 0.5,
        blur_probability: float = 0.2,
    ) -> None:
        if len(gamma) != 2 or not 0 < gamma[0] <= gamma[1]:
            raise ValueError(f"gamma must be two rising numbers above 0, got {tuple(gamma)}")
        for name, value in {"noise": noise, "brightness": brightness}.items():
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if blur_kernel < 1 or blur_kernel % 2 == 0:
            raise ValueError(f"blur_kernel must be an odd number of pixels, got {blur_kernel}")
        self.gamma, self.noise, self.brightness = tuple(gamma), float(noise), float(brightness)
        self.contrast = checked_share("contrast", contrast)
        self.blur_kernel, self.blur_angle = blur_kernel, float(blur_angle)
        self.blur_direction = checked_share("blur_direction", blur_direction)
        self.noise_probability = checked_share("noise_probability", noise_probability)
        self.brightness_probability = checked_share("brightness_probability", brightness_probability)
        self.contrast_probability = checked_share("contrast_probability", contrast_probability)
        self.blur_probability = checked_share("blur_probability", blur_probability)

    def __call__(self, image: Tensor, *, generator: np.random.Generator) -> Tensor:
        """Change a batch into a new one.

        Args:
            image: `(B, C, H, W)` in [0, 1]; more than `blur_kernel` / 2 rows and columns.
            generator: draws nine numbers per image and a seed, whatever is changed; the noise is drawn on the
                image's device.

        Raises:
            ValueError: if the image has another number of axes, or is too small for the blur.
        """
        smallest = self.blur_kernel // 2 + 1
        if image.ndim != 4 or min(image.shape[2:]) < smallest:
            raise ValueError(
                f"image must be (B, C, H, W) with at least {smallest} rows and columns, got {tuple(image.shape)}"
            )
        draws, seed = generator.random((9, len(image))), int(generator.integers(2**62))
        low, high = self.gamma
        changed = image.clamp(0, 1) ** _per_image(low + (high - low) * draws[0], image)
        changed = self._noisy(changed, draws[1] < self.noise_probability, seed)
        shift = self.brightness * (2 * draws[3] - 1) * (draws[2] < self.brightness_probability)
        gain = 1 + self.contrast * (2 * draws[5] - 1) * (draws[4] < self.contrast_probability)
        changed = (changed + _per_image(shift, image)).clamp(0, 1) * _per_image(gain, image)
        return self._blurred(changed.clamp(0, 1), draws[6:])

    def _noisy(self, image: Tensor, chosen: np.ndarray, seed: int) -> Tensor:
        source = torch.Generator(image.device).manual_seed(seed)
        noise = torch.randn(image.shape, generator=source, device=image.device, dtype=image.dtype)
        return image + noise * _per_image(self.noise * chosen, image)

    def _blurred(self, image: Tensor, draws: np.ndarray) -> Tensor:
        chosen = np.flatnonzero(draws[0] < self.blur_probability)
        if not len(chosen):
            return image
        angle = np.deg2rad(self.blur_angle) * (2 * draws[1, chosen] - 1)
        direction = self.blur_direction * (2 * draws[2, chosen] - 1)
        kernels = motion_kernels(self.blur_kernel, angle=angle, direction=direction).to(image)
        index = torch.from_numpy(chosen).to(image.device)
        return image.index_copy(0, index, correlated(image[index], kernels))


def motion_kernels(length: int, *, angle: np.ndarray, direction: np.ndarray) -> Tensor:
    """Return the weights of motion blur along lines through the centre of a square.

    The points of a line are a pixel apart; the weight of each is shared by the four pixels around it, bilinearly.

    Args:
        length: of the line in pixels, odd; the side of the square.
        angle: `(n,)`, counter-clockwise angle with a row, in radians.
        direction: `(n,)`, -1 to 1; 0: all points weigh the same; 1: they fall evenly to 0 along the line; -1: rise.

    Returns:
        `(n, length, length)`, float64, each of sum 1.
    """
    radius = length // 2
    offsets = np.arange(-radius, radius + 1)
    weights = 1 - np.asarray(direction)[:, None] * offsets / max(radius, 1)
    places = np.stack([-np.sin(angle)[:, None] * offsets, np.cos(angle)[:, None] * offsets])
    # (2, n, points, pixels of an axis)
    shares = np.maximum(0, 1 - np.abs(places[..., None] - offsets))
    kernels = np.einsum("np,npi,npj->nij", weights, *shares)
    return torch.from_numpy(kernels / kernels.sum(axis=(1, 2), keepdims=True))


def correlated(image: Tensor, kernels: Tensor) -> Tensor:
    """Weight the neighbours of every pixel; beyond the border the image is reflected.

    Args:
        image: `(n, C, H, W)`.
        kernels: `(n, k, k)` with odd k, one for all channels of an image.

    Returns:
        `(n, C, H, W)`.
    """
    count, channels = image.shape[:2]
    radius = kernels.shape[-1] // 2
    padded = F.pad(image, (radius,) * 4, mode="reflect").flatten(0, 1)[None]
    weights = kernels.repeat_interleave(channels, dim=0)[:, None]
    return F.conv2d(padded, weights, groups=count * channels)[0].unflatten(0, (count, channels))


def _per_image(values: np.ndarray, image: Tensor) -> Tensor:
    return torch.from_numpy(values).to(image)[:, None, None, None]

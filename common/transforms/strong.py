"""Strong changes of whole batches: intensity, and mirroring together with the sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..text.laterality import mirror_sentence
from .mixing import checked_batch, checked_share


class StrongAugmentation:
    """Change brightness and contrast of standardized images, and blur them, each image by itself.

    `x -> mean + gain (x - mean) + shift`, alike in all channels and with the mean of all channels and pixels;
    then a Gaussian blur. To be applied after the z-score: before it, brightness and contrast would be undone
    by it.

    Args:
        brightness: largest shift, in standard deviations of the standardized image, >= 0.
        contrast: largest relative change of the gain, 0..1.
        color_probability: of changing brightness and contrast, both at once, 0..1.
        blur_kernel: side of the blur's kernel in pixels, odd, >= 1.
        blur_sigma: smallest and largest standard deviation of the blur in pixels, > 0.
        blur_probability: of blurring, 0..1.

    Raises:
        ValueError: if an argument is outside its range.

    Reference:
        Semi-MedRef, section 3.1.2 (ColorJitter and GaussianBlur), with the values of its code.

    Differences from the paper:
        ColorJitter multiplies brightness and expects values of 0..1. Standardized values have a mean of 0, about
        which a factor would be a second contrast; brightness is a shift here.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.2,
        contrast: float = 0.2,
        color_probability: float = 0.8,
        blur_kernel: int = 7,
        blur_sigma: Sequence[float] = (0.1, 2.0),
        blur_probability: float = 0.5,
    ) -> None:
        if not brightness >= 0:
            raise ValueError(f"brightness must be at least 0, got {brightness}")
        if blur_kernel < 1 or blur_kernel % 2 == 0:
            raise ValueError(f"blur_kernel must be an odd number of pixels, got {blur_kernel}")
        if len(blur_sigma) != 2 or not 0 < blur_sigma[0] <= blur_sigma[1]:
            raise ValueError(f"blur_sigma must be two rising numbers above 0, got {tuple(blur_sigma)}")
        self.brightness = float(brightness)
        self.contrast = checked_share("contrast", contrast)
        self.color_probability = checked_share("color_probability", color_probability)
        self.blur_kernel = blur_kernel
        self.blur_sigma = tuple(blur_sigma)
        self.blur_probability = checked_share("blur_probability", blur_probability)

    def __call__(self, image: Tensor, *, generator: np.random.Generator) -> Tensor:
        """Change a batch into a new one.

        Args:
            image: `(B, C, H, W)`, standardized; more than `blur_kernel` / 2 rows and columns.
            generator: draws five numbers per image, whatever is changed.

        Raises:
            ValueError: if the image has another number of axes, or is too small for the blur.
        """
        smallest = self.blur_kernel // 2 + 1
        if image.ndim != 4 or min(image.shape[2:]) < smallest:
            raise ValueError(
                f"image must be (B, C, H, W) with at least {smallest} rows and columns, got {tuple(image.shape)}"
            )
        colored, shift, gain, blurred, sigma = generator.random((5, len(image)))
        changed = image.clone(memory_format=torch.contiguous_format)
        chosen = np.flatnonzero(colored < self.color_probability)
        if len(chosen):
            shifts = self.brightness * (2 * shift[chosen] - 1)
            gains = 1 + self.contrast * (2 * gain[chosen] - 1)
            changed[chosen] = _recolored(changed[chosen], _per_image(shifts, image), _per_image(gains, image))
        chosen = np.flatnonzero(blurred < self.blur_probability)
        if len(chosen):
            low, high = self.blur_sigma
            sigmas = torch.from_numpy(low + (high - low) * sigma[chosen])
            changed[chosen] = gaussian_blur(changed[chosen], sigmas, kernel=self.blur_kernel)
        return changed


class MirrorAugmentation:
    """Mirror image, teacher's probabilities and sentence left to right, so that the three stay true ("SPC").

    Args:
        probability: of mirroring a case, 0..1.

    Raises:
        ValueError: if the probability is outside 0..1.

    Reference:
        Semi-MedRef, table 3, "w/ SPC", after RESMatch.
    """

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = checked_share("probability", probability)

    def __call__(
        self,
        image: Tensor,
        probability: Tensor,
        sentences: Sequence[str | None],
        *,
        generator: np.random.Generator,
    ) -> tuple[Tensor, Tensor, list[str]]:
        """Mirror some cases of a batch; the inputs stay as they are.

        Args:
            image: `(B, C, H, W)`.
            probability: `(B, 1, H, W)`, 0..1.
            sentences: B sentences; None is the empty one.
            generator: draws one number per case.

        Raises:
            ValueError: if the parts do not belong together.
        """
        checked_batch(image, probability, sentences)
        chosen = generator.random(len(image)) < self.probability
        flips = torch.from_numpy(chosen)[:, None, None, None].to(image.device)
        written = [
            mirror_sentence(sentence) if flip else sentence or ""
            for sentence, flip in zip(sentences, chosen, strict=True)
        ]
        if not chosen.any():
            return image, probability, written
        mirrored = (torch.where(flips, values.flip(-1), values) for values in (image, probability))
        return *mirrored, written


def gaussian_blur(image: Tensor, sigma: Tensor, *, kernel: int = 7) -> Tensor:
    """Blur each image of a batch by a Gaussian of its own; beyond the border the image is reflected.

    Args:
        image: `(B, C, H, W)`, more than `kernel` / 2 rows and columns.
        sigma: `(B,)`, standard deviations in pixels, > 0.
        kernel: number of pixels that are weighted along each axis, odd.

    Returns:
        `(B, C, H, W)`; the weights of a pixel sum to 1.
    """
    radius = kernel // 2
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma.double()[:, None]) ** 2)
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(image)
    # Weighted shifts instead of a convolution: every image has its own weights, and autocast keeps its hands off.
    for axis, margins in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        length = image.shape[axis]
        padded = functional.pad(image, margins, mode="reflect")
        shifted = (padded.narrow(axis, step, length) for step in range(kernel))
        image = sum(
            (weights[:, step, None, None, None] * values for step, values in enumerate(shifted)),
            start=torch.zeros_like(image),
        )
    return image


def _recolored(image: Tensor, shift: Tensor, gain: Tensor) -> Tensor:
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    return mean + gain * (image - mean) + shift


def _per_image(values: np.ndarray, image: Tensor) -> Tensor:
    return torch.from_numpy(values).to(image)[:, None, None, None]

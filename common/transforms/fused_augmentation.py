"""Augmentation of whole batches after the fusion: one motion for image, pseudo image and label, and a strong view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .strong_intensity import StrongIntensity


class Fused(NamedTuple):
    """A batch that moved.

    Attributes:
        image: `(B, C, H, W)`.
        pseudo: `(B, P, H, W)`, or None.
        label: `(B, K, H, W)`.
    """

    image: Tensor
    pseudo: Tensor | None
    label: Tensor


@dataclass(frozen=True)
class Motion:
    """How far the images of a batch move, each by itself.

    Attributes:
        left_right: probability of mirroring left to right.
        up_down: probability of mirroring top to bottom.
        affine: probability of rotation, shift and scale, all at once.
        angle: largest rotation in degrees, to either side.
        shift: largest shift, as a share of rows and of columns.
        scale: smallest and largest scale; above 1 things become larger.
    """

    left_right: float = 0.0
    up_down: float = 0.0
    affine: float = 0.0
    angle: float = 0.0
    shift: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)


MOTIONS = {
    "none": Motion(),
    "ef": Motion(left_right=0.5, up_down=0.5, affine=0.5, angle=90.0, shift=0.125, scale=(0.5, 1.5)),
    "biclip": Motion(left_right=0.5, up_down=0.5, affine=0.7, angle=20.0, shift=0.1, scale=(0.8, 1.2)),
    "consistent": Motion(affine=0.7, angle=20.0, shift=0.1, scale=(0.8, 1.2)),
}


class FusedAugmentation:
    """Move image, pseudo image and label of a batch alike, and change intensities for a strong view.

    Gradients go through the motion to image and pseudo image, which are sampled bilinearly; the label is sampled at
    the nearest pixel. Beyond the border all three are 0. Images that do not move stay bit by bit as they are.

    "ef" and "biclip" mirror lesions to where the sentence does not say they are: left becomes right and upper becomes
    lower while the sentence, and the pseudo image that was drawn of it, say what they said. "consistent" has the
    motion of "biclip" without mirroring; a case is to be mirrored together with its sentence before the fusion, by
    `text_safe_augmentation(mirror=...)`, and is never turned upside down. Its rotation and shift can still bring a
    lesion near the border of a zone across it.

    Args:
        kind: "none", "ef", "biclip" or "consistent".
        strong: probabilities and ranges of the strong view.

    Raises:
        ValueError: if the kind is unknown.

    Reference:
        BiCLIP, section 2.2, equation 3, and EF-UNet, with the values of their code.

    Differences from the paper:
        "consistent" is ours. Pictures are mirrored before they are interpolated, so that only the affine part blurs.
    """

    def __init__(self, kind: str = "consistent", *, strong: StrongIntensity | None = None) -> None:
        if kind not in MOTIONS:
            raise ValueError(f"aug must be one of {', '.join(MOTIONS)}, got {kind!r}")
        self.kind = kind
        self.motion = MOTIONS[kind]
        self.intensity = StrongIntensity() if strong is None else strong

    def __call__(
        self, image: Tensor, pseudo: Tensor | None, label: Tensor, *, generator: np.random.Generator
    ) -> Fused:
        """Move a batch; the tensors given stay as they are.

        Args:
            image: `(B, C, H, W)`.
            pseudo: `(B, P, H, W)` of the same size, or None.
            label: `(B, K, H, W)` of the same size.
            generator: draws seven numbers per image, whatever moves.

        Raises:
            ValueError: if the three are not of one size.
        """
        pictures = [image] if pseudo is None else [image, pseudo]
        sizes = {(len(tensor), *tensor.shape[2:]) for tensor in (*pictures, label)}
        if image.ndim != 4 or len(sizes) > 1:
            raise ValueError(
                "image, pseudo image and label must be (B, C, H, W) of one size, got "
                + ", ".join(str(tuple(tensor.shape)) for tensor in (*pictures, label))
            )
        draws = generator.random((7, len(image)))
        joined, label = (self._mirrored(tensor, draws) for tensor in (torch.cat(pictures, dim=1), label))
        chosen = np.flatnonzero(draws[2] < self.motion.affine)
        if len(chosen):
            theta = self._affine(draws[3:, chosen], joined.shape[2:]).to(image)
            grid = F.affine_grid(theta, [len(chosen), 1, *joined.shape[2:]], align_corners=False)
            joined = _moved(joined, chosen, grid, mode="bilinear")
            label = _moved(label, chosen, grid, mode="nearest")
        if pseudo is None:
            return Fused(joined, None, label)
        return Fused(*joined.split([image.shape[1], pseudo.shape[1]], dim=1), label)

    def strong(self, image: Tensor, *, generator: np.random.Generator) -> Tensor:
        """Return the strong view of images in [0, 1], see `StrongIntensity`."""
        return self.intensity(image, generator=generator)

    def _mirrored(self, tensor: Tensor, draws: np.ndarray) -> Tensor:
        for drawn, axis, probability in (
            (draws[0], -1, self.motion.left_right),
            (draws[1], -2, self.motion.up_down),
        ):
            chosen = drawn < probability
            if chosen.any():
                flips = torch.from_numpy(chosen)[:, None, None, None].to(tensor.device)
                tensor = torch.where(flips, tensor.flip(axis), tensor)
        return tensor

    def _affine(self, draws: np.ndarray, size: Sequence[int]) -> Tensor:
        low, high = self.motion.scale
        angle = math.radians(self.motion.angle) * (2 * draws[0] - 1)
        scale = low + (high - low) * draws[1]
        down, right = (self.motion.shift * (2 * drawn - 1) for drawn in draws[2:])
        return affine_matrices(size, angle=angle, scale=scale, down=down, right=right)


def affine_matrices(
    size: Sequence[int], *, angle: np.ndarray, scale: np.ndarray, down: np.ndarray, right: np.ndarray
) -> Tensor:
    """Return from where to sample pictures so that what they show moves as told, for `affine_grid`.

    Args:
        size: rows and columns.
        angle: `(n,)`, counter-clockwise rotation about the centre, in radians, as seen on the display.
        scale: `(n,)`; above 1 makes things larger.
        down: `(n,)`, shift towards the last row, as a share of the rows.
        right: `(n,)`, shift towards the last column, as a share of the columns.

    Returns:
        `(n, 2, 3)`, float64: output point to input point, in units of half a side (x right, y down).
    """
    rows, columns = (int(side) for side in size)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    # the pixels are square, the units are not
    turn = np.array([[cosine, -sine * rows / columns], [sine * columns / rows, cosine]])
    shift = -2 * np.einsum("ijn,jn->in", turn, np.array([right, down]))
    return torch.from_numpy(np.concatenate([turn, shift[:, None]], axis=1)).permute(2, 0, 1)


def _moved(tensor: Tensor, chosen: np.ndarray, grid: Tensor, *, mode: str) -> Tensor:
    """Sample the chosen pictures of a batch anew; the others stay as they are."""
    index = torch.from_numpy(chosen).to(tensor.device)
    sampled = F.grid_sample(tensor[index], grid, mode=mode, padding_mode="zeros", align_corners=False)
    return tensor.index_copy(0, index, sampled)

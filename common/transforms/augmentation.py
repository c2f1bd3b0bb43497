"""Random changes of training cases under which their sentences stay true."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, RandomizableTransform
from torch import Tensor
from torch.nn import functional

from .preprocessing import checked_size, on_new_grid, on_same_grid, per_distinct_channel
from .sentence_augmentation import RandDropPositiond, RandMirrorWithSentenced, checked_probability
from .text import TokenizeTextd


def text_safe_augmentation(
    *,
    image_size: int | Sequence[int] = 224,
    zoom: float = 0.1,
    affine: float = 0.5,
    intensity: float = 0.5,
    mirror: float = 0.0,
    position_dropout: float = 0.0,
    max_tokens: int = 24,
    text_encoder: str = "embedded",
    laterality: str = "image",
) -> list[MapTransform]:
    """Build the training transforms that follow `image_text_preprocessing`.

    The label is brought to the size of the network input (nearest), then: zoom 0.95 to 1.2; rotation by 10
    degrees, scale 0.9 to 1.1 and shift by 5 %; brightness, contrast and gamma; mirroring together with the
    sentence; leaving out its words of place. Left, right, upper and lower stay where they were, unless the sentence is
    mirrored too.

    Args:
        image_size: as for the preprocessing.
        zoom: probability of the zoom of the papers.
        affine: probability of rotation, scale and shift.
        intensity: probability of the change of brightness, contrast and gamma.
        mirror: probability of mirroring image, label and sentence.
        position_dropout: probability that a sentence loses its words of place; see `RandDropPositiond`.
        max_tokens: as for the preprocessing.
        text_encoder: as for the preprocessing.
        laterality: as for the preprocessing.

    Raises:
        ValueError: when a probability is outside 0..1 or another argument is refused by the preprocessing.

    Reference:
        Zhong et al., "Ariadne's Thread", MICCAI 2023: zoom alone, in its code (utils/dataset.py).

    Differences from the paper:
        With `affine=0, intensity=0` the paper's own; there the zoom comes before the resizing. Words of place stay
        in every sentence (`position_dropout=0`).
    """
    size = checked_size(image_size)
    tokenize = TokenizeTextd(max_tokens=max_tokens, text_encoder=text_encoder, laterality=laterality)
    transforms: list[MapTransform] = [
        ResizeLabeld("label", size=size, allow_missing_keys=True),
        RandAlignedAffined(prob=affine, zoom_prob=zoom),
        RandIntensityd("image", prob=intensity),
    ]
    if checked_probability("mirror", mirror) > 0:
        transforms.append(RandMirrorWithSentenced(tokenize, prob=mirror))
    if checked_probability("position_dropout", position_dropout) > 0:
        transforms.append(RandDropPositiond(tokenize, prob=position_dropout))
    return transforms


def flat_compose(transforms: Iterable[Callable[..., Any] | Sequence[Callable[..., Any]]]) -> Compose:
    """Compose transforms, lists of transforms and other Composes into one flat Compose.

    MONAI's caching datasets keep what comes before the first random transform, and take a nested Compose for
    a random one.
    """
    flat: list[Callable[..., Any]] = []
    for part in transforms:
        if isinstance(part, Compose):
            flat.extend(flat_compose(part.transforms).transforms)
        elif isinstance(part, (list, tuple)):
            flat.extend(flat_compose(part).transforms)
        else:
            flat.append(part)
    return Compose(flat)


class ResizeLabeld(MapTransform):
    """Resize masks `(1, rows, columns)` to a size by the nearest pixel centre.

    Args:
        keys: keys of the masks.
        size: rows and columns.
        allow_missing_keys: a case without a mask passes.
    """

    def __init__(
        self, keys: KeysCollection, *, size: Sequence[int], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = tuple(size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize the masks of one case into a new dictionary."""
        case = dict(data)
        for key in self.key_iterator(case):
            label = case[key]
            values = _plain(label)[None].to(torch.float32)
            same = tuple(values.shape[2:]) == self.size
            resized = values if same else functional.interpolate(values, self.size, mode="nearest-exact")
            resized = resized[0]
            case[key] = on_new_grid(label, resized) if isinstance(label, MetaTensor) else resized
        return case


class RandAlignedAffined(RandomizableTransform, MapTransform):
    """Rotate, scale, shift and zoom image (bicubic, edge repeated) and mask (nearest, zeros outside) alike.

    Args:
        prob: probability of rotation, scale and shift, 0..1.
        zoom_prob: probability of the zoom, 0..1, drawn apart; both act in one resampling.
        rotate: largest rotation in degrees.
        scale: smallest and largest scale; above 1 things become larger.
        translate: largest shift, as a share of rows and of columns.
        zoom: smallest and largest zoom.
        image_key: key of the image `(C, rows, columns)`.
        label_key: key of the mask of the same size; may be missing.
    """

    def __init__(
        self,
        *,
        prob: float = 0.5,
        zoom_prob: float = 0.1,
        rotate: float = 10.0,
        scale: Sequence[float] = (0.9, 1.1),
        translate: float = 0.05,
        zoom: Sequence[float] = (0.95, 1.2),
        image_key: str = "image",
        label_key: str = "label",
    ) -> None:
        MapTransform.__init__(self, (image_key, label_key), allow_missing_keys=True)
        RandomizableTransform.__init__(self, 1.0)
        self.affine_prob = checked_probability("prob", prob)
        self.zoom_prob = checked_probability("zoom_prob", zoom_prob)
        self.rotate, self.scale, self.translate, self.zoom = rotate, tuple(scale), translate, tuple(zoom)
        self.image_key = image_key

    def randomize(self, data: Any = None) -> tuple[float, float, float, float]:
        """Draw angle (radians), magnification, shifts down and right (shares); (0, 1, 0, 0): no change."""
        draws = self.R.uniform(size=7)
        angle, magnification, down, right = 0.0, 1.0, 0.0, 0.0
        if draws[0] < self.affine_prob:
            angle = math.radians(self.rotate) * (2 * draws[1] - 1)
            magnification = self.scale[0] + (self.scale[1] - self.scale[0]) * draws[2]
            down, right = self.translate * (2 * draws[3] - 1), self.translate * (2 * draws[4] - 1)
        if draws[5] < self.zoom_prob:
            magnification *= self.zoom[0] + (self.zoom[1] - self.zoom[0]) * draws[6]
        return angle, magnification, down, right

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Move the image and the mask of one case into a new dictionary."""
        case = dict(data)
        angle, magnification, down, right = self.randomize()
        if (angle, magnification, down, right) == (0.0, 1.0, 0.0, 0.0):
            return case
        for key in self.key_iterator(case):
            values = _plain(case[key]).to(torch.float32)
            grid = sampling_grid(
                values.shape[1:], angle=angle, magnification=magnification, down=down, right=right
            )
            mode, padding = ("bicubic", "border") if key == self.image_key else ("nearest", "zeros")
            sample = partial(_sample, grid=grid, mode=mode, padding=padding)
            moved = per_distinct_channel(values, sample)
            case[key] = on_same_grid(case[key], moved) if isinstance(case[key], MetaTensor) else moved
        return case


def _sample(values: Tensor, *, grid: Tensor, mode: str, padding: str) -> Tensor:
    sampled = functional.grid_sample(values[None], grid, mode=mode, padding_mode=padding, align_corners=False)
    return sampled[0]


def sampling_grid(
    size: Sequence[int], *, angle: float, magnification: float, down: float, right: float
) -> Tensor:
    """Return where to sample a picture `(1, rows, columns, 2)` so that what it shows moves as told.

    Args:
        size: rows and columns.
        angle: counter-clockwise rotation about the centre, in radians, as seen on the display.
        magnification: > 1 makes things larger.
        down: shift towards the last row, as a share of the rows.
        right: shift towards the last column, as a share of the columns.
    """
    rows, columns = (int(side) for side in size)
    cosine, sine = math.cos(angle) / magnification, math.sin(angle) / magnification
    # Output point to input point, in units of half a side (x right, y down); the pixels are square.
    across, down_across = cosine, -sine * rows / columns
    right_down, along = sine * columns / rows, cosine
    x = (torch.arange(columns) * 2 + 1) / columns - 1 - 2 * right
    y = (torch.arange(rows)[:, None] * 2 + 1) / rows - 1 - 2 * down
    return torch.stack([across * x + down_across * y, right_down * x + along * y], dim=-1)[None]


class RandIntensityd(RandomizableTransform, MapTransform):
    """Change brightness, contrast and gamma of standardized images a little, alike in all channels.

    `x -> contrast * (low + (high - low) ((x - low) / (high - low))^gamma) + brightness` with low and high the
    extremes of the image.

    Args:
        keys: keys of the images.
        prob: probability, 0..1.
        brightness: largest shift, in standard deviations.
        contrast: largest relative change.
        gamma: smallest and largest exponent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        prob: float = 0.5,
        brightness: float = 0.15,
        contrast: float = 0.15,
        gamma: Sequence[float] = (0.8, 1.25),
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, checked_probability("prob", prob))
        self.brightness, self.contrast, self.gamma = brightness, contrast, tuple(gamma)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the images of one case into a new dictionary."""
        case = dict(data)
        draws = self.R.uniform(size=4)
        if draws[0] >= self.prob:
            return case
        shift, gain = self.brightness * (2 * draws[1] - 1), 1 + self.contrast * (2 * draws[2] - 1)
        gamma = self.gamma[0] * (self.gamma[1] / self.gamma[0]) ** draws[3]
        for key in self.key_iterator(case):
            image = _plain(case[key]).to(torch.float32)
            changed = per_distinct_channel(image, partial(_adjust, gamma=gamma, gain=gain, shift=shift))
            case[key] = on_same_grid(case[key], changed) if isinstance(case[key], MetaTensor) else changed
        return case


def _adjust(image: Tensor, *, gamma: float, gain: float, shift: float) -> Tensor:
    low, high = torch.aminmax(image)
    width = (high - low).clamp_min(1e-6)
    return (low + width * ((image - low) / width).pow(gamma)) * gain + shift


def _plain(values: Tensor) -> Tensor:
    return values.as_tensor() if isinstance(values, MetaTensor) else values

"""Corrupted images for measuring robustness: names and levels, and where they enter the preprocessing."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from torch import Tensor

from . import degradations
from .augmentation import flat_compose
from .preprocessing import ScaleToUnitd, StandardizeImaged, on_same_grid, slices_first

Degradation = Callable[[Tensor, float, Sequence[int]], Tensor]


@dataclass(frozen=True)
class _Kind:
    """What a corruption does, its levels from mild to severe, and which others it takes."""

    degrade: Degradation
    levels: tuple[float, ...]
    range: tuple[float, float]
    unit: str
    step: int = 0  # 0: any number; 1: whole ones; 2: odd ones

    def takes(self, level: float) -> bool:
        low, high = self.range
        return low <= level <= high and (self.step == 0 or level % self.step == self.step - 1)


_KINDS: dict[str, _Kind] = {
    "low_dose": _Kind(degradations.low_dose, (140, 120, 110), (1, 700), "photons of a white pixel"),
    "motion_blur": _Kind(degradations.motion_blur, (3, 5, 7), (3, 31), "pixels, odd", 2),
    "motion_blur_any": _Kind(degradations.motion_blur_any, (3, 5, 7), (3, 31), "pixels, odd", 2),
    "under_exposure": _Kind(degradations.under_exposure, (0.1, 0.2, 0.3), (0, 1), "share of the range"),
    "over_exposure": _Kind(degradations.over_exposure, (0.1, 0.2, 0.3), (0, 1), "share of the range"),
    "rotation": _Kind(degradations.rotation, (5, 10), (0, 180), "degrees"),
    "missing_corner": _Kind(degradations.missing_corner, (0.15, 0.25, 0.35), (0.01, 1), "share of the sides"),
    "jpeg": _Kind(degradations.jpeg, (50, 30, 10), (1, 100), "quality, whole", 1),
    "low_resolution": _Kind(degradations.low_resolution, (2, 4), (1, 32), "factor"),
}

CORRUPTIONS: dict[str, tuple[float, ...]] = {name: kind.levels for name, kind in _KINDS.items()}
"""Kinds of corruption, with the levels to measure at, from mild to severe."""


def corrupt(image: Tensor, kind: str, level: float, *, seed: int | Sequence[int]) -> Tensor:
    """Corrupt one image or a batch.

    An image of a batch becomes what it becomes alone.

    Args:
        image: `(C, rows, columns)` or `(B, C, rows, columns)` in [0, 1], gray or colour (C 1 or 3); not changed.
        kind: one of `CORRUPTIONS`: "low_dose" (Poisson noise; photons of a white pixel), "motion_blur" (along the
            rows; pixels, odd), "motion_blur_any" (along a line drawn for each image), "under_exposure" and
            "over_exposure" (darker and brighter by a share of the range, clipped), "rotation" (degrees, to a side
            drawn for each image), "missing_corner" (black; share of the sides), "jpeg" (quality), "low_resolution"
            (factor).
        level: one of `CORRUPTIONS[kind]`, or another in the kind's range.
        seed: of the image, or one an image of the batch, >= 0; see `corruption_seed`.

    Returns:
        float32 of the same shape, in [0, 1]; the channels of a gray image may share their memory. The same
        arguments give the same values.

    Raises:
        ValueError: if the kind is unknown (the nearest is named), the level is outside its range, the image is
            not in [0, 1], its shape is another, or the number of seeds is not that of the images.

    Reference:
        BiCLIP, section 4 (Table 3), for low dose and motion blur along the rows.

    Differences from the paper:
        It names the levels alone. Here D is the expected number of photons of a pixel of 1, on the grid of the
        network's input; blur reflects the edges. A gray image is one measurement: its noise is the same in all
        channels. The other kinds are ours.
    """
    chosen = _checked_kind(kind, level)
    images = _plain(image)[None] if image.ndim == 3 else _plain(image)
    seeds = _listed(seed)
    _check_shape(images, seeds)
    shape, gray = images.shape, degradations.are_gray(images)
    images = _checked_range(images[:, :1] if gray else images).to(torch.float32)
    corrupted = chosen.degrade(images, float(level), seeds).expand(shape)
    return corrupted[0] if image.ndim == 3 else corrupted


def corrupt_label(
    label: Tensor, kind: str, level: float, *, seed: int | Sequence[int], sides: Sequence[int] | None = None
) -> Tensor:
    """Move a mask as `corrupt` moves the image: a rotation turns it, the other kinds leave it.

    What a network draws on a turned image is to be compared with the turned mask. Parts that leave the picture
    count no more; parts under a missing corner do.

    Args:
        label: `(1, rows, columns)` or `(B, 1, rows, columns)`, of any size; not changed.
        kind: as for `corrupt`.
        level: as for `corrupt`.
        seed: as for `corrupt`.
        sides: rows and columns of the image; None: those of the mask.

    Returns:
        The mask, turned by the nearest pixel with zeros from outside, or `label` itself.

    Raises:
        ValueError: if the kind is unknown or the level is outside its range.
    """
    _checked_kind(kind, level)
    if kind != "rotation":
        return label
    masks = _plain(label)[None] if label.ndim == 3 else _plain(label)
    angles = degradations.turns(level, _listed(seed))
    moved = degradations.turned(masks.to(torch.float32), angles, mode="nearest", padding="zeros", sides=sides)
    moved = moved.to(label.dtype)
    return moved[0] if label.ndim == 3 else moved


def corruption_seed(name: object, kind: str, *, seed: int = 0) -> int:
    """Return the seed of a case: of its name, the kind and a number alone, so that levels share their draws.

    Args:
        name: id of the case.
        kind: of the corruption.
        seed: another gives other draws.
    """
    return zlib.crc32(f"{seed}/{kind}/{name}".encode())


def parse_corruption(text: str) -> tuple[str, float] | None:
    """Read a corruption such as "low_dose/110".

    Args:
        text: "none", or a kind, a slash and a level.

    Returns:
        Kind and level; None for "none".

    Raises:
        ValueError: if it is neither; kinds and levels are listed and the nearest is named.
    """
    if text == "none":
        return None
    kind, slash, written = str(text).partition("/")
    if kind not in _KINDS or not slash:
        known = [f"{name}/{level:g}" for name, levels in CORRUPTIONS.items() for level in levels]
        near = difflib.get_close_matches(str(text), known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"image corruption must be none or one of {', '.join(known)}, got {text!r}{hint}")
    try:
        level = float(written)
    except ValueError:
        level = float("nan")
    _checked_kind(kind, level, written)
    return kind, level


def with_corruption(preprocessing: Compose, corruption: str = "none", *, seed: int = 0) -> Compose:
    """Return a preprocessing that corrupts the resized image before it is normalised.

    Args:
        preprocessing: as `image_text_preprocessing` builds it.
        corruption: as `parse_corruption` reads it; "none" returns `preprocessing` itself.
        seed: of what the corruption draws, beside the id of the case.

    Raises:
        ValueError: if the corruption is unknown, or the preprocessing has no normalisation.
    """
    if parse_corruption(corruption) is None:
        return preprocessing
    before, after = split_at_corruption(preprocessing)
    return flat_compose([before, CorruptImaged("image", corruption=corruption, seed=seed), after])


def split_at_corruption(preprocessing: Compose) -> tuple[Compose, Compose]:
    """Split a preprocessing where corruptions enter: after the first part images are in [0, 1].

    Args:
        preprocessing: as `image_text_preprocessing` builds it.

    Returns:
        What comes before, scaling to [0, 1] included, and what comes after: normalisation, unless [0, 1] is what
        the network reads, and text.

    Raises:
        ValueError: if nothing in it normalises images.
    """
    steps = list(preprocessing.flatten().transforms)
    for index, step in enumerate(steps):
        if isinstance(step, ScaleToUnitd):
            return Compose(steps[: index + 1]), Compose(steps[index + 1 :])
        if isinstance(step, StandardizeImaged):
            return Compose([*steps[:index], ScaleToUnitd(step.keys)]), Compose(steps[index:])
    names = ", ".join(type(step).__name__ for step in steps)
    raise ValueError(f"preprocessing must have StandardizeImaged or ScaleToUnitd, got {names}")


class CorruptImaged(MapTransform):
    """Corrupt the images of cases, each by the seed of its id, and move their masks along.

    The slices of a volume are corrupted one by one with the same seed.

    Args:
        keys: keys of images `(C, rows, columns[, slices])` in [0, 1].
        corruption: as `parse_corruption` reads it.
        seed: of what the corruption draws, beside the id.
        label_keys: keys of masks, which may be missing or of another size; see `corrupt_label`.
        allow_missing_keys: do not fail when an image is missing.

    Raises:
        ValueError: if the corruption is unknown, or a case has no id.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image",),
        *,
        corruption: str,
        seed: int = 0,
        label_keys: Sequence[str] = ("label",),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.corruption = parse_corruption(corruption)
        self.seed, self.label_keys = seed, tuple(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Corrupt the images of one case into a new dictionary."""
        case = dict(data)
        if self.corruption is None:
            return case
        if case.get("id") is None:
            raise ValueError("a case must have an id, which its corruption is drawn from, got none")
        kind, level = self.corruption
        seed = corruption_seed(case["id"], kind, seed=self.seed)
        sides: tuple[int, ...] | None = None
        for key in self.key_iterator(case):
            sides = tuple(case[key].shape[1:3])
            case[key] = _by_slice(case[key], partial(corrupt, kind=kind, level=level), seed)
        for key in self.label_keys:
            if isinstance(case.get(key), Tensor):
                move = partial(corrupt_label, kind=kind, level=level, sides=sides)
                case[key] = _by_slice(case[key], move, seed)
        return case


def _by_slice(values: Tensor, function: Callable[..., Tensor], seed: int) -> Tensor:
    """Apply a function of a batch and its `seed` to `(C, rows, columns[, slices])`, and keep the meta data."""
    batch = slices_first(_plain(values))
    changed = function(batch, seed=[seed] * len(batch))
    changed = changed[0] if values.ndim == 3 else changed.movedim(0, -1)
    return on_same_grid(values, changed) if isinstance(values, MetaTensor) else changed


def _plain(values: Tensor) -> Tensor:
    return values.as_tensor() if isinstance(values, MetaTensor) else values


def _listed(seed: int | Sequence[int]) -> list[int]:
    return [int(seed)] if isinstance(seed, Integral) else [int(each) for each in seed]


def _check_shape(images: Tensor, seeds: Sequence[int]) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        shape = tuple(images.shape)
        raise ValueError(
            f"image must be ([B,] C, rows, columns) with 1 or 3 channels, got a batch of {shape}"
        )
    if len(seeds) != len(images):
        raise ValueError(f"seed must be one number an image, got {len(seeds)} for {len(images)} images")


def _checked_range(images: Tensor) -> Tensor:
    low, high = torch.aminmax(images)
    if not (low >= 0 and high <= 1):
        raise ValueError(f"image must be in [0, 1], got values from {low:g} to {high:g}: scale it first")
    return images


def _checked_kind(kind: str, level: float, written: str | None = None) -> _Kind:
    if kind not in _KINDS:
        near = difflib.get_close_matches(str(kind), _KINDS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"kind of corruption must be one of {', '.join(_KINDS)}, got {kind!r}{hint}")
    chosen = _KINDS[kind]
    if not chosen.takes(level):
        low, high = chosen.range
        got = f"{level:g}" if written is None else repr(written)
        raise ValueError(f"level of {kind} must be from {low:g} to {high:g} ({chosen.unit}), got {got}")
    return chosen

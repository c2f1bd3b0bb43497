"""What happens to every case before the network, in training, evaluation, inference and hosts alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import Compose, InvertibleTransform, MapTransform
from monai.transforms.utils import scale_affine
from torch import Tensor
from torch.nn import functional

from .dictionary import LoadImageAsDisplayedd
from .text import TokenizeTextd

STRIDE = 32  # the coarsest feature map of the networks
NORMALISATIONS = ("zscore", "unit")


def image_text_preprocessing(
    *,
    image_size: int | Sequence[int] = 224,
    max_tokens: int = 24,
    text_encoder: str = "embedded",
    laterality: str = "image",
    normalise: str = "zscore",
) -> Compose:
    """Build the flat, deterministic preprocessing of images with a sentence.

    Load as displayed, resize the image (bicubic), normalise it, tokenise the sentence. The label,
    when the case has one, stays on its own grid. A volume is treated slice by slice: its slices are resized and
    scored one by one, and `TextGuidedInferer` hands them to the network one by one.

    Args:
        image_size: rows and columns of the network input, one number for a square; multiples of 32.
        max_tokens: length of the token sequence.
        text_encoder: name of the tokenizer, as for `build_tokenizer`.
        laterality: "image" or "patient": whose left the network's sentences mean.
        normalise: "zscore" per channel, or "unit": from the darkest to the brightest value as 0 to 1, for networks
            that normalise by themselves.

    Raises:
        ValueError: when `image_size` is no positive multiple of 32, or `laterality` or `normalise` is unknown.

    Reference:
        Zhong et al., "Ariadne's Thread", MICCAI 2023, and the code of MMI-UNet (utils/dataset.py).

    Differences from the paper:
        Shrinking is anti-aliased, so that a radiograph of 3000 pixels does not turn into noise; the same when
        the images already have the size of the network input, as QaTa-COV19 has. "unit" is not a division by
        255: files of other kinds name no white, and hosts hand over pixels alone.
    """
    size = checked_size(image_size)
    if normalise not in NORMALISATIONS:
        raise ValueError(f"normalise must be one of {', '.join(NORMALISATIONS)}, got {normalise!r}")
    return Compose(
        [
            LoadImageAsDisplayedd(("image", "label")),
            ResizeImaged("image", size=size),
            StandardizeImaged("image") if normalise == "zscore" else ScaleToUnitd("image"),
            TokenizeTextd(max_tokens=max_tokens, text_encoder=text_encoder, laterality=laterality),
        ]
    )


def checked_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return `image_size` as rows and columns.

    Raises:
        ValueError: when it is not one or two positive multiples of 32.
    """
    sides = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    valid = all(isinstance(side, int) and side >= STRIDE and side % STRIDE == 0 for side in sides)
    if len(sides) != 2 or not valid:
        raise ValueError(f"image_size must be one or two positive multiples of {STRIDE}, got {image_size!r}")
    return sides[0], sides[1]


class ResizeImaged(MapTransform, InvertibleTransform):
    """Resize `(C, rows, columns[, slices])` images to the network's input size: bicubic, anti-aliased when shrinking.

    Slices keep their number. The inverse, meant for probabilities, is bilinear. Works with MONAI's `Invertd`.

    Args:
        keys: keys of the images.
        size: rows and columns.
        allow_missing_keys: do not fail when a key is missing.
    """

    def __init__(
        self, keys: KeysCollection, *, size: Sequence[int], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = tuple(size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize the images of one case into a new dictionary."""
        case = dict(data)
        for key in self.key_iterator(case):
            image = case[key] if isinstance(case[key], MetaTensor) else MetaTensor(case[key])
            original = tuple(image.shape[1:])
            resized = on_new_grid(image, resize(image.as_tensor(), self.size, mode="bicubic"))
            self.push_transform(resized, orig_size=original)
            case[key] = resized
        return case

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring maps back to the size before, bilinearly, into a new dictionary."""
        case = dict(data)
        for key in self.key_iterator(case):
            trace = self.pop_transform(case[key])
            original = tuple(int(side) for side in trace["orig_size"])
            case[key] = on_new_grid(case[key], resize(case[key].as_tensor(), original, mode="bilinear"))
        return case


class _RescaleImaged(MapTransform):
    """Give the images of a case other values on the same grid."""

    values: Callable[[Tensor], Tensor]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Rescale the images of one case into a new dictionary."""
        case = dict(data)
        for key in self.key_iterator(case):
            case[key] = _with_values(case[key], type(self).values)
        return case


class StandardizeImaged(_RescaleImaged):
    """Subtract the mean and divide by the standard deviation, per slice and channel (flat ones become 0).

    Args:
        keys: keys of `(C, rows, columns[, slices])` images.
        allow_missing_keys: do not fail when a key is missing.
    """

    @staticmethod
    def values(image: Tensor) -> Tensor:
        """Return the z-scores, see `z_score`."""
        return z_score(image)


class ScaleToUnitd(_RescaleImaged):
    """Scale images so that the darkest value becomes 0 and the brightest 1, per slice (flat ones become 0).

    Args:
        keys: keys of `(C, rows, columns[, slices])` images.
        allow_missing_keys: do not fail when a key is missing.
    """

    @staticmethod
    def values(image: Tensor) -> Tensor:
        """Return the values in [0, 1], see `scale_to_unit`."""
        return scale_to_unit(image)


def resize(image: Tensor, size: Sequence[int], *, mode: str) -> Tensor:
    """Resize `(C, rows, columns[, slices])` to rows and columns of `size`, anti-aliased where it shrinks (bicubic)."""
    size = tuple(size[:2])
    if tuple(image.shape[1:3]) == size:
        return image
    shrinks = any(new < old for new, old in zip(size, image.shape[1:3], strict=True))
    antialias = shrinks and mode == "bicubic"

    def interpolate(channels: Tensor) -> Tensor:
        batch = slices_first(channels).to(torch.float32)
        resized = functional.interpolate(batch, size, mode=mode, align_corners=False, antialias=antialias)
        return resized[0] if channels.ndim == 3 else resized.movedim(0, -1)

    return per_distinct_channel(image, interpolate)


def slices_first(image: Tensor) -> Tensor:
    """Return `(C, rows, columns)` as `(1, C, rows, columns)`, `(C, rows, columns, slices)` as a batch of slices."""
    return image[None] if image.ndim == 3 else image.movedim(-1, 0)


def z_score(image: Tensor) -> Tensor:
    """Return `(C, rows, columns[, slices])` with mean 0 and (biased) deviation 1 per channel and slice; flat: 0."""

    def score(channels: Tensor) -> Tensor:
        values = channels.to(torch.float32)
        deviation, mean = torch.std_mean(values, dim=(1, 2), correction=0, keepdim=True)
        largest = torch.maximum(values.amax(dim=(1, 2), keepdim=True), -values.amin(dim=(1, 2), keepdim=True))
        flat = deviation <= 1e-6 * largest
        return (values - mean) * torch.where(flat, 0.0, 1.0 / deviation)

    return per_distinct_channel(image, score)


def scale_to_unit(image: Tensor) -> Tensor:
    """Return `(C, rows, columns[, slices])` from 0 to 1 per slice, all channels alike, so that hues stay; flat: 0."""

    def scale(channels: Tensor) -> Tensor:
        values = channels.to(torch.float32)
        low, high = values.amin(dim=(0, 1, 2), keepdim=True), values.amax(dim=(0, 1, 2), keepdim=True)
        flat = high - low <= 1e-6 * torch.maximum(high.abs(), low.abs())
        return torch.where(flat, 0.0, (values - low) / torch.where(flat, 1.0, high - low))

    return per_distinct_channel(image, scale)


def per_distinct_channel(image: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of `(C, rows, columns[, slices])` that treats channels alike, once for repeated gray."""
    if image.shape[0] > 1 and image.stride(0) == 0:
        changed = function(image[:1])
        return changed.expand(image.shape[0], *changed.shape[1:])
    return function(image)


def on_same_grid(image: MetaTensor, values: Tensor) -> MetaTensor:
    """Return `values` with the meta data and the trace of `image`."""
    return MetaTensor(values, meta=dict(image.meta), applied_operations=list(image.applied_operations))


def on_new_grid(image: MetaTensor, values: Tensor) -> MetaTensor:
    """Return resized `values` with the meta data and the trace of `image`, and the affine of the new grid."""
    result = on_same_grid(image, values)
    before, after = tuple(image.shape[1:]), tuple(values.shape[1:])
    if before != after:
        scaling = scale_affine(before, after, centered=True)
        result.affine = image.affine @ torch.from_numpy(to_affine_nd(3, scaling)).to(image.affine)
    return result


def _with_values(image: Any, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to the values of an image; meta data stay."""
    if isinstance(image, MetaTensor):
        return on_same_grid(image, function(image.as_tensor()))
    return function(torch.as_tensor(image))

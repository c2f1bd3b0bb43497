"""The dictionary transform that loads a case's image and mask as displayed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from .loading import load_image

NOISE_SHARE = 0.05  # of all pixels that may lie between the two values in a lossy mask
LOSSY = ("jpeg", "mpo")


class LoadImageAsDisplayedd(MapTransform):
    """Load `image` as `(3, rows, columns)` and `label` as `(1, rows, columns)` of 0 and 1, as displayed.

    Gray images are repeated to three channels. A label must have two values (see `binary_mask`) and the size
    of the image. The paths stay in the case as `image_path` and `label_path`. An image that is already a
    tensor `(C, rows, columns)`, which a host loaded, is passed on as it is, with three channels.

    Args:
        keys: keys of files, among them "image" and "label".
        label_keys: those of `keys` that are masks.
        dimensions: 2 refuses volumes, 3 refuses pictures, None accepts both.
        allow_missing_keys: a case without a label (or None in its place) is an inference case.

    Raises:
        ValueError: as `load_image` and `binary_mask`; when the sizes of image and label differ or the number
            of dimensions is another; the files are named.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        *,
        label_keys: KeysCollection = ("label",),
        dimensions: int | None = None,
        allow_missing_keys: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if dimensions not in (None, 2, 3):
            raise ValueError(f"dimensions must be 2, 3 or None, got {dimensions!r}")
        self.label_keys = (label_keys,) if isinstance(label_keys, str) else tuple(label_keys)
        self.dimensions = dimensions

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load the files of one case into a new dictionary."""
        case = dict(data)
        if "image" in self.keys and case.get("image") is None:
            raise ValueError(f"image must be a path, got a case without one: {sorted(map(str, case))}")
        for key in self.key_iterator(case):
            if case[key] is None:
                del case[key]
            else:
                case[key] = self._load(case, key)
        self._check_sizes(case)
        return case

    def _load(self, case: dict[Hashable, Any], key: Hashable) -> Tensor:
        source = case[key]
        if isinstance(source, Tensor):
            return _three_channels(source)
        if not isinstance(source, (str, Path)):
            raise TypeError(f"{key} must be a path, got {type(source).__name__}")
        loaded = load_image(source)
        if self.dimensions is not None and loaded.ndim - 1 != self.dimensions:
            shape = tuple(loaded.shape[1:])
            raise ValueError(
                f"{source} must have {self.dimensions} dimensions, got shape {shape}: split the volume"
            )
        case[f"{key}_path"] = str(source)
        return binary_mask(loaded) if key in self.label_keys else _three_channels(loaded)

    def _check_sizes(self, case: Mapping[Hashable, Any]) -> None:
        image = case.get("image")
        for key in self.label_keys:
            label = case.get(key)
            if isinstance(image, Tensor) and isinstance(label, Tensor) and image.shape[1:] != label.shape[1:]:
                raise ValueError(
                    f"{case.get(f'{key}_path', key)} must have the size of its image "
                    f"{case.get('image_path', 'image')}, {tuple(image.shape[1:])}, "
                    f"got {tuple(label.shape[1:])}"
                )


def binary_mask(loaded: MetaTensor) -> MetaTensor:
    """Return a mask `(1, rows, columns[, slices])` of zeros and ones from a loaded mask file.

    Colour channels are averaged. When there are only zero and one other value, everything above zero is
    foreground. Otherwise the file must be an 8-bit mask with compression noise or soft edges: values above
    127 are foreground, and at most 5 % of the pixels lie between 32 and 223; unless it is a JPEG, it must
    reach 223 and have more than 8 values (fewer are classes).

    Raises:
        ValueError: when the file holds other values; the file and its values are named.
    """
    values = loaded.as_tensor().mean(dim=0, keepdim=True)
    if bool(((values == 0) | (values == values.max())).all()) and values.max() >= 0:
        foreground = values > 0
    elif _is_noisy_mask(values, lossy=loaded.meta.get("file_format") in LOSSY):
        foreground = values > 127
    else:
        name = loaded.meta.get("filename_or_obj", "the mask")
        raise ValueError(
            f"{name} must be a mask of two values, such as 0 and 255, got {_listed(values)}: "
            "choose one class and write it as 0 and 255"
        )
    return MetaTensor(foreground.to(torch.float32), meta=dict(loaded.meta))


def _is_noisy_mask(values: Tensor, *, lossy: bool) -> bool:
    if values.min() < 0 or values.max() > 255:
        return False
    soft = (values > 32) & (values < 223)
    if soft.float().mean() > NOISE_SHARE:
        return False
    return lossy or (values.max().item() >= 223 and len(np.unique(values.numpy())) > 8)


def _three_channels(image: Tensor) -> Tensor:
    """Repeat a gray image to three channels, which share their memory; keep colour."""
    return image.expand(3, *image.shape[1:]) if image.shape[0] == 1 else image


def _listed(values: Tensor) -> str:
    distinct = np.unique(values.numpy())
    shown = ", ".join(f"{value:g}" for value in distinct[:6])
    return f"{len(distinct)} values ({shown}{', …' if len(distinct) > 6 else ''})"

"""What happens to every volume before the network: brightness of the whole, plane, and the size of its slices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from torch import Tensor
from torch.nn import functional

from .preprocessing import checked_size, on_same_grid, resize
from .volume_loading import LoadVolumed

PLANES = MappingProxyType(  # displayed axis that rows, columns and slices of the plane show; rows run down
    {"axial": (0, 1, 2), "coronal": (2, 1, 0), "sagittal": (2, 0, 1)}
)
CHUNK = 32  # slices resized at once: memory stays that of one volume
SAMPLES = 1 << 20  # values that percentiles are taken of


def volume_preprocessing(
    *,
    classes: int,
    image_size: int | Sequence[int] = 256,
    modality: str | None = None,
    windows: Mapping[str, Sequence[float]] | None = None,
    percentiles: Sequence[float] = (0.5, 99.5),
    plane: str = "axial",
    keep_label_grid: bool = False,
) -> Compose:
    """Build the flat, deterministic preprocessing of volumes, the same in training and at inference.

    Load as displayed, cut off the extremes, subtract the mean and divide by three standard deviations (of the whole
    volume), turn to the plane, resize slices so that the longer side fits (bicubic), and fill up with the darkest
    value. The number of slices stays.

    Args:
        classes: number of classes with the background.
        image_size: rows and columns of the network input, one number for a square; multiples of 32.
        modality: of cases that name none.
        windows: lowest and highest value by modality, `{"ct": [-160, 240]}`; of others the percentiles are taken.
        percentiles: share of a volume's values below the lowest and the highest, in %, for modalities without window.
        plane: "axial", "coronal" or "sagittal".
        keep_label_grid: leave the label as displayed, to compare whole predictions with.

    Raises:
        ValueError: when an argument is out of range or unknown.

    Reference:
        TCSA-UDA, whose cardiac volumes are those of SIFA: coronal, 256 x 256, the top 2 % clipped, z-scored per
        volume, and brought from [-1.8, 4.4] (MR) or [-2.8, 3.2] (CT) to [-1, 1].

    Differences from the paper:
        Half a percent is cut off at either end: volumes come uncropped, and of a whole abdomen the top 2 % are the
        kidneys. One divisor for all modalities instead of a range measured on each set. The aspect of the pixels is
        kept.
    """
    return Compose(
        [
            LoadVolumed(classes=classes, modality=modality),
            NormaliseVolumed("image", windows=windows, percentiles=percentiles),
            FitVolumed(
                ("image",) if keep_label_grid else ("image", "label"),
                size=checked_size(image_size),
                plane=plane,
            ),
        ]
    )


class NormaliseVolumed(MapTransform):
    """Clip a volume to a window or to percentiles, subtract its mean, divide by three standard deviations.

    Args:
        keys: keys of `(1, rows, columns, slices)` images, whose meta data may name a "modality".
        windows: lowest and highest value by modality.
        percentiles: in %, where there is no window.

    Raises:
        ValueError: when a window or the percentiles are not two rising numbers.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        windows: Mapping[str, Sequence[float]] | None = None,
        percentiles: Sequence[float] = (0.5, 99.5),
    ) -> None:
        super().__init__(keys)
        self.windows = {name: _rising(window, f"windows[{name}]") for name, window in (windows or {}).items()}
        self.percentiles = _rising(percentiles, "percentiles")
        if self.percentiles[0] < 0 or self.percentiles[1] > 100:
            raise ValueError(f"percentiles must lie in 0..100, got {list(percentiles)}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise the volumes of one case into a new dictionary."""
        case = dict(data)
        for key in self.key_iterator(case):
            image = case[key]
            values = image.as_tensor() if isinstance(image, MetaTensor) else image
            modality = image.meta.get("modality") if isinstance(image, MetaTensor) else None
            limits = self.windows.get(str(modality)) or self._percentiles(values)
            scored = _scored(values, *limits)
            case[key] = on_same_grid(image, scored) if isinstance(image, MetaTensor) else scored
        return case

    def _percentiles(self, values: Tensor) -> tuple[float, float]:
        """Percentiles of evenly spread values, a million at most."""
        flat = values.reshape(-1)
        sample = flat[:: max(1, flat.numel() // SAMPLES)].numpy()
        low, high = np.percentile(sample, self.percentiles)
        return float(low), float(high)


def _scored(values: Tensor, low: float, high: float) -> Tensor:
    clipped = values.to(torch.float32).clamp(low, high)
    deviation, mean = torch.std_mean(clipped, correction=0)
    if float(deviation) <= 1e-6 * max(abs(low), abs(high)):
        return torch.zeros_like(clipped)
    return clipped.sub_(mean).div_(3 * deviation)


def _rising(numbers: Sequence[float], name: str) -> tuple[float, float]:
    values = tuple(float(number) for number in numbers)
    if len(values) != 2 or not values[0] < values[1]:
        raise ValueError(f"{name} must be two rising numbers, got {list(numbers)}")
    return values[0], values[1]


class FitVolumed(MapTransform):
    """Turn volumes to a plane and bring their slices to the size of the network input, keeping the aspect.

    Images are resized bicubically (anti-aliased) and filled up with their darkest value, labels to the nearest
    voxel and with 0. The meta data tell the way back, see `unfit_slices`: `volume_plane`, `volume_shape` (rows,
    columns and slices in the plane before resizing) and `volume_fit` (top, left, rows and columns of the
    picture in the input).

    Args:
        keys: of the volumes; a missing one is passed over.
        size: rows and columns of the network input.
        plane: see `PLANES`.
        label_keys: those of `keys` that are labels.

    Raises:
        ValueError: when the plane is unknown.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        size: Sequence[int],
        plane: str = "axial",
        label_keys: KeysCollection = ("label",),
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        if plane not in PLANES:
            raise ValueError(f"plane must be one of {', '.join(PLANES)}, got {plane!r}")
        self.size, self.plane = tuple(size), plane
        self.label_keys = (label_keys,) if isinstance(label_keys, str) else tuple(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fit the volumes of one case into a new dictionary."""
        case = dict(data)
        for key in self.key_iterator(case):
            case[key] = self._fitted(case[key], is_label=key in self.label_keys)
        return case

    def _fitted(self, volume: Tensor, *, is_label: bool) -> MetaTensor:
        whole = volume if isinstance(volume, MetaTensor) else MetaTensor(volume)
        turned = to_plane(whole.as_tensor(), self.plane)
        box = fitted_box(turned.shape[1:3], _plane_spacing(whole, self.plane), self.size)
        top, left, rows, columns = box
        values = 0 if is_label else float(turned.min())
        fitted = torch.full((1, *self.size, turned.shape[3]), values, dtype=turned.dtype)
        for start in range(0, turned.shape[3], CHUNK):
            part = turned[..., start : start + CHUNK].to(torch.float32)
            resized = (
                _nearest(part, (rows, columns)) if is_label else resize(part, (rows, columns), mode="bicubic")
            )
            fitted[:, top : top + rows, left : left + columns, start : start + CHUNK] = resized
        matrix = torch.from_numpy(_network_to_displayed(self.plane, whole.shape[1:], box))
        meta = {
            **whole.meta,
            "affine": whole.affine @ matrix.to(whole.affine),
            "volume_plane": self.plane,
            "volume_shape": np.array(turned.shape[1:], dtype=np.int64),
            "volume_fit": np.array(box, dtype=np.int64),
        }
        return MetaTensor(fitted, meta=meta)


def to_plane(volume: Tensor, plane: str) -> Tensor:
    """Turn a displayed (axial) volume `(C, rows, columns, slices)` to a plane; superior comes on top."""
    turned = volume.permute(0, *(axis + 1 for axis in PLANES[plane]))
    return turned if plane == "axial" else turned.flip(1)


def from_plane(volume: Tensor, plane: str) -> Tensor:
    """Turn a volume of a plane back to the display: the inverse of `to_plane`."""
    unflipped = volume if plane == "axial" else volume.flip(1)
    axes = PLANES[plane]
    return unflipped.permute(0, *(axes.index(axis) + 1 for axis in range(3)))


def fitted_box(
    shape: Sequence[int], spacing: Sequence[float], size: Sequence[int]
) -> tuple[int, int, int, int]:
    """Return top, left, rows and columns of a slice in the network input.

    Args:
        shape: rows and columns of the slice.
        spacing: of them, in any unit.
        size: rows and columns of the input.
    """
    lengths = [side * step for side, step in zip(shape[:2], spacing, strict=True)]
    scale = min(side / length for side, length in zip(size, lengths, strict=True))
    rows, columns = (
        min(max(round(length * scale), 1), side) for length, side in zip(lengths, size, strict=True)
    )
    return (size[0] - rows) // 2, (size[1] - columns) // 2, rows, columns


def unfit_slices(slices: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Bring slices `(C, rows, columns, n)` of the network's grid to the size before `FitVolumed`, bilinearly.

    Args:
        slices: any number of slices of the plane; the middle part is cut out and resized.
        meta: of the fitted image.
    """
    top, left, rows, columns = (int(number) for number in np.asarray(meta["volume_fit"]))
    wanted = [int(side) for side in np.asarray(meta["volume_shape"])[:2]]
    inner = slices[:, top : top + rows, left : left + columns]
    return resize(inner, wanted, mode="bilinear")


def _nearest(label: Tensor, size: Sequence[int]) -> Tensor:
    batch = functional.interpolate(label.movedim(-1, 0), tuple(size), mode="nearest-exact")
    return batch.movedim(0, -1)


def _plane_spacing(volume: MetaTensor, plane: str) -> list[float]:
    """Spacing of rows and columns in the plane."""
    lengths = np.linalg.norm(np.asarray(volume.affine)[:3, :3], axis=0)
    return [float(lengths[axis]) for axis in PLANES[plane][:2]]


def _network_to_displayed(plane: str, shape: Sequence[int], box: Sequence[int]) -> np.ndarray:
    """Return the 4 x 4 matrix from the indices of the network's grid to those of the displayed volume."""
    axes = PLANES[plane]
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    factors = [shape[axes[0]] / box[2], shape[axes[1]] / box[3], 1.0]
    for place, (axis, factor) in enumerate(zip(axes, factors, strict=True)):
        offset = (0.5 - (box[place] if place < 2 else 0)) * factor - 0.5 if place < 2 else 0.0
        flipped = place == 0 and plane != "axial"
        matrix[axis, place] = -factor if flipped else factor
        matrix[axis, 3] = shape[axis] - 1 - offset if flipped else offset
    return matrix

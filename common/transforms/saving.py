"""From logits to a mask on the grid of the image's file, and to a file of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, SaveImaged
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .display import DisplayOrder
from .loading import DISPLAY_NOTE, spatial_size
from .preprocessing import resize

WHITE = 255


def segmentation_postprocessing(
    *,
    threshold: float = 0.5,
    output_dir: str | Path | None = None,
    file_grid: bool = False,
    keep_probability: bool = False,
) -> Compose:
    """Build the flat postprocessing of one decollated case: logits `(1, h, w)` under "pred" to a mask.

    Sigmoid, bilinear resizing of the probabilities to the displayed size of the image file, threshold, and
    optionally saving.

    Args:
        threshold: foreground is a probability of at least this, 0 < threshold < 1.
        output_dir: folder in which `predictions/<id>.png` or `.nii.gz` is written; None writes nothing.
        file_grid: end with the mask as the file's own axes have it (see `MaskOnFileGridd`), which is what
            hosts that write the result themselves need; the displayed mask stays under "pred_displayed". With
            labels leave it off: they are as displayed.
        keep_probability: also keep the probabilities, on the displayed grid, under "probability".

    Raises:
        ValueError: when `threshold` is not between 0 and 1.
    """
    transforms: list[Callable[..., Any]] = [
        ProbabilityOnImaged("pred", keep_as="probability" if keep_probability else None),
        Thresholdd("pred", threshold=threshold),
    ]
    if output_dir is not None:
        transforms.append(SaveImageMaskd("pred", output_dir=output_dir))
    if file_grid:
        transforms.append(MaskOnFileGridd("pred"))
    return Compose(transforms)


class ProbabilityOnImaged(MapTransform):
    """Turn logits into probabilities and resize them, bilinearly, to the displayed size of the image file.

    Args:
        keys: keys of logits `(C, rows, columns)`.
        image_key: key of the image, whose meta data tell the size.
        keep_as: another key under which the result stays available after thresholding.
    """

    def __init__(self, keys: KeysCollection, *, image_key: str = "image", keep_as: str | None = None) -> None:
        super().__init__(keys)
        self.image_key, self.keep_as = image_key, keep_as

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring the predictions of one case to the image's grid, in a new dictionary."""
        case = dict(data)
        image = case[self.image_key]
        for key in self.key_iterator(case):
            probability = torch.sigmoid(_plain(case[key]).detach().to(torch.float32))
            restored = resize(probability, _displayed_size(image, probability), mode="bilinear")
            case[key] = _described(restored, image)
            if self.keep_as is not None:
                case[self.keep_as] = case[key]
        return case


class Thresholdd(MapTransform):
    """Turn probabilities into a mask of zeros and ones, uint8.

    Args:
        keys: keys of probabilities.
        threshold: foreground is a probability of at least this, 0 < threshold < 1.

    Raises:
        ValueError: when `threshold` is not between 0 and 1.
    """

    def __init__(self, keys: KeysCollection, *, threshold: float = 0.5) -> None:
        super().__init__(keys)
        if not 0.0 < threshold < 1.0:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold}")
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Threshold the probabilities of one case into a new dictionary."""
        case = dict(data)
        for key in self.key_iterator(case):
            case[key] = (case[key] >= self.threshold).to(torch.uint8)
        return case


class MaskOnFileGridd(MapTransform):
    """Turn a displayed mask `(1, rows, columns[, slices])` into the file's axes, as MONAI's readers give it.

    The result is uint8 of shape `(x, y)` for pictures and DICOM and `(x, y, z)` for NIfTI, without a channel; a
    NIfTI file of two axes gets a third of length 1, without which an affine is not written. This is what MONAI
    Label's stock writer needs for a result of the size and orientation of the input. The image's meta data are
    told the file's shape and affine, which that writer compares with. The displayed mask stays in the case under
    `<key>_displayed`.

    Args:
        keys: keys of the masks.
        image_key: key of the image.
    """

    def __init__(self, keys: KeysCollection, *, image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turn the masks of one case into a new dictionary."""
        case = dict(data)
        image = case[self.image_key]
        if "file_shape" not in image.meta:
            return case  # a host loaded the image: its own grid is the displayed one
        for key in self.key_iterator(case):
            stored = self.stored(case[key], image.meta)
            case[f"{key}_displayed"], case[key] = case[key], torch.from_numpy(np.ascontiguousarray(stored))
        shape, affine = np.array(stored.shape, dtype=np.int64), np.asarray(image.meta["file_affine"])
        meta = {**image.meta, "spatial_shape": shape, "original_affine": affine}
        case[self.image_key] = MetaTensor(image, meta=meta, applied_operations=list(image.applied_operations))
        return case

    def stored(self, mask: Tensor, meta: Mapping[str, Any]) -> np.ndarray:
        """Return a displayed mask in the file's axes: (x, y[, z]) to (x, y, z), (rows, columns) to (x, y)."""
        stored = mask_on_file_grid(mask, meta)
        return np.atleast_3d(stored) if meta["file_format"] == "nifti" else stored.T


class SaveImageMaskd(SaveImaged):
    """Write a displayed mask `(1, rows, columns[, slices])` to `output_dir/predictions/<id>`.

    - **Pictures**: PNG, uint8, 0 and 255, of the picture's size and orientation.
    - **NIfTI**: `.nii.gz`, uint8, 0 and 1, with the affine, axis order, shape and codes of the input file.
    - **DICOM**: PNG as for pictures, on the grid on which the pixels are *stored*, so it fits `pixel_array`;
      when the display differs from that, a PNG text tells `load_image`, which shows it as displayed.

    The file gets its name when it is complete. Its path is written to the case as `<key>_path`. The name and
    the base class make hosts that save results themselves leave the transform out.

    Args:
        keys: keys of the masks.
        output_dir: folder for `predictions/`; made when missing.
        image_key: key of the image, whose meta data tell the format and the grid.
        id_key: key of the case's name; without one the name of the image file is used.

    Raises:
        ValueError: when the mask has not the size of the image or no name can be found.
    """

    def __init__(
        self, keys: KeysCollection, *, output_dir: str | Path, image_key: str = "image", id_key: str = "id"
    ) -> None:
        MapTransform.__init__(self, keys)
        self.folder = Path(output_dir) / "predictions"
        self.image_key, self.id_key = image_key, id_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the masks of one case; return a new dictionary with their paths."""
        case = dict(data)
        meta = case[self.image_key].meta
        name = str(case.get(self.id_key) or _stem(str(meta.get("filename_or_obj", ""))))
        for key in self.key_iterator(case):
            case[f"{key}_path"] = str(save_mask(case[key], meta, self.folder / safe_name(name)))
        return case


def save_mask(mask: Tensor, meta: Mapping[str, Any], path: str | Path) -> Path:
    """Write a displayed mask beside its image's format (see `SaveImageMaskd`); return the file's path.

    Args:
        mask: `(1, rows, columns[, slices])`, zero and non-zero.
        meta: meta data of the image, from `load_image`.
        path: where to, without suffix.

    Raises:
        ValueError: when the mask has not the size of the image.
    """
    stored = mask_on_file_grid(mask, meta)
    suffix = ".nii.gz" if meta.get("file_format") == "nifti" else ".png"
    target = Path(f"{path}{suffix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        if suffix == ".png":
            _write_png(stored, meta, partial)
        else:
            _write_nifti(stored, meta, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def mask_on_file_grid(mask: Tensor, meta: Mapping[str, Any]) -> np.ndarray:
    """Return a displayed mask `(1, rows, columns[, slices])` as uint8 zeros and ones on the file's own axes.

    Raises:
        ValueError: when the mask has not one channel or not the size of the image.
    """
    wanted = _wanted_size(meta)
    if mask.shape[0] != 1 or (wanted and list(mask.shape[1:]) != wanted):
        name = meta.get("filename_or_obj", "the image")
        raise ValueError(f"the mask of {name} must have shape {[1, *wanted]}, got {list(mask.shape)}")
    binary = (_plain(mask) > 0).to(torch.uint8).cpu()
    if "display_axes" not in meta:
        return binary[0].numpy()
    stored = DisplayOrder.from_meta(meta).to_stored(binary)[0].numpy()
    shape = tuple(int(side) for side in np.asarray(meta["file_shape"]) if side > 0)
    return np.ascontiguousarray(stored).reshape(shape)


def safe_name(name: str) -> str:
    """Return a case's name as a file name: what is not a letter, digit, dot, dash or underscore becomes `_`.

    Raises:
        ValueError: when nothing is left of the name.
    """
    safe = re.sub(r"[^\w.\-]", "_", name).lstrip(".")
    if not safe:
        raise ValueError(f"id must be a name that a file can have, got {name!r}")
    return safe


def _write_png(stored: np.ndarray, meta: Mapping[str, Any], path: Path) -> None:
    note = None
    if "display_axes" in meta:
        order = DisplayOrder.from_meta(meta)
        if order != DisplayOrder.identity(2):
            note = PngInfo()
            note.add_text(DISPLAY_NOTE, " ".join(str(int(number)) for number in (*order.axes, *order.flips)))
    Image.fromarray(stored * np.uint8(WHITE)).save(path, format="PNG", pnginfo=note, compress_level=1)


def _write_nifti(stored: np.ndarray, meta: Mapping[str, Any], path: Path) -> None:
    affine = np.asarray(meta["file_affine"], dtype=np.float64)
    image = nibabel.Nifti1Image(stored, affine)
    sform, qform = (int(code) for code in np.asarray(meta["file_codes"]))
    image.set_sform(affine, code=sform)
    image.set_qform(affine, code=qform)
    nibabel.save(image, path)


def _described(values: Tensor, image: Tensor) -> Tensor:
    """Return `values` with the file's meta data of `image`, when it has some."""
    if not isinstance(image, MetaTensor) or "original_affine" not in image.meta:
        return values
    affine = torch.as_tensor(np.asarray(image.meta["original_affine"]))
    return MetaTensor(values, meta={**image.meta, "affine": affine})


def _displayed_size(image: Tensor, values: Tensor) -> list[int]:
    """Return the size to restore: that of the file, or that of the image a host loaded, or no change."""
    if isinstance(image, MetaTensor) and "display_shape" in image.meta:
        return list(spatial_size(image))
    if isinstance(image, MetaTensor):
        sizes = [
            trace["orig_size"] for trace in image.applied_operations if trace.get("class") == "ResizeImaged"
        ]
        if sizes:
            return [int(side) for side in sizes[0]]
    return list(values.shape[1:])


def _wanted_size(meta: Mapping[str, Any]) -> list[int]:
    shape = meta.get("display_shape")
    return [] if shape is None else [int(side) for side in np.asarray(shape) if side > 0]


def _plain(values: Tensor) -> Tensor:
    return values.as_tensor() if isinstance(values, MetaTensor) else values


def _stem(name: str) -> str:
    return re.sub(r"(\.nii\.gz|\.[A-Za-z]{2,5})$", "", Path(name).name)

"""From logits of slices to a volume of classes on the grid of the image's file, with the names of its classes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, SaveImaged
from nibabel.nifti1 import Nifti1Extension
from torch import Tensor

from .display import DisplayOrder
from .saving import MaskOnFileGridd, safe_name
from .volumes import CHUNK, from_plane, unfit_slices

COMMENT = 6  # code of NIfTI extensions that hold text
SUFFIXES = (".nii.gz", ".nii", ".dcm")


def volume_postprocessing(
    *, labels: Mapping[str, str], output_dir: str | Path | None = None, file_grid: bool = False
) -> Compose:
    """Build the flat postprocessing of one decollated case: logits `(classes, h, w, slices)` under "pred" to classes.

    Args:
        labels: name of every class by its number as text, "0" for the background.
        output_dir: folder in which `predictions/<id>.nii.gz` is written; None writes nothing.
        file_grid: end with the classes as the file's own axes have them, which is what hosts that write the result
            themselves need; the displayed ones stay under "pred_displayed".

    Raises:
        ValueError: when the numbers of the classes are not 0, 1, 2 …
    """
    transforms: list[Callable[..., Any]] = [RestoreLabelsd("pred")]
    if output_dir is not None:
        transforms.append(SaveLabelVolumed("pred", output_dir=output_dir, labels=labels))
    else:
        checked_labels(labels)
    if file_grid:
        transforms.append(LabelsOnFileGridd("pred"))
    return Compose(transforms)


def checked_labels(labels: Mapping[Any, str]) -> dict[int, str]:
    """Return the names of the classes by number.

    Raises:
        ValueError: when the numbers are not 0, 1, 2 … or a name is empty or occurs twice.
    """
    try:
        names = {int(number): str(name) for number, name in labels.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"labels must have the numbers of the classes as keys, got {list(labels)}"
        ) from error
    distinct = len(set(names.values())) == len(labels) and all(names.values())
    if len(names) < 2 or sorted(names) != list(range(len(names))) or not distinct:
        raise ValueError(
            f"labels must name the classes 0, 1, 2 … each by a name of its own, got {dict(labels)}"
        )
    return dict(sorted(names.items()))


class RestoreLabelsd(MapTransform):
    """Turn logits of the network's grid into classes `(1, rows, columns, slices)` of the displayed volume, uint8.

    Softmax, bilinear resizing of the probabilities, the most probable class; a few slices at a time, so that no more
    than the classes are ever held on the large grid.

    Args:
        keys: keys of logits `(classes, rows, columns, slices)`.
        image_key: key of the image, whose meta data tell the way back (see `FitVolumed`).

    Raises:
        ValueError: when the logits do not fit the image.
    """

    def __init__(self, keys: KeysCollection, *, image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Restore the predictions of one case into a new dictionary."""
        case = dict(data)
        for key in self.key_iterator(case):
            case[key] = restored_labels(case[key], case[self.image_key])
        return case


def restored_labels(logits: Tensor, image: Tensor) -> MetaTensor:
    """Return the classes of a volume on its displayed grid; see `RestoreLabelsd`."""
    if not isinstance(image, MetaTensor) or "volume_fit" not in image.meta:
        raise ValueError("image must be a volume of volume_preprocessing, got one without its meta data")
    values = logits.as_tensor() if isinstance(logits, MetaTensor) else logits
    if values.ndim != 4 or values.shape[0] < 2 or values.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"pred must be logits (classes, {', '.join(map(str, image.shape[1:]))}), got {tuple(values.shape)}"
        )
    shape = [int(side) for side in np.asarray(image.meta["volume_shape"])]
    labels = torch.empty((1, *shape), dtype=torch.uint8)
    for start in range(0, shape[2], CHUNK):
        part = torch.softmax(values[..., start : start + CHUNK].detach().to(torch.float32), dim=0)
        best = unfit_slices(part, image.meta).argmax(dim=0, keepdim=True)
        labels[..., start : start + CHUNK] = best.to(torch.uint8).cpu()
    displayed = from_plane(labels, str(image.meta["volume_plane"])).contiguous()
    if "original_affine" not in image.meta:
        return MetaTensor(displayed)
    affine = torch.as_tensor(np.asarray(image.meta["original_affine"]))
    return MetaTensor(displayed, meta={**image.meta, "affine": affine})


class SaveLabelVolumed(SaveImaged):
    """Write displayed classes `(1, rows, columns, slices)` to `output_dir/predictions/<id>.nii.gz` on the file's grid.

    Affine, axis order, shape and orientation codes are those of the image's file; of a DICOM series, those of its
    stored slices. The header says that values are labels, and an extension (a comment in JSON) which is which. The
    file gets its name when it is complete; its path is written to the case as `<key>_path`. The name and the base
    class make hosts that save results themselves leave the transform out.

    Args:
        keys: keys of the classes.
        output_dir: folder for `predictions/`; made when missing.
        labels: name of every class by its number.
        image_key: key of the image.
        id_key: key of the case's name; without one the name of the image file is used.

    Raises:
        ValueError: as `checked_labels`; when the classes have not the size of the image, or no name can be found.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        output_dir: str | Path,
        labels: Mapping[str, str],
        image_key: str = "image",
        id_key: str = "id",
    ) -> None:
        MapTransform.__init__(self, keys)
        self.folder = Path(output_dir) / "predictions"
        self.labels = checked_labels(labels)
        self.image_key, self.id_key = image_key, id_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the classes of one case; return a new dictionary with their paths."""
        case = dict(data)
        meta = case[self.image_key].meta
        name = str(case.get(self.id_key) or _stem(str(meta.get("filename_or_obj", ""))))
        target = self.folder / f"{safe_name(name)}.nii.gz"
        for key in self.key_iterator(case):
            case[f"{key}_path"] = str(save_labels(case[key], meta, target, labels=self.labels))
        return case


def save_labels(
    labels_volume: Tensor, meta: Mapping[str, Any], path: str | Path, *, labels: Mapping[Any, str]
) -> Path:
    """Write displayed classes as NIfTI on the grid of the image's file; see `SaveLabelVolumed`.

    Args:
        labels_volume: `(1, rows, columns, slices)`, whole numbers.
        meta: of the image.
        path: where to, ending in `.nii.gz`.
        labels: name of every class by its number.

    Raises:
        ValueError: when the size is not that of the image, or a class has no name.
    """
    names = checked_labels(labels)
    stored = labels_on_file_grid(labels_volume, meta)
    if int(stored.max(initial=0)) not in names:
        raise ValueError(f"the classes must be among 0 to {max(names)}, got {int(stored.max())}")
    affine = np.asarray(meta["file_affine"], dtype=np.float64)
    image = nibabel.Nifti1Image(stored, affine)
    sform, qform = (int(code) for code in np.asarray(meta["file_codes"]))
    known = max(sform, qform) > 0
    image.set_sform(affine, code=sform if known else 1)
    image.set_qform(affine, code=qform if known else 1)
    image.header.set_intent("label", name="segmentation")
    image.header.set_xyzt_units("mm")
    text = json.dumps({"labels": {str(number): name for number, name in names.items()}})
    image.header.extensions.append(Nifti1Extension(COMMENT, text.encode()))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        nibabel.save(image, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def read_label_names(path: str | Path) -> dict[int, str]:
    """Return the names of the classes that `save_labels` wrote into a NIfTI file; empty when it holds none."""
    for extension in nibabel.load(path).header.extensions:
        try:
            content = json.loads(bytes(extension.get_content()).rstrip(b"\0"))
            return {int(number): str(name) for number, name in content["labels"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return {}


def labels_on_file_grid(labels_volume: Tensor, meta: Mapping[str, Any]) -> np.ndarray:
    """Return displayed classes `(1, rows, columns, slices)` as uint8 on the file's own axes.

    Raises:
        ValueError: when there is not one channel or the size is not that of the image.
    """
    wanted = [int(side) for side in np.asarray(meta["display_shape"]) if side > 0]
    if list(labels_volume.shape) != [1, *wanted]:
        name = meta.get("filename_or_obj", "the image")
        raise ValueError(
            f"the classes of {name} must have shape {[1, *wanted]}, got {list(labels_volume.shape)}"
        )
    plain = labels_volume.as_tensor() if isinstance(labels_volume, MetaTensor) else labels_volume
    stored = DisplayOrder.from_meta(meta).to_stored(plain.to(torch.uint8).cpu())[0].numpy()
    shape = tuple(int(side) for side in np.asarray(meta["file_shape"]) if side > 0)
    return np.ascontiguousarray(stored).reshape(shape)


class LabelsOnFileGridd(MaskOnFileGridd):
    """`MaskOnFileGridd` for the classes of a volume: uint8, without a channel, for hosts that write them themselves."""

    def stored(self, mask: Tensor, meta: Mapping[str, Any]) -> np.ndarray:
        """Return displayed classes in the file's axes."""
        return labels_on_file_grid(mask, meta)


def _stem(name: str) -> str:
    file = Path(name).name
    return next((file[: -len(suffix)] for suffix in SUFFIXES if file.lower().endswith(suffix)), file)

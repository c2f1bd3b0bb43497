"""Load volumes with labels of several classes, and refuse what cannot be trusted in space or value."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from nibabel.filebasedimages import ImageFileError
from torch import Tensor

from ..dicom.rescaled import load_rescaled_series
from ..dicom.volume import is_series
from .loading import NIFTI_SUFFIXES, load_image

MINIMUM_SLICES = 2
SAME_PLACE = 0.1  # of a voxel: how far the corners of a label may lie from those of its image
FLAT = 1e-6  # a determinant of the direction cosines below this is none


def load_volume(path: str | Path) -> MetaTensor:
    """Read a NIfTI volume, or a DICOM series in the units of its modality, as displayed.

    Args:
        path: a NIfTI file with an orientation, a folder with one DICOM series, or a DICOM file of several frames.

    Returns:
        `(1, rows, columns, slices)` float32 and meta data as `load_image` gives; DICOM in rescaled values (Hounsfield
        units), not in those of a window.

    Raises:
        ValueError: when the file cannot be read, says nothing about its orientation, has a singular affine, has more
            than three dimensions, several channels or fewer than two slices, or a series is not complete.
    """
    file = Path(path)
    if is_series(file):
        return load_rescaled_series(file)
    if file.is_file() and file.name.lower().endswith(NIFTI_SUFFIXES):
        _check_affine(file)
    loaded = load_image(file)
    shape = tuple(loaded.shape[1:])
    if loaded.ndim != 4 or shape[2] < MINIMUM_SLICES:
        raise ValueError(
            f"{file} must be a volume of at least {MINIMUM_SLICES} slices, got shape {shape}: a single slice is no "
            "volume"
        )
    if loaded.shape[0] != 1:
        raise ValueError(f"{file} must have one channel, got {loaded.shape[0]}")
    return loaded


def _check_affine(file: Path) -> None:
    """Refuse a NIfTI file that does not say where its voxels lie."""
    try:
        image = nibabel.load(file)
        header, affine = image.header, np.asarray(image.affine, dtype=np.float64)
    except (ImageFileError, OSError, EOFError, ValueError):
        return  # the reader tells what is wrong
    except Exception:  # zlib.error and the header errors of nibabel share no base class
        return
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    usable = bool(np.isfinite(affine).all() and (lengths > 0).all())
    if not usable or abs(np.linalg.det(affine[:3, :3] / lengths)) < FLAT:
        raise ValueError(
            f"{file} must have an affine with three directions, got a singular one: write it again"
        )
    if max(int(header["sform_code"]), int(header["qform_code"])) <= 0:
        raise ValueError(
            f"{file} must have an affine (sform or qform code above 0), got none: without it left and right are unknown"
        )


def class_labels(loaded: MetaTensor, classes: int, *, image: Tensor | None = None) -> MetaTensor:
    """Return a loaded label volume as classes.

    Args:
        loaded: `(1, rows, columns, slices)`.
        classes: number of classes with the background; values are 0 to `classes` - 1.
        image: the volume that it belongs to, to compare size and place with.

    Returns:
        The same, uint8.

    Raises:
        ValueError: when there are other values, or size or place differ; the file is named.
    """
    name = loaded.meta.get("filename_or_obj", "the label")
    values = loaded.as_tensor()
    known = (values >= 0) & (values < classes) & (values == values.round())
    if not bool(known.all()):
        strange = np.unique(values[~known].numpy())
        shown = ", ".join(f"{value:g}" for value in strange[:6]) + (", …" if len(strange) > 6 else "")
        raise ValueError(
            f"{name} must hold the classes 0 to {classes - 1}, got {shown}: map its values with tools.prepare_data"
        )
    if isinstance(image, MetaTensor):
        check_same_place(loaded, image, str(name))
    return MetaTensor(values.to(torch.uint8), meta=dict(loaded.meta))


def check_same_place(label: MetaTensor, image: MetaTensor, name: str) -> None:
    of = image.meta.get("filename_or_obj", "its image")
    if label.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"{name} must have the size of {of}, {tuple(image.shape[1:])}, got {tuple(label.shape[1:])}"
        )
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in image.shape[1:]], [1.0])).reshape(4, -1)
    there, here = np.asarray(image.affine) @ corners, np.asarray(label.affine) @ corners
    away = float(np.abs(there - here).max())
    voxel = float(np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0).min())
    if away > SAME_PLACE * voxel:
        raise ValueError(
            f"{name} must lie where {of} lies, got corners {away:.3g} mm away: resample the label"
        )


class LoadVolumed(MapTransform):
    """Load `image` and, where a case has one, `label` as displayed volumes (see `load_volume`, `class_labels`).

    An image that is already a tensor `(1, rows, columns, slices)`, which a host loaded, is passed on. The image's
    meta data get the case's "modality".

    Args:
        classes: number of classes with the background.
        modality: of cases that name none; None leaves the choice to the network.
        modalities: those that are known.
        keys: of image and label.

    Raises:
        ValueError: as the functions named; when a modality is unknown; the case's files are named.
    """

    def __init__(
        self,
        *,
        classes: int,
        modality: str | None = None,
        modalities: Sequence[str] = ("ct", "mr", "flair", "t2"),
        keys: KeysCollection = ("image", "label"),
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        if classes < 2:
            raise ValueError(f"classes must be at least 2, with the background, got {classes}")
        self.classes, self.modalities = classes, tuple(modalities)
        self.modality = self._known(modality) if modality else None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load the volumes of one case into a new dictionary."""
        case = dict(data)
        image_key, label_key = self.keys
        if case.get(image_key) is None:
            raise ValueError(f"image must be a path, got a case without one: {sorted(map(str, case))}")
        image = self._image(case[image_key])
        named = case.get("modality") or self.modality
        if named:
            case["modality"] = image.meta["modality"] = self._known(named)
        case[image_key] = image
        if case.get(label_key) is None:
            case.pop(label_key, None)
        else:
            case[label_key] = class_labels(load_volume(case[label_key]), self.classes, image=image)
        for key in self.keys:
            if isinstance(data.get(key), (str, Path)):
                case[f"{key}_path"] = str(data[key])
        return case

    def _image(self, source: Any) -> MetaTensor:
        if isinstance(source, (str, Path)):
            return load_volume(source)
        if not isinstance(source, Tensor):
            raise TypeError(f"image must be a path, got {type(source).__name__}")
        if source.ndim != 4 or source.shape[0] != 1:
            raise ValueError(
                f"image must be a volume (1, rows, columns, slices), got shape {tuple(source.shape)}"
            )
        return source if isinstance(source, MetaTensor) else MetaTensor(source)

    def _known(self, modality: Any) -> str:
        if modality not in self.modalities:
            raise ValueError(f"modality must be one of {', '.join(self.modalities)}, got {modality!r}")
        return str(modality)

"""What comes out of segmenting one case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .info import BundleInfo


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The mask of one case, with what it was made of.

    Attributes:
        id: name of the case; its files are called so.
        image: path of the image, or of every file of its series.
        text: the sentence as it was given or found.
        sentence: as the network read it, in its own laterality.
        laterality: "image" or "patient": whose left `sentence` means.
        given_laterality: whose left `text` means.
        text_source: "given", or where a sentence of a DICOM file was found.
        mask: uint8, `(rows, columns[, slices])` as displayed: 0 and 1, or where the bundle has `labels` the classes.
        probability: float32 in [0, 1], of the same shape; of classes none is kept, and it is empty.
        threshold: foreground is a probability of at least this.
        meta: of the image, from `common.transforms.load_image`.
        warnings: what a reader of the result must know.
        info: the bundle.
    """

    id: str
    image: str | tuple[str, ...]
    text: str
    sentence: str
    laterality: str
    given_laterality: str
    text_source: str
    mask: np.ndarray
    probability: np.ndarray
    threshold: float
    meta: Mapping[str, Any] = field(repr=False)
    warnings: tuple[str, ...]
    info: BundleInfo = field(repr=False)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the image."""
        return tuple(Path(path) for path in ([self.image] if isinstance(self.image, str) else self.image))

    @property
    def is_dicom(self) -> bool:
        """Whether the image is DICOM."""
        return self.meta.get("file_format") == "dicom"

    @property
    def is_translated(self) -> bool:
        """Whether the network read another sentence than was given: left and right exchanged."""
        return self.sentence != self.text

    def save(self, folder: str | Path, *, dicom: bool = True) -> dict[str, Path]:
        """Write the mask in the image's format; see `common.inference.save`."""
        from .output import save  # it needs this module

        return save(self, folder, dicom=dicom)

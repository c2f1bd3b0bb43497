"""What a reader of a source layout hands over, before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SECTIONS = ("training", "validation", "test")
RASTER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
MEDICAL_SUFFIXES = frozenset({".dcm", ".dicom", ".ima", ".nii", ".nii.gz"})
IMAGE_SUFFIXES = RASTER_SUFFIXES | MEDICAL_SUFFIXES


class SourceError(ValueError):
    """The source is not as it must be; the message names the file or row and the fix."""


@dataclass(frozen=True)
class SourceOptions:
    """What the user may say about a source.

    Attributes:
        captions: a caption file, or a folder of them, outside of the source.
        mask_threshold: mask values above it are foreground; ``None`` leaves the data set's own rule.
        laterality: ``image`` or ``patient``, where the user knows better than the measurement.
        anatomy: ``lung`` or ``polyp``; ``None`` leaves the data set's own, or what the captions speak of.
        modality: what the images are, for the header of the list.
        license: terms of the data, for the header of the list.
        seed: seed of a split that the source does not bring.
    """

    captions: Path | None = None
    mask_threshold: float | None = None
    laterality: str | None = None
    anatomy: str | None = None
    modality: str | None = None
    license: str | None = None
    seed: int = 42


@dataclass(frozen=True)
class SourceCase:
    """One image of the source, with its mask and sentence where there are such.

    Attributes:
        id: unique name, also the name of the written files.
        image: path of the image inside the source.
        mask: path of the mask inside the source.
        text: the raw caption; ``None`` if the source has none for this image.
        row: where the case was listed, for messages.
        group: the patient or volume that the image belongs to.
    """

    id: str
    image: Path
    mask: Path | None = None
    text: str | None = None
    row: str = ""
    group: str | None = None


@dataclass
class SourceData:
    """A source as read: its header and its cases, section by section in the order of its own lists.

    Attributes:
        name: name of the data set.
        modality: what the images are.
        anatomy: ``lung``, ``polyp`` or ``auto`` (decided by the captions).
        target: what the foreground of a mask is.
        sections: cases of ``training``, ``validation`` and ``test``.
        split: protocol, source and low-data rule of the split.
        caption_version: which captions these are.
        license: terms of the data, in words.
        mask_threshold: mask values above it are foreground; ``None`` where a mask must have two values.
        default_laterality: laterality of the captions where too few of them can be measured.
        warnings: what the user should know, in the order found.
    """

    name: str
    modality: str
    anatomy: str
    target: str
    sections: dict[str, list[SourceCase]]
    split: dict[str, object]
    caption_version: str
    license: str
    mask_threshold: float | None = None
    default_laterality: str = "image"
    warnings: list[str] = field(default_factory=list)


def image_suffix(path: Path) -> str:
    """Return the lower-case suffix of an image, ``.nii.gz`` in one piece."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def image_stem(path: Path) -> str:
    """Return the name of an image without its suffix, ``.nii.gz`` taken as one."""
    suffix = image_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.name


def require_inside(path: Path, root: Path, what: str) -> Path:
    """Return the path unless it leads out of the source folder, through ``..`` or a link.

    Args:
        path: a path below ``root``, as a list or a folder gives it.
        root: the folder that must hold it.
        what: how to call it in the message.

    Returns:
        ``path``.

    Raises:
        SourceError: if it leads elsewhere.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise SourceError(f"{what} must stay inside {root}, got {path}, which leads to {path.resolve()}")
    return path

"""The volumes that a command line names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .named_case import existing_source

SUFFIXES = (".nii", ".nii.gz")


def single_volume(image: str | Path | None, *, modality: str | None = None) -> list[dict[str, str]]:
    """Return the one volume, or the volumes of a folder, that a command line names.

    Args:
        image: a NIfTI file, a DICOM file of several frames, a folder with the files of one DICOM series, or a folder
            whose NIfTI files and folders are volumes; None or "" gives no case.
        modality: of them, "ct", "mr", "flair" or "t2"; None or "": as the preprocessing says.

    Raises:
        ValueError: when `image` does not exist, or is a folder without volumes or with two of one name.
    """
    if not image:
        return []
    source = existing_source(image)
    volumes = [source] if source.is_file() else _of_folder(source)
    names = [_name(volume) for volume in volumes]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"the volumes of {source} must have names of their own, got {repeated[0]!r} twice: segment them one by one"
        )
    extra = {"modality": str(modality)} if modality else {}
    return [{"id": name, "image": str(volume), **extra} for name, volume in zip(names, volumes, strict=True)]


def _of_folder(folder: Path) -> list[Path]:
    """Return a folder of files that are no NIfTI, which is one series; or its NIfTI files and folders."""
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    volumes = list(_volumes(inside))
    if volumes:
        return volumes
    if not inside:
        raise ValueError(
            f"the folder {folder} must hold a DICOM series, NIfTI files, or folders of them, got nothing"
        )
    return [folder]


def _volumes(inside: Iterable[Path]) -> Iterable[Path]:
    return (path for path in inside if path.is_dir() or path.name.lower().endswith(SUFFIXES))


def _name(volume: Path) -> str:
    """The name of a file without its suffixes; folders of a series keep their dots."""
    return volume.resolve().name if volume.is_dir() else volume.name.split(".")[0] or volume.name

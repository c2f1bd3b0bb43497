"""The files of one series as the ordered frames of one volume, or why they are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from .files import check_image, check_modality, modality_name, number_of_frames
from .frames import frame_attributes
from .geometry import Stack, stack_slices
from .reading import pixel_spacing
from .series import Series, scan_dicom


@dataclass(frozen=True)
class Frame:
    """One frame of a volume.

    Args:
        file: number of its file, from 0.
        index: number in its file, from 0.
        attributes: what says where it lies and how it is shown.
    """

    file: int
    index: int
    attributes: Dataset


@dataclass(frozen=True)
class Volume:
    """Frames that are one volume.

    Args:
        files: the files as given.
        frames: along the normal of the planes.
        stack: their order, as numbers among the frames of the files as given, and their geometry.
        size: rows and columns of every frame.
    """

    files: tuple[Path, ...]
    frames: tuple[Frame, ...]
    stack: Stack
    size: tuple[int, int]


def image_files(source: str | Path | Series | Iterable[str | Path]) -> tuple[tuple[Path, ...], str]:
    """Return the files of one series, and what to call them in messages."""
    if isinstance(source, Series):
        return source.files, str(source.files[0].parent)
    if not isinstance(source, (str, Path)):
        files = tuple(Path(file) for file in source)
        if not files:
            raise ValueError("a series must have at least one file, got none")
        return files, str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"
    if not Path(source).is_dir():
        return (Path(source),), str(source)
    found = scan_dicom(source)
    if found.unreadable:
        rest = len(found.unreadable) - 1
        raise ValueError(found.unreadable[0] + (f" (and {rest} more files)" if rest else ""))
    if not found.series:
        others = ", ".join(sorted({each.modality for each in found.others}))
        told = f"got files of modality {others} alone" if others else "got no DICOM files"
        raise ValueError(f"{source} must hold one series of images, {told}")
    if len(found.series) > 1:
        raise ValueError(_several([(each.modality, each.files) for each in found.series], str(source)))
    return found.series[0].files, str(source)


def _several(series: Sequence[tuple[str, Sequence[Path]]], where: str) -> str:
    told = "; ".join(
        f"{modality}, {len(files)} files such as {files[0].name}" for modality, files in series[:4]
    )
    return (
        f"{where} must hold one series of images, got {len(series)} ({told}): pass the files of one series, see"
        " list_series"
    )


def check_headers(
    headers: Sequence[Dataset], files: Sequence[Path], modalities: Sequence[str], where: str
) -> None:
    """Refuse files that are no images, of another modality, of several series, sizes or kinds of pixels."""
    series: dict[str, list[Path]] = {}
    for header, file in zip(headers, files, strict=True):
        check_image(header, where=file)
        check_modality(header, modalities, where=file)
        series.setdefault(str(header.get("SeriesInstanceUID") or ""), []).append(file)
    if len(series) > 1:
        kinds = dict(zip(files, map(modality_name, headers), strict=True))
        raise ValueError(_several([(kinds[members[0]], members) for members in series.values()], where))
    _check_same(headers, files, where)


def _check_same(headers: Sequence[Dataset], files: Sequence[Path], where: str) -> None:
    for keywords, name in ((("Rows", "Columns"), "size"), (("PhotometricInterpretation",), "kind of pixels")):
        kinds: dict[str, Path] = {}
        for header, file in zip(headers, files, strict=True):
            kinds.setdefault(" x ".join(str(header.get(keyword)) for keyword in keywords), file)
        if len(kinds) > 1:
            told = ", ".join(f"{kind} ({file.name})" for kind, file in kinds.items())
            raise ValueError(
                f"{where} must be slices of one {name}, got {told}: pass the files of one volume alone"
            )


def arranged(headers: Sequence[Dataset], files: tuple[Path, ...], where: str) -> Volume:
    """Return the frames of a volume in their order along its normal."""
    if len(files) > 1 and any(number_of_frames(header) > 1 for header in headers):
        raise ValueError(
            f"{where} must be single slices or one file of several frames, got {len(files)} files, some of several"
            " frames: pass them one by one"
        )
    frames = [
        Frame(file, index, frame_attributes(header, index))
        for file, header in enumerate(headers)
        for index in range(number_of_frames(header))
    ]
    planes = [_plane(frame.attributes) for frame in frames]
    if any(plane is None for plane in planes):
        missing = sum(plane is None for plane in planes)
        kind = "images" if len(files) > 1 else "frames, such as a cine,"
        raise ValueError(
            f"{where} must be slices with a position, orientation and pixel spacing, got {missing} of {len(planes)}"
            f" {kind} without: they are no volume, pass them one by one"
        )
    positions, orientations, spacings = (np.array(part) for part in zip(*planes, strict=True))
    stack = stack_slices(
        positions,
        orientations,
        spacings,
        names=[files[frame.file].name for frame in frames],
        where=where,
    )
    size = int(headers[0].Rows), int(headers[0].Columns)
    return Volume(files, tuple(frames[index] for index in stack.order), stack, size)


def _plane(attributes: Dataset) -> tuple[list[float], list[float], tuple[float, float]] | None:
    """Return position, orientation and spacing of a frame, or None when one of them is missing."""
    position = [float(value) for value in attributes.get("ImagePositionPatient") or ()]
    cosines = [float(value) for value in attributes.get("ImageOrientationPatient") or ()]
    spacing, _ = pixel_spacing(attributes)
    if (
        len(position) != 3
        or len(cosines) != 6
        or spacing is None
        or not np.isfinite(position + cosines).all()
    ):
        return None
    return position, cosines, spacing

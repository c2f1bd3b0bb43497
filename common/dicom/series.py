"""Which series lie in folders and files: images to look at, and what else there is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from .files import check_image, check_values, is_image, modality_name, number_of_frames, read_quietly
from .output import quietly

READERS = 8  # threads: listing waits for the disk or the network
_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"  # media storage directory: the file DICOMDIR
_TAGS = (
    "SOPClassUID",
    "Modality",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "NumberOfFrames",
    "Rows",
    "Columns",
)


@dataclass(frozen=True)
class Series:
    """The files of one series; nothing in it names a patient.

    Args:
        files: the files, by name with numbers in their order.
        modality: such as "CT", or "unknown modality".
        study_uid: Study Instance UID, "" when the files have none.
        series_uid: Series Instance UID, "" when the files have none (those of one folder and frame of reference
            are then taken together).
        number: Series Number, or None.
        frames: of all files together, 0 for what is no image.
        positioned: whether every file is a single slice that says where it lies in the patient.
    """

    files: tuple[Path, ...]
    modality: str
    study_uid: str
    series_uid: str
    number: int | None
    frames: int
    positioned: bool

    @property
    def cases(self) -> tuple[tuple[Path, ...], ...]:
        """The files by what `load_series` reads at once: all slices of a volume, otherwise every file alone."""
        if self.positioned:
            return (self.files,)
        return tuple((file,) for file in self.files)


@dataclass(frozen=True)
class DicomFiles:
    """What lies in folders and files.

    Args:
        series: images to look at.
        others: structured reports (SR), segmentations (SEG), presentation states (PR), notes (KO) and whatever
            else refers to images.
        unreadable: DICOM files that cannot be read, and why; their names are in the reasons.
    """

    series: tuple[Series, ...] = ()
    others: tuple[Series, ...] = ()
    unreadable: tuple[str, ...] = field(default=(), repr=False)


def scan_dicom(paths: str | Path | Iterable[str | Path]) -> DicomFiles:
    """Sort the DICOM files in folders and among files by series; only headers are read.

    Folders are searched with all that lies in them, whatever the files are called. Files that are no DICOM, and
    DICOMDIR, are passed over.

    Args:
        paths: files and folders.

    Raises:
        ValueError: when one of them does not exist.
    """
    files = _all_files([paths] if isinstance(paths, (str, Path)) else list(paths))
    with quietly(), ThreadPoolExecutor(READERS) as readers:
        headers = list(readers.map(_header, files))
    groups: dict[tuple[str, ...], list[tuple[Path, Dataset]]] = {}
    unreadable = []
    for file, header in zip(files, headers, strict=True):
        if isinstance(header, str):
            unreadable.append(header)
        elif header is not None:
            groups.setdefault(_key(file, header), []).append((file, header))
    found = [(is_image(members[0][1]), _series(members)) for members in groups.values()]
    found.sort(key=lambda each: (each[1].study_uid, each[1].number or 0, natural_order(each[1].files[0])))
    return DicomFiles(
        tuple(series for image, series in found if image),
        tuple(series for image, series in found if not image),
        tuple(unreadable),
    )


def list_series(paths: str | Path | Iterable[str | Path]) -> list[Series]:
    """Return the image series in folders and files, as `scan_dicom` finds them."""
    return list(scan_dicom(paths).series)


def natural_order(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts names with their numbers as numbers: `2.dcm` before `10.dcm`."""
    parts = re.split(r"(\d+)", str(path))
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


def _all_files(paths: Sequence[str | Path]) -> list[Path]:
    """Return files and what lies in folders, each once, in natural order."""
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"{path} must be a DICOM file or a folder of them, but it does not exist")
        inside = (each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        found.update(dict.fromkeys(sorted(inside, key=natural_order)))
    return list(found)


def _header(file: Path) -> Dataset | str | None:
    """Return the header of a DICOM file, why there is none, or None for a file to pass over."""
    try:
        header = read_quietly(file, header=True, tags=_TAGS)
        check_values(header, where=file)
        meta = getattr(header, "file_meta", None) or Dataset()
        if _DIRECTORY_CLASS in (header.get("SOPClassUID"), meta.get("MediaStorageSOPClassUID")):
            return None
        if "Rows" not in header and "SeriesInstanceUID" not in header:
            check_image(header, where=file)  # a header that is cut off
    except ValueError as error:
        return None if "another kind of file" in str(error) else str(error)
    return header


def _key(file: Path, header: Dataset) -> tuple[str, ...]:
    """Return what the files of one series share."""
    image = str(is_image(header))
    series = str(header.get("SeriesInstanceUID") or "")
    if series:
        return image, series
    frame = str(header.get("FrameOfReferenceUID") or "")
    return image, str(file.parent), frame, modality_name(header), str(header.get("StudyInstanceUID") or "")


def _series(members: Sequence[tuple[Path, Dataset]]) -> Series:
    first = members[0][1]
    number = str(first.get("SeriesNumber") or "")
    images = [header for _, header in members if is_image(header)]
    return Series(
        files=tuple(file for file, _ in members),
        modality=modality_name(first),
        study_uid=str(first.get("StudyInstanceUID") or ""),
        series_uid=str(first.get("SeriesInstanceUID") or ""),
        number=int(number) if number.lstrip("+-").isdecimal() else None,
        frames=sum(number_of_frames(header) for header in images),
        positioned=bool(images) and all(_is_slice(header) for header in images),
    )


def _is_slice(header: Dataset) -> bool:
    return number_of_frames(header) == 1 and bool(header.get("ImagePositionPatient"))

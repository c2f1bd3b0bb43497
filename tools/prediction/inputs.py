"""The cases that files, folders and tables of paths stand for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.dicom import is_dicom
from common.transforms.loading import DICOM_SUFFIXES, NIFTI_SUFFIXES, PICTURE_SUFFIXES

from .naming import Named, case_ids
from .request import PredictError
from .series import FoundFile, grouped
from .sheets import SHEET_SUFFIXES, read_sheet

IMAGE_SUFFIXES = (*PICTURE_SUFFIXES, *NIFTI_SUFFIXES, *DICOM_SUFFIXES)
NOT_IMAGES = frozenset({"dicomdir"})
PATH_COLUMNS = ("image", "image_path", "image_name", "filename", "file", "path")


@dataclass(frozen=True, slots=True)
class Case:
    """One image to segment.

    Attributes:
        id: unique name, which the files of the results get.
        files: one file, or the files of one DICOM series.
        place: the path from the input folder on, for tables and messages.
        reports: structured reports on the same study.
    """

    id: str
    files: tuple[str, ...]
    place: str
    reports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """All cases of a call.

    Attributes:
        cases: in the order of the inputs, sorted inside of a folder.
        notes: what the user should know of the listing, a sentence each.
    """

    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()


def list_cases(inputs: Sequence[Path], *, exclude: Path | None = None) -> Listing:
    """List the cases of files, folders (with their subfolders) and tables of paths.

    A file that is named itself is a case whatever it is, so that one that is no image is recorded as such. In a
    folder, files with the name of an image and those that begin as DICOM do are cases; hidden ones are left out. The
    CT, MR and PET images of one DICOM series are one case.

    Args:
        inputs: what to list.
        exclude: a folder that is left out: that of the results.

    Returns:
        The cases, with unique ids.

    Raises:
        PredictError: when an input does not exist, a table cannot be read, or there is no case at all.
    """
    found: list[FoundFile] = []
    for source in inputs:
        found += _files(source, exclude=exclude)
    unique = list({os.path.abspath(file.path): file for file in found}.values())
    groups, notes = grouped(unique)
    if not groups:
        named = ", ".join(str(source) for source in inputs)
        raise PredictError(f"the input must hold images ({' '.join(IMAGE_SUFFIXES)}), got none in {named}")
    ids = case_ids([Named(group.root, group.path, group.files[0], group.folder) for group in groups])
    repeated = len(found) - len(unique)
    if repeated:
        notes.append(f"{repeated} files are named more than once and are taken once")
    cases = (
        Case(name, group.files, group.place, group.reports) for name, group in zip(ids, groups, strict=True)
    )
    return Listing(tuple(cases), tuple(notes))


def _files(source: Path, *, exclude: Path | None) -> Iterator[FoundFile]:
    if source.is_dir():
        yield from _folder(source, exclude=exclude)
    elif not source.exists():
        raise PredictError(f"input must be a file or a folder, got {source}, which does not exist")
    elif source.name.lower().endswith(SHEET_SUFFIXES):
        yield from _listed(source)
    else:
        yield FoundFile(str(source), "", source.name, dicom=_is_dicom(source), named=True)


def _folder(folder: Path, *, exclude: Path | None) -> Iterator[FoundFile]:
    root = os.path.basename(os.path.abspath(folder))
    left_out = None if exclude is None else os.path.abspath(exclude)
    for current, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.abspath(os.path.join(current, name)) != left_out
        )
        inside = Path(current).relative_to(folder).as_posix()
        for name in sorted(files):
            path = os.path.join(current, name)
            kind = _kind(path, name.lower())
            if kind:
                relative = name if inside == "." else f"{inside}/{name}"
                yield FoundFile(path, root, relative, dicom=kind == "dicom")


def _kind(path: str, name: str) -> str:
    """Return what a file of a folder is: "picture" (NIfTI too), "dicom", or "" for no image."""
    if name.startswith(".") or name in NOT_IMAGES:
        return ""
    if name.endswith((*PICTURE_SUFFIXES, *NIFTI_SUFFIXES)):
        return "picture"
    return "dicom" if _is_dicom(Path(path)) else ""


def _is_dicom(path: Path) -> bool:
    try:
        return path.name.lower().endswith(DICOM_SUFFIXES) or is_dicom(path)
    except OSError:
        return False


def _listed(table: Path) -> Iterator[FoundFile]:
    sheet = read_sheet(table)
    column = sheet.column(PATH_COLUMNS)
    if column is None:
        raise PredictError(f"{table} must have a column 'image' with paths, got {sheet.shown_columns()}")
    for row in sheet.rows:
        text = row.values[column].replace("\\", "/")
        if not text:
            raise PredictError(f"{row.place} must name a file, got an empty value")
        path = Path(text) if Path(text).is_absolute() else table.parent / text
        relative = Path(text).name if Path(text).is_absolute() else text.removeprefix("./")
        yield FoundFile(
            str(path), table.parent.name, relative, dicom=path.is_file() and _is_dicom(path), named=True
        )

"""Files of one DICOM series put together, and reports put beside the images of their study."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from common.dicom import Series, scan_dicom

REPORT = "SR"


@dataclass(frozen=True)
class FoundFile:
    """A file of the inputs.

    Attributes:
        path: to open it.
        root: name of the input folder, "" for a file that was named itself.
        relative: path from there, with `/`.
        dicom: whether it is DICOM, by its content or name.
        named: whether the user named the file itself.
    """

    path: str
    root: str
    relative: str
    dicom: bool = False
    named: bool = False


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        root: name of the input folder.
        path: inside of it, of the file or of the folder of the series.
        folder: whether `path` is a folder.
        files: one, or those of a series.
        reports: structured reports on the same study.
    """

    root: str
    path: str
    folder: bool
    files: tuple[str, ...]
    reports: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The path with the input folder in front."""
        return "/".join(part for part in (self.root, self.path) if part)


def grouped(files: Sequence[FoundFile]) -> tuple[list[CaseFiles], list[str]]:
    """Make cases of files.

    Args:
        files: of the inputs, in their order, each once.

    Returns:
        The cases in the order of their first files, and notes for the user. The slices of a DICOM series are one
        case. Structured reports in a folder belong to the images of their study; segmentations and whatever else
        only refers to images is no case. A DICOM file that cannot be read is one, whose error is found again when it
        is loaded.
    """
    known = {os.path.abspath(file.path): file for file in files}
    scanned = scan_dicom(file.path for file in files if file.dicom)
    passed = _passed_over(scanned.others, known)
    reports: dict[str, list[str]] = {}
    for series in scanned.others:
        if series.modality == REPORT:
            reports.setdefault(series.study_uid, []).extend(map(str, series.files))
    cases: dict[str, CaseFiles] = {}
    for series in scanned.series:
        of_study = tuple(reports.get(series.study_uid, ())) if series.study_uid else ()
        for members in series.cases:
            case = _case([known[os.path.abspath(file)] for file in members], of_study)
            cases[case.files[0]] = case
    taken = {path for case in cases.values() for path in case.files} | passed
    cases |= {file.path: _case([file], ()) for file in files if file.path not in taken}
    cases = _told_apart(cases, known)
    notes = [f"{len(passed)} DICOM files without an image of their own (reports, masks …) are no cases"]
    return _in_order(cases, files), notes if passed else []


def _passed_over(others: Iterable[Series], known: Mapping[str, FoundFile]) -> set[str]:
    """Return the files that are no images, apart from those that the user named as such."""
    found = (known[os.path.abspath(file)] for series in others for file in series.files)
    return {file.path for file in found if not file.named}


def _told_apart(cases: Mapping[str, CaseFiles], known: Mapping[str, FoundFile]) -> dict[str, CaseFiles]:
    """Name series that share a folder after their first files."""
    folders = Counter(case.place for case in cases.values() if case.folder)
    return {
        path: case
        if folders[case.place] < 2
        else replace(case, root=_first(case, known).root, path=_first(case, known).relative, folder=False)
        for path, case in cases.items()
    }


def _first(case: CaseFiles, known: Mapping[str, FoundFile]) -> FoundFile:
    return known[os.path.abspath(case.files[0])]


def _in_order(cases: Mapping[str, CaseFiles], files: Sequence[FoundFile]) -> list[CaseFiles]:
    position = {file.path: index for index, file in enumerate(files)}
    return sorted(cases.values(), key=lambda case: min(position[path] for path in case.files))


def _case(members: Sequence[FoundFile], reports: tuple[str, ...]) -> CaseFiles:
    """Make a case, named after its file; a series after the folder that all its files lie in, if that is not shared."""
    first = members[0]
    folders = {(file.root, os.path.dirname(file.relative)) for file in members}
    folder = os.path.dirname(first.relative) or (first.root if len(members) > 1 else "")
    alone = len(members) > 1 and len(folders) == 1 and bool(folder)
    return CaseFiles(
        root=first.root if folder != first.root or not alone else "",
        path=folder if alone else first.relative,
        folder=alone,
        files=tuple(file.path for file in members),
        reports=reports,
    )

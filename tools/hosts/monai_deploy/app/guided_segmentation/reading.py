"""Operators that read a study and choose its series: the host's own, with the bundle's reader of headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
from monai.deploy.core import ConditionType, OperatorSpec
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_study import DICOMStudy
from monai.deploy.operators import DICOMDataLoaderOperator, DICOMSeriesSelectorOperator

from .selection import only_series

FILES, REPORTS = "files", "reports"


class FiledSeries(DICOMSeries):
    """A series of the host that knows its files; its only instance is the header of the first.

    Args:
        uid: Series Instance UID.
        files: all files of the series.
        frames: number of its images.
    """

    def __init__(self, uid: str, *, files: Sequence[Path], frames: int) -> None:
        super().__init__(uid)
        self.files, self.frames = tuple(files), frames


class StudyLoaderOperator(DICOMDataLoaderOperator):
    """Load the studies of a folder.

    The host's own loader reads all pixels of a study, leaves out files without identifiers (as anonymisers write
    them), and of several images at one position keeps one without a word. This one reads headers, takes files
    without identifiers by folder and frame of reference, and keeps everything for the bundle's reader to judge.

    Named output:
        dicom_study_list: the host's studies, of `FiledSeries`.
    """

    def load_data_to_studies(self, input_path: Path) -> list[DICOMStudy]:
        """Return the studies of a folder.

        Raises:
            ValueError: when there are no DICOM files, or one cannot be read.
        """
        from scripts.common.dicom.series import scan_dicom

        found = scan_dicom(Path(input_path))
        if found.unreadable:
            raise ValueError(found.unreadable[0])
        studies: dict[str, DICOMStudy] = {}
        for number, each in enumerate((*found.series, *found.others), start=1):
            header = filled_header(each.files[0])
            if each.study_uid not in studies:
                studies[each.study_uid] = DICOMStudy(each.study_uid)
                self.populate_study_attributes(studies[each.study_uid], header)
            series = FiledSeries(each.series_uid or f"unnamed {number}", files=each.files, frames=each.frames)
            self.populate_series_attributes(series, header)
            series.add_sop_instance(header)
            studies[each.study_uid].add_series(series)
        if not studies:
            raise ValueError(f"{input_path} must hold the DICOM files of a study, got none")
        return list(studies.values())


class SeriesChooserOperator(DICOMSeriesSelectorOperator):
    """Choose the one series that the rules accept.

    Named input:
        dicom_study_list: the studies.

    Named outputs:
        files: paths of all files of the series.
        reports: the structured reports of its study, newest first.

    Args:
        fragment: the application.
        rules: selection rules, JSON.
        series: Series Instance UID to choose; None: there must be one.
    """

    def __init__(self, fragment: Any, *args: Any, rules: str, series: str | None = None, **rest: Any) -> None:
        self.wanted = series
        super().__init__(fragment, *args, rules=rules, all_matched=True, **rest)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the ports."""
        spec.input(self.input_name_study_list)
        spec.output(FILES)
        spec.output(REPORTS).condition(ConditionType.NONE)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Choose, and emit files and reports.

        Raises:
            ValueError: when the rules accept no series, or more than one.
        """
        studies = op_input.receive(self.input_name_study_list)
        selected = self.filter(self._load_rules(), studies, self._all_matched)
        accepted = {
            str(each.series.SeriesInstanceUID): each.series
            for study in selected
            for each in study.selected_series
        }
        found = [(uid, str(series.Modality), series.frames) for uid, series in accepted.items()]
        present = [str(series.Modality) for study in studies for series in study.get_all_series()]
        series = accepted[only_series(found, wanted=self.wanted, present=present)]
        study = next(study for study in studies if series in study.get_all_series())
        op_output.emit(list(series.files), FILES)
        op_output.emit(reports_of(study), REPORTS)


def filled_header(file: Path) -> Any:
    """Return the header of a DICOM file without its empty attributes, which the host takes for numbers."""
    header = pydicom.dcmread(file, stop_before_pixels=True)
    for element in list(header):
        if element.is_empty:
            del header[element.tag]
    return header


def reports_of(study: DICOMStudy) -> list[Any]:
    """Return the structured reports of a study as pydicom datasets, newest first."""
    files = [file for series in study.get_all_series() if series.Modality == "SR" for file in series.files]
    reports = [report for report in map(pydicom.dcmread, files) if "ContentSequence" in report]
    return sorted(reports, key=_moment, reverse=True)


def _moment(report: Any) -> tuple[str, str]:
    return str(report.get("ContentDate") or ""), str(report.get("ContentTime") or "")

"""Which volumes a command line names."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.data import single_volume


def made(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_nothing_is_no_case() -> None:
    assert single_volume("") == single_volume(None) == []


def test_a_file_is_one_volume_with_its_modality(tmp_path: Path) -> None:
    made(tmp_path, "scan.nii.gz")
    case = {"id": "scan", "image": str(tmp_path / "scan.nii.gz")}
    assert single_volume(tmp_path / "scan.nii.gz") == [case]
    assert single_volume(tmp_path / "scan.nii.gz", modality="mr") == [{**case, "modality": "mr"}]


def test_a_folder_of_other_files_is_one_series(tmp_path: Path) -> None:
    folder = made(tmp_path / "series.1", "a.dcm", "b.dcm", ".hidden")
    assert single_volume(folder) == [{"id": "series.1", "image": str(folder)}]


def test_niftis_and_folders_inside_are_volumes_one_by_one(tmp_path: Path) -> None:
    folder = made(tmp_path / "all", "b.nii", "a.nii.gz", "readme.txt", "c/1.dcm")
    assert [case["id"] for case in single_volume(folder)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r"must hold a DICOM series, NIfTI files, or folders of them, got nothing"),
        (("a.nii", "a.nii.gz"), r"must have names of their own, got 'a' twice"),
    ],
)
def test_a_folder_that_names_no_volumes_is_refused(
    names: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        single_volume(made(tmp_path, *names))


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which does not exist: check --image"):
        single_volume(tmp_path / "none.nii")

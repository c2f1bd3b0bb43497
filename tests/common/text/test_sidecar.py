"""Sentences beside images: which file it is, what it may hold, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.text import read_sidecar, sidecar_of


@pytest.mark.parametrize(
    ("image", "sidecar"),
    [
        ("scan.png", "scan.txt"),
        ("scan.png", "scan.png.json"),
        ("scan.nii.gz", "scan.txt"),
        ("scan.nii.gz", "scan.json"),
        ("scan.nii.gz", "scan.nii.gz.txt"),
        ("a.b.dcm", "a.b.txt"),
    ],
)
def test_the_sidecar_is_named_like_the_image(image: str, sidecar: str, tmp_path: Path) -> None:
    (tmp_path / sidecar).write_text("{}", encoding="utf-8")
    assert sidecar_of(tmp_path / image) == tmp_path / sidecar


def test_no_sidecar_and_the_most_exact_one(tmp_path: Path) -> None:
    assert sidecar_of(tmp_path / "scan.png") is None
    (tmp_path / "scan.txt").write_text("a", encoding="utf-8")
    (tmp_path / "scan.png.json").write_text('"b"', encoding="utf-8")
    assert sidecar_of(tmp_path / "scan.png") == tmp_path / "scan.png.json"
    assert sidecar_of(tmp_path / "other.txt") == tmp_path / "other.txt"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("s.txt", "\ufeffupper\n right  lung\n", {"text": "upper right lung"}),
        ("s.txt", "", {"text": ""}),
        ("s.json", '"left"', {"text": "left"}),
        ("s.json", '{"report": "left", "other": 1}', {"text": "left"}),
        (
            "s.json",
            '{"text": "left", "laterality": "patient"}',
            {"text": "left", "laterality": "patient"},
        ),
        ("s.json", "{}", {"text": ""}),
    ],
)
def test_text_and_json(name: str, content: str, expected: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_sidecar(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.json", b"{", r"s\.json must be valid JSON"),
        ("s.json", b"[1]", r"s\.json must be a JSON object or string, got list"),
        ("s.json", b'{"text": 5}', r"s\.json must hold its sentence as a string under one of"),
        ("s.json", b'{"text": "a", "laterality": 1}', r"must hold its laterality as a string, got int"),
        ("s.txt", b"\xff\xfe\x00", r"s\.txt must be a readable text file in UTF-8, got UnicodeDecodeError"),
        ("s.txt", b"a" * 1_000_001, r"s\.txt must be a sentence of at most 1000000 bytes"),
    ],
)
def test_what_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_sidecar(tmp_path / name)

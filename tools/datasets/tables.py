"""Caption tables: csv, Excel and SGSeg's JSON, read into rows with errors that name the line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .source import SourceError

IMAGE_COLUMNS = ("image", "image_path", "image_name", "filename", "file")
TEXT_COLUMNS = ("text", "description", "caption", "prompt", "sentence")
MASK_COLUMNS = ("mask", "label", "mask_path", "segmentation")
SPLIT_COLUMNS = ("split", "section", "subset")
GROUP_COLUMNS = ("patient", "subject", "patient_id", "subject_id", "group")
EMPTY_TEXTS = frozenset({"none", "nan", "null"})  # what programs write for no caption
SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class TableRow:
    """One row of a caption table; ``place`` is the file and line for messages."""

    image: str
    place: str
    text: str | None = None
    mask: str | None = None
    split: str | None = None
    group: str | None = None


def read_table(path: Path, *, separators: Sequence[str] = (",",)) -> list[TableRow]:
    """Read a caption table.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.xlsx`` file with a header row.
        separators: separators that the table may use; any other is an error that says so.

    Returns:
        The rows in their order. An empty caption is ``None``.

    Raises:
        SourceError: if the file is empty, unreadable, badly separated or lacks its image column.
    """
    records = read_records(path, separators)
    header_line, header = next(records, (0, []))
    if not any(header):
        raise SourceError(f"{path} must start with a header row such as image,mask,text, got an empty file")
    columns = _columns(path, header)
    rows = [_row(path, line, header, columns, record) for line, record in records if any(record)]
    if not rows:
        raise SourceError(f"{path} must list at least one image, got a header (line {header_line}) alone")
    return rows


def read_annotation(path: Path) -> dict[str, list[TableRow]]:
    """Read SGSeg's ``annotation.json``: lists of image and caption, section by section.

    Args:
        path: the JSON file.

    Returns:
        Rows under the file's own section names.

    Raises:
        SourceError: if the file is not such a JSON file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise SourceError(f"{path} must be JSON in UTF-8, got: {error}") from error
    if not isinstance(document, dict) or not all(isinstance(rows, list) for rows in document.values()):
        raise SourceError(f"{path} must map section names to lists of images with captions")
    return {name: list(_annotation_rows(path, name, rows)) for name, rows in document.items()}


def _annotation_rows(path: Path, section: str, rows: Iterable[object]) -> Iterator[TableRow]:
    for index, row in enumerate(rows):
        place = f"{path}, {section}[{index}]"
        if not isinstance(row, dict) or not isinstance(row.get("image_path"), str):
            raise SourceError(f"{place} must have a string 'image_path' and a 'caption', got {str(row)[:80]}")
        caption = row.get("caption")
        yield TableRow(image=row["image_path"], place=place, text=str(caption) if caption else None)


def read_records(path: Path, separators: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a csv (UTF-8) or Excel table that are not empty: their number and their values.

    Args:
        path: a ``.xlsx`` file, or a text file of any name.
        separators: that a csv may use; any other is an error that says so.

    Raises:
        SourceError: when the file is unreadable or badly separated.
    """
    yield from _xlsx_records(path) if path.suffix.lower() == ".xlsx" else _csv_records(path, separators)


def _csv_records(path: Path, separators: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} must be text in UTF-8, got {error}: save it as 'CSV UTF-8'") from error
    first = next((line for line in content.splitlines() if line.strip()), "")
    separator = _separator(path, first, separators)
    with _field_limit(len(content)):
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator)
        try:
            records = [(reader.line_num, [value.strip() for value in record]) for record in reader]
        except csv.Error as error:
            raise SourceError(f"{path}, line {reader.line_num} must be valid csv, got: {error}") from error
    yield from ((line, record) for line, record in records if any(record))


@contextmanager
def _field_limit(length: int) -> Iterator[None]:
    """Let one csv field be as long as its file, and put the limit of the process back afterwards."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(length, before))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _separator(path: Path, header: str, allowed: Sequence[str]) -> str:
    counts = {separator: len(header.split(separator)) for separator in SEPARATOR_NAMES}
    best = max(allowed, key=lambda separator: counts[separator])
    if counts[best] > 1:
        return best
    other = max(counts, key=lambda separator: counts[separator])
    if counts[other] > 1:
        wanted = " or ".join(SEPARATOR_NAMES[separator] for separator in allowed)
        raise SourceError(
            f"{path} must be separated by {wanted}, got {SEPARATOR_NAMES[other]} in its header "
            f"{header[:80]!r}: save it with {wanted}, captions in double quotes"
        )
    return best


def _xlsx_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises whatever its zip and XML readers raise
        raise SourceError(f"{path} must be an Excel workbook (.xlsx), got: {error}") from error
    try:
        for line, values in enumerate(book.worksheets[0].iter_rows(values_only=True), start=1):
            record = ["" if value is None else str(value).strip() for value in values]
            if any(record):
                yield line, record
    finally:
        book.close()


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    names = [name.lower() for name in header]
    columns = ", ".join(map(repr, header))
    aliases = {
        "image": IMAGE_COLUMNS,
        "text": TEXT_COLUMNS,
        "mask": MASK_COLUMNS,
        "split": SPLIT_COLUMNS,
        "group": GROUP_COLUMNS,
    }
    found = {
        key: names.index(alias)
        for key, group in aliases.items()
        for alias in reversed(group)
        if alias in names
    }
    if "image" not in found:
        raise SourceError(
            f"{path} must have a column 'image' (or 'Image'), got the columns {columns}: "
            "name the column, or choose another caption table with --captions"
        )
    if len(header) > 1 and not found.keys() & {"text", "mask"}:
        raise SourceError(
            f"{path} must have a column 'text' (or 'Description') or 'mask' beside 'image', "
            f"got the columns {columns}"
        )
    return found


def _row(path: Path, line: int, header: list[str], columns: dict[str, int], record: list[str]) -> TableRow:
    place = f"{path}, line {line}"
    record = [*record, *[""] * (len(header) - len(record))]
    if any(record[len(header) :]):
        raise SourceError(
            f"{place} must have {len(header)} values ({', '.join(header)}), got {len(record)}: "
            "put a caption that holds the separator in double quotes"
        )
    values = {key: record[index] for key, index in columns.items() if record[index]}
    image = values.pop("image", None)
    if image is None:
        raise SourceError(f"{place} must name an image, got an empty value")
    if values.get("text", "").lower() in EMPTY_TEXTS:
        values.pop("text")
    if "mask" in values:
        values["mask"] = values["mask"].replace("\\", "/")
    return TableRow(image=image.replace("\\", "/"), place=place, **values)

"""Tables of paths and sentences: csv and Excel, read into rows that know their line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.datasets.source import SourceError
from tools.datasets.tables import read_records

from .request import PredictError

SHEET_SUFFIXES = (".csv", ".tsv", ".xlsx")
SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class SheetRow:
    """One row: the file and line for messages, and the values under the lower-case names of their columns."""

    place: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class Sheet:
    """A table with a header.

    Attributes:
        path: its file.
        columns: lower-case names.
        rows: those that are not blank.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[SheetRow, ...]

    def column(self, names: Sequence[str]) -> str | None:
        """Return the first of `names` that is a column, or None."""
        return next((name for name in names if name in self.columns), None)

    def shown_columns(self) -> str:
        """The columns, for a message."""
        return f"the columns {', '.join(map(repr, self.columns))}"


def read_sheet(path: Path) -> Sheet:
    """Read a csv (UTF-8, with or without a byte order mark; commas, semicolons or tabs) or Excel table.

    Raises:
        PredictError: when it is missing, empty, has a repeated column or a row of another length; the line is named.
    """
    if not path.is_file():
        raise PredictError(f"{path} must be a table, but it does not exist")
    try:
        records = list(read_records(path, SEPARATORS))
    except (SourceError, OSError) as error:
        raise PredictError(str(error)) from error
    if len(records) < 2:
        raise PredictError(f"{path} must have a header and at least one row, got {len(records)} lines")
    header = tuple(name.lower() for name in records[0][1])
    named = [name for name in header if name]
    if len(set(named)) != len(named):
        raise PredictError(f"{path} must name every column once, got {', '.join(map(repr, header))}")
    rows = tuple(_row(path, line, header, record) for line, record in records[1:])
    return Sheet(path, header, rows)


def _row(path: Path, line: int, header: Sequence[str], record: list[str]) -> SheetRow:
    place = f"{path}, line {line}"
    if any(record[len(header) :]):
        raise PredictError(
            f"{place} must have {len(header)} values, got {len(record)}: put a sentence that holds the separator "
            "in double quotes"
        )
    padded = [*record, *[""] * (len(header) - len(record))]
    return SheetRow(place, dict(zip(header, padded, strict=False)))

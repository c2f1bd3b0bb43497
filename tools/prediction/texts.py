"""Where the sentence of each case comes from: the command line, a table, or the file itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset

from common.dicom import is_dicom, sentence_from_dicom, usual_laterality
from common.dicom.files import read_dataset
from common.text.sidecar import read_sidecar, sidecar_of
from tools.datasets.tables import EMPTY_TEXTS, TEXT_COLUMNS

from .inputs import PATH_COLUMNS, Case
from .naming import without_suffix
from .request import LATERALITIES, PredictError, PredictRequest
from .sheets import Sheet, SheetRow, read_sheet

ATTRIBUTES = ("image_comments", "study_description", "series_description")
SHOWN = 5  # names in a message
NO_ROW = "the table has no sentence for this image: it was segmented without one"
NO_SENTENCE = "no sentence was found: the image was segmented without one"


@dataclass(frozen=True)
class Sentence:
    """The sentence of one case.

    Attributes:
        text: as it goes to the bundle; "" is none.
        laterality: whose left it means, "image" or "patient"; None: as the bundle.
        source: where it comes from, a word.
        warnings: what is uncertain.
    """

    text: str
    laterality: str | None = None
    source: str = "argument"
    warnings: tuple[str, ...] = ()


class Sentences(Protocol):
    """Finds the sentence of a case; called in several threads at once."""

    def of(self, position: int, case: Case) -> Sentence:
        """Return the sentence of the case at `position` of the list.

        Raises:
            ValueError: when what should hold it cannot be read.
        """


@dataclass(frozen=True)
class OneSentence:
    """The same sentence for every case, or none where the bundle reads none."""

    text: str | None
    laterality: str | None = None

    def of(self, position: int, case: Case) -> Sentence:
        """Return the sentence."""
        return Sentence("", source="none") if self.text is None else Sentence(self.text, self.laterality)


@dataclass(frozen=True)
class TableSentences:
    """Sentences of a table, found before anything runs; one row number (or -1) a case."""

    sheet: Sheet
    text_column: str
    rows: tuple[int, ...]
    laterality: str | None = None

    def of(self, position: int, case: Case) -> Sentence:
        """Return the sentence of the case's row."""
        number = self.rows[position]
        if number < 0:
            return Sentence("", source="table", warnings=(NO_ROW,))
        values = self.sheet.rows[number].values
        text = values[self.text_column]
        text = "" if text.lower() in EMPTY_TEXTS else text
        return Sentence(text, values.get("laterality") or self.laterality, "table")


@dataclass(frozen=True)
class FoundSentences:
    """Sentences beside the image, or, of DICOM, in reports on its study and in its own attributes.

    Attributes:
        sidecar_only: ask only the `.txt` or `.json` file beside the image.
        laterality: whose left the sentences mean; None: as is usual for the modality of DICOM, else as the bundle.
    """

    sidecar_only: bool
    laterality: str | None = None

    def of(self, position: int, case: Case) -> Sentence:
        """Look for the sentence of a case."""
        first = Path(case.files[0])
        header = read_dataset(first, header=True) if is_dicom(first) else None
        usual = None if header is None else usual_laterality(str(header.get("Modality") or ""))
        spoken = self.laterality or usual
        beside = sidecar_of(first) or (sidecar_of(first.parent) if len(case.files) > 1 else None)
        if beside is not None:
            entries = read_sidecar(beside)
            return Sentence(entries["text"], entries.get("laterality", spoken), "sidecar")
        if self.sidecar_only:
            return Sentence("", source="none", warnings=(NO_SENTENCE,))
        if header is None:
            raise ValueError(
                f"{first} must be a DICOM file to hold a sentence, got another: use --text-from sidecar"
            )
        text, source = self._read(header, case)
        return Sentence(text, spoken, source, () if text else (NO_SENTENCE,))

    def _read(self, header: Dataset, case: Case) -> tuple[str, str]:
        for path in case.reports:
            text, source = sentence_from_dicom(header, sources=("report",), report=read_dataset(path))
            if text:
                return text, source
        return sentence_from_dicom(header, sources=ATTRIBUTES)


def find_sentences(request: PredictRequest, cases: Sequence[Case]) -> tuple[Sentences, list[str]]:
    """Prepare what finds the sentence of every case.

    Args:
        request: says where sentences come from.
        cases: all of them, in order.

    Returns:
        The finder, and notes for the user.

    Raises:
        PredictError: when a table cannot be read, names an image twice with different sentences, or fits no image.
    """
    if request.texts is not None:
        return table_sentences(request.texts, cases, laterality=request.laterality)
    if request.text_from is not None:
        return FoundSentences(request.text_from == "sidecar", request.laterality), []
    return OneSentence(request.text, request.laterality), []


def table_sentences(
    path: Path, cases: Sequence[Case], *, laterality: str | None = None
) -> tuple[TableSentences, list[str]]:
    """Match the rows of a table with columns `image` or `id`, `text` and optionally `laterality` to cases.

    A row names a case by its id, its path from the input folder on (with or without that folder), its file name, or
    either without suffix. A file name that several images share does not tell them apart and is refused.

    Args:
        path: the table.
        cases: in order.
        laterality: of rows without one of their own.

    Returns:
        The sentences, and notes on missing, repeated and unused rows.

    Raises:
        PredictError: when a column is missing, a laterality is unknown, a name is repeated with another sentence, or
            does not tell images apart, or no row fits.
    """
    sheet = read_sheet(path)
    text, name = sheet.column(TEXT_COLUMNS), sheet.column(("id", *PATH_COLUMNS))
    if text is None or name is None:
        raise PredictError(
            f"{path} must have a column 'image' or 'id' and a column 'text', got {sheet.shown_columns()}"
        )
    names = [column for column in ("id", *PATH_COLUMNS) if column in sheet.columns]
    index, repeated = _index(sheet, names, text)
    rows = tuple(_row_of(case, index) for case in cases)
    _check_unambiguous(sheet, cases, rows, name)
    used = set(rows) - {-1}
    if not used:
        raise PredictError(
            f"{path} must name the images of the input in its column {name!r}, got none of them: its first row names "
            f"{sheet.rows[0].values[name]!r}, the first image is {cases[0].place!r}"
        )
    missing = [case.place for case, row in zip(cases, rows, strict=True) if row < 0]
    unused = [row.values[name] for number, row in enumerate(sheet.rows) if number not in used | repeated]
    notes = [f"{len(repeated)} rows of {path.name} repeat another"] if repeated else []
    notes += (
        [_told(missing, f"have no row in {path.name} and run without a sentence", "images")]
        if missing
        else []
    )
    notes += [_told(unused, f"of {path.name} fit no image", "rows")] if unused else []
    return TableSentences(sheet, text, rows, laterality), notes


def _index(sheet: Sheet, names: Sequence[str], text: str) -> tuple[dict[str, int], set[int]]:
    """Return the row number under every name, and the rows that repeat one before."""
    index: dict[str, int] = {}
    repeated: set[int] = set()
    for number, row in enumerate(sheet.rows):
        spoken = row.values.get("laterality", "")
        if spoken and spoken not in LATERALITIES:
            raise PredictError(f"{row.place} must have the laterality image or patient, got {spoken!r}")
        keys = [_tidy(row.values[column]) for column in names if row.values[column]]
        if not keys:
            raise PredictError(f"{row.place} must name an image, got an empty value")
        first = index.setdefault(keys[0], number)
        for key in keys[1:]:
            index.setdefault(key, number)
        if first != number:
            _check_same(sheet.rows[first], row, text)
            repeated.add(number)
    return index, repeated


def _check_same(first: SheetRow, second: SheetRow, text: str) -> None:
    for column in (text, "laterality"):
        if first.values.get(column) != second.values.get(column):
            raise PredictError(
                f"{second.place} names the same image as {first.place.rpartition(', ')[2]} and must have the same "
                f"{column}, got another: keep one of the two"
            )


def _tidy(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./").rstrip("/")


def _row_of(case: Case, index: dict[str, int]) -> int:
    inside = case.place.partition("/")[2] or case.place
    names = (case.id, case.place, inside, case.files[0].replace("\\", "/"), inside.rpartition("/")[2])
    for key in (*names, *(without_suffix(name) for name in names)):
        if key in index:
            return index[key]
    return -1


def _check_unambiguous(sheet: Sheet, cases: Sequence[Case], rows: Sequence[int], name: str) -> None:
    first: dict[int, Case] = {}
    for case, row in zip(cases, rows, strict=True):
        if row >= 0 and first.setdefault(row, case) is not case:
            raise PredictError(
                f"{sheet.rows[row].place} must name one image, got {sheet.rows[row].values[name]!r}, which is "
                f"{first[row].place} and {case.place}: give the paths from the input folder on"
            )


def _told(names: Sequence[str], what: str, kind: str) -> str:
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return f"{len(names)} {kind} {what}: {shown}"

"""A whole call: list, check, segment what is missing, and write the tables and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .inputs import Case, Listing, list_cases
from .journal import DONE, FAILED, FOLDER, Entry, Journal, locked, read_entries
from .leftovers import remove_leftovers
from .record import open_record, read_record
from .report import write_report
from .request import PredictError, PredictRequest
from .results import Totals, ordered, write_tables
from .texts import find_sentences

OnCase = Callable[[str], None]
Watcher = Callable[[int], AbstractContextManager[OnCase]]


@dataclass(frozen=True)
class Outcome:
    """What there is after a call.

    Attributes:
        total: cases of the inputs.
        done: of them, with a mask.
        failed: of them, with an error.
        ran: cases that this call tried.
        report: the page; None when cases are missing, which other processes have.
        totals: sums over all cases; None likewise.
    """

    total: int
    done: int
    failed: int
    ran: int
    report: Path | None
    totals: Totals | None


def unwatched(total: int) -> AbstractContextManager[OnCase]:
    """Watch nothing."""
    return nullcontext(lambda status: None)


def predict(
    request: PredictRequest, *, watch: Watcher = unwatched, tell: Callable[[str], None] = lambda note: None
) -> Outcome:
    """Segment what the request names and is not done yet.

    Args:
        request: the options.
        watch: called with the number of cases that will be tried; gives a context that is told the status of each.
        tell: called with what the user should know, a sentence each.

    Returns:
        What there is now.

    Raises:
        PredictError: when the call is refused, or results cannot be written.
        KeyboardInterrupt: passed on; the same call goes on later.
    """
    request.check()
    listing = list_cases(request.inputs, exclude=request.output)
    for note in listing.notes:
        tell(note)
    ran = 0 if request.merge else _segment(request, listing, watch=watch, tell=tell)
    return _finish(request.output, listing, ran=ran, partial=request.merge)


def _segment(
    request: PredictRequest, listing: Listing, *, watch: Watcher, tell: Callable[[str], None]
) -> int:
    """Segment this process's cases that are not done; return how many were tried."""
    sentences, notes = find_sentences(request, listing.cases)
    for note in notes:
        tell(note)
    from . import engine  # MONAI comes with it: what can be refused without is refused before
    from .run import Run, Task

    segmenter = engine.open_segmenter(request)
    if segmenter.info.weights_sha256 is None:
        tell("the network is untrained: its masks mean nothing")
    open_record(request, engine.describe(segmenter))
    with Journal(request.output, request.shard) as journal:
        entries = read_entries(request.output)
        check_places(listing.cases, entries)
        tasks = [
            Task(position, case)
            for position, case in enumerate(listing.cases)
            if request.shard.owns(position) and _is_open(entries.get(case.id), request)
        ]
        remove_leftovers(request.output, (task.case.id for task in tasks))
        if tasks:
            with watch(len(tasks)) as on_case:
                Run(request, segmenter, sentences, journal, on_case=on_case)(tasks)
    return len(tasks)


def _is_open(entry: Entry | None, request: PredictRequest) -> bool:
    return entry is None or (entry.status == FAILED and request.retry_failed)


def check_places(cases: Sequence[Case], entries: Mapping[str, Entry]) -> None:
    """Refuse a list of cases in which a name means another file than before.

    Raises:
        PredictError: naming the case.
    """
    for case in cases:
        entry = entries.get(case.id)
        if entry is not None and entry.place != case.place:
            raise PredictError(
                f"case {case.id} must be {entry.place} as in the results before, got {case.place}: choose another "
                "--output, or replace the results with --overwrite"
            )


def _finish(folder: Path, listing: Listing, *, ran: int, partial: bool) -> Outcome:
    """Write tables and report when every case has its line, or of what there is when that was asked for."""
    record: dict[str, Any] = read_record(folder)
    with locked(folder / FOLDER / "merge.lock", wait=True):
        entries = read_entries(folder)
        known = ordered(listing.cases, entries)
        done = sum(entry.status == DONE for entry in known)
        report, totals = None, None
        if partial or len(known) == len(listing.cases):
            totals = write_tables(folder, known)
            report = write_report(folder, known, record, totals)
    return Outcome(len(listing.cases), done, len(known) - done, ran, report, totals)

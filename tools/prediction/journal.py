"""The append-only record of finished and failed cases, which survives being killed."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from .request import PredictError, Shard

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes out of one folder
    fcntl = None  # type: ignore[assignment]

DONE, FAILED = "done", "failed"
FOLDER = "journal"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the last line on a case stands.

    Attributes:
        id: of the case.
        place: path of its image, from the input folder on.
        status: "done" or "failed".
        part: the file.
        offset: of the line in the file, in bytes.
    """

    id: str
    place: str
    status: str
    part: Path
    offset: int

    def read(self) -> dict[str, Any]:
        """Return the whole line."""
        with self.part.open("rb") as file:
            file.seek(self.offset)
            line: dict[str, Any] = json.loads(file.readline())
            return line


class Journal:
    """One process's part of the journal: a JSON object a line, on the disk as soon as it is written.

    Args:
        folder: of the results; the parts are in `journal` inside.
        shard: whose part.
    """

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.folder = folder / FOLDER
        self.path = self.folder / f"part-{shard.index}-of-{shard.count}.jsonl"
        self._file: IO[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._writing = threading.Lock()

    def __enter__(self) -> Journal:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = locked(self.path.with_suffix(".lock"))
        drop_torn_line(self.path)
        self._file = self.path.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._writing:
            if self._file is not None:
                os.fsync(self._file.fileno())
                self._file.close()
                self._file = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write(self, line: dict[str, Any]) -> None:
        """Append a line and hand it to the system, so that a killed process does not lose it.

        Args:
            line: with "id", "place" and "status".
        """
        content = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._writing:
            if self._file is None:
                raise RuntimeError("the journal must be open, got one that is closed")
            self._file.write(content)
            self._file.flush()


def read_entries(folder: Path) -> dict[str, Entry]:
    """Return where the last line on each case stands, in all parts of the journal.

    A line that was torn by a kill is passed over; a case that failed and was done later is done.

    Args:
        folder: of the results.

    Raises:
        PredictError: when a line in the middle is no JSON.
    """
    entries: dict[str, Entry] = {}
    for part in sorted((folder / FOLDER).glob("part-*.jsonl")):
        for offset, line in _lines(part):
            entry = Entry(line["id"], line["place"], line["status"], part, offset)
            before = entries.get(entry.id)
            if before is None or before.part == part or before.status == FAILED:
                entries[entry.id] = entry
    return entries


def read_lines(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """Yield the lines of entries, one after the other, without holding more than one."""
    files: dict[Path, IO[bytes]] = {}
    try:
        for entry in entries:
            file = files.get(entry.part) or files.setdefault(entry.part, entry.part.open("rb"))
            file.seek(entry.offset)
            yield json.loads(file.readline())
    finally:
        for file in files.values():
            file.close()


def _lines(part: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    offset = 0
    with part.open("rb") as file:
        for number, content in enumerate(file, 1):
            if content.endswith(b"\n"):
                yield offset, _parsed(content, part, number)
            offset += len(content)


def _parsed(content: bytes, part: Path, number: int) -> dict[str, Any]:
    try:
        line = json.loads(content)
        if {"id", "place", "status"} <= line.keys():
            return dict(line)
        got = "another object"
    except (ValueError, AttributeError) as error:
        got = f"something else ({type(error).__name__})"
    raise PredictError(
        f"{part.name}, line {number} must be a line of this tool's journal, got {got}: run with --overwrite"
    )


def drop_torn_line(path: Path) -> None:
    """Cut off the last line of a file when it has no end."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content_end = file.seek(0, os.SEEK_END)
        position = content_end
        while position:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position != content_end:
            file.truncate(position)


def locked(path: Path, *, wait: bool = False) -> IO[bytes]:
    """Open a file and lock it for this process, until it is closed or the process ends, however it ends.

    Raises:
        PredictError: when another process holds it and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    if fcntl is None:
        return file
    try:  # a record lock: child processes, which may outlive a killed parent, do not hold it
        fcntl.lockf(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return file  # a file system without locks
        file.close()
        raise PredictError(
            f"{path.parent.parent} must be written by one process a shard, but another one is at work there: "
            "wait for it, or choose another --output"
        ) from error
    return file

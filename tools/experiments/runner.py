"""Running a job once: log, marker of success, record of failure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from .jobs import Job

CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ERROR_LINE = re.compile(r"^[\w.]*(Error|Exception|Interrupt)(:|$)")
CHAINED = ("The above exception was the direct cause", "During handling of the above exception")


class Runner(Protocol):
    """Runs a command, appends what it prints to a log, calls back with every line, and returns its exit status."""

    def __call__(self, command: Sequence[str], log: Path, on_line: Callable[[str], None]) -> int: ...


@dataclass(frozen=True)
class Outcome:
    """How a job ended: ``kept`` (it had succeeded before), ``finished`` or ``failed``."""

    status: str
    seconds: float
    error: str = ""


def run_command(command: Sequence[str], log: Path, on_line: Callable[[str], None]) -> int:
    """Run a command as a process of its own, following its output live.

    Every line goes to `on_line`; lines that overwrite each other, as a progress bar's do, stay out of the log.
    When this process is interrupted, the command is ended too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(command, env=environment, **pipes) as process,
        open(
            process.stdout.fileno(), encoding="utf-8", errors="replace", newline="", closefd=False
        ) as output,
    ):
        try:
            for line in output:
                text = CONTROL_SEQUENCE.sub("", line).rstrip()
                if line.endswith("\n") and text:
                    file.write(text + "\n")
                    file.flush()
                if text:
                    on_line(text.strip())
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def run_job(
    job: Job,
    *,
    runner: Runner,
    on_line: Callable[[str], None],
    provenance: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run a job unless its marker says that the very same one has succeeded.

    Args:
        job: what to run.
        runner: how.
        on_line: called with every line that the command prints.
        provenance: facts to keep in the marker, such as machine and commit.
    """
    earlier = read_marker(job)
    if earlier is not None:
        return Outcome("kept", float(earlier["seconds"]))
    job.folder.mkdir(parents=True, exist_ok=True)
    for stale in (job.marker, job.failure, job.result if job.anew else None):
        if stale is not None:
            stale.unlink(missing_ok=True)
    started = time.monotonic()
    status = runner(job.command, job.log, on_line)
    seconds = round(time.monotonic() - started, 1)
    error = _error(job, status)
    facts = {"fingerprint": job.fingerprint, "seconds": seconds, "ended": now(), **(provenance or {})}
    if error:
        write_json({**facts, "error": error, "status": status}, job.failure)
        return Outcome("failed", seconds, error)
    write_json(facts, job.marker)
    return Outcome("finished", seconds)


def read_marker(job: Job) -> dict[str, Any] | None:
    """Return the marker of a job that has succeeded as it now stands, or None."""
    if not job.marker.is_file() or (job.result is not None and not job.result.is_file()):
        return None
    content = json.loads(job.marker.read_text(encoding="utf-8"))
    return content if content["fingerprint"] == job.fingerprint else None


def read_failure(job: Job) -> str:
    """Return the error with which a job has failed, or an empty text."""
    if not job.failure.is_file():
        return ""
    content = json.loads(job.failure.read_text(encoding="utf-8"))
    return content["error"] if content["fingerprint"] == job.fingerprint else ""


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write indented JSON under a temporary name and rename it to `path`."""
    write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write text as UTF-8 under a temporary name and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def now() -> str:
    """Return the time of day in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _error(job: Job, status: int) -> str:
    if status:
        return f"exit status {status}: {_last_error(job.log)}"
    if job.result is not None and not job.result.is_file():
        return f"{job.result.name} was not written"
    return ""


def _last_error(log: Path) -> str:
    """What the last traceback of the log began with, which is its cause, or else the log's last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    cause, before = "", ""
    for line in lines:
        if line.startswith("Traceback") and not before.startswith(CHAINED):
            cause = ""
        if not cause and ERROR_LINE.match(line):
            cause = line
        before = line
    return (cause or before or "no output")[:300]

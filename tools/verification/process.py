"""The one process in which a bundle runs: on a read-only copy, from another folder, without network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.packing import file_table
from tools.packing.proof import OFFLINE

from . import probes
from .opened import OpenedBundle

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What was seen of a bundle that ran.

    Attributes:
        facts: of each probe by its name: ``seen`` or ``problem``.
        written: files of the bundle that were changed, added or removed.
        end: the last lines of the process when it ended early; else empty.
    """

    facts: dict[str, dict[str, Any]]
    written: list[str]
    end: str = ""


def observe(bundle: OpenedBundle, *, timeout: float = 900) -> Observed:
    """Run every probe on a read-only copy of `bundle`.

    Args:
        bundle: copied without what runs have left in it.
        timeout: seconds after which the process is ended.
    """
    with tempfile.TemporaryDirectory(prefix="verify_") as place:
        folder, scratch = Path(place, "bundle", bundle.name), Path(place, "scratch")
        scratch.mkdir()
        for name in bundle.files():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.folder / name, folder / name)
        before = file_table(folder)
        with read_only(folder):
            lines, end = _run(folder, scratch, packed=bundle.packed, timeout=timeout)
            after = file_table(folder)
    written = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return Observed(facts={fact["name"]: fact for fact in lines}, written=written, end=end)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take away the permission to write below `folder` until the block ends."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    try:
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield
    finally:
        for path, mode in modes.items():
            if path.exists():
                path.chmod(mode)


def _run(folder: Path, scratch: Path, *, packed: bool, timeout: float) -> tuple[list[dict[str, Any]], str]:
    program = [sys.executable, "-I", "-B", str(Path(probes.__file__).resolve()), str(folder), str(scratch)]
    try:
        result = subprocess.run(
            [*program, "" if packed else str(REPOSITORY)],
            cwd=scratch,
            env=os.environ | OFFLINE | {"CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return [], f"it did not end within {timeout:.0f} s"
    marked = [line for line in result.stdout.splitlines() if line.startswith(probes.MARK)]
    facts = [json.loads(line.removeprefix(probes.MARK)) for line in marked]
    return facts, "" if result.returncode == 0 else " ".join(result.stderr.splitlines()[-3:])

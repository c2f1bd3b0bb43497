"""Unfinished files of a process that was killed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from .record import PREDICTIONS, PREVIEWS

UNFINISHED = re.compile(r"^\.(?:\d+\.)?(?P<name>.+?)(?:\.\d+\.part)?$")
ENDINGS = (".nii.gz", ".seg.dcm", ".sr.dcm", ".png")


def remove_leftovers(folder: Path, ids: Iterable[str]) -> int:
    """Remove what was begun and never got its name; the files of other cases may belong to another process.

    Args:
        folder: of the results.
        ids: cases of this process.

    Returns:
        How many files there were.
    """
    own = set(ids)
    found = [
        path
        for name in (PREDICTIONS, PREVIEWS)
        for path in (folder / name).glob(".*")
        if case_of(path.name) in own
    ]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def case_of(name: str) -> str | None:
    """Return the case that an unfinished file belongs to, None for any other file."""
    match = UNFINISHED.match(name)
    ending = next((end for end in ENDINGS if match and match["name"].endswith(end)), None)
    return None if match is None or ending is None else match["name"].removesuffix(ending)

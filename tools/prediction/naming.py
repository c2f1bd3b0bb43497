"""Unique, readable names of cases, made of the relative paths of their files."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SUFFIX = re.compile(r"(\.nii\.gz|\.[A-Za-z]{1,5})$")
UNSAFE = re.compile(r"[^\w.\-]")
LONGEST = 120  # characters of a name; file systems take 255 bytes with the suffixes


@dataclass(frozen=True)
class Named:
    """What a name is made of.

    Attributes:
        root: name of the input folder, "" for a file that was named itself.
        path: path inside of it, with `/`; of a series, its folder.
        source: what no other case has: the path as it was given.
        folder: whether `path` is a folder, which has no suffix.
    """

    root: str
    path: str
    source: str
    folder: bool = False

    @property
    def place(self) -> str:
        """The path with the input folder in front."""
        return "/".join(part for part in (self.root, self.path) if part)


def case_ids(items: Sequence[Named]) -> list[str]:
    """Name every case.

    The name is the path inside of the input folder without its suffix, `/` and what file names cannot have replaced
    by `_`. Where that is not unique (letters of either case count as the same), the names that collide get, in this
    order and only as far as needed: the input folder in front, the suffix, a digest of the path.

    Args:
        items: the cases; each with another `source`.

    Returns:
        One name a case, which depends on the set of items alone.
    """
    candidates = (_short, _with_root, _with_suffix, _with_digest)
    names = [_short(item) for item in items]
    for candidate in candidates[1:]:
        counts = Counter(name.casefold() for name in names)
        if len(counts) == len(names):
            break
        names = [
            candidate(item) if counts[name.casefold()] > 1 else name
            for item, name in zip(items, names, strict=True)
        ]
    return names


def without_suffix(name: str) -> str:
    """Return a file's name without `.nii.gz` or one suffix of letters."""
    return SUFFIX.sub("", name)


def _short(item: Named) -> str:
    return _safe(item.path if item.folder else without_suffix(item.path), item)


def _with_root(item: Named) -> str:
    return _safe(item.place if item.folder else without_suffix(item.place), item)


def _with_suffix(item: Named) -> str:
    return _safe(item.place if item.folder else item.place.replace(".", "_"), item)


def _with_digest(item: Named) -> str:
    return f"{_with_suffix(item)}-{_digest(item)}"


def _safe(name: str, item: Named) -> str:
    safe = UNSAFE.sub("_", name).lstrip("._") or "case"
    return safe if len(safe) <= LONGEST else f"{safe[:LONGEST]}-{_digest(item)}"


def _digest(item: Named) -> str:
    return hashlib.sha256(item.source.encode(errors="surrogateescape")).hexdigest()[:8]

"""The markdown page of a measurement, and files that are written together."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .grouping import GROUPINGS
from .stages import VECTORS

_CASES_OF = {"repeated": "all that occur twice or more", "largest": "the most frequent"}


def markdown(results: Mapping[str, Any], *, picture: str) -> str:
    """Return the page for the content of a results file.

    Args:
        results: as `separate` returns them.
        picture: file name of the picture beside the page.
    """
    parts = [f"# {results['title']}", _header(results), _table(results["rows"]), _reading(results)]
    listed = "\n".join(f"{n}. {g['sentence']} ({g['cases']})" for n, g in enumerate(results["pictured"], 1))
    parts += ["## Picture", f"![Image vectors before and after stage I]({picture})", listed]
    parts += ["## Command", f"```\n{shlex.join(results['command'])}\n```"]
    return "\n\n".join(parts) + "\n"


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files under temporary names and rename them when all are complete.

    Args:
        files: their content, by path.
    """
    partial = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial[path].write_bytes(content)
        for path, temporary in partial.items():
            os.replace(temporary, path)
    finally:
        for temporary in partial.values():
            temporary.unlink(missing_ok=True)


def _header(results: Mapping[str, Any]) -> str:
    data, weights = results["data"], results["weights"]
    machine, versions = (
        ", ".join(f"{key} {value}" for key, value in results[name].items())
        for name in ("machine", "versions")
    )
    facts = {
        "Shows": results["reference"],
        "Data": f"{data['dataset']}, {results['section']}: {results['cases']} cases with a sentence; dataset.json "
        f"SHA-256 {data['sha256'][:12]}",
        "Bundle": f"{results['bundle']}; overlays: {', '.join(results['overlays']) or 'none'}",
        "Before": f"the network as initialised with seed {results['seed']}",
        "After": f"{weights['file']}, SHA-256 {weights['sha256'][:12]}{_start(results['same_start'])}",
        "Machine": machine,
        "Versions": versions,
        "Written": f"{results['written']}, commit {results['commit']}",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _start(same: bool | None) -> str:
    known = {
        True: "the same as before",
        False: "another one than before: trained from another initialisation",
    }
    return "" if same is None else f"; its text encoder, which stage I leaves alone, is {known[same]}"


def _table(rows: list[Mapping[str, Any]]) -> str:
    named = ("before", "after", "change")
    head = ["same", "of them", "groups", "cases", "vector", *named]
    head += [f"{name}, above chance" for name in named]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        facts = [row["grouping"], _CASES_OF[row["cases_of"]], str(row["groups"]), str(row["cases"])]
        numbers = [_interval(row[name]) for name in named]
        above = [f"{row[name]['above_chance']:.3f}" for name in named]
        lines.append([*facts, VECTORS[row["vector"]], *numbers, *above])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval(numbers: Mapping[str, float]) -> str:
    return f"{numbers['silhouette']:.3f} [{numbers['low']:.3f}, {numbers['high']:.3f}]"


def _reading(results: Mapping[str, Any]) -> str:
    how = results["protocol"]
    return (
        f"Mean silhouette ({how['distance']} distance), from -1 to 1: higher where images of one group lie nearer to "
        f"each other than to the nearest other group ({' or '.join(GROUPINGS.values())}). In brackets "
        f"{how['level']:.0%} intervals ({how['draws']} draws of cases, seed {results['seed']}; the groups and the "
        f"training stay as they are). Chance: {how['chance']}. With many groups it lies below 0, and a training moves "
        "it: the change above chance is what the sentences account for."
    )

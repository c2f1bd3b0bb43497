"""Measurements as a Markdown table, for model cards and ``docs/results``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

CARD_TABLE = re.compile(r"(?<=<!-- exports -->\n).*?(?=<!-- /exports -->)", re.DOTALL)
COLUMNS = ("network", "format", "MB", "seconds to export", "largest difference")


def markdown_table(entries: Iterable[Mapping[str, Any]]) -> str:
    """Return one row a format of every measurement; durations are milliseconds of processor time for an image.

    Args:
        entries: as ``--json`` of `tools.export_model` writes them.
    """
    listed = list(entries)
    batches = sorted({b for e in listed for row in e["rows"] for b in row["processor_milliseconds"]}, key=int)
    columns = [*COLUMNS, *(f"ms, batch {batch}" for batch in batches)]
    lines = [columns, ["---"] * len(columns)]
    lines += [_cells(entry, row, batches) for entry in listed for row in entry["rows"]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown_document(entries: Iterable[Mapping[str, Any]]) -> str:
    """Return the table under a heading, with what it was measured on.

    Args:
        entries: as in `markdown_table`.
    """
    listed = list(entries)
    facts = dict.fromkeys(_conditions(entry) for entry in listed)
    return "\n".join(["# Exports", "", *facts, "", markdown_table(listed)])


def card_with_table(card: str, entries: Iterable[Mapping[str, Any]]) -> str:
    """Return a model card with the table of `entries` between ``<!-- exports -->`` and ``<!-- /exports -->``.

    Args:
        card: its text.
        entries: of its bundle, as in `markdown_table`.

    Raises:
        ValueError: when the card has no such place.
    """
    if not CARD_TABLE.search(card):
        raise ValueError("the card must have the lines <!-- exports --> and <!-- /exports -->, got none")
    return CARD_TABLE.sub(lambda match: f"\n{markdown_table(entries)}\n", card)


def _conditions(entry: Mapping[str, Any]) -> str:
    machine, versions = entry["machine"], entry["versions"]
    names = ("torch", "onnx", "onnxruntime")
    packages = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    size = " × ".join(map(str, entry["image_size"]))
    weights = "random weights" if entry["random_weights"] else "trained weights"
    return (
        f"{size} pixels, {entry['max_tokens']} tokens, {weights}, {entry['threads']} thread(s) of {machine['cpu']} "
        f"({machine['cores']} cores); {packages}; medians of processor time."
    )


def _cells(entry: Mapping[str, Any], row: Mapping[str, Any], batches: list[str]) -> list[str]:
    network = "-".join(entry["overlays"]) or f"{entry['bundle']} ({entry['network']})"
    if row["format"] != "eager" and row["file"] is None:
        return [network, row["format"], row["note"], *[""] * (len(COLUMNS) - 3 + len(batches))]
    megabytes = f"{row['megabytes']:.1f}"
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.0f}"
    difference = "" if row["difference"] is None else f"{row['difference']:.0e}" if row["difference"] else "0"
    times = row["processor_milliseconds"]
    return [
        network,
        row["format"],
        megabytes,
        seconds,
        difference,
        *(f"{times[b]:.0f}" if b in times else "" for b in batches),
    ]

"""Print what was found while a data set was prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .document import Findings
from .source import SECTIONS

SHOWN_WORDS = 12
SHOWN_WARNINGS = 12


def print_summary(found: Findings, output: Path, console: Console) -> None:
    """Print counts, captions, laterality and warnings of a prepared data set.

    Args:
        found: what :func:`prepare_dataset` returned.
        output: the folder it wrote.
        console: where to print.
    """
    title = f"{found.document['name']}: {found.document['modality']}"
    table = Table(title=escape(title), show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in _rows(found):
        table.add_row(name, escape(value))
    console.print(table)
    for warning in found.warnings[:SHOWN_WARNINGS]:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)
    if len(found.warnings) > SHOWN_WARNINGS:
        console.print(f"… and {len(found.warnings) - SHOWN_WARNINGS} more warnings in dataset.json")
    datalist = escape(str(output / "dataset.json"))
    console.print(f"[green]written:[/green] {datalist}", highlight=False, soft_wrap=True)


def print_volume_summary(document: dict[str, Any], output: Path, console: Console) -> None:
    """Print counts, classes and warnings of prepared volumes.

    Args:
        document: what :func:`prepare_volumes` returned.
        output: the folder it wrote.
        console: where to print.
    """
    table = Table(
        title=escape(f"{document['name']}: {document['modality']}"), show_header=False, title_justify="left"
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for section, counts in document["statistics"]["cases"].items():
        told = ", ".join(f"{modality} {count}" for modality, count in sorted(counts.items()))
        table.add_row(section, escape(told or "none"))
    for name in ("anatomy", "license"):
        table.add_row(name, escape(str(document[name])))
    table.add_row("split", escape(document["split"]["protocol"]))
    table.add_row(
        "classes", escape(", ".join(f"{number} {name}" for number, name in document["labels"].items()))
    )
    console.print(table)
    for warning in document["warnings"][:SHOWN_WARNINGS]:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)
    datalist = escape(str(output / "dataset.json"))
    console.print(f"[green]written:[/green] {datalist}", highlight=False, soft_wrap=True)


def _rows(found: Findings) -> list[tuple[str, str]]:
    document, captions = found.document, found.captions
    counts = ", ".join(f"{section} {found.counts.get(section, 0)}" for section in SECTIONS)
    version = f"{document['caption_version']}: {len(captions.distinct)} distinct, {captions.missing} missing"
    identical = f"{len(found.left_out)} across sections (left out), {found.repeated} within one"
    shared = f"{len(found.shared_groups)} of {len(found.groups)}" if found.groups else "no subject is named"
    return [
        ("cases", counts),
        ("split", str(document["split"]["protocol"])),
        ("captions", version),
        ("words not read", _words(found)),
        ("contradictions", f"in {captions.contradictory} captions"),
        ("laterality", _laterality(found)),
        ("masks", f"{found.empty_masks} empty, {found.unlabelled} missing"),
        ("identical images", identical),
        ("subjects in two sections", shared),
        ("anatomy", document["anatomy"]),
        ("license", document["license"]),
    ]


def _words(found: Findings) -> str:
    words = found.captions.unknown_words
    shown = ", ".join(f"{word} ({count})" for word, count in words.most_common(SHOWN_WORDS))
    more = len(words) - SHOWN_WORDS
    return (shown or "none") + (f" and {more} more" if more > 0 else "")


def _laterality(found: Findings) -> str:
    document, measured = found.document, found.laterality
    known = f"{document['laterality']} ({document['laterality_evidence']['source']}"
    if measured.share is None:
        return f"{known}; no one-sided caption with a mask)"
    return (
        f"{known}): 'left' is the left half of the image in {measured.image_side} of "
        f"{measured.one_sided} one-sided captions ({measured.share:.1%})"
    )

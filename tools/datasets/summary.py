"""Print what was found while a data set was prepared."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .preparation import SECTION_ORDER, Preparation

SHOWN_WORDS = 12
SHOWN_WARNINGS = 12


def print_summary(report: Preparation, output: Path, console: Console) -> None:
    """Print counts, captions, laterality and warnings of a prepared data set.

    Args:
        report: what :func:`prepare_dataset` returned.
        output: the folder it wrote.
        console: where to print.
    """
    document = report.document
    table = Table(title=escape(f"{document['name']}: {document['modality']}"), show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in _rows(report):
        table.add_row(name, escape(value))
    console.print(table)
    for warning in report.warnings[:SHOWN_WARNINGS]:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False)
    if len(report.warnings) > SHOWN_WARNINGS:
        console.print(f"… and {len(report.warnings) - SHOWN_WARNINGS} more warnings in dataset.json")
    console.print(f"[green]written:[/green] {escape(str(output))}/dataset.json", highlight=False, soft_wrap=True)


def _rows(report: Preparation) -> list[tuple[str, str]]:
    document, captions = report.document, report.captions
    counts = ", ".join(f"{section} {report.counts.get(section, 0)}" for section in SECTION_ORDER)
    words = [f"{word} ({count})" for word, count in captions.unknown_words.most_common(SHOWN_WORDS)]
    more = len(captions.unknown_words) - SHOWN_WORDS
    return [
        ("cases", counts),
        ("split", str(document["split"].get("protocol"))),
        ("captions", f"{document['caption_version']}: {len(captions.distinct)} distinct, {captions.missing} missing"),
        ("words not read", (", ".join(words) or "none") + (f" and {more} more" if more > 0 else "")),
        ("contradictions", f"{captions.contradictory} captions"),
        ("laterality", _laterality(report)),
        ("masks", f"{report.empty_masks} empty, {report.unlabelled} missing"),
        ("identical images", f"{len(report.dropped)} across sections (left out), {report.repeated} within one"),
        ("subjects in two sections", str(len(report.shared_groups)) if document_has_subjects(report) else "not known"),
        ("anatomy", document["anatomy"]),
        ("license", document["license"]),
    ]


def document_has_subjects(report: Preparation) -> bool:
    """Whether any case of a prepared data set names its subject."""
    return any("subject" in case for section in SECTION_ORDER for case in report.document[section])


def _laterality(report: Preparation) -> str:
    document, measured = report.document, report.laterality
    value, source = document["laterality"], document["laterality_source"]
    if measured.share is None:
        return f"{value} ({source}; no one-sided caption with a mask)"
    return (
        f"{value} ({source}): 'left' is the left half of the image in {measured.image_side} of "
        f"{measured.one_sided} one-sided captions ({measured.share:.1%})"
    )

"""Write a source as one folder of images, masks and ``dataset.json``: completely, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .document import Findings, build_document
from .source import SourceCase, SourceData, SourceError, SourceOptions
from .staging import staged_folder
from .writing import CaseWriter

# An image that is in two sections stays in the one that is judged on: the training copy goes.
SECTION_PRIORITY = ("test", "validation", "training")


def prepare_dataset(
    data: SourceData,
    source: Path,
    output: Path,
    *,
    options: SourceOptions | None = None,
    link: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Findings:
    """Write a data set folder that :func:`common.data.load_datalist` reads.

    Everything is written to a folder beside ``output`` that takes its place at the end. Cases are read one at
    a time: memory does not grow with the size of the images.

    Args:
        data: the source as its reader gave it.
        source: folder of the source, which is never written to.
        output: folder to write; must be new, empty, or a data set folder with ``overwrite``.
        options: what the user said about threshold, laterality and anatomy.
        link: hard-link the images instead of copying them, where the file system allows it.
        overwrite: replace an existing data set folder.
        progress: called with the id of every case done.

    Returns:
        What was found, with the document that was written.

    Raises:
        SourceError: naming the file or row that is not as it must be.
    """
    options = options or SourceOptions()
    _check_ids(data)
    found = Findings(warnings=list(data.warnings))
    with staged_folder(output, source=source, overwrite=overwrite) as folder:
        writer = CaseWriter(folder, data, options, found, link=link)
        entries = {name: _write_section(writer, data, name, progress) for name in SECTION_PRIORITY}
        found.document = build_document(data, options, found, entries, sha256=writer.sha256)
        text = json.dumps(found.document, indent=1, ensure_ascii=False)
        (folder / "dataset.json").write_text(text + "\n", encoding="utf-8")
    return found


def _write_section(
    writer: CaseWriter, data: SourceData, section: str, progress: Callable[[str], None] | None
) -> list[dict[str, Any]]:
    entries = []
    for case in data.sections.get(section, []):
        entry = writer.write(case, section)
        if entry is not None:
            entries.append(entry)
        if progress is not None:
            progress(case.id)
    return entries


def _check_ids(data: SourceData) -> None:
    seen: dict[str, SourceCase] = {}
    for section, cases in data.sections.items():
        for case in cases:
            first = seen.setdefault(case.id, case)
            if first is not case:
                raise SourceError(
                    f"{case.row}: id {case.id!r} ({section}) must be unique, got it in {first.row} too: "
                    "list an image once, in one section"
                )
    if not seen:
        raise SourceError(f"{data.name} must have at least one image, got none")

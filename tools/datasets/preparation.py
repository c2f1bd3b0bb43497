"""Write a source as one folder of images, masks and ``dataset.json``: completely, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .pixels import Picture, read_mask, read_picture
from .sentences import LONG_CAPTION, CaptionReport, LateralityMeasurement
from .source import SourceCase, SourceData, SourceError, SourceOptions, image_suffix

# An image that is in two sections stays in the one that is judged on: the training copy goes.
SECTION_PRIORITY = ("test", "validation", "training")
SECTION_ORDER = ("training", "validation", "test")
FORMAT_VERSION = 1


@dataclass
class Preparation:
    """What was found while a data set was written; the summary is printed from it."""

    counts: dict[str, int] = field(default_factory=dict)
    captions: CaptionReport = field(default_factory=CaptionReport)
    laterality: LateralityMeasurement = field(default_factory=LateralityMeasurement)
    unlabelled: int = 0
    empty_masks: int = 0
    dropped: list[str] = field(default_factory=list)
    repeated: int = 0
    copied_instead: int = 0
    shared_groups: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)
    _seen: dict[str, tuple[str, str]] = field(default_factory=dict)
    _groups: dict[str, Counter[str]] = field(default_factory=dict)


def prepare_dataset(
    data: SourceData,
    source: Path,
    output: Path,
    *,
    options: SourceOptions | None = None,
    link: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda case_id: None,
) -> Preparation:
    """Write a data set folder that :func:`common.data.load_datalist` reads.

    Everything is written to a folder beside ``output`` that takes its place at the end, so an error leaves
    nothing half-written. Cases are read one at a time: memory does not grow with the size of the images.

    Args:
        data: the source as its reader gave it.
        source: folder of the source, which is never written to.
        output: folder to write; must be new, empty, or a data set folder with ``overwrite``.
        options: what the user said about threshold, laterality and anatomy.
        link: hard-link the images instead of copying them, where the file system allows it.
        overwrite: replace an existing data set folder.
        progress: called with the id of every case done.

    Returns:
        What was found.

    Raises:
        SourceError: naming the file or row that is not as it must be.
    """
    options = options or SourceOptions()
    _check_cases(data)
    report = Preparation(warnings=list(data.warnings))
    with _staging(output, source, overwrite=overwrite) as folder:
        (folder / "images").mkdir()
        (folder / "labels").mkdir()
        writer = _CaseWriter(folder, data, options, report, link=link)
        entries = {}
        for section in SECTION_PRIORITY:
            entries[section] = []
            for case in data.sections.get(section, []):
                entry = writer.write(case, section)
                progress(case.id)
                if entry is not None:
                    entries[section].append(entry)
        report.document = _document(data, options, report, entries, writer.sha256)
        text = json.dumps(report.document, indent=1, ensure_ascii=False)
        (folder / "dataset.json").write_text(text + "\n", encoding="utf-8")
    return report


class _CaseWriter:
    """Writes one case after the other and counts what it sees."""

    def __init__(
        self, folder: Path, data: SourceData, options: SourceOptions, report: Preparation, *, link: bool
    ) -> None:
        self._folder = folder
        self._anatomy = options.anatomy or data.anatomy
        chosen = options.mask_threshold
        self._threshold = data.mask_threshold if chosen is None else chosen
        self._report = report
        self._link = link
        self.sha256: dict[str, str] = {}

    def write(self, case: SourceCase, section: str) -> dict[str, Any] | None:
        """Write one case; return its entry, or ``None`` if the image is in a section judged on."""
        try:
            return self._write(case, section)
        except SourceError as error:
            raise SourceError(f"{case.row}: {error}" if case.row and case.row not in str(error) else str(error)) from error

    def _write(self, case: SourceCase, section: str) -> dict[str, Any] | None:
        picture = read_picture(case.image)
        mask = None
        if case.mask is not None:
            mask = read_mask(case.mask, size=picture.size, image=case.image, threshold=self._threshold)
        if self._is_repeated(picture, case, section):
            return None
        entry = {"id": case.id, "image": self._write_image(case), "text": case.text or ""}
        if mask is not None:
            entry["label"] = self._write_mask(case, mask)
        if case.group:
            entry["subject"] = case.group
            self._report._groups.setdefault(case.group, Counter())[section] += 1
        self._count(case, section, mask)
        return entry

    def _is_repeated(self, picture: Picture, case: SourceCase, section: str) -> bool:
        first_section, first_id = self._report._seen.setdefault(picture.digest, (section, case.id))
        if first_id == case.id:
            return False
        if first_section == section:
            self._report.repeated += 1
            return False
        self._report.dropped.append(
            f"{case.id} ({section}) holds the same image as {first_id} ({first_section}): left out of {section}"
        )
        return True

    def _count(self, case: SourceCase, section: str, mask: np.ndarray | None) -> None:
        report = self._report
        report.counts[section] = report.counts.get(section, 0) + 1
        report.unlabelled += mask is None
        report.empty_masks += mask is not None and not mask.any()
        findings = report.captions.add(case.text, anatomy=self._anatomy)
        report.laterality.add(findings, mask)

    def _write_image(self, case: SourceCase) -> str:
        name = f"images/{case.id}{image_suffix(case.image)}"
        target = self._folder / name
        content = case.image.read_bytes()
        if not self._linked(case.image, target):
            target.write_bytes(content)
        self.sha256[name] = hashlib.sha256(content).hexdigest()
        return name

    def _linked(self, image: Path, target: Path) -> bool:
        if not self._link:
            return False
        try:
            os.link(image.resolve(), target)
        except OSError:
            self._report.copied_instead += 1
            return False
        return True

    def _write_mask(self, case: SourceCase, mask: np.ndarray) -> str:
        name = f"labels/{case.id}.png"
        target = self._folder / name
        Image.fromarray(mask.astype(np.uint8) * 255).save(target, optimize=False)
        self.sha256[name] = hashlib.sha256(target.read_bytes()).hexdigest()
        return name


def _check_cases(data: SourceData) -> None:
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


@contextmanager
def _staging(output: Path, source: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder that becomes ``output`` if the block ends well, and vanishes if it does not."""
    output = output.absolute()
    _check_output(output, source, overwrite=overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
    try:
        yield folder
        folder.chmod(0o755)
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_output(output: Path, source: Path, *, overwrite: bool) -> None:
    here, there = output.resolve(), source.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise SourceError(f"output must lie outside of the source {source}, got {output}: the source is never changed")
    if not output.exists():
        return
    if not output.is_dir():
        raise SourceError(f"output must be a folder, got the file {output}")
    if not any(output.iterdir()):
        return
    if not overwrite:
        raise SourceError(f"output must be new or empty, got {output}, which is not: choose another, or give --overwrite")
    if not (output / "dataset.json").is_file():
        raise SourceError(f"--overwrite replaces a folder with a dataset.json, got {output}, which has none: empty it yourself")


def _document(
    data: SourceData,
    options: SourceOptions,
    report: Preparation,
    entries: dict[str, list[dict[str, Any]]],
    sha256: dict[str, str],
) -> dict[str, Any]:
    measured = report.laterality
    laterality, doubt = measured.decide(data.default_laterality)
    if options.laterality is not None:
        laterality, doubt = options.laterality, None
    _add_warnings(data, report, doubt)
    anatomy = options.anatomy or data.anatomy
    if anatomy == "auto":
        anatomy = max(report.captions.anatomies, key=report.captions.anatomies.__getitem__, default="lung")
    return {
        "name": data.name,
        "format_version": FORMAT_VERSION,
        "modality": data.modality,
        "anatomy": anatomy,
        "labels": {"0": "background", "1": data.target},
        "laterality": laterality,
        "laterality_source": "user" if options.laterality else ("assumed" if doubt and measured.one_sided < 10 else "measured"),
        "laterality_evidence": {
            "one_sided_captions": measured.one_sided,
            "left_is_image_left": measured.image_side,
            "share": None if measured.share is None else round(measured.share, 4),
        },
        "split": data.split,
        "caption_version": data.caption_version,
        "license": data.license,
        "mask_threshold": data.mask_threshold if options.mask_threshold is None else options.mask_threshold,
        "statistics": _statistics(report),
        "warnings": report.warnings,
        **{section: entries.get(section, []) for section in SECTION_ORDER},
        "sha256": sha256,
    }


def _statistics(report: Preparation) -> dict[str, Any]:
    captions = report.captions
    return {
        "cases": {section: report.counts.get(section, 0) for section in SECTION_ORDER},
        "distinct_captions": len(captions.distinct),
        "missing_captions": captions.missing,
        "contradictory_captions": captions.contradictory,
        "unknown_words": dict(captions.unknown_words.most_common(50)),
        "without_mask": report.unlabelled,
        "empty_masks": report.empty_masks,
        "repeated_images_in_a_section": report.repeated,
        "left_out": report.dropped,
        "subjects_in_two_sections": report.shared_groups,
    }


def _add_warnings(data: SourceData, report: Preparation, doubt: str | None) -> None:
    report.shared_groups = sorted(name for name, sections in report._groups.items() if len(sections) > 1)
    if doubt:
        report.warnings.append(doubt)
    report.warnings.extend(report.dropped)
    if report.repeated:
        report.warnings.append(f"{report.repeated} images repeat another image of their section")
    if report.shared_groups:
        shown = ", ".join(report.shared_groups[:5])
        report.warnings.append(
            f"{len(report.shared_groups)} subjects are in more than one section ({shown}…): "
            "scores will be too good"
        )
    if report.captions.long:
        report.warnings.append(
            f"{report.captions.long} captions are longer than {LONG_CAPTION} characters: kept whole, "
            "though a model reads their first words only"
        )
    if report.copied_instead:
        report.warnings.append(f"{report.copied_instead} images could not be hard-linked and were copied")

"""Readers of plain folders: own images with one csv, and the polyp sets with theirs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.data.splits import random_sections

from .layouts import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    TABLE_SUFFIXES,
    find_tables,
    image_key,
    index_images,
    list_files,
    nearest_names,
    read_lists,
    section_of,
    walk_folders,
)
from .source import IMAGE_SUFFIXES, SourceCase, SourceData, SourceError, SourceOptions, image_suffix, require_inside
from .tables import TableRow

SECTIONS = ("training", "validation", "test")


@dataclass(frozen=True)
class FolderDataset:
    """What tells one plain folder from another.

    Attributes:
        name: name of the data set; empty for the name of its folder.
        modality: what its images are.
        anatomy: ``lung``, ``polyp`` or ``auto``.
        target: what the foreground of a mask is.
        license: its terms, in words.
        caption_version: which captions these are.
        separators: separators that its csv may use.
        mask_threshold: see :class:`SourceData`.
    """

    name: str = ""
    modality: str = "unknown"
    anatomy: str = "auto"
    target: str = "finding"
    license: str = "the owner's"
    caption_version: str = "own"
    separators: tuple[str, ...] = (",",)
    mask_threshold: float | None = None


OWN_FOLDER = FolderDataset()
KVASIR_SEG = FolderDataset(
    name="kvasir_seg",
    modality="colonoscopy",
    anatomy="polyp",
    target="polyp",
    license="Kvasir-SEG: research and education, its authors' terms; sentences of medvlsm: MIT",
    caption_version="medvlsm",
    mask_threshold=127,
)
CVC_CLINICDB = FolderDataset(
    name="cvc_clinicdb",
    modality="colonoscopy",
    anatomy="polyp",
    target="polyp",
    license="CVC-ClinicDB: non-commercial research; sentences of medvlsm: MIT",
    caption_version="medvlsm",
    mask_threshold=127,
)


def read_folder(source: Path, options: SourceOptions, *, dataset: FolderDataset = OWN_FOLDER) -> SourceData:
    """Read a folder of images with masks and captions, each of the latter two optional.

    Args:
        source: folder with ``images/``, perhaps ``masks/`` with the same names, and perhaps a csv with the
            columns ``image`` and any of ``mask``, ``text``, ``split``, ``patient``; or ``train.csv``,
            ``val.csv`` and ``test.csv``. Without a csv every image of ``images/`` is taken.
        options: what the user said.
        dataset: which data set it is.

    Returns:
        The cases of the three sections. A source that brings no split is split at random, 70 / 10 / 20,
        patients kept together where the csv names them.

    Raises:
        SourceError: naming the file or row that is not as it must be.
    """
    rows, tables = _rows(source, options, dataset)
    finder = _Finder(source)
    if not rows:
        cases = finder.every_image()
        sections = {"": cases}
    else:
        sections = {name: [finder.case(row) for row in group] for name, group in rows.items()}
    data = SourceData(
        name=dataset.name or source.resolve().name,
        modality=dataset.modality,
        anatomy=dataset.anatomy,
        target=dataset.target,
        sections={name: sections.get(name, []) for name in SECTIONS},
        split={"protocol": "lists of the source", "source": tables or ["folders"], "subset_rule": "file_order"},
        caption_version=dataset.caption_version if rows else "none",
        license=dataset.license,
        mask_threshold=dataset.mask_threshold,
    )
    _split_at_random(data, sections, options)
    return data


def _rows(
    source: Path, options: SourceOptions, dataset: FolderDataset
) -> tuple[dict[str, list[TableRow]], list[str]]:
    tables = _own_tables(source) if options.captions is None else find_tables(source, options.captions)
    unnamed = tables.get("", [])
    if len(unnamed) > 1:
        raise SourceError(
            f"{source} must hold one csv (or train.csv, val.csv, test.csv), got "
            f"{', '.join(file.name for file in unnamed)}: choose with --captions"
        )
    lists = read_lists(tables, separators=dataset.separators)
    if "" in lists and len(lists) > 1:
        example = lists[""][0]
        raise SourceError(f"{example.place}: every row must name its split as the others do, got none")
    return lists, sorted(file.name for group in tables.values() for file in group)


def _own_tables(source: Path) -> dict[str, list[Path]]:
    """The tables directly in the source; a table deeper down belongs to something else."""
    found: dict[str, list[Path]] = {}
    for file in list_files(source, TABLE_SUFFIXES):
        found.setdefault(section_of(Path(file.name)) or "", []).append(file)
    return found


class _Finder:
    """Finds the files that rows name, in a source whose folders it has seen once."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._images: list[Path] = []
        self._masks: dict[str, dict[str, Path]] = {}
        for folder in walk_folders(source):
            name = re.sub(r"[^a-z]", "", folder.name.lower())
            if name in MASK_FOLDERS and folder != source:
                self._masks[str(folder.parent)] = index_images(folder, source)
            elif name in IMAGE_FOLDERS and folder != source:
                self._images.append(folder)

    def every_image(self) -> list[SourceCase]:
        """Every image of every image folder, with the mask of its name where there is one."""
        if not self._images:
            raise SourceError(
                f"{self._source} must hold a folder images/ (and, if there are masks, masks/ with the same names), "
                f"got {', '.join(sorted(child.name for child in self._source.iterdir())[:8]) or 'an empty folder'}"
            )
        cases = []
        for folder in self._images:
            masks = self._masks.get(str(folder.parent), {})
            for image in sorted(index_images(folder, self._source).values(), key=_natural):
                mask = masks.get(image_key(image))
                if masks and mask is None:
                    raise SourceError(f"{image} must have a mask in {folder.parent}, got none of that name")
                cases.append(SourceCase(id=self._id(image), image=image, mask=mask, row=str(image)))
        return cases

    def case(self, row: TableRow) -> SourceCase:
        """The case that a row of a csv names."""
        image = self._file(row.image, row, "image", self._images)
        if row.mask is not None:
            mask = self._file(row.mask, row, "mask", [])
        else:
            mask = self._masks.get(str(image.parent.parent), {}).get(image_key(image))
        return SourceCase(
            id=self._id(image), image=image, mask=mask, text=row.text, row=row.place, group=row.group
        )

    def _file(self, name: str, row: TableRow, what: str, folders: Iterable[Path]) -> Path:
        candidates = [self._source / name, *(folder / name for folder in folders)]
        if what == "mask":
            candidates += [Path(folder) / child / name for folder in self._masks for child in MASK_FOLDERS]
        for candidate in candidates:
            require_inside(candidate, self._source, f"{row.place}: {what}")
            if candidate.is_file():
                return candidate
        parent = (self._source / name).parent
        known = [file.name for file in list_files(parent, IMAGE_SUFFIXES)] if parent.is_dir() else []
        raise SourceError(
            f"{row.place}: {what} {name!r} must exist, got no file {self._source / name}"
            f"{nearest_names(Path(name).name, known)}"
        )

    def _id(self, image: Path) -> str:
        """The image's path below its image folder, as one name."""
        home = next((folder for folder in self._images if image.is_relative_to(folder)), self._source)
        relative = image.relative_to(home).as_posix()
        return relative[: -len(image_suffix(image))].replace("/", "_").replace(" ", "_")


def _split_at_random(data: SourceData, sections: dict[str, list[SourceCase]], options: SourceOptions) -> None:
    everything = sections.get("", [])
    if everything:
        named = any(case.group for case in everything)
        group = (lambda case: case.group or case.id) if named else None
        data.sections = random_sections(everything, seed=options.seed, group=group)
        by = " by patient" if named else ""
        data.split["protocol"] = f"random 70/10/20{by}, seed {options.seed}"
        return
    if not data.sections["validation"] and len(data.sections["training"]) > 1:
        halves = random_sections(data.sections["training"], fractions=(0.9, 0.1, 0.0), seed=options.seed)
        data.sections.update(training=halves["training"], validation=halves["validation"])
        data.split["protocol"] = f"lists of the source; validation is 10% of training at random, seed {options.seed}"


def _natural(path: Path) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", path.name)]

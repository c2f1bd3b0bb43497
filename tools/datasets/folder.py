"""Readers of plain folders: own images with one csv, and the polyp sets with theirs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .layouts import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    TABLE_SUFFIXES,
    find_image_folders,
    find_tables,
    image_key,
    index_images,
    list_files,
    nearest_names,
    plain_name,
    read_lists,
    section_of,
    walk_folders,
)
from .sectioned import SectionedDataset, read_sectioned
from .source import (
    IMAGE_SUFFIXES,
    SECTIONS,
    SourceCase,
    SourceData,
    SourceError,
    SourceOptions,
    image_suffix,
    require_inside,
)
from .tables import TableRow


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
    sections = {name: [finder.case(row) for row in group] for name, group in rows.items()}
    if not rows:
        sections = {"": finder.every_image()}
    data = SourceData(
        name=dataset.name or source.resolve().name,
        modality=dataset.modality,
        anatomy=dataset.anatomy,
        target=dataset.target,
        sections={name: sections.get(name, []) for name in SECTIONS},
        split={"protocol": "lists of the source", "source": tables, "subset_rule": "file_order"},
        caption_version=dataset.caption_version if rows else "none",
        license=dataset.license,
        mask_threshold=dataset.mask_threshold,
    )
    _split_at_random(data, sections.get("", []), options)
    unlabelled = sum(case.mask is None for cases in data.sections.values() for case in cases)
    if unlabelled:
        data.warnings.append(
            f"{unlabelled} images have no mask: they can be predicted and teach as unlabelled cases, but not be scored"
        )
    return data


def read_polyps(source: Path, options: SourceOptions, *, dataset: FolderDataset) -> SourceData:
    """Read a polyp data set: images, masks and lists in one folder, or a folder a section as LViT has them.

    Args:
        source: folder of the data set.
        options: what the user said.
        dataset: which data set it is.

    Returns:
        As :func:`read_folder`.

    Raises:
        SourceError: naming the file or row that is not as it must be.
    """
    found = find_image_folders(source)
    if not found or not all(folder.section for folder in found):
        return read_folder(source, options, dataset=dataset)
    layout = SectionedDataset(
        name=dataset.name,
        modality=dataset.modality,
        license=dataset.license,
        anatomy=dataset.anatomy,
        target=dataset.target,
        separators=dataset.separators,
        mask_threshold=dataset.mask_threshold,
    )
    data = read_sectioned(source, options, dataset=layout)
    data.caption_version = "own" if data.caption_version == "lvit-raw" else data.caption_version
    _split_at_random(data, [], options)
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
    return lists, sorted(file.name for group in tables.values() for file in group) or ["folders"]


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
        self._mask_folders: dict[Path, Path] = {}
        self._masks: dict[Path, dict[str, Path]] = {}
        for folder in walk_folders(source):
            name = plain_name(folder.name)
            if folder != source and name in IMAGE_FOLDERS:
                self._images.append(folder)
            elif folder != source and name in MASK_FOLDERS:
                self._mask_folders[folder.parent] = folder
                self._masks[folder.parent] = index_images(folder, source)

    def every_image(self) -> list[SourceCase]:
        """Every image of every image folder, with the mask of its name where there is one."""
        folders = self._images or [self._source]
        images = [image for folder in folders for image in self._listed(folder)]
        if not images:
            held = ", ".join(sorted(child.name for child in self._source.iterdir())[:8])
            raise SourceError(
                f"{self._source} must hold a folder images/ (and, if there are masks, masks/ with the same "
                f"names), got {held or 'an empty folder'}"
            )
        cases = [
            SourceCase(id=self._id(image), image=image, mask=self._mask_of(image), row=str(image))
            for image in images
        ]
        if self._mask_folders and not any(case.mask for case in cases):
            raise SourceError(
                f"{next(iter(self._mask_folders.values()))} must hold masks with the names of their images, "
                f"such as {cases[0].id}.png, got no pair"
            )
        return cases

    def _listed(self, folder: Path) -> list[Path]:
        return sorted(index_images(folder, self._source).values(), key=_natural)

    def _mask_of(self, image: Path) -> Path | None:
        return self._masks.get(image.parent.parent, {}).get(image_key(image))

    def case(self, row: TableRow) -> SourceCase:
        """The case that a row of a csv names."""
        image = self._file(row.image, row, "image", self._images)
        mask = self._mask_of(image)
        if row.mask is not None:
            mask = self._file(row.mask, row, "mask", self._mask_folders.values())
        return SourceCase(
            id=self._id(image), image=image, mask=mask, text=row.text, row=row.place, group=row.group
        )

    def _file(self, name: str, row: TableRow, what: str, folders: Iterable[Path]) -> Path:
        candidates = [self._source / name, *(folder / name for folder in folders)]
        for candidate in candidates:
            require_inside(candidate, self._source, f"{row.place}: {what}")
            if candidate.is_file():
                return candidate
        homes = {candidate.parent for candidate in candidates if candidate.parent.is_dir()}
        known = {file.name for home in homes for file in list_files(home, IMAGE_SUFFIXES)}
        looked = " or ".join(str(candidate) for candidate in candidates)
        near = nearest_names(Path(name).name, sorted(known))
        raise SourceError(f"{row.place}: {what} {name!r} must exist, got no file {looked}{near}")

    def _id(self, image: Path) -> str:
        """The image's path below its image folder, as one name."""
        home = next((folder for folder in self._images if image.is_relative_to(folder)), self._source)
        relative = image.relative_to(home).as_posix()
        return relative[: -len(image_suffix(image))].replace("/", "_").replace(" ", "_")


def _split_at_random(data: SourceData, unsplit: list[SourceCase], options: SourceOptions) -> None:
    """Split what the source left unsplit, and hold out a validation section where it has none."""
    from common.data.splits import random_sections  # its package imports MONAI, which takes seconds

    if unsplit:
        named = any(case.group for case in unsplit)
        data.sections = random_sections(unsplit, seed=options.seed, group=_patient if named else None)
        by = " by patient" if named else ""
        data.split["protocol"] = f"random 70/10/20{by}, seed {options.seed}"
        return
    training = data.sections["training"]
    if not data.sections["validation"] and len(training) > 1:
        named = any(case.group for case in training)
        group = _patient if named else None
        held = random_sections(training, fractions=(0.9, 0.1, 0.0), seed=options.seed, group=group)
        data.sections.update(training=held["training"], validation=held["validation"])
        data.split["protocol"] = (
            f"{data.split['protocol']}; validation is 10% of training at random, seed {options.seed}"
        )


def _patient(case: SourceCase) -> str:
    return case.group or case.id


def _natural(path: Path) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", path.name)]

"""Readers of QaTa-COV19 and MosMedData+ in the layouts of Kaggle, GuideDecoder, LViT and SGSeg."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .layouts import (
    ImageFolder,
    find_image_folders,
    find_tables,
    image_key,
    nearest_names,
    read_lists,
)
from .source import SourceCase, SourceData, SourceError, SourceOptions, image_stem, require_inside
from .tables import TableRow

VALIDATION_TAIL = 0.2


@dataclass(frozen=True)
class ChestDataset:
    """What tells one chest data set from another.

    Attributes:
        name: name of the data set.
        modality: what its images are.
        license: its terms, in words.
        separators: separators that its caption tables use.
        subject: pattern whose first group is the patient or volume in an image's name.
        subset_rule: low-data rule of its published lists.
        mask_threshold: see :class:`SourceData`.
        validation_tail: without a validation list, this last share of the training list is it; 0 for none.
    """

    name: str
    modality: str
    license: str
    separators: tuple[str, ...]
    subject: str
    subset_rule: str
    mask_threshold: float | None = None
    validation_tail: float = 0.0


QATA_COV19 = ChestDataset(
    name="qata_cov19",
    modality="chest X-ray",
    license="QaTa-COV19-v2: its authors' terms (Kaggle, Qatar University and Tampere University); captions of LViT: MIT",
    separators=(",",),
    subject=r"(sub-s\d+)",
    subset_rule="file_order",
    validation_tail=VALIDATION_TAIL,
)
MOSMEDDATA_PLUS = ChestDataset(
    name="mosmeddata_plus",
    modality="chest CT slice",
    license="MosMedData+: the terms of its source collections; captions of LViT: MIT",
    separators=(";", ","),
    subject=r"(.+)_\d+$",
    subset_rule="name_order",
    mask_threshold=127,
)


def read_chest(source: Path, options: SourceOptions, *, dataset: ChestDataset) -> SourceData:
    """Read QaTa-COV19 or MosMedData+ in any of the layouts that people have.

    Args:
        source: folder that holds, at any depth, folders of images beside folders of masks, and caption
            tables whose names or folders say ``train``, ``val`` or ``test``.
        options: what the user said.
        dataset: which of the data sets it is.

    Returns:
        The cases of the three sections, listed ones first in the order of their list, then the images that
        no list names, without a caption.

    Raises:
        SourceError: if there is no image folder, or a list names an image that is not there, twice, or outside
            of the source.
    """
    folders = find_image_folders(source)
    if not any(folder.images for folder in folders):
        raise SourceError(
            f"{source} must hold folders of images beside folders of masks, such as Train/Images and Train/GTs, "
            "'Train Set/Images' and 'Train Set/Ground-truths' or Train_Folder/img and Train_Folder/labelcol, got none"
        )
    tables = find_tables(source, options.captions)
    lists = read_lists(tables, separators=dataset.separators)
    if "" in lists:
        _assign_pool(lists, folders)
    sections = _sections(source, folders, lists, dataset)
    data = SourceData(
        name=dataset.name,
        modality=dataset.modality,
        anatomy="lung",
        target="infection",
        sections=sections,
        split={"protocol": "official lists", "source": _sources(source, tables), "subset_rule": dataset.subset_rule},
        caption_version=_caption_version(tables),
        license=dataset.license,
        mask_threshold=dataset.mask_threshold,
    )
    _complete_validation(data, dataset)
    if not lists:
        data.warnings.append("no caption table was found: every caption is empty (give one with --captions)")
    return data


def _assign_pool(lists: dict[str, list[TableRow]], folders: list[ImageFolder]) -> None:
    """Give each row of a table without sections to the section of the folder that holds its image."""
    home = {key: folder.section for folder in folders for key in folder.images}
    for row in lists.pop(""):
        lists.setdefault(home.get(image_key(Path(row.image))) or "training", []).append(row)


def _sections(
    source: Path, folders: list[ImageFolder], lists: dict[str, list[TableRow]], dataset: ChestDataset
) -> dict[str, list[SourceCase]]:
    sections: dict[str, list[SourceCase]] = {"training": [], "validation": [], "test": []}
    places: dict[tuple[str, str], str] = {}
    taken: set[Path] = set()
    for section, rows in lists.items():
        for row in rows:
            key = image_key(Path(row.image))
            first = places.setdefault((section, key), row.place)
            if first != row.place:
                raise SourceError(f"{row.place}: image {row.image!r} must be listed once, got it in {first} too")
            image, mask = _find(source, folders, row, section)
            taken.add(image)
            sections[section].append(_case(image, mask, dataset, text=row.text, row=row.place))
    for folder in folders:
        for key, image in folder.images.items():
            if image not in taken:
                mask = folder.masks.get(key)
                if mask is None:
                    raise SourceError(f"{image} must have a mask in {folder.folder}, got none of that name")
                sections[folder.section or "training"].append(_case(image, mask, dataset))
    return sections


def _find(source: Path, folders: list[ImageFolder], row: TableRow, section: str) -> tuple[Path, Path]:
    require_inside(source / row.image, source, f"{row.place}: an image")
    key = image_key(Path(row.image))
    for folder in sorted(folders, key=lambda folder: folder.section != section):
        if key in folder.images:
            if key not in folder.masks:
                raise SourceError(f"{row.place}: {folder.images[key]} must have a mask in {folder.folder}, got none")
            return folder.images[key], folder.masks[key]
    known = [image.name for folder in folders for image in folder.images.values()]
    raise SourceError(
        f"{row.place}: image {row.image!r} must be among the {len(known)} images of {source}, got no such file"
        f"{nearest_names(Path(row.image).name.removeprefix('mask_'), known)}"
    )


def _case(
    image: Path, mask: Path, dataset: ChestDataset, *, text: str | None = None, row: str = ""
) -> SourceCase:
    name = image_stem(image)
    subject = re.match(dataset.subject, name, flags=re.IGNORECASE)
    return SourceCase(
        id=name, image=image, mask=mask, text=text, row=row or str(image), group=subject[1].lower() if subject else None
    )


def _complete_validation(data: SourceData, dataset: ChestDataset) -> None:
    training = data.sections["training"]
    if data.sections["validation"] or not training:
        return
    count = round(len(training) * dataset.validation_tail)
    if count == 0:
        data.warnings.append("the source has no validation list: that section is empty")
        return
    data.sections["validation"] = training[-count:]
    data.sections["training"] = training[:-count]
    data.split["protocol"] = f"official test; validation is the last {dataset.validation_tail:.0%} of the training list"


def _sources(source: Path, tables: dict[str, list[Path]]) -> list[str]:
    files = [file for group in tables.values() for file in group]
    named = [str(file.relative_to(source)) if file.is_relative_to(source) else file.name for file in files]
    return sorted(named) or ["folders"]


def _caption_version(tables: dict[str, list[Path]]) -> str:
    files = [file for group in tables.values() for file in group]
    if not files:
        return "none"
    return "sgseg-cleaned" if any(file.suffix == ".json" for file in files) else "lvit-raw"

"""Reader of data sets that come as folders of images and masks, section by section, with caption tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .layouts import ImageFolder, find_image_folders, find_tables, image_key, nearest_names, read_lists
from .source import SECTIONS, SourceCase, SourceData, SourceError, SourceOptions, image_stem, require_inside
from .tables import TableRow


@dataclass(frozen=True)
class SectionedDataset:
    """What tells one such data set from another.

    Attributes:
        name: name of the data set.
        modality: what its images are.
        license: its terms, in words.
        anatomy: ``lung`` or ``polyp``.
        target: what the foreground of a mask is.
        separators: separators that its caption tables may use.
        subject: pattern whose first group is the patient or volume in an image's name; empty for none.
        subset_rule: low-data rule of its published lists.
        mask_threshold: see :class:`SourceData`.
        validation_tail: without a validation list, this last share of the training list is it; 0 for none.
        release: name of the folder to prefer where a source holds several releases.
    """

    name: str
    modality: str
    license: str
    anatomy: str = "lung"
    target: str = "infection"
    separators: tuple[str, ...] = (",",)
    subject: str = ""
    subset_rule: str = "file_order"
    mask_threshold: float | None = None
    validation_tail: float = 0.0
    release: str = ""


QATA_COV19 = SectionedDataset(
    name="qata_cov19",
    modality="chest X-ray",
    license="QaTa-COV19-v2: terms of its authors (Qatar and Tampere University); captions of LViT: MIT",
    subject=r"(sub-s\d+)",
    validation_tail=0.2,
    release="qata-cov19-v2",
)
MOSMEDDATA_PLUS = SectionedDataset(
    name="mosmeddata_plus",
    modality="chest CT slice",
    license="MosMedData+: terms of its source collections; captions of LViT: MIT",
    separators=(";", ","),
    subject=r"(.+)_\d+$",
    subset_rule="name_order",
    mask_threshold=127,
)


def read_sectioned(source: Path, options: SourceOptions, *, dataset: SectionedDataset) -> SourceData:
    """Read a data set in any of the layouts of Kaggle, GuideDecoder, LViT and SGSeg.

    Args:
        source: folder that holds, at any depth, folders of images beside folders of masks, and caption
            tables whose names or folders say ``train``, ``val`` or ``test``.
        options: what the user said.
        dataset: which data set it is.

    Returns:
        The cases of the three sections, listed ones first in the order of their list, then the images that
        no list names, without a caption.

    Raises:
        SourceError: if there is no image folder, or a list names an image that is not there, twice, or
            outside of the source.
    """
    folders = _image_folders(source, dataset)
    tables = find_tables(source, options.captions)
    files = [file for group in tables.values() for file in group]
    lists = read_lists(tables, separators=dataset.separators)
    _assign_pool(lists, folders)
    data = SourceData(
        name=dataset.name,
        modality=dataset.modality,
        anatomy=dataset.anatomy,
        target=dataset.target,
        sections=_Collector(source, folders, dataset).collect(lists),
        split=_split(source, files, dataset),
        caption_version=_caption_version(files),
        license=dataset.license,
        mask_threshold=dataset.mask_threshold,
    )
    _complete_validation(data, dataset)
    if not files:
        data.warnings.append("no caption table was found: every caption is empty (give one with --captions)")
    return data


def _image_folders(source: Path, dataset: SectionedDataset) -> list[ImageFolder]:
    folders = [folder for folder in find_image_folders(source) if folder.images]
    if not folders:
        raise SourceError(
            f"{source} must hold folders of images beside folders of masks, such as Train/Images and "
            "Train/GTs, 'Train Set/Images' and 'Train Set/Ground-truths', or Train_Folder/img and "
            "Train_Folder/labelcol, got none"
        )
    released = [
        folder
        for folder in folders
        if dataset.release in {part.lower() for part in folder.folder.relative_to(source).parts}
    ]
    return released or folders


def _assign_pool(lists: dict[str, list[TableRow]], folders: list[ImageFolder]) -> None:
    """Give each row of a table without sections to the section of the folder that holds its image."""
    home = {key: folder.section for folder in folders for key in folder.images}
    for row in lists.pop("", []):
        lists.setdefault(home.get(image_key(Path(row.image))) or "training", []).append(row)


class _Collector:
    """Matches rows with images and masks, and keeps account of the images that no row named."""

    def __init__(self, source: Path, folders: list[ImageFolder], dataset: SectionedDataset) -> None:
        self.sections: dict[str, list[SourceCase]] = {section: [] for section in SECTIONS}
        self._source = source
        self._folders = folders
        self._subject = dataset.subject
        self._places: dict[tuple[str, str], str] = {}
        self._taken: set[Path] = set()

    def collect(self, lists: dict[str, list[TableRow]]) -> dict[str, list[SourceCase]]:
        """Return the cases by section: those that a row names, then the images that none names."""
        for section, rows in lists.items():
            for row in rows:
                self._add(row, section)
        for folder in self._folders:
            for key, image in folder.images.items():
                if image not in self._taken:
                    self._append(folder, key, folder.section or "training")
        return self.sections

    def _add(self, row: TableRow, section: str) -> None:
        require_inside(self._source / row.image, self._source, f"{row.place}: an image")
        key = image_key(Path(row.image))
        first = self._places.setdefault((section, key), row.place)
        if first != row.place:
            raise SourceError(f"{row.place}: image {row.image!r} must be listed once, got it in {first} too")
        for folder in sorted(self._folders, key=lambda folder: folder.section != section):
            if key in folder.images:
                self._append(folder, key, section, row)
                return
        known = [image.name for folder in self._folders for image in folder.images.values()]
        near = nearest_names(Path(row.image).name.removeprefix("mask_"), known)
        raise SourceError(
            f"{row.place}: image {row.image!r} must be one of the {len(known)} images of {self._source}, "
            f"got no such file{near}"
        )

    def _append(self, folder: ImageFolder, key: str, section: str, row: TableRow | None = None) -> None:
        image = folder.images[key]
        place = row.place if row else str(image)
        if key not in folder.masks:
            raise SourceError(
                f"{place}: {image} must have a mask in {folder.mask_folder}, got none of its name"
            )
        name = image_stem(image)
        subject = re.match(self._subject, name, flags=re.IGNORECASE) if self._subject else None
        self._taken.add(image)
        self.sections[section].append(
            SourceCase(
                id=name,
                image=image,
                mask=folder.masks[key],
                text=row.text if row else None,
                row=place,
                group=subject[1].lower() if subject else None,
            )
        )


def _complete_validation(data: SourceData, dataset: SectionedDataset) -> None:
    training = data.sections["training"]
    if data.sections["validation"] or not training:
        return
    count = round(len(training) * dataset.validation_tail)
    if count == 0:
        return
    data.sections["validation"] = training[-count:]
    data.sections["training"] = training[:-count]
    data.split["protocol"] = (
        f"{data.split['protocol']}; validation is the last {dataset.validation_tail:.0%} of the training list"
    )


def _split(source: Path, files: list[Path], dataset: SectionedDataset) -> dict[str, object]:
    return {
        "protocol": "lists of the source" if files else "folders of the source",
        "source": sorted(_relative(file, source) for file in files) or ["folders"],
        "subset_rule": dataset.subset_rule,
    }


def _relative(file: Path, source: Path) -> str:
    return file.relative_to(source).as_posix() if file.is_relative_to(source) else file.name


def _caption_version(files: list[Path]) -> str:
    if not files:
        return "none"
    return "sgseg-cleaned" if any(file.suffix == ".json" for file in files) else "lvit-raw"

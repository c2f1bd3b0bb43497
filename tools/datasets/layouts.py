"""Find the image folders, mask folders and caption tables of a source, whatever its author called them."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .source import IMAGE_SUFFIXES, SourceError, image_stem, image_suffix, require_inside
from .tables import TableRow, read_annotation, read_table

IMAGE_FOLDERS = frozenset({"images", "image", "img", "imgs", "frames", "original", "originals"})
MASK_FOLDERS = frozenset(
    {"masks", "mask", "gts", "gt", "labelcol", "labels", "label", "groundtruths", "groundtruth"}
)
TABLE_SUFFIXES = frozenset({".csv", ".xlsx", ".tsv"})
MAX_DEPTH = 6
_SECTION_WORDS = (("training", "train"), ("validation", "val"), ("test", "test"))


@dataclass
class ImageFolder:
    """A folder of images beside its folder of masks, both by key (see :func:`image_key`)."""

    folder: Path
    mask_folder: Path
    section: str | None
    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)


def section_of(path: Path) -> str | None:
    """Read the section that a relative path names, the last folder first; ``None`` if it names none."""
    for part in reversed(path.parts):
        words = re.split(r"[^a-z]+", part.lower())
        for section, prefix in _SECTION_WORDS:
            if any(word.startswith(prefix) for word in words):
                return section
    return None


def image_key(path: Path) -> str:
    """Return what an image, its mask and its row have in common: ``mask_covid_1.png`` -> ``covid_1``."""
    stem = image_stem(path).lower()
    return re.sub(r"^mask_|_mask$|_segmentation$", "", stem)


def walk_folders(source: Path) -> Iterator[Path]:
    """Yield the folders of a source in a stable order, the source first, hidden ones left out."""
    for folder, children, _ in os.walk(source):
        here = Path(folder)
        depth = len(here.relative_to(source).parts)
        keep = sorted(name for name in children if not name.startswith((".", "__MACOSX")))
        children[:] = keep if depth < MAX_DEPTH else []
        yield here


def list_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """List the files of a folder with these suffixes, sorted by name, hidden ones left out."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and image_suffix(entry) in suffixes and entry.is_file()
    )


def find_image_folders(source: Path) -> list[ImageFolder]:
    """Find every folder of images that has a folder of masks beside it.

    Args:
        source: the folder to search, at most six levels deep.

    Returns:
        The folders found, with the section that their path names.

    Raises:
        SourceError: if two images or two masks of one folder have the same name.
    """
    found = []
    for folder in walk_folders(source):
        children = {plain_name(child.name): child for child in folder.iterdir() if child.is_dir()}
        images = next((children[name] for name in sorted(children) if name in IMAGE_FOLDERS), None)
        masks = next((children[name] for name in sorted(children) if name in MASK_FOLDERS), None)
        if images is None or masks is None:
            continue
        entry = ImageFolder(folder, masks, section_of(folder.relative_to(source)))
        entry.images = index_images(images, source)
        entry.masks = index_images(masks, source)
        found.append(entry)
    return found


def index_images(folder: Path, root: Path) -> dict[str, Path]:
    """Index the images of a folder by :func:`image_key`.

    Args:
        folder: the folder, not its subfolders.
        root: the source, which no image may leave.

    Returns:
        Paths by key, sorted by name.

    Raises:
        SourceError: if two files share a key or a link leaves the source.
    """
    index: dict[str, Path] = {}
    for file in list_files(folder, IMAGE_SUFFIXES):
        require_inside(file, root, "an image")
        first = index.setdefault(image_key(file), file)
        if first is not file:
            raise SourceError(f"{folder} must hold one image a name, got {first.name} and {file.name}")
    return index


def find_tables(source: Path, captions: Path | None = None) -> dict[str, list[Path]]:
    """Find the caption tables of a source, by section.

    Args:
        source: the folder of the data set.
        captions: a file or folder to look in instead.

    Returns:
        Tables by section; those whose name and folder say none are under ``""``.
    """
    root = captions or source
    if root.is_file():
        return {section_of(Path(root.name)) or "": [root]}
    if not root.is_dir():
        raise SourceError(f"captions must be a file or a folder, got {root}, which does not exist")
    found: dict[str, list[Path]] = {}
    for folder in walk_folders(root):
        for file in list_files(folder, TABLE_SUFFIXES | {".json"}):
            is_json = file.suffix.lower() == ".json"
            if file.name.startswith("~$") or (is_json and "annotation" not in file.name.lower()):
                continue
            section = None if is_json else section_of(file.relative_to(root))
            found.setdefault(section or "", []).append(file)
    return found


def read_lists(tables: dict[str, list[Path]], *, separators: tuple[str, ...]) -> dict[str, list[TableRow]]:
    """Read the caption tables of a source into one list a section.

    Args:
        tables: tables by section, as :func:`find_tables` gives them.
        separators: separators that a csv may use.

    Returns:
        Rows by section; rows of a table without a section are under ``""`` unless they name theirs.

    Raises:
        SourceError: if two tables list the same section, or a table is not readable.
    """
    lists: dict[str, list[TableRow]] = {}
    origin: dict[str, Path] = {}
    for section, files in tables.items():
        for file in files:
            for name, rows in _table_sections(file, section, separators).items():
                first = origin.setdefault(name, file)
                if first != file:
                    raise SourceError(
                        f"one caption table must list the {name or 'whole'} section, got {first} and {file}: "
                        "choose with --captions"
                    )
                lists.setdefault(name, []).extend(rows)
    return lists


def nearest_names(name: str, known: Iterable[str]) -> str:
    """Return ``; nearest: a, b`` for a message, or nothing if no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; nearest: {', '.join(near)}" if near else ""


def _table_sections(file: Path, section: str, separators: tuple[str, ...]) -> dict[str, list[TableRow]]:
    if file.suffix.lower() == ".json":
        return {section_of(Path(name)) or "": rows for name, rows in read_annotation(file).items()}
    rows = read_table(file, separators=("\t",) if file.suffix.lower() == ".tsv" else separators)
    if section:
        return {section: rows}
    by_section: dict[str, list[TableRow]] = {}
    for row in rows:
        by_section.setdefault(row_section(row), []).append(row)
    return by_section


def row_section(row: TableRow) -> str:
    """Return the section that a row's split column names, ``""`` if it has none.

    Raises:
        SourceError: if the split is none of train, val and test.
    """
    if row.split is None:
        return ""
    section = section_of(Path(row.split))
    if section is None:
        raise SourceError(f"{row.place}: split must be train, val or test, got {row.split!r}")
    return section


def plain_name(name: str) -> str:
    """Return a folder's name without case, spaces and signs: ``Ground-truths`` -> ``groundtruths``."""
    return re.sub(r"[^a-z]", "", name.lower())

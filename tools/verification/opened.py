"""A bundle that is looked at: a folder of the repository, a packed folder, or the content of a packed zip."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.packing import PackError
from tools.packing.manifest import MANIFEST
from tools.packing.sources import plain_files, read_object

LEFT_BY_RUNS = ("data", "output")
TRAINING_STATES = "models/checkpoint_*"
CONFIGS = "configs/**/*.json"


@dataclass(frozen=True, kw_only=True)
class OpenedBundle:
    """A bundle's folder.

    Attributes:
        folder: of the bundle; for a zip, where it was unpacked.
        packed: whether it has a manifest or carries its code in ``scripts``.
    """

    folder: Path
    packed: bool

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def files(self) -> list[str]:
        """Paths of what is shipped, in order: of a folder of the repository without what runs have left in it."""
        paths = [path.relative_to(self.folder) for path in plain_files(self.folder)]
        placeholders = [p.relative_to(self.folder) for p in sorted(self.folder.rglob(".gitkeep"))]
        if not self.packed:
            paths = [p for p in paths if p.parts[0] not in LEFT_BY_RUNS and not p.match(TRAINING_STATES)]
        return [path.as_posix() for path in [*paths, *placeholders]]

    def configs(self) -> dict[str, Path]:
        """Every JSON file of the configurations by its path in the bundle."""
        found = sorted(self.folder.glob(CONFIGS))
        return {path.relative_to(self.folder).as_posix(): path for path in found}

    def read(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file.

        Raises:
            PackError: when the file cannot be read or holds something else.
        """
        return read_object(self.folder / name)

    def text(self, name: str) -> str:
        """Return the text of a file; what is not UTF-8 in it is replaced.

        Raises:
            PackError: when there is no such file.
        """
        try:
            return (self.folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise PackError(f"{name} must be a file: {error.strerror}") from error


@contextmanager
def opened_bundle(path: Path) -> Iterator[OpenedBundle]:
    """Open a bundle's folder, or unpack its zip until the block ends.

    Raises:
        PackError: when `path` is neither, or the zip holds more than one folder.
    """
    if path.is_dir():
        yield _in_folder(path.resolve())
        return
    if not (path.is_file() and zipfile.is_zipfile(path)):
        raise PackError(f"the bundle must be a folder or a zip, got {path}")
    with tempfile.TemporaryDirectory(prefix="unpacked_") as place:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is not None:
                raise PackError(f"{path} must be a whole zip, but {damaged} in it is damaged")
            archive.extractall(place)
        folders = sorted(Path(place).iterdir())
        if len(folders) != 1 or not folders[0].is_dir():
            raise PackError(
                f"{path} must hold one folder, got {', '.join(f.name for f in folders) or 'nothing'}"
            )
        yield _in_folder(folders[0])


def _in_folder(folder: Path) -> OpenedBundle:
    packed = (folder / MANIFEST).is_file() or (folder / "scripts").is_dir()
    return OpenedBundle(folder=folder, packed=packed)

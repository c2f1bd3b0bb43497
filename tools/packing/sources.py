"""The bundle that is packed, as it lies in the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.experiments.tables import ExperimentError, find_bundle, unknown

CACHES = ("__pycache__",)
COMPILED = (".pyc", ".pyo")


class PackError(ValueError):
    """What keeps a bundle from being packed, in words for the person who packs it."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A small configuration that is merged over train and inference.

    Attributes:
        name: of the file, without its suffix.
        values: keys as MONAI's runner reads them (``a``, ``a#b``, ``+a``), and what they are set to.
    """

    name: str
    values: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BundleSource:
    """A bundle in the repository.

    Attributes:
        folder: of the bundle.
        metadata: content of ``configs/metadata.json``.
    """

    folder: Path
    metadata: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def version(self) -> str:
        """The version in the metadata."""
        return str(self.metadata["version"])

    @property
    def weights(self) -> Path | None:
        """The bundle's own ``models/model.pt``; None where it has none."""
        path = self.folder / "models" / "model.pt"
        return path if path.is_file() else None

    def overlays(self) -> dict[str, Path]:
        """The files of the bundle's overlays by name."""
        return {path.stem: path for path in sorted(self.folder.glob("configs/overlays/*.json"))}

    def overlay(self, name: str) -> Overlay:
        """Return an overlay by its name in the bundle, or by the path of a JSON file.

        Raises:
            PackError: when there is none; the nearest names are offered.
        """
        known = self.overlays()
        path = known.get(name, Path(name))
        if name not in known and not (name.endswith(".json") and path.is_file()):
            place = Path("configs") / "overlays"
            raise PackError(f"{unknown('overlay', name, list(known), place=place)} (--overlay)")
        return Overlay(name=path.stem, values=read_object(path))


def read_source(bundle: str, *, bundles: Path) -> BundleSource:
    """Return the bundle of that name in `bundles`, or in that folder.

    Raises:
        PackError: when there is none, or when one of the files is missing that every bundle has.
    """
    try:
        folder = find_bundle(bundle, folder=bundles).resolve()
    except ExperimentError as error:
        raise PackError(str(error)) from error
    names = [f"configs/{name}.json" for name in ("metadata", "train", "inference", "evaluate")]
    missing = [name for name in [*names, "LICENSE", "docs/README.md"] if not (folder / name).is_file()]
    if missing:
        raise PackError(f"the bundle {folder.name} must have {', '.join(missing)}, which it has not")
    metadata = read_object(folder / "configs" / "metadata.json")
    if not metadata.get("version"):
        raise PackError(f"configs/metadata.json of {folder.name} must name a version")
    return BundleSource(folder=folder, metadata=metadata)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        PackError: when the file cannot be read or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PackError(f"{path} must be a file of JSON: {error}") from error
    if not isinstance(content, dict):
        raise PackError(f"{path} must hold a JSON object, got a {type(content).__name__}")
    return content


def plain_files(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder` in order, without caches, compiled code, hidden files and editors' copies."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        junk = any(part in CACHES or part.startswith(".") for part in parts)
        if path.is_file() and not junk and path.suffix not in COMPILED and not path.name.endswith("~"):
            yield path

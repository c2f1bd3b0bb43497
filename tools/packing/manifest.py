"""What a packed bundle says of itself: versions, laterality, training data, and the hash of every file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from common import __version__
from tools.experiments.provenance import commit

from .configs import LATERALITIES
from .sources import BundleSource, Overlay, PackError, read_object

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
WEIGHTS = "models/model.pt"
PROJECT = "text-guided-segmentation-bundles"
PINS = {"monai": "monai_version", "pytorch": "pytorch_version", "numpy": "numpy_version"}


def write_manifest(
    folder: Path,
    source: BundleSource,
    *,
    overlays: Sequence[Overlay],
    laterality: str | None,
    training_data: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Write ``manifest.json`` into a packed folder, over all its other files, and return its content.

    It holds no time, no user and no path outside the bundle.

    Args:
        folder: of the packed bundle.
        source: the bundle in the repository.
        overlays: those that were merged.
        laterality: what the packed ``inference.json`` says.
        training_data: as `describe_data` returns it; None: unknown.
    """
    files = file_table(folder)
    weights = files.get(WEIGHTS)
    name = commit(Path(__file__).resolve().parents[2])
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "bundle": source.name,
        "version": source.version,
        "project_version": __version__,
        "commit": None if name == "unknown" else name,
        "requires": {
            "python": _python(),
            **{package: source.metadata.get(key) for package, key in PINS.items()},
            "packages": source.metadata.get("required_packages_version", {}),
        },
        "laterality": laterality,
        "overlays": [overlay.name for overlay in overlays],
        "training_data": None if training_data is None else dict(training_data),
        "weights": None if weights is None else {"path": WEIGHTS, "sha256": weights["sha256"]},
        "files": files,
    }
    text = json.dumps(manifest, indent=4, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return manifest


def file_table(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file below `folder` but the manifest, sorted by path."""
    from common.checks import file_sha256  # imported here: `--help` should not load PyTorch

    paths = sorted((f.relative_to(folder).as_posix(), f) for f in folder.rglob("*") if f.is_file())
    return {
        name: {"size": path.stat().st_size, "sha256": file_sha256(path)}
        for name, path in paths
        if name != MANIFEST
    }


def manifest_differences(folder: Path) -> list[str]:
    """Return a line for every file of a packed folder that its manifest does not describe as it is.

    Raises:
        PackError: when the manifest is missing or is none.
    """
    listed = read_object(folder / MANIFEST).get("files")
    if not isinstance(listed, dict):
        raise PackError(f"{folder / MANIFEST} must list the files of the bundle")
    found = file_table(folder)
    lines = [f"{name}: missing" for name in listed if name not in found]
    lines += [f"{name}: not in the manifest" for name in found if name not in listed]
    lines += [f"{name}: changed" for name in found if name in listed and found[name] != listed[name]]
    return sorted(lines)


def describe_data(path: Path, *, laterality: str | None) -> dict[str, str]:
    """Return name and SHA-256 of the list of cases that the weights were trained with.

    Args:
        path: a ``dataset.json``, or its folder.
        laterality: what the packed ``inference.json`` says.

    Raises:
        PackError: when the file has no name, or its sentences mean another left than the bundle's.
    """
    from common.checks import file_sha256

    file = path / "dataset.json" if path.is_dir() else path
    content = read_object(file)
    if not isinstance(content.get("name"), str):
        raise PackError(f"{file} must have a name: prepare the data with tools.prepare_data (--dataset)")
    side = content.get("laterality", "image")
    if laterality in LATERALITIES and side != laterality:
        raise PackError(
            f"{file} has the laterality {side}, the bundle would say {laterality}: a network calls left what its "
            "training data call left. Name the overlay of the data, or --laterality"
        )
    return {"name": PurePosixPath(content["name"].replace("\\", "/")).name, "sha256": file_sha256(file)}


def _python() -> str | None:
    try:
        return metadata.metadata(PROJECT)["Requires-Python"]
    except metadata.PackageNotFoundError:
        return None

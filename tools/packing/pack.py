"""The steps from a bundle in the repository to a folder and an archive that need nothing else."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common

from .archive import write_archive
from .card import CARD, contents_of, packed_card
from .configs import merged_configs, packed_configs
from .golden import GOLDEN, golden_of
from .manifest import MANIFEST, WEIGHTS, describe_data, write_manifest
from .proof import Proof, prove
from .sources import BundleSource, PackError, plain_files, read_object, read_source
from .weights import check_weights

STEPS = ("merge the overlays", "check the weights", "copy the files", "write the archive", "prove it")


@dataclass(frozen=True, kw_only=True)
class PackRequest:
    """What is to be packed.

    Attributes:
        bundle: name in `bundles`, or a folder.
        overlays: names in the bundle, or paths of JSON files; merged in this order.
        weights: a file of tensors alone; None: the bundle's own ``models/model.pt``, or none.
        laterality: ``image`` or ``patient``; None: as bundle and overlays say.
        dataset: the ``dataset.json`` that the weights were trained with, or its folder.
        output: folder of the results.
        bundles: folder of the bundles.
        overwrite: replace what an earlier call wrote.
        proof: run the archive on its own.
    """

    bundle: str
    overlays: Sequence[str] = ()
    weights: Path | None = None
    laterality: str | None = None
    dataset: Path | None = None
    output: Path = Path("dist")
    bundles: Path = Path("bundles")
    overwrite: bool = False
    proof: bool = True


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What was written.

    Attributes:
        folder: the packed bundle.
        archive: the same as a zip.
        manifest: content of its ``manifest.json``.
        proof: what the archive did on its own; None where that was not asked for.
    """

    folder: Path
    archive: Path
    manifest: Mapping[str, Any]
    proof: Proof | None


def pack_bundle(request: PackRequest, *, on_step: Callable[[str], None] = lambda step: None) -> Packed:
    """Write ``<output>/<name>/`` and ``<output>/<name>-<version>.zip``.

    Both are written beside their place and moved there at the end: after an error, `output` is as it was.

    Args:
        request: what is to be packed.
        on_step: told the name of every step, from `STEPS`, before it begins.

    Raises:
        PackError: with the reason and, where there is one, the option that mends it.
    """
    source = read_source(request.bundle, bundles=request.bundles)
    overlays = [source.overlay(name) for name in request.overlays]
    folder = request.output / source.name
    archive = request.output / f"{source.name}-{source.version}.zip"
    check_places(source, folder, archive, overwrite=request.overwrite)
    on_step(STEPS[0])
    inference = merged_configs(source, overlays, laterality=request.laterality)["configs/inference.json"]
    side = inference.get("laterality")
    data = None if request.dataset is None else describe_data(request.dataset, laterality=side)
    on_step(STEPS[1])
    weights = request.weights or source.weights
    if weights is not None:
        check_weights(weights, inference, overlays=overlays, available=list(source.overlays()))
    texts = packed_configs(source, overlays, laterality=request.laterality)
    names = [overlay.name for overlay in overlays]
    contents = contents_of(overlays=names, inference=inference, weights=weights, data=data)
    texts[CARD] = packed_card(source, contents)
    with staging(request.output) as place:
        staged, zipped = place / folder.name, place / archive.name
        on_step(STEPS[2])
        golden = golden_of(source, weights, inference)
        write_folder(staged, source, texts, weights=weights, golden=golden)
        manifest = write_manifest(staged, source, overlays=overlays, laterality=side, training_data=data)
        on_step(STEPS[3])
        write_archive(staged, zipped)
        on_step(STEPS[4])
        proof = prove(zipped) if request.proof else None
        move_into_place(staged, folder, old=place / "old")
        zipped.replace(archive)
    return Packed(folder=folder, archive=archive, manifest=manifest, proof=proof)


def check_places(source: BundleSource, folder: Path, archive: Path, *, overwrite: bool) -> None:
    """Refuse to write over what is there, unless an earlier call wrote it and `overwrite` says so.

    Raises:
        PackError: naming what is there.
    """
    if folder.resolve() == source.folder:
        raise PackError(f"{folder} is the bundle itself: choose another --output")
    there = [str(path) for path in (folder, archive) if path.exists()]
    if there and not overwrite:
        raise PackError(f"{' and '.join(there)} must not exist yet: --overwrite, or another --output")
    if folder.exists() and not is_packed(folder):
        raise PackError(f"{folder} was not written by this tool and is kept: choose another --output")


def is_packed(folder: Path) -> bool:
    """Whether `folder` has a manifest of the form that this package writes."""
    try:
        return "manifest_version" in read_object(folder / MANIFEST)
    except PackError:
        return False


def write_folder(
    folder: Path,
    source: BundleSource,
    texts: Mapping[str, str],
    *,
    weights: Path | None,
    golden: Path | None = None,
) -> None:
    """Write the packed bundle, all but its manifest.

    Args:
        folder: a new folder.
        source: the bundle in the repository.
        texts: by path: configurations as `packed_configs` returns them, and the card.
        weights: copied to ``models/model.pt``; None: ``models`` stays empty.
        golden: copied to ``models/golden.json``; None: there is none.
    """
    for path, text in texts.items():
        _write(folder / path, text)
    copies = {path: path.relative_to(source.folder) for path in plain_files(source.folder / "docs")}
    copies.pop(source.folder / CARD, None)
    copies |= {path: path.relative_to(source.folder) for path in source.folder.glob("configs/*.conf")}
    copies[source.folder / "LICENSE"] = Path("LICENSE")
    package = Path(common.__file__).resolve().parent
    copies |= {path: Path("scripts", "common") / path.relative_to(package) for path in plain_files(package)}
    if weights is not None:
        copies[weights] = Path(WEIGHTS)
        copies |= {} if golden is None else {golden: Path(GOLDEN)}
    else:
        _write(folder / "models" / ".gitkeep", "")
    for path, target in copies.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / target)
    _write(folder / "scripts" / "__init__.py", '"""Code of this bundle."""\n')


@contextlib.contextmanager
def staging(output: Path) -> Iterator[Path]:
    """A hidden folder in `output` that goes away at the end, with `output` itself when it was made for nothing."""
    made = [path for path in (output, *output.parents) if not path.exists()]
    output.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".packing_", dir=output) as place:
            yield Path(place)
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it holds what was packed
                path.rmdir()


def move_into_place(staged: Path, folder: Path, *, old: Path) -> None:
    """Rename `staged` to `folder`; what was there is put aside to `old`, and back when the renaming fails."""
    if folder.exists():
        folder.rename(old)
    try:
        staged.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")

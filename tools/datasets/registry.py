"""The data sets that can be prepared, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from .adaptation import read_brats, read_chaos_btcv, read_mmwhs
from .folder import CVC_CLINICDB, KVASIR_SEG, OWN_FOLDER, read_folder, read_polyps
from .sectioned import MOSMEDDATA_PLUS, QATA_COV19, read_sectioned
from .source import SourceData, SourceError, SourceOptions
from .volumes import VolumeSource
from .volumes_folder import read_volumes_folder

Data = TypeVar("Data", SourceData, VolumeSource)
Reader = Callable[[Path, SourceOptions], SourceData]

READERS: dict[str, Reader] = {
    "qata_cov19": partial(read_sectioned, dataset=QATA_COV19),
    "mosmeddata_plus": partial(read_sectioned, dataset=MOSMEDDATA_PLUS),
    "cvc_clinicdb": partial(read_polyps, dataset=CVC_CLINICDB),
    "kvasir_seg": partial(read_polyps, dataset=KVASIR_SEG),
    "folder": partial(read_folder, dataset=OWN_FOLDER),
}
VOLUME_READERS: dict[str, Callable[[Path, SourceOptions], VolumeSource]] = {
    "mmwhs": read_mmwhs,
    "chaos_btcv": read_chaos_btcv,
    "brats_uda": read_brats,
    "volumes_folder": read_volumes_folder,
}
VOLUME_PHANTOMS = {"phantom_abdomen": "abdomen", "phantom_heart": "heart"}
DATASETS = (*READERS, *VOLUME_READERS, "phantom", *VOLUME_PHANTOMS)


def check_name(name: str) -> str:
    """Return the name of a data set that can be prepared.

    Raises:
        SourceError: if it is unknown; the nearest names are offered.
    """
    if name in DATASETS:
        return name
    near = difflib.get_close_matches(name.lower().replace("-", "_"), DATASETS, n=2, cutoff=0.4)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    raise SourceError(f"the data set must be one of {', '.join(DATASETS)}, got {name!r}{hint}")


def read_source(name: str, source: Path, options: SourceOptions | None = None) -> SourceData:
    """Read the lists of a source by the name of its data set.

    Args:
        name: one of :data:`READERS`.
        source: folder of the source.
        options: what the user said.

    Returns:
        The source's cases and header.

    Raises:
        SourceError: if the name is unknown or the source is not as it must be.
    """
    data = _read(READERS, name, source, options)
    if options is not None:
        data.modality = options.modality or data.modality
    return data


def read_volume_source(name: str, source: Path, options: SourceOptions | None = None) -> VolumeSource:
    """Read the lists of a source of volumes in several modalities.

    Args:
        name: one of :data:`VOLUME_READERS`.
        source: folder of the source.
        options: what the user said.

    Returns:
        The source's cases and header.

    Raises:
        SourceError: if the name is unknown or the source is not as it must be.
    """
    return _read(VOLUME_READERS, name, source, options)


def _read(
    readers: Mapping[str, Callable[[Path, SourceOptions], Data]],
    name: str,
    source: Path,
    options: SourceOptions | None,
) -> Data:
    reader = readers.get(check_name(name))
    if reader is None:
        made = name == "phantom" or name in VOLUME_PHANTOMS
        raise SourceError(
            f"{name!r} is made, not read: it has no source"
            if made
            else f"the data set must be one of {', '.join(readers)}, got {name!r}"
        )
    _check_folder(source)
    options = options or SourceOptions()
    data = reader(source, options)
    data.license = options.license or data.license
    return data


def _check_folder(source: Path) -> None:
    if not source.is_dir():
        problem = "is a file" if source.exists() else "does not exist"
        raise SourceError(f"source must be a folder, got {source}, which {problem}")

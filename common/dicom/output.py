"""What every DICOM file that is written has in common: equipment, identifiers, times, and saving whole files."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from pydicom.dataset import Dataset

from .. import __version__

CHARACTER_SET = "ISO_IR 192"  # UTF-8: what the source says in any other can be written in it
MAX_TEXT = 64  # characters of the value representation LO
_DATES = (("ContentDate", "ContentTime"), ("AcquisitionDate", "AcquisitionTime"))
_DATES += (("SeriesDate", "SeriesTime"), ("StudyDate", "StudyTime"))
_ACQUISITION = "109101"  # DCM code of the equipment that made the source, whose time stays
NAMESPACE = uuid.UUID("2a3f8a0e-5c0c-5a83-9f4e-6a1c2f1d7b90")  # of identifiers that are derived from others
_NO_DATE = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Equipment:
    """What made a file, as DICOM names it; every text has 1 to 64 characters.

    Args:
        manufacturer: who made the software.
        model_name: name of the software.
        serial_number: of the installation.
        software_versions: version of the software.
    """

    manufacturer: str = "Text-guided segmentation bundles"
    model_name: str = "Text-guided segmentation"
    serial_number: str = "1"
    software_versions: str = __version__

    def __post_init__(self) -> None:
        for name, text in vars(self).items():
            check_text(name, text)


def check_text(name: str, text: str) -> None:
    """Raise a ValueError unless a text has 1 to 64 characters and no backslash."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT or "\\" in text:
        raise ValueError(f"{name} must be 1 to {MAX_TEXT} characters without a backslash, got {text!r}")


class Identifiers:
    """UIDs for the parts of one file: random, or always the same for the same seed and content.

    Args:
        seed: any text, or None for random UIDs.
        content: what the file is made of; files of another content get other UIDs.
    """

    def __init__(self, seed: str | None, *content: str | bytes) -> None:
        self.seed = seed
        digest = hashlib.sha256()
        for part in content:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "big") + data)
        self._content = digest.hexdigest()

    def uid(self, role: str) -> str:
        """Return the UID of a part of the file, such as "series"."""
        if self.seed is None:
            return f"2.25.{uuid.uuid4().int}"
        return derived_uid(self.seed, self._content, role)


def instance_attributes(
    identifiers: Identifiers, equipment: Equipment, numbers: tuple[int, int]
) -> dict[str, Any]:
    """Return what highdicom asks of every file: UIDs, numbers of series and instance, equipment, characters."""
    return {
        "series_instance_uid": identifiers.uid("series"),
        "series_number": numbers[0],
        "sop_instance_uid": identifiers.uid("instance"),
        "instance_number": numbers[1],
        "manufacturer": equipment.manufacturer,
        "manufacturer_model_name": equipment.model_name,
        "device_serial_number": equipment.serial_number,
        "software_versions": equipment.software_versions,
        "specific_character_set": CHARACTER_SET,
    }


def derived_uid(*parts: str) -> str:
    """Return the UID that belongs to some texts: equal for equal texts, in the arc of UUIDs (2.25).

    Reference:
        DICOM PS3.5, B.2; RFC 9562, 5.5 (name-based UUID, SHA-1).
    """
    return f"2.25.{uuid.uuid5(NAMESPACE, chr(0).join(parts)).int}"


def creation_time(source: Dataset, *, seed: str | None, created: datetime | None) -> datetime:
    """Return the time that a file is to carry: as given, else now; with a seed the time of the source.

    Args:
        source: the source image.
        seed: of the identifiers; with one, files must not depend on the clock.
        created: a time, or None.
    """
    if created is not None:
        return created
    return datetime.now() if seed is None else _source_time(source)


def _source_time(source: Dataset) -> datetime:
    for date, time in _DATES:
        day, clock = str(source.get(date) or ""), str(source.get(time) or "")[:6]
        try:
            return datetime.strptime(day + clock.ljust(6, "0"), "%Y%m%d%H%M%S")
        except ValueError:
            continue
    return _NO_DATE


def stamp(dataset: Dataset, moment: datetime, identifiers: Identifiers) -> None:
    """Give a new file its time and replace the UIDs that were drawn at random while it was built."""
    day, clock = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    dataset.ContentDate, dataset.ContentTime = day, clock
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = day, clock
    for item in dataset.get("ContributingEquipmentSequence") or ():
        if (
            item.PurposeOfReferenceCodeSequence[0].CodeValue != _ACQUISITION
            and "ContributionDateTime" in item
        ):
            item.ContributionDateTime = day + clock
    organization = identifiers.uid("dimension organization")
    for keyword in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in dataset.get(keyword) or ():
            item.DimensionOrganizationUID = organization


class _Silence:
    """Loggers and warnings, silent from the first thread that asks until the last one leaves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._levels: list[int] = []
        self._caught = warnings.catch_warnings()

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                return
            self._levels = [logging.getLogger(name).level for name in _LOGGERS]
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            self._caught = warnings.catch_warnings()
            self._caught.__enter__()
            warnings.simplefilter("ignore")

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside:
                return
            self._caught.__exit__(None, None, None)
            for name, level in zip(_LOGGERS, self._levels, strict=True):
                logging.getLogger(name).setLevel(level)


_LOGGERS = ("highdicom", "pydicom")
_SILENCE = _Silence()


@contextmanager
def quietly() -> Iterator[None]:
    """Keep libraries from logging and warning: their texts repeat names of patients. Threads may be inside together."""
    _SILENCE.enter()
    try:
        yield
    finally:
        _SILENCE.leave()


def import_highdicom() -> ModuleType:
    """Return the module `highdicom`, with `seg` and `sr`.

    Raises:
        ImportError: when it is not installed; the message names the extra that has it.
    """
    try:
        with quietly():
            import highdicom
            import highdicom.seg
            import highdicom.sr
    except ImportError as error:
        raise ImportError(
            "writing DICOM needs highdicom: install the extra 'dicom' (pip install 'highdicom>=0.28')"
        ) from error
    return highdicom


def save_dataset(dataset: Dataset, path: str | Path) -> Path:
    """Write a DICOM file that gets its name when it is complete; folders are made.

    Returns:
        The path.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with quietly():
            dataset.save_as(unfinished)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target

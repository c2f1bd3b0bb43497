"""DICOM files as datasets: whole or headers alone, with one clear error for everything that is no image."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .output import quietly

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Modalities of files that describe images or refer to them; segmentations and doses have rows and columns too.
NON_IMAGES = frozenset({"DOC", "KO", "PR", "REG", "RTDOSE", "RTPLAN", "RTSTRUCT", "SEG", "SR"})
# The numbers that reading asks of images; what is none is an error that names the attribute.
_NUMBERS = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)
_NUMBERS += ("ImagerPixelSpacing", "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
_PREAMBLE = 132
_FIRST_GROUP = b"\x08\x00"  # little endian: of the first element of a file without a preamble
_LAST_FIRST_ELEMENT = 0x18  # SOP Instance UID: such a file begins with this element at the latest
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")
_CUT = "the file is cut off: fetch it again"


def is_dicom(path: str | Path) -> bool:
    """Tell whether a file has the DICOM preamble, whatever its name."""
    with Path(path).open("rb") as file:
        return file.read(_PREAMBLE)[128:] == b"DICM"


def modality_name(dataset: Dataset) -> str:
    """Return the modality for messages: its code, or "unknown modality" for anything that is no code."""
    name = str(dataset.get("Modality") or "").strip()
    return name if _CODE.fullmatch(name) else "unknown modality"


def check_modality(dataset: Dataset, allowed: Sequence[str], *, where: str | Path) -> None:
    """Refuse an image of a modality that a bundle was not made for.

    Args:
        dataset: the image, or its header.
        allowed: the modalities that are accepted, such as `("CR", "DX")`; none for any.
        where: file or folder, for the message.

    Raises:
        ValueError: when the image is of another modality.
    """
    name = modality_name(dataset)
    if allowed and name not in allowed:
        raise ValueError(f"{where} must be of modality {' or '.join(allowed)}, got {name}")


def is_image(dataset: Dataset) -> bool:
    """Tell whether a dataset is an image to look at: it has rows and columns and only describes no other images."""
    return (
        bool(dataset.get("Rows"))
        and bool(dataset.get("Columns"))
        and modality_name(dataset) not in NON_IMAGES
    )


def number_of_frames(dataset: Dataset) -> int:
    """Return the number of frames, 1 when the file does not say."""
    return int(dataset.get("NumberOfFrames") or 1)


def read_image(path: str | Path) -> Dataset:
    """Read an image with its pixels, which are not decoded yet.

    Raises:
        ValueError: when the file cannot be read, is cut off or is no image; the file is named, and nothing that
            it says of a patient.
    """
    with quietly():
        return read_image_quietly(path)


def read_image_quietly(path: str | Path) -> Dataset:
    """Read as `read_image` does, for threads of a caller that keeps libraries quiet already."""
    dataset = read_quietly(path)
    check_image(dataset, where=path)
    if not any(keyword in dataset for keyword in PIXEL_KEYWORDS):
        raise ValueError(_without_pixels(dataset, path) + f": {_CUT}")
    return dataset


def check_image(dataset: Dataset, *, where: str | Path) -> None:
    """Raise a ValueError unless a dataset, or its header, is an image to look at, with values that can be read."""
    check_values(dataset, where=where)
    if is_image(dataset):
        return
    meta = getattr(dataset, "file_meta", None) or Dataset()
    kind = UID(str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""))
    if "Rows" in dataset and modality_name(dataset) in NON_IMAGES:
        raise ValueError(
            f"{where} must be an image to look at, got a file of modality {modality_name(dataset)}"
        )
    known = kind.name != str(kind)
    unfinished = kind.name.endswith("Image Storage") or not (known or "Modality" in dataset)
    raise ValueError(_without_pixels(dataset, where) + (f": {_CUT}" if unfinished else ": it is no image"))


def check_values(dataset: Dataset, *, where: str | Path) -> None:
    """Raise a ValueError that names the attribute when a number that reading needs is none."""
    for keyword in _NUMBERS:
        try:
            value = dataset.get(keyword)
            parts = value if isinstance(value, (list, tuple, MultiValue)) else [value]
            _ = [float(part) for part in parts if part not in (None, "")]
        except Exception as error:  # conversions of many kinds, whose texts repeat the value
            raise ValueError(f"{where} must have numbers as {keyword}, got another value") from error


def _without_pixels(dataset: Dataset, where: str | Path) -> str:
    return f"{where} must be a DICOM file with pixels, got one without ({modality_name(dataset)})"


def read_dataset(path: str | Path, *, header: bool = False, tags: Sequence[str] = ()) -> Dataset:
    """Read a DICOM file of any kind, with or without a preamble.

    Args:
        path: the file.
        header: leave out everything from the pixels on.
        tags: keywords of the attributes to read; none for all.

    Raises:
        ValueError: when the file cannot be read or is not DICOM; the file is named.
    """
    with quietly():
        return read_quietly(path, header=header, tags=tags)


def read_quietly(path: str | Path, *, header: bool = False, tags: Sequence[str] = ()) -> Dataset:
    """Read as `read_dataset` does, for threads of a caller that keeps libraries quiet already."""
    try:
        with Path(path).open("rb") as file:
            syntax = _syntax_without_preamble(file)
            dataset = pydicom.dcmread(
                file, stop_before_pixels=header, specific_tags=list(tags) or None, force=syntax is not None
            )
    except InvalidDicomError as error:
        raise ValueError(f"{path} must be a readable DICOM file, got another kind of file") from error
    except (EOFError, zlib.error) as error:
        raise ValueError(
            f"{path} must be a readable DICOM file, got one that ends too early: {_CUT}"
        ) from error
    except OSError as error:
        raise ValueError(f"{path} must be a readable DICOM file, got: {error.strerror or error}") from error
    except Exception as error:  # struct.error, ValueError and others, whose texts repeat what the file says
        raise ValueError(f"{path} must be a readable DICOM file, got {type(error).__name__}") from error
    if syntax is not None:
        dataset.file_meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = dataset.file_meta.get("TransferSyntaxUID") or syntax
    return dataset


def _syntax_without_preamble(file: BinaryIO) -> UID | None:
    """Return the transfer syntax of a file that begins with its first element, None for all other files."""
    start = file.read(_PREAMBLE)
    file.seek(0)
    first = int.from_bytes(start[2:4], "little")
    if start[128:] == b"DICM" or start[:2] != _FIRST_GROUP or first > _LAST_FIRST_ELEMENT:
        return None
    return ExplicitVRLittleEndian if start[4:6].isalpha() and start[4:6].isupper() else ImplicitVRLittleEndian

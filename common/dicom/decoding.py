"""Pixels as they are stored, in whatever transfer syntax, and the packages that decode each."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, RLELossless

try:  # pydicom 3
    from pydicom.pixels import pixel_array
except ImportError:  # pydicom 2, which asks its decoders in an order of its own
    pixel_array = None

MAX_REASON = 200  # characters of what a decoder says


@dataclass(frozen=True)
class Decoder:
    """A package that decodes compressed pixels.

    Args:
        plugin: its name in pydicom.
        module: what it is imported as.
        package: what pip installs.
    """

    plugin: str
    module: str
    package: str

    @property
    def is_installed(self) -> bool:
        """Whether the package can be imported."""
        return find_spec(self.module) is not None


_PILLOW = Decoder("pillow", "PIL", "pillow")
_OPENJPEG = Decoder("pylibjpeg", "openjpeg", "pylibjpeg-openjpeg")
_CHARLS = Decoder("pyjpegls", "jpeg_ls", "pyjpegls")
_GDCM = Decoder("gdcm", "gdcm", "python-gdcm")
_PREFIX = "1.2.840.10008.1.2"
_NONE_NEEDED = ("", ".1", ".1.99", ".2", ".5")  # implicit, explicit, deflated, big endian, run lengths
# Best first, so that the same packages are asked wherever several are installed.
_DECODERS = {
    ".4.50": (_PILLOW, _GDCM),  # JPEG baseline
    ".4.51": (_PILLOW, _GDCM),  # JPEG extended
    ".4.57": (_GDCM,),  # JPEG lossless
    ".4.70": (_GDCM,),  # JPEG lossless, first-order prediction
    ".4.80": (_CHARLS, _GDCM),  # JPEG-LS lossless
    ".4.81": (_CHARLS, _GDCM),  # JPEG-LS near-lossless
    ".4.90": (_OPENJPEG, _GDCM, _PILLOW),  # JPEG 2000 lossless
    ".4.91": (_OPENJPEG, _GDCM, _PILLOW),  # JPEG 2000
    ".4.201": (_OPENJPEG,),  # high-throughput JPEG 2000, lossless
    ".4.202": (_OPENJPEG,),  # the same, by resolution
    ".4.203": (_OPENJPEG,),  # the same, lossy
}


def decoders(syntax: str) -> tuple[Decoder, ...]:
    """Return the packages that decode a transfer syntax, best first; none where none is needed.

    Raises:
        ValueError: when the transfer syntax is not read at all, such as video.
    """
    uid = UID(syntax)
    suffix = str(uid).removeprefix(_PREFIX)
    if uid.startswith(_PREFIX) and suffix in _NONE_NEEDED:
        return ()
    if not uid.startswith(_PREFIX) or suffix not in _DECODERS:
        known = "none" if not uid else uid.name
        raise ValueError(
            f"pixels must be in a transfer syntax of still images, got {known}: convert the file"
        )
    return _DECODERS[suffix]


def stored_pixels(dataset: Dataset, *, where: str | Path) -> np.ndarray:
    """Decode the pixels of an image; colours become red, green and blue (with pydicom 3).

    Args:
        dataset: an image that was read with its pixels.
        where: its file, for messages.

    Returns:
        `([frames,] rows, columns[, 3])` as stored.

    Raises:
        ValueError: when the pixels are cut off, cannot be decoded, or need a package that is not installed, which
            is named.
    """
    syntax = _syntax(dataset)
    try:
        packages = decoders(syntax)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not packages:
        _check_length(dataset, where)
    installed = [package for package in packages if package.is_installed]
    if packages and not installed:
        names = " or ".join(package.package for package in packages)
        raise ValueError(f"{where} needs a package that decodes {syntax.name}: pip install {names}")
    try:
        return _decoded(dataset, installed)
    except Exception as error:  # decoders raise their own kinds
        reason = " ".join(str(error).split())[:MAX_REASON]
        raise ValueError(f"{where} must hold pixels that can be decoded, got: {reason}") from error


def _decoded(dataset: Dataset, installed: list[Decoder]) -> np.ndarray:
    if pixel_array is None:
        return dataset.pixel_array
    for package in installed[:-1]:
        try:
            return pixel_array(dataset, decoding_plugin=package.plugin)
        except Exception:  # one package reads what another does not
            continue
    options: dict[str, Any] = {"decoding_plugin": installed[-1].plugin} if installed else {}
    return pixel_array(dataset, **options)


def _check_length(dataset: Dataset, where: str | Path) -> None:
    """Refuse uncompressed pixels that are fewer than rows, columns and frames say."""
    samples, bits = int(dataset.get("SamplesPerPixel") or 1), int(dataset.get("BitsAllocated") or 0)
    compressed = _syntax(dataset) == RLELossless
    if (
        compressed
        or "PixelData" not in dataset
        or str(dataset.get("PhotometricInterpretation")).endswith("422")
    ):
        return
    frames = int(dataset.get("NumberOfFrames") or 1)
    expected = (frames * int(dataset.Rows) * int(dataset.Columns) * samples * bits + 7) // 8
    found = len(dataset.PixelData)
    if found < expected:
        raise ValueError(
            f"{where} must hold {expected} bytes of pixels, got {found}: the file is cut off, fetch it again"
        )


def _syntax(dataset: Dataset) -> UID:
    """Return the transfer syntax of a dataset that was read from a file; empty when it is unknown."""
    meta = getattr(dataset, "file_meta", None) or Dataset()
    return UID(str(meta.get("TransferSyntaxUID") or ""))

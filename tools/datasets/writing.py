"""Write the image and the mask of one case after the other, and count what they hold."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .document import Findings
from .pixels import Picture, read_mask, read_picture
from .source import SourceCase, SourceData, SourceError, SourceOptions, image_suffix

BLOCK = 1 << 20


class CaseWriter:
    """Writes cases into a folder, one at a time, and adds what it sees to the findings.

    Args:
        folder: an empty folder.
        data: the source; its header says how masks are read.
        options: what the user said.
        found: where counts go.
        link: hard-link images where possible.
    """

    def __init__(
        self, folder: Path, data: SourceData, options: SourceOptions, found: Findings, *, link: bool = False
    ) -> None:
        self.sha256: dict[str, str] = {}
        self._folder = folder
        self._anatomy = options.anatomy or data.anatomy
        chosen = options.mask_threshold
        self._threshold = data.mask_threshold if chosen is None else chosen
        self._found = found
        self._link = link
        self._pictures: dict[str, tuple[str, str]] = {}
        for name in ("images", "labels"):
            (folder / name).mkdir()

    def write(self, case: SourceCase, section: str) -> dict[str, Any] | None:
        """Write one case.

        Args:
            case: the case.
            section: its section.

        Returns:
            Its entry in the list; ``None`` if an earlier section holds the same image.

        Raises:
            SourceError: naming the case's row and the file that is not as it must be.
        """
        try:
            return self._write(case, section)
        except SourceError as error:
            message = str(error)
            known = not case.row or case.row in message
            raise SourceError(message if known else f"{case.row}: {message}") from error

    def _write(self, case: SourceCase, section: str) -> dict[str, Any] | None:
        picture = read_picture(case.image)
        mask = read_mask(case.mask, picture, threshold=self._threshold) if case.mask else None
        if self._is_left_out(picture, case, section):
            return None
        entry: dict[str, Any] = {"id": case.id, "image": self._write_image(case), "text": case.text or ""}
        if mask is not None and case.mask is not None:
            entry["label"] = self._write_mask(case.id, case.mask, mask)
        if case.group:
            entry["subject"] = case.group
            self._found.groups.setdefault(case.group, set()).add(section)
        self._count(case, section, mask)
        return entry

    def _is_left_out(self, picture: Picture, case: SourceCase, section: str) -> bool:
        first_section, first_id = self._pictures.setdefault(picture.digest, (section, case.id))
        if first_id == case.id:
            return False
        if first_section == section:
            self._found.repeated += 1
            return False
        self._found.left_out.append(
            f"{case.id} ({section}) is the same image as {first_id} ({first_section}): left out of {section}"
        )
        return True

    def _count(self, case: SourceCase, section: str, mask: np.ndarray | None) -> None:
        found = self._found
        found.counts[section] = found.counts.get(section, 0) + 1
        found.unlabelled += mask is None
        found.empty_masks += mask is not None and not mask.any()
        found.laterality.add(found.captions.add(case.text, anatomy=self._anatomy), mask)

    def _write_image(self, case: SourceCase) -> str:
        name = f"images/{case.id}{image_suffix(case.image)}"
        target = self._folder / name
        digest = link_file(case.image, target) if self._link else None
        if digest is None:
            self._found.copied_instead += self._link
            digest = copy_file(case.image, target)
        self.sha256[name] = digest
        return name

    def _write_mask(self, case_id: str, source: Path, mask: np.ndarray) -> str:
        name = f"labels/{case_id}.png" if mask.ndim == 2 else f"labels/{case_id}{image_suffix(source)}"
        target = self._folder / name
        if mask.ndim == 2:
            Image.fromarray(mask.astype(np.uint8) * 255).save(target)
            self.sha256[name] = _digest(target)
        else:
            self.sha256[name] = copy_file(source, target)
        return name


def link_file(source: Path, target: Path) -> str | None:
    """Link a file and return its SHA-256; ``None`` if the file system refuses."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return None
    return _digest(target)


def copy_file(source: Path, target: Path) -> str:
    """Copy a file block by block and return its SHA-256."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(BLOCK):
            digest.update(block)
            writer.write(block)
    return digest.hexdigest()


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as reader:
        while block := reader.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()

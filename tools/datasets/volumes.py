"""Write a source of volumes in two modalities: images as they are, labels as classes 0, 1, 2 …, and `dataset.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nibabel
import numpy as np

from .source import SECTIONS, SourceError
from .staging import staged_folder
from .writing import copy_file, link_file

FORMAT_VERSION = 1
SHOWN_VALUES = 8


@dataclass(frozen=True)
class VolumeCase:
    """One volume of the source.

    Attributes:
        id: unique name, also the name of the written files.
        image: a NIfTI file, or a folder with one DICOM series.
        modality: ``ct``, ``mr``, ``flair`` or ``t2``.
        subject: the patient, as the source tells patients apart.
        label: a NIfTI file, a folder of one picture a slice, or None.
        row: where the case was listed, for messages.
    """

    id: str
    image: Path
    modality: str
    subject: str
    label: Path | None = None
    row: str = ""


@dataclass
class VolumeSource:
    """A source of volumes as read.

    Attributes:
        name: of the data set.
        anatomy: what its volumes show.
        labels: name of every class by its number, 0 for the background.
        values: class of each value of the source's label files, by modality (``*`` for the others).
        sections: cases of ``training``, ``validation`` and ``test``.
        protocol: of the split, in words.
        license: terms of the data, in words.
        others_are_background: whether values that `values` does not list are background; else they are an error.
        warnings: what the user should know.
    """

    name: str
    anatomy: str
    labels: Mapping[int, str]
    values: Mapping[str, Mapping[int, int]]
    sections: dict[str, list[VolumeCase]]
    protocol: str
    license: str
    others_are_background: bool = False
    warnings: list[str] = field(default_factory=list)


CARDIAC = MappingProxyType(
    {
        0: "background",
        1: "myocardium",
        2: "left atrial cavity",
        3: "left ventricular cavity",
        4: "ascending aorta",
    }
)
ABDOMEN = MappingProxyType({0: "background", 1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"})
TUMOUR = MappingProxyType({0: "background", 1: "whole tumour"})


def prepare_volumes(
    data: VolumeSource,
    source: Path,
    output: Path,
    *,
    link: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write a folder that `common.data.domains.load_domain_cases` reads, or nothing.

    Images are copied (or linked) as they are, a DICOM series as one NIfTI file of its rescaled values. Labels are
    written as 8-bit NIfTI on the grid of their image. Volumes are read one at a time.

    Args:
        data: the source as its reader gave it.
        source: its folder, which is never written to.
        output: folder to write; must be new, empty, or a data set folder with ``overwrite``.
        link: hard-link the images where possible.
        overwrite: replace an existing data set folder.
        progress: called with the id of every case done.

    Returns:
        The document that was written.

    Raises:
        SourceError: naming the file that is not as it must be.
    """
    _check(data)
    with staged_folder(output, source=source, overwrite=overwrite) as folder:
        for name in ("images", "labels"):
            (folder / name).mkdir()
        digests: dict[str, str] = {}
        entries: dict[str, list[dict[str, str]]] = {}
        for section in SECTIONS:
            entries[section] = []
            for case in data.sections.get(section, []):
                entries[section].append(_write(case, data, folder, digests, link=link))
                if progress is not None:
                    progress(case.id)
        document = _document(data, entries, digests)
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (folder / "dataset.json").write_text(text + "\n", encoding="utf-8")
    return document


def _check(data: VolumeSource) -> None:
    cases = [case for section in SECTIONS for case in data.sections.get(section, [])]
    if not cases:
        raise SourceError(f"{data.name} must have at least one volume, got none")
    seen: dict[str, VolumeCase] = {}
    for case in cases:
        first = seen.setdefault(case.id, case)
        if first is not case:
            raise SourceError(f"{case.row}: id {case.id!r} must be unique, got it in {first.row} too")


def _document(
    data: VolumeSource, entries: Mapping[str, list[dict[str, str]]], digests: dict[str, str]
) -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = {}
    for section, cases in entries.items():
        counts[section] = {}
        for entry in cases:
            counts[section][entry["modality"]] = counts[section].get(entry["modality"], 0) + 1
    everything = [entry for cases in entries.values() for entry in cases]
    unlabelled = sum("label" not in entry for entry in everything)
    if unlabelled:
        data.warnings.append(f"{unlabelled} volumes have no label: they can only be targets of a training")
    return {
        "name": data.name,
        "format_version": FORMAT_VERSION,
        "modality": ", ".join(sorted({entry["modality"] for entry in everything})),
        "anatomy": data.anatomy,
        "labels": {str(number): name for number, name in data.labels.items()},
        "laterality": "patient",
        "split": {"protocol": data.protocol, "source": "folders of the source", "subset_rule": "file_order"},
        "caption_version": "none",
        "license": data.license,
        "statistics": {"cases": counts, "subjects": len({entry["subject"] for entry in everything})},
        "warnings": data.warnings,
        **entries,
        "sha256": digests,
    }


def _write(
    case: VolumeCase, data: VolumeSource, folder: Path, digests: dict[str, str], *, link: bool
) -> dict[str, str]:
    from common.transforms.volume_loading import load_volume  # it takes seconds to import

    try:
        image = load_volume(case.image)
        suffix = ".nii" if case.image.name.lower().endswith(".nii") else ".nii.gz"
        name = f"images/{case.id}{suffix}"
        entry = {"id": case.id, "image": name, "text": "", "modality": case.modality, "subject": case.subject}
        if case.image.is_dir():
            digests[name] = _write_series(image, folder / name)
        else:
            linked = link_file(case.image, folder / name) if link else None
            digests[name] = linked or copy_file(case.image, folder / name)
        if case.label is not None:
            entry["label"] = f"labels/{case.id}.nii.gz"
            digests[entry["label"]] = _write_label(case, data, image, folder / entry["label"])
    except SourceError:
        raise
    except ValueError as error:
        raise SourceError(f"{case.row or case.id}: {error}") from error
    return entry


def _write_series(image: Any, target: Path) -> str:
    """Write a displayed DICOM volume as NIfTI, 16-bit where its values are whole numbers of that range."""
    values = image.as_tensor()[0].numpy()
    whole = np.rint(values)
    fits = np.array_equal(whole, values) and values.min() >= -32768 and values.max() <= 32767
    return _save(whole.astype(np.int16) if fits else values, np.asarray(image.affine), target)


def _write_label(case: VolumeCase, data: VolumeSource, image: Any, target: Path) -> str:
    """Write the classes of a label file on the displayed grid of its image."""
    from common.transforms.volume_loading import check_same_place, load_volume

    from .slice_labels import read_slice_labels

    label = case.label
    if label is None:
        raise SourceError(f"{case.id} must have a label, got none")
    if label.is_dir():
        values = read_slice_labels(label, image)
    else:
        loaded = load_volume(label)
        check_same_place(loaded, image, str(label))
        values = loaded.as_tensor()[0].numpy()
    classes = mapped(values, data, case.modality, where=str(label))
    return _save(classes, np.asarray(image.affine), target)


def mapped(values: np.ndarray, data: VolumeSource, modality: str, *, where: str) -> np.ndarray:
    """Return the classes of a label file's values.

    Args:
        values: of the file, any shape.
        data: the source, which says what they mean.
        modality: of the case.
        where: the file, for messages.

    Raises:
        SourceError: when a value is unknown; all unknown ones are listed.
    """
    meaning = {0: 0, **(data.values.get(modality) or data.values["*"])}
    found, places = np.unique(values, return_inverse=True)
    unknown = [value for value in found if value not in meaning]
    if unknown and not data.others_are_background:
        shown = ", ".join(f"{value:g}" for value in unknown[:SHOWN_VALUES])
        more = f" and {len(unknown) - SHOWN_VALUES} more" if len(unknown) > SHOWN_VALUES else ""
        raise SourceError(
            f"{where} must hold the values {', '.join(map(str, sorted(meaning)))}, got {shown}{more}: name every value "
            "that is a class, and say that others are background"
        )
    table = np.array([meaning.get(float(value), 0) for value in found], dtype=np.uint8)
    return table[places].reshape(values.shape)


def _save(values: np.ndarray, affine: np.ndarray, target: Path) -> str:
    image = nibabel.Nifti1Image(np.ascontiguousarray(values), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, target)
    return hashlib.sha256(target.read_bytes()).hexdigest()

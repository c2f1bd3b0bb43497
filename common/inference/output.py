"""Writing a result in the format of its image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..dicom.codes import is_uncoded
from ..dicom.segmentation import write_segmentation
from ..dicom.structured_report import write_measurement_report
from ..dicom.volume import mask_to_frames, series_headers
from ..metrics.text_mask_consistency import findings_of
from ..transforms.label_volumes import save_labels
from ..transforms.saving import safe_name, save_mask
from .measuring import anatomy_of_case, measures
from .result import Segmentation

MAX_COMMENT = 1024


def save(
    segmentation: Segmentation, folder: str | Path, *, dicom: bool = True, uid_seed: str | None = None
) -> dict[str, Path]:
    """Write a mask in the format of its image; every file gets its name when it is complete.

    - **Pictures**: ``<id>.png``, 0 and 255, of the picture's size and orientation.
    - **NIfTI**: ``<id>.nii.gz``, 0 and 1, on the grid of the input file.
    - **Classes** of a bundle with labels, NIfTI: ``<id>.nii.gz`` on the grid of the input, with the names of the
      classes; see `common.transforms.SaveLabelVolumed`.
    - **DICOM**: ``<id>.seg.dcm``, a DICOM segmentation, and ``<id>.sr.dcm``, its measurement report, which names
      the sentence. Of classes there is a segment each, with the number and the name of the class: one that was not
      found has no frame, the volume 0, and is named in the report. Needs highdicom.

    Args:
        segmentation: the result.
        folder: made when missing.
        dicom: False writes the PNG of a DICOM image as for pictures, on the grid on which it is stored, and the
            classes of a series as NIfTI.
        uid_seed: any text, to get the same DICOM files for the same result; None: new identifiers each time.

    Returns:
        The written files, under "mask", or "segmentation" and "report".

    Raises:
        ValueError: when the id is no name for a file, or a DICOM source cannot be referred to.
        ImportError: when DICOM is to be written and highdicom is not installed.
    """
    place = Path(folder) / safe_name(segmentation.id)
    if segmentation.info.labels and not (segmentation.is_dicom and dicom):
        classes, target = torch.from_numpy(segmentation.mask)[None], place.with_name(f"{place.name}.nii.gz")
        return {"mask": save_labels(classes, segmentation.meta, target, labels=segmentation.info.labels)}
    if not segmentation.is_dicom or (not dicom and segmentation.mask.ndim == 2):
        return {"mask": save_mask(torch.from_numpy(segmentation.mask)[None], segmentation.meta, place)}
    if not dicom:
        raise ValueError(f"a DICOM series must be written as DICOM, got dicom=False for {segmentation.id}")
    return _save_dicom(segmentation, place, uid_seed=uid_seed)


def _save_dicom(segmentation: Segmentation, place: Path, *, uid_seed: str | None) -> dict[str, Path]:
    info, source = segmentation.info, series_headers(segmentation.meta)
    seg = write_segmentation(
        mask_to_frames(segmentation.mask, segmentation.meta),
        source,
        place.with_name(f"{place.name}.seg.dcm"),
        codes=_codes(segmentation),
        algorithm_name=info.name[:64],
        algorithm_version=info.algorithm_version,
        grid="stored",
        series_description=f"Classes, {info.name}"[:64] if info.labels else None,
        uid_seed=uid_seed,
    )
    report = write_measurement_report(
        seg,
        source,
        place.with_name(f"{place.name}.sr.dcm"),
        sentence=None if info.labels else segmentation.sentence,
        laterality=segmentation.laterality,
        comments=_comments(segmentation),
        uid_seed=uid_seed,
    )
    return {"segmentation": seg, "report": report}


def _codes(segmentation: Segmentation) -> Any:
    """Return the codes of the segment, or of every class but the background."""
    info = segmentation.info
    if info.labels:
        return info.class_codes()
    return info.codes_for(anatomy_of_case(info.anatomy, findings_of(segmentation.sentence)))


def _class_comments(segmentation: Segmentation) -> list[str]:
    """Return what the report says of classes: as what the image was read, what was not found or has no code."""
    codes = segmentation.info.class_codes()
    present = np.bincount(segmentation.mask.ravel(), minlength=len(codes) + 1) > 0
    absent = [each.label for number, each in enumerate(codes, start=1) if not present[number]]
    uncoded = [each.label for each in codes if is_uncoded(each)]
    found = [f"The network reads no sentence; the image was given to it as {segmentation.meta['modality']}."]
    if absent:
        found.append(f"Looked for and not found: {', '.join(absent)}.")
    if uncoded:
        found.append(f"Coded as any tissue, the label alone tells what it is: {', '.join(uncoded)}.")
    return found


def _sentence_comments(segmentation: Segmentation) -> list[str]:
    """Return what the report says beside the sentence: as given, contradictions."""
    found: list[str] = []
    if segmentation.is_translated:
        whose = "the patient's" if segmentation.given_laterality == "patient" else "the picture's"
        found.append(f"Sentence as given, with {whose} left and right: {segmentation.text}")
    return [*found, *(f"Contradiction: {reason}." for reason in measures(segmentation).reasons)]


def _comments(segmentation: Segmentation) -> list[str]:
    of_kind = _class_comments if segmentation.info.labels else _sentence_comments
    found = of_kind(segmentation)
    found += [f"Warning: {warning}." for warning in segmentation.warnings]
    return [comment[:MAX_COMMENT] for comment in found]

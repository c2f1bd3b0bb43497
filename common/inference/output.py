"""Writing a result in the format of its image."""

from __future__ import annotations

from pathlib import Path

import torch

from ..dicom.segmentation import write_segmentation
from ..dicom.structured_report import write_measurement_report
from ..dicom.volume import mask_to_frames, series_headers
from ..metrics.text_mask_consistency import findings_of
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
    - **DICOM**: ``<id>.seg.dcm``, a DICOM segmentation, and ``<id>.sr.dcm``, its measurement report, which names
      the sentence. Needs highdicom.

    Args:
        segmentation: the result.
        folder: made when missing.
        dicom: False writes the PNG of a DICOM image as for pictures, on the grid on which it is stored.
        uid_seed: any text, to get the same DICOM files for the same result; None: new identifiers each time.

    Returns:
        The written files, under "mask", or "segmentation" and "report".

    Raises:
        ValueError: when the id is no name for a file, or a DICOM source cannot be referred to.
        ImportError: when DICOM is to be written and highdicom is not installed.
    """
    place = Path(folder) / safe_name(segmentation.id)
    if not segmentation.is_dicom or (not dicom and segmentation.mask.ndim == 2):
        return {"mask": save_mask(torch.from_numpy(segmentation.mask)[None], segmentation.meta, place)}
    if not dicom:
        raise ValueError(f"a DICOM series must be written as DICOM, got dicom=False for {segmentation.id}")
    return _save_dicom(segmentation, place, uid_seed=uid_seed)


def _save_dicom(segmentation: Segmentation, place: Path, *, uid_seed: str | None) -> dict[str, Path]:
    info = segmentation.info
    source = series_headers(segmentation.meta)
    seg = write_segmentation(
        mask_to_frames(segmentation.mask, segmentation.meta),
        source,
        place.with_name(f"{place.name}.seg.dcm"),
        codes=info.codes_for(anatomy_of_case(info.anatomy, findings_of(segmentation.sentence))),
        algorithm_name=info.name[:64],
        algorithm_version=info.algorithm_version,
        grid="stored",
        uid_seed=uid_seed,
    )
    report = write_measurement_report(
        seg,
        source,
        place.with_name(f"{place.name}.sr.dcm"),
        sentence=segmentation.sentence,
        laterality=segmentation.laterality,
        comments=_comments(segmentation),
        uid_seed=uid_seed,
    )
    return {"segmentation": seg, "report": report}


def _comments(segmentation: Segmentation) -> list[str]:
    """Return what the report says beside the sentence: as given, contradictions, warnings."""
    found: list[str] = []
    if segmentation.is_translated:
        whose = "the patient's" if segmentation.given_laterality == "patient" else "the picture's"
        found.append(f"Sentence as given, with {whose} left and right: {segmentation.text}")
    found += [f"Contradiction: {reason}." for reason in measures(segmentation).reasons]
    found += [f"Warning: {warning}." for warning in segmentation.warnings]
    return [comment[:MAX_COMMENT] for comment in found]

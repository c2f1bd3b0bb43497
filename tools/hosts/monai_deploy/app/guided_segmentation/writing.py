"""The operator that writes the results: all of them or none."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai.deploy.core import Operator, OperatorSpec

from .inference import PREDICTION

SEGMENTATION, REPORT, SUMMARY, RESULT = "segmentation.dcm", "report.dcm", "summary.png", "result.json"


class ResultWriterOperator(Operator):
    """Write a DICOM segmentation, its measurement report, a picture for people and a JSON file for programs.

    The host's own segmentation writer is not used: what it writes of a radiograph without geometry is not valid DICOM
    (no Patient Orientation, a pixel spacing of zero, an empty manufacturer), it fails on a series whose character set
    is empty, and it names neither the weights nor the sentence.

    Named input:
        pred: the bundle's `Segmentation`.

    Args:
        fragment: the application.
        folder: of the results; made when missing.
        written: the paths are appended here.
    """

    def __init__(self, fragment: Any, *args: Any, folder: Path, written: list[Path], **rest: Any) -> None:
        self.folder, self.written = folder, written
        super().__init__(fragment, *args, **rest)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the port."""
        spec.input(PREDICTION)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write the files beside their place and move them there when all are complete."""
        self.written.extend(write_results(op_input.receive(PREDICTION), self.folder))


def write_results(segmentation: Any, folder: Path) -> list[Path]:
    """Write the results of one case.

    Args:
        segmentation: the bundle's `Segmentation` of a DICOM image or series.
        folder: where to.

    Returns:
        The written files.

    Raises:
        OSError: when the folder cannot be written.
    """
    from scripts.common.inference import preview, save

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished_", dir=folder) as place:
        staged = Path(place)
        saved = save(replace(segmentation, id="case"), staged)
        saved["segmentation"].rename(staged / SEGMENTATION)
        saved["report"].rename(staged / REPORT)
        preview(segmentation).save(staged / SUMMARY)
        document = json.dumps(result_document(segmentation), indent=2, ensure_ascii=False)
        (staged / RESULT).write_text(document + "\n", encoding="utf-8")
        names = (SEGMENTATION, REPORT, SUMMARY, RESULT)
        for name in names:
            os.replace(staged / name, folder / name)
    return [folder / name for name in names]


def result_document(segmentation: Any) -> dict[str, Any]:
    """Return what `result.json` holds: measures, sentence, bundle, and the names of the other files."""
    from scripts.common.inference import measures

    info = segmentation.info
    row = measures(replace(segmentation, id="case")).row()
    return {
        "files": {"segmentation": SEGMENTATION, "report": REPORT, "summary": SUMMARY},
        "text_source": segmentation.text_source,
        **{name: value for name, value in row.items() if name not in ("id", "warnings", "reasons")},
        **_of_classes(segmentation),
        "reasons": list(measures(segmentation).reasons),
        "warnings": list(segmentation.warnings),
        "threshold": segmentation.threshold,
        "shape": list(segmentation.mask.shape),
        "training_data": info.training_data,
        "device": info.device,
        "versions": dict(info.versions),
    }


def _of_classes(segmentation: Any) -> dict[str, Any]:
    """Return names and volumes of the classes and the modality; nothing for a bundle of sentences."""
    labels = getattr(segmentation.info, "labels", None)  # bundles that were packed before have none
    if not labels:
        return {}
    from scripts.common.inference import class_volumes

    facts = {"labels": dict(labels), "modality": str(segmentation.meta["modality"])}
    return {**facts, **class_volumes(segmentation)}

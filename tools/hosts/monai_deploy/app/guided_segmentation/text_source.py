"""The operator that finds the sentence: given, in a sidecar, in a report of the study, or in the images' attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
from monai.deploy.core import Operator, OperatorSpec

from .reading import FILES, REPORTS
from .sentences import GIVEN, NONE, Sentence, chosen_sidecar, found_sentence

TEXT = "text"


class TextSourceOperator(Operator):
    """Emit the sentence that the images are to be segmented by.

    Named inputs:
        files: paths of the files of the series.
        reports: structured reports of the study.

    Named output:
        text: the `Sentence`.

    Args:
        fragment: the application.
        folder: of the study; a `sentence.txt` or `sentence.json` in it is a sidecar.
        text: the sentence, which goes before all sources; "" for none on purpose; None to look for one.
        laterality: whose left the given sentence means, "patient" or "image"; None: as is usual for the modality.
        sidecar: file with the sentence.
        wanted: whether the bundle reads sentences; without, none is looked for.
    """

    def __init__(
        self,
        fragment: Any,
        *args: Any,
        folder: Path,
        text: str | None = None,
        laterality: str | None = None,
        sidecar: Path | None = None,
        wanted: bool = True,
        **rest: Any,
    ) -> None:
        self.folder, self.given, self.laterality, self.sidecar = folder, text, laterality, sidecar
        self.wanted = wanted
        super().__init__(fragment, *args, **rest)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the ports."""
        spec.input(FILES)
        spec.input(REPORTS)
        spec.output(TEXT)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Find the sentence and emit it.

        Raises:
            ValueError: when a sidecar cannot be read.
        """
        from scripts.common.dicom import usual_laterality

        files, reports = op_input.receive(FILES), op_input.receive(REPORTS)
        header = pydicom.dcmread(files[0], stop_before_pixels=True)
        usual = usual_laterality(str(header.get("Modality") or ""))
        if not self.wanted:
            sentence = Sentence("", usual, NONE)
        elif self.given is not None:
            sentence = Sentence(self.given, self.laterality or usual, GIVEN)
        else:
            sidecar = self.sidecar or chosen_sidecar(self.folder, files)
            text, source = found_sentence(header, reports, sidecar=sidecar)
            sentence = Sentence(text, usual, source)
        op_output.emit(sentence, TEXT)

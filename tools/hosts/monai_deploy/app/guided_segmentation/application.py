"""The graph: study, series and sentence, segmentation, results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application

from .arguments import Options
from .bundle import PackedBundle
from .inference import IMAGE, PREDICTION, TextGuidedBundleOperator
from .reading import FILES, REPORTS, SeriesChooserOperator, StudyLoaderOperator
from .selection import read_rules, selection_rules
from .sentences import check_sidecar
from .text_source import TEXT, TextSourceOperator
from .writing import ResultWriterOperator

STUDIES = "dicom_study_list"


class GuidedSegmentationApplication(Application):
    """Segment one series of a study by a sentence.

    Args:
        options: what to do.
        bundle: the packed bundle.
    """

    def __init__(self, options: Options, bundle: PackedBundle) -> None:
        self.request, self.bundle = options, bundle
        self.written: list[Path] = []
        super().__init__([sys.executable, "app"])  # Holoscan would read the options as its own

    def compose(self) -> None:
        """Connect the operators."""
        options = self.request
        rules = read_rules(options.rules) if options.rules else selection_rules(self.bundle.modalities)
        once = CountCondition(self, 1)
        loader = StudyLoaderOperator(self, once, input_folder=options.input, name="study_loader")
        chooser = SeriesChooserOperator(self, rules=rules, series=options.series, name="series_chooser")
        text = TextSourceOperator(
            self,
            folder=options.input,
            text=options.text,
            laterality=options.laterality,
            sidecar=options.sidecar,
            wanted=not self.bundle.classes,
            name="text_source",
        )
        inference = TextGuidedBundleOperator(
            self,
            app_context=self._context(),
            bundle=self.bundle,
            modality=options.modality,
            name="text_guided_bundle",
        )
        writer = ResultWriterOperator(self, folder=options.output, written=self.written, name="result_writer")
        self.add_flow(loader, chooser, {(STUDIES, STUDIES)})
        self.add_flow(chooser, text, {(FILES, FILES), (REPORTS, REPORTS)})
        self.add_flow(chooser, inference, {(FILES, IMAGE)})
        self.add_flow(text, inference, {(TEXT, TEXT)})
        self.add_flow(inference, writer, {(PREDICTION, PREDICTION)})

    def _context(self) -> AppContext:
        paths = {
            "input": self.request.input,
            "output": self.request.output,
            "model": self.bundle.folder / "models",
        }
        return AppContext({name: str(path) for name, path in paths.items()})


def check_kind(options: Options, bundle: PackedBundle) -> None:
    """Refuse a sentence for a bundle of classes, and a modality for one of sentences.

    Raises:
        ValueError: naming the option.
    """
    kind = "segments volumes into classes and reads no sentence" if bundle.classes else "reads sentences"
    unfit = ("text", "laterality", "sidecar") if bundle.classes else ("modality",)
    given = [f"--{name}" for name in unfit if getattr(options, name) is not None]
    if given:
        raise ValueError(f"{' and '.join(given)} must be left out for {bundle.folder.name}, which {kind}")


def run(options: Options, bundle: PackedBundle) -> list[Path]:
    """Run the graph once.

    Args:
        options: what to do.
        bundle: the packed bundle, whose own code is used.

    Returns:
        The written files.

    Raises:
        ValueError: when the study, the sentence or the bundle cannot be used.
    """
    if not options.input.is_dir():
        raise ValueError(f"the input must be the folder of a study, got {options.input}")
    check_sidecar(options.sidecar)
    check_kind(options, bundle)
    sys.path[:] = [str(bundle.folder), *(path for path in sys.path if path != str(bundle.folder))]
    application: Any = GuidedSegmentationApplication(options, bundle)
    application.run()
    return list(application.written)

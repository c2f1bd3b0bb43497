"""The operator that runs a packed bundle on a series and its sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from monai.deploy.core import AppContext, Image, IOType
from monai.deploy.operators import IOMapping, MonaiBundleInferenceOperator

from .bundle import PackedBundle
from .text_source import TEXT

IMAGE, PREDICTION = "image", "pred"


class TextGuidedBundleOperator(MonaiBundleInferenceOperator):
    """Segment what a sentence describes, with the preprocessing, inferer, network and postprocessing of a bundle.

    The host's own operator reads its images from the host's volumes, which need a geometry that radiographs do not
    have, takes no text, and leaves out the bundle's loader, which knows brightness and orientation. This one keeps
    its steps (`pre_process`, `predict`, `post_process`) and hands each to the packed bundle's own code: a series
    with geometry is a volume whose slices are segmented one by one, a radiograph is one picture.

    Named inputs:
        image: paths of the DICOM files of one image or series.
        text: the `Sentence`.

    Named output:
        pred: the bundle's `Segmentation`: mask and probability as displayed, sentence, warnings.

    Args:
        fragment: the application.
        app_context: paths of the application.
        bundle: what to run; the device is chosen by its configuration: CUDA where there is one.
        modality: of the series, for a bundle of classes; None: as its files say, else as the bundle.
    """

    def __init__(
        self,
        fragment: Any,
        *args: Any,
        app_context: AppContext,
        bundle: PackedBundle,
        modality: str | None = None,
        **rest: Any,
    ) -> None:
        self._segmenter: Any = None
        self.modality = modality
        super().__init__(
            fragment,
            *args,
            app_context=app_context,
            input_mapping=[IOMapping(IMAGE, Image, IOType.IN_MEMORY), IOMapping(TEXT, str, IOType.IN_MEMORY)],
            output_mapping=[IOMapping(PREDICTION, Image, IOType.IN_MEMORY)],
            bundle_path=bundle.folder,
            **rest,
        )

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Segment and emit the result.

        Raises:
            ValueError: when the images or the sentence cannot be used, or the weights do not fit.
        """
        files, sentence = op_input.receive(IMAGE), op_input.receive(TEXT)
        case = {"image": [str(file) for file in files], "text": sentence.text}
        case |= {"laterality": sentence.laterality, **({"modality": self.modality} if self.modality else {})}
        prepared = self.pre_process(case)
        result = self.post_process(self.predict(prepared), preprocessed_inputs=prepared)
        op_output.emit(replace(result, text_source=sentence.source), PREDICTION)

    @property
    def segmenter(self) -> Any:
        """The loaded bundle."""
        if self._segmenter is None:
            from scripts.common.inference import load_bundle

            self._segmenter = load_bundle(self.bundle_path)
        return self._segmenter

    def pre_process(self, data: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load and preprocess a case: paths under "image", "text" and its "laterality", or a "modality"."""
        return self.segmenter.prepare(data)

    def predict(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the logits of a preprocessed case."""
        return self.segmenter.logits([data])[0]

    def post_process(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the result for the logits of the case in `preprocessed_inputs`."""
        return self.segmenter.finish(kwargs[self.kw_preprocessed_inputs], data)

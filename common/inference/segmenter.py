"""A bundle that is ready to segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from .info import BundleInfo
from .preparation import CasePreparation
from .result import Segmentation

UNTRAINED = "the network is untrained: the mask means nothing"


class Segmenter:
    """Segments images by sentences with one bundle; see `load_bundle`.

    Args:
        info: of the bundle.
        preparation: what prepares a case.
        network: in evaluation mode, on its device.
        inferer: a callable `(images, network, text=...)`.
        postprocessing: from one case's logits to "pred" (mask) and "probability", on the displayed grid.
        amp: whether the network runs in mixed precision, on CUDA alone.
        slice_batch: slices of a volume that the network sees at a time, >= 1.
    """

    def __init__(
        self,
        *,
        info: BundleInfo,
        preparation: CasePreparation,
        network: nn.Module,
        inferer: Any,
        postprocessing: Any,
        amp: bool = False,
        slice_batch: int = 8,
    ) -> None:
        if slice_batch < 1:
            raise ValueError(f"slice_batch must be at least 1, got {slice_batch}")
        self.info = info
        self.prepare = preparation
        self.network = network
        self.inferer = inferer
        self.device = torch.device(info.device)
        self.amp = amp and self.device.type == "cuda"
        if hasattr(inferer, "slice_batch"):
            inferer.slice_batch = slice_batch
        self._finishing = list(postprocessing.flatten().transforms)
        self._threshold = next((s.threshold for s in self._finishing if hasattr(s, "threshold")), 0.5)

    def __call__(
        self,
        image: str | Path | Sequence[str | Path],
        text: str | None = None,
        *,
        laterality: str | None = None,
        **case: Any,
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: a picture, NIfTI or DICOM file, a folder with one DICOM series, or its files.
            text: the sentence; None is the empty one.
            laterality: whose left it means, "image" or "patient"; None: as the bundle's sentences.
            case: the other keys of a case: ``id``, ``text_source``, ``sidecar``, ``report``; see `CasePreparation`.

        Raises:
            ValueError: as `CasePreparation`.
        """
        return self.infer([self.prepare({"image": image, "text": text, "laterality": laterality, **case})])[0]

    def infer(self, prepared: Sequence[Mapping[str, Any]]) -> list[Segmentation]:
        """Segment prepared cases, in their order: one call of the network for all pictures of one input size.

        Args:
            prepared: from `prepare`.
        """
        return [
            self.finish(case, logits) for case, logits in zip(prepared, self.logits(prepared), strict=True)
        ]

    @torch.inference_mode()
    def logits(self, prepared: Sequence[Mapping[str, Any]]) -> list[Tensor]:
        """Return the network's output of every case, `(channels, h, w[, slices])` float32 on the CPU.

        Args:
            prepared: from `prepare`.
        """
        found: dict[int, Tensor] = {}
        for indices in _alike(prepared):
            images = [_plain(prepared[index]["image"]) for index in indices]
            stacked = torch.stack(images) if len(images) > 1 else images[0][None]  # a volume is not copied
            options = self._options([prepared[index] for index in indices])
            found.update(zip(indices, self._run(stacked, options), strict=True))
        return [found[index] for index in range(len(prepared))]

    @torch.inference_mode()
    def finish(self, prepared: Mapping[str, Any], logits: Tensor) -> Segmentation:
        """Turn the network's output of one case into its result; may run in another thread.

        Args:
            prepared: from `prepare`.
            logits: `(channels, h, w[, slices])`.
        """
        case: Any = {"pred": logits, "image": prepared["image"]}
        for step in self._finishing:
            case = step(case)
        mask = _plain(case["pred"])[0]
        probability = _plain(case["probability"])[0] if "probability" in case else torch.empty(0)
        warnings = [*prepared["warnings"]]
        if self.info.weights_sha256 is None:
            warnings.insert(0, UNTRAINED)
        if not bool(torch.isfinite(logits).all()):
            warnings.insert(0, "the network's output is not finite everywhere: the mask is not to be used")
        meta = {
            name: value for name, value in prepared["image"].meta.items() if name not in ("text", "affine")
        }
        files = prepared["files"]
        return Segmentation(
            id=prepared["id"],
            image=files[0] if len(files) == 1 else files,
            text=prepared["given"],
            sentence=prepared["sentence"],
            laterality=self.info.laterality,
            given_laterality=prepared["given_laterality"],
            text_source=prepared["text_source"],
            mask=mask.to(torch.uint8).numpy(),
            probability=probability.to(torch.float32).numpy(),
            threshold=float(self._threshold),
            meta=meta,
            warnings=tuple(warnings),
            info=self.info,
        )

    def _options(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the inferer is told beside the images: their sentences, or the modality of volumes."""
        if self.info.labels:
            return {"modality": [str(case["image"].meta["modality"]) for case in cases]}
        texts = torch.stack([_plain(case["text"]) for case in cases])
        return {"text": texts.to(self.device, non_blocking=True)}

    def _run(self, images: Tensor, options: Mapping[str, Any]) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, enabled=self.amp):
            output = self.inferer(images, self.network, **options)
        return torch.as_tensor(output).float().cpu()


def _alike(prepared: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    """Yield the indices of the cases that can share a call: pictures of one size together, volumes alone."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, case in enumerate(prepared):
        shape = tuple(case["image"].shape)
        key = (shape, tuple(getattr(case["text"], "shape", ())), index if len(shape) == 4 else -1)
        groups.setdefault(key, []).append(index)
    yield from groups.values()


def _plain(values: Tensor) -> Tensor:
    return values.as_tensor() if isinstance(values, MetaTensor) else values

"""An inferer that runs a network of slices over volumes and tells it the modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, sliding_window_inference
from torch import Tensor
from tqdm import tqdm

from .inferers import text_of


class VolumeInferer(Inferer):
    """Run a network of slices over `(B, C, H, W, slices)` volumes, a few slices at a time, and stack what it says.

    The modality is the keyword `modality` when an engine passes it, else what preprocessing left in
    ``inputs.meta["modality"]``, else the network's own choice. The text, which networks with class prompts do not
    need, comes as in `TextGuidedInferer`.

    Args:
        slice_batch: slices that the network is given at once, >= 1.
        channels: of the network's input; gray slices are repeated to as many.
        window: rows and columns of a window that slides over slices which are larger; None gives whole slices.
        overlap: of neighbouring windows, 0 <= overlap < 1.
        progress: show a progress bar on a terminal.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(
        self,
        *,
        slice_batch: int = 8,
        channels: int = 3,
        window: int | None = None,
        overlap: float = 0.5,
        progress: bool = False,
    ) -> None:
        super().__init__()
        if slice_batch < 1 or channels < 1:
            raise ValueError(f"slice_batch and channels must be at least 1, got {slice_batch} and {channels}")
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1, or None, got {window}")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {overlap}")
        self.slice_batch, self.channels, self.window = slice_batch, channels, window
        self.overlap, self.progress = overlap, progress

    def __call__(
        self,
        inputs: Tensor,
        network: Any,
        *args: Any,
        text: Tensor | None = None,
        modality: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return what `network` returns for `inputs`.

        Args:
            inputs: `(B, C, H, W)` slices or `(B, C, H, W, slices)` volumes, C 1 or `channels`.
            network: a callable `(image, text)` that takes the keyword `modality` where one is known.
            args: passed through.
            text: `(B, 2, L)` token ids and attention mask, or None.
            modality: a name for all, or one for each of B.
            kwargs: passed through.

        Returns:
            For volumes the logits `(B, classes, H, W, slices)`.

        Raises:
            ValueError: when the inputs have another number of dimensions or channels, the modalities do not fit, or a
                volume is given to a network in training.
        """
        if inputs.ndim not in (4, 5) or inputs.shape[1] not in (1, self.channels):
            raise ValueError(
                f"image must be (B, 1 or {self.channels}, H, W[, slices]), got {tuple(inputs.shape)}"
            )
        named = _modalities(inputs, modality)
        text = text_of(inputs) if text is None else text
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        text = None if text is None else torch.as_tensor(text).to(image.device)

        def run(images: Tensor, repeat: int) -> Any:
            tokens = None if text is None else text.repeat_interleave(repeat, dim=0)
            extra = {} if named is None else {"modality": [name for name in named for _ in range(repeat)]}
            wide = images.expand(-1, self.channels, -1, -1) if images.shape[1] == 1 else images
            return network(wide, tokens, *args, **extra, **kwargs)

        return run(image, 1) if image.ndim == 4 else self._volumes(image, run)

    def _volumes(self, volumes: Tensor, run: Callable[[Tensor, int], Any]) -> Tensor:
        count = volumes.shape[-1]
        stacked: Tensor | None = None
        starts = range(0, count, self.slice_batch)
        for start in tqdm(starts, desc="slices", unit="batch", disable=None if self.progress else True):
            part = volumes[..., start : start + self.slice_batch]
            output = self._slices(part.movedim(-1, 1), run)
            output = output.movedim(1, -1)
            if stacked is None:  # filled in place: one copy of the logits, not two
                stacked = output.new_empty((*output.shape[:-1], count))
            stacked[..., start : start + self.slice_batch] = output
        if stacked is None:
            raise ValueError(f"image must have at least one slice, got {tuple(volumes.shape)}")
        return stacked

    def _slices(self, slices: Tensor, run: Callable[[Tensor, int], Any]) -> Tensor:
        """`(B, n, C, H, W)` -> `(B, n, classes, H, W)`."""
        cases, number = slices.shape[:2]
        if self.window is None or max(slices.shape[-2:]) <= self.window:
            return _tensor(run(slices.flatten(0, 1), number)).unflatten(0, (cases, number))
        outputs = [
            sliding_window_inference(
                case,
                (self.window, self.window),
                number,  # one window at a time, of all slices
                lambda images: _tensor(run(images, number)),
                overlap=self.overlap,
                mode="gaussian",
            )
            for case in slices
        ]
        return torch.stack([_tensor(output) for output in outputs])


def _modalities(inputs: Tensor, modality: str | Sequence[str] | None) -> list[str] | None:
    if modality is None and isinstance(inputs, MetaTensor):
        modality = inputs.meta.get("modality")
    if modality is None:
        return None
    named = [modality] * inputs.shape[0] if isinstance(modality, str) else [str(name) for name in modality]
    if len(named) != inputs.shape[0]:
        raise ValueError(f"modality must be one name, or {inputs.shape[0]}, got {len(named)}")
    return named


def _tensor(output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the network must be in evaluation and return logits for slices of a volume, got a {type(output).__name__}"
        )
    return output

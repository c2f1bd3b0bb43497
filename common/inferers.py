"""Inferers that hand a network its image and its sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor


class TextGuidedInferer(Inferer):
    """Run a network on an image and the text that belongs to it; on a volume, slice by slice.

    The text is the keyword ``text`` when an engine passes it, else the tensor that preprocessing left in
    ``inputs.meta["text"]`` (hosts such as MONAI Label hand over the image alone), else the empty prompt.
    The network is given plain tensors: the meta data of a `MetaTensor` costs time in every layer.

    Args:
        slice_batch: slices of a volume that the network is given at once, >= 1.
    """

    def __init__(self, *, slice_batch: int = 8) -> None:
        super().__init__()
        if slice_batch < 1:
            raise ValueError(f"slice_batch must be at least 1, got {slice_batch}")
        self.slice_batch = slice_batch

    def __call__(
        self,
        inputs: Tensor,
        network: Any,
        *args: Any,
        text: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return what `network` returns for `inputs`.

        Args:
            inputs: `(B, C, H, W)` images, or `(B, C, H, W, slices)` volumes, every slice with the volume's text;
                the network must then return a tensor, as in evaluation, which is stacked to `(B, C, H, W, slices)`.
            network: a callable `(image, text)`.
            args: passed through.
            text: `(B, 2, L)` token ids and attention mask, or None.
            kwargs: passed through.

        Raises:
            ValueError: when a volume is given to a network in training.
        """
        if text is None:
            text = text_of(inputs)
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        if text is not None:
            text = text.as_tensor() if isinstance(text, MetaTensor) else text
            text = text.to(image.device)
        if image.ndim == 5:
            return self._slices(image, text, lambda *batch: network(*batch, *args, **kwargs))
        return network(image, text, *args, **kwargs)

    def _slices(self, volumes: Tensor, text: Tensor | None, network: Callable[..., Any]) -> Tensor:
        """Return the output for `(B, C, H, W, slices)` volumes, in the same order of axes."""
        count = volumes.shape[-1]
        outputs = []
        for start in range(0, count, self.slice_batch):
            part = volumes[..., start : start + self.slice_batch]
            images = part.movedim(-1, 1).flatten(0, 1)
            repeated = None if text is None else text.repeat_interleave(part.shape[-1], dim=0)
            output = network(images, repeated)
            if not isinstance(output, Tensor):
                raise ValueError(
                    "image must have 4 dimensions (B, C, H, W) in training, got a volume of "
                    f"{tuple(volumes.shape)}: split volumes into slices"
                )
            outputs.append(output.unflatten(0, (-1, part.shape[-1])).movedim(1, -1))
        return torch.cat(outputs, dim=-1)


def text_of(image: Tensor) -> Tensor | None:
    """Return the `(B, 2, L)` text tensor in the meta data of `image`, or None when there is none.

    Args:
        image: `(B, C, H, W[, slices])`; a `MetaTensor` whose ``meta["text"]`` is `(2, L)` or `(B, 2, L)`.
    """
    if not isinstance(image, MetaTensor):
        return None
    text = image.meta.get("text")
    if text is None:
        return None
    text = torch.as_tensor(text)
    if text.ndim == 2:
        text = text.unsqueeze(0).expand(image.shape[0], -1, -1)
    return text

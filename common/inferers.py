"""Inferers that hand a network its image and its sentence."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor


class TextGuidedInferer(Inferer):
    """Run a network on an image and the text that belongs to it.

    The text is the keyword ``text`` when an engine passes it, else the tensor that preprocessing left in
    ``inputs.meta["text"]`` (hosts such as MONAI Label hand over the image alone), else the empty prompt.
    The network is given plain tensors: the meta data of a `MetaTensor` costs time in every layer.
    """

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
            inputs: `(B, C, H, W)` images.
            network: a callable `(image, text)`.
            args: passed through.
            text: `(B, 2, L)` token ids and attention mask, or None.
            kwargs: passed through.
        """
        if text is None:
            text = text_of(inputs)
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        if text is not None:
            text = text.as_tensor() if isinstance(text, MetaTensor) else text
            text = text.to(image.device)
        return network(image, text, *args, **kwargs)


def text_of(image: Tensor) -> Tensor | None:
    """Return the `(B, 2, L)` text tensor in the meta data of `image`, or None when there is none.

    Args:
        image: `(B, C, H, W)`; a `MetaTensor` whose ``meta["text"]`` is `(2, L)` or `(B, 2, L)`.
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

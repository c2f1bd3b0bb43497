"""Projections in which image and text tokens are compared during training."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class AlignedNetwork(nn.Module):
    """A text-guided network with projections of its image and text tokens into a shared space, for training alone.

    In evaluation it is the network itself: the projections take no part, and the network's own state dict is what
    inference loads.

    Args:
        network: its training outputs hold ``image_tokens`` `(B, N, C)` and ``text_tokens`` `(B, L, C)`, and
            its attribute ``token_channels`` is C.
        channels: width D of the shared space, >= 1.
        enabled: False adds no projection, for objectives that compare no tokens.

    Raises:
        ValueError: if there is no channel.

    Reference:
        Liao et al., SSA, section II.A.

    Differences from the paper:
        It compares features without saying how they are projected: LayerNorm and Linear here.
    """

    def __init__(self, network: nn.Module, *, channels: int = 256, enabled: bool = True) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}.")
        self.network = network
        self.image_projection = _projection(network, channels) if enabled else None
        self.text_projection = _projection(network, channels) if enabled else None

    def forward(self, image: Tensor, text: Tensor | None = None) -> Any:
        """Run the network and, in training, project its tokens.

        Args:
            image: `(B, in_channels, H, W)`.
            text: `(B, 2, L)` token ids and attention mask; None is the empty prompt.

        Returns:
            In evaluation, the network's logits. In training, its outputs, and ``image_embedding`` `(B, N, D)`
            and ``text_embedding`` `(B, L, D)`.
        """
        outputs = self.network(image, text)
        if not self.training or self.image_projection is None or self.text_projection is None:
            return outputs
        return outputs | {
            "image_embedding": self.image_projection(outputs["image_tokens"]),
            "text_embedding": self.text_projection(outputs["text_tokens"]),
        }


def _projection(network: nn.Module, channels: int) -> nn.Sequential:
    width = int(network.token_channels)
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, channels))

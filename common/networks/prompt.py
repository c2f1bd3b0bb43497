"""The text side that text-guided networks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..text.encoder import SentenceProjection, TextEncoder
from .checks import check_text


class PromptEncoder(nn.Module):
    """Text tensor to token features and one sentence vector, both of the network's own width.

    Args:
        text_encoder: name or arguments of `TextEncoder`, or a ready one.
        channels: D, the width that the network works with.
        max_tokens: tokens of a sentence at most, and of the empty prompt.
        mask_padding: whether padded tokens are to be ignored, by the text encoder and by the network.

    Attributes:
        text_encoder: the `TextEncoder`.
        mask_padding: as given.

    Reference:
        Sentence projection Linear - LayerNorm - GELU - Linear of GuideDecoder and MMI-UNet.

    Differences from the paper:
        A text encoder whose width is not D is followed by a linear layer; the paper's widths are both 768.
    """

    def __init__(
        self,
        text_encoder: str | Mapping[str, Any] | nn.Module,
        *,
        channels: int,
        max_tokens: int,
        mask_padding: bool,
    ) -> None:
        super().__init__()
        self.mask_padding = mask_padding
        self.text_encoder = ready_text_encoder(text_encoder, max_tokens=max_tokens, mask_padding=mask_padding)
        hidden = self.text_encoder.hidden_size
        self.token_projection = nn.Identity() if hidden == channels else nn.Linear(hidden, channels)
        self.sentence_projection = SentenceProjection(hidden, channels)
        self._empty: Tensor | None = None

    def forward(self, text: Tensor | None, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Encode a batch of sentences.

        Args:
            text: `(B, 2, L)` token ids and attention mask; None is the empty prompt.
            batch_size: B.

        Returns:
            Tokens `(B, L, D)`, sentence `(B, D)`, and the padding mask `(B, L)`, True where a token is real.
        """
        if text is None:
            text = self._empty_prompt(batch_size)
        check_text(text, batch_size)
        features = self.text_encoder(text)
        # a frozen encoder may hand on another precision than the weights here
        weight = self.sentence_projection.layers[0].weight
        tokens = self.token_projection(features.tokens.to(weight.dtype))
        return tokens, self.sentence_projection(features.pooled.to(weight.dtype)), features.padding_mask

    def _empty_prompt(self, batch_size: int) -> Tensor:
        if self._empty is None:
            self._empty = self.text_encoder.empty_prompt(1)
        device = self.sentence_projection.layers[0].weight.device
        return self._empty.to(device).expand(batch_size, -1, -1)


def ready_text_encoder(
    text_encoder: str | Mapping[str, Any] | nn.Module, *, max_tokens: int, mask_padding: bool
) -> nn.Module:
    """Return a text encoder as it is, or one built from its name or its arguments, which go before the others.

    Args:
        text_encoder: name or arguments of `TextEncoder`, or a ready one.
        max_tokens: tokens of a sentence at most.
        mask_padding: whether padded tokens are left out.
    """
    if isinstance(text_encoder, nn.Module):
        return text_encoder
    arguments = {"name": text_encoder} if isinstance(text_encoder, str) else dict(text_encoder)
    return TextEncoder(**{"max_tokens": max_tokens, "mask_padding": mask_padding, **arguments})

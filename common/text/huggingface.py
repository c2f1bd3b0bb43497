"""One interface over the text models of `transformers`: ids and mask in, features out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .embedded import bert_states, pool_layers


class HuggingFaceBackbone(nn.Module):
    """A BERT, RoBERTa or CLIP text model that gives tokens, their mean and the sentence token.

    Args:
        model: The `transformers` model.
        family: "bert", "roberta" or "clip".
        mask_padding: Whether padding is left out of attention and mean.
    """

    def __init__(self, model: nn.Module, *, family: str, mask_padding: bool = True) -> None:
        super().__init__()
        self.model = model
        self.family = family
        self.mask_padding = mask_padding
        self.hidden_size: int = model.config.hidden_size
        self.vocab_size: int = model.config.vocab_size
        # RoBERTa counts positions from its padding id + 1
        offset = model.config.pad_token_id + 1 if family == "roberta" else 0
        self.max_positions: int = model.config.max_position_embeddings - offset

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode ids `(B, L)` with their boolean mask `(B, L)`.

        Args:
            ids: Token ids.
            mask: True where a token is valid; padding on the right.

        Returns:
            Last hidden state `(B, L, D)`, mean over the hidden states {1, 2, last} and tokens `(B, D)`,
            and the sentence token's last hidden state `(B, D)`.
        """
        seen = mask if self.mask_padding else torch.ones_like(mask)
        states = self._states(ids, seen)
        return states[-1], pool_layers(states, seen), self._sentence_token(states[-1], mask)

    def _states(self, ids: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        if self.family != "clip":
            return bert_states(self.model.embeddings, self.model.encoder.layer, ids, seen)
        output = self.model(input_ids=ids, attention_mask=seen.long(), output_hidden_states=True)
        return (*output.hidden_states[:-1], output.last_hidden_state)  # the last one with its final norm

    def _sentence_token(self, tokens: Tensor, mask: Tensor) -> Tensor:
        if self.family != "clip":
            return tokens[:, 0]
        end = mask.sum(dim=1) - 1  # CLIP attends to the left only: its end-of-text token has seen all
        return tokens[torch.arange(len(tokens), device=tokens.device), end]

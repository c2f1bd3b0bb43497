"""The embedded text encoder: a small BERT over this package's vocabulary, trained with the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from .tokenizer import EmbeddedTokenizer

_POSITIONS = 128  # of every embedded encoder up to this many tokens, so that max_tokens alters no weight


def pool_layers(hidden_states: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """Average the hidden states {1, 2, last} over the tokens of a mask, then over these layers.

    Args:
        hidden_states: Embedding output, then one `(B, L, D)` per layer.
        mask: Boolean `(B, L)`; True where a token counts, at least one in every row.

    Returns:
        `(B, D)`.
    """
    last = len(hidden_states) - 1
    layers = sorted({1, min(2, last), last})
    mean = torch.stack([hidden_states[layer] for layer in layers]).mean(dim=0)  # (B, L, D)
    weights = mask.to(mean.dtype).unsqueeze(-1)
    return (mean * weights).sum(dim=1) / weights.sum(dim=1)


def bert_states(
    embeddings: nn.Module, layers: nn.ModuleList, ids: Tensor, mask: Tensor
) -> tuple[Tensor, ...]:
    """Run the layers of a BERT one by one: the same numbers as the whole model, and easy to trace.

    Args:
        embeddings: The model's embeddings.
        layers: Its transformer layers.
        ids: Token ids `(B, L)`.
        mask: Boolean `(B, L)`; True where a token is attended to, at least one in every row.

    Returns:
        Embedding output, then every layer's output, each `(B, L, D)`.
    """
    states = [embeddings(input_ids=ids)]
    for layer in layers:
        states.append(layer(states[-1], mask[:, None, None, :]))
    return tuple(states)


class EmbeddedBackbone(nn.Module):
    """A BERT of `transformers` built from a config, without pooler, randomly initialised.

    Args:
        hidden_size: D, a multiple of `num_heads`.
        num_layers: Transformer layers, at least 1.
        num_heads: Attention heads.
        dropout: Of hidden states and attention, in [0, 1).
        max_tokens: The most tokens of a sentence.
        mask_padding: Whether padding is left out of attention and mean.

    Raises:
        ValueError: If a size is out of range.
    """

    def __init__(
        self,
        *,
        hidden_size: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.1,
        max_tokens: int = 24,
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        _check_sizes(hidden_size, num_layers, num_heads, dropout)
        tokenizer = EmbeddedTokenizer(max_tokens=max_tokens)
        self.hidden_size = hidden_size
        self.vocab_size = tokenizer.vocab_size
        self.mask_padding = mask_padding
        config = BertConfig(
            vocab_size=self.vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=4 * hidden_size,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            max_position_embeddings=max(_POSITIONS, max_tokens),
            type_vocab_size=1,
            pad_token_id=tokenizer.pad_id,
        )
        bert = BertModel(config, add_pooling_layer=False)
        self.embeddings, self.layers = bert.embeddings, bert.encoder.layer

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode ids `(B, L)` with their boolean mask `(B, L)`: tokens, pooled, summary."""
        seen = mask if self.mask_padding else torch.ones_like(mask)
        states = bert_states(self.embeddings, self.layers, ids, seen)
        return states[-1], pool_layers(states, seen), states[-1][:, 0]


def _check_sizes(hidden_size: int, num_layers: int, num_heads: int, dropout: float) -> None:
    if num_heads < 1 or hidden_size < num_heads or hidden_size % num_heads:
        raise ValueError(f"hidden_size must be a multiple of num_heads={num_heads}, got {hidden_size}")
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")

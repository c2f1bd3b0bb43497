"""Masked multi-head attention and the Interactor of MMI-UNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def usable_keys(key_mask: Tensor) -> Tensor:
    """Mark every key of a row usable when none of the row is, so that no softmax runs over nothing.

    Args:
        key_mask: `(B, S)` bool, True where a key is real.

    Returns:
        `(B, S)` bool with at least one True in each row.
    """
    return key_mask | ~key_mask.any(dim=1, keepdim=True)


def masked_mean(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Average tokens over the real ones: `(B, L, C)` and `(B, L)` to `(B, C)`.

    Args:
        tokens: `(B, L, C)`.
        mask: `(B, L)` bool, True where a token is real; None averages all, and so does a row without a real
            token.
    """
    if mask is None:
        return tokens.mean(dim=1)
    weights = usable_keys(mask).to(tokens.dtype)
    return (tokens * weights[:, :, None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)


def attention_weights(query: Tensor, key: Tensor, key_mask: Tensor | None = None) -> Tensor:
    """Softmax of the scaled dot products: `softmax(Q K^T / sqrt(d))`.

    Args:
        query: `(B, heads, T, d)`.
        key: `(B, heads, S, d)`.
        key_mask: `(B, S)` bool, True where a key is real; None means all.

    Returns:
        `(B, heads, T, S)` weights; each row sums to 1, and a masked key has weight 0.
    """
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    if key_mask is not None:
        scores = scores.masked_fill(~usable_keys(key_mask)[:, None, None, :], torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1)


class MultiHeadAttention(nn.Module):
    """Multi-head scaled dot-product attention that can ignore padded keys.

    Args:
        channels: width C of queries, keys, values and output; a multiple of `heads`.
        heads: number of heads.
        dropout: probability of dropping an attention weight in training, in [0, 1).

    Raises:
        ValueError: if `channels` is no multiple of `heads`.

    Reference:
        Vaswani et al., "Attention is all you need", 2017, section 3.2.2.
    """

    def __init__(self, channels: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(
                f"channels must be a multiple of heads, got {channels} channels and {heads} heads"
            )
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        key_mask: Tensor | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from `query` to `key`.

        Args:
            query: `(B, T, C)`.
            key: `(B, S, C)`.
            value: `(B, S, C)`.
            key_mask: `(B, S)` bool, True where a key is real; None means all.
            return_weights: also return the weights, without dropout.

        Returns:
            `(B, T, C)`, and `(B, heads, T, S)` weights or None.
        """
        q, k, v = self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        dropout = self.dropout if self.training else 0.0
        weights = None
        if return_weights:
            weights = attention_weights(q, k, key_mask)
            attended = F.dropout(weights, dropout, self.training) @ v
        else:
            mask = None if key_mask is None else usable_keys(key_mask)[:, None, None, :]
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.output(attended.transpose(1, 2).flatten(2)), weights

    def weights_over_queries(self, query: Tensor, key: Tensor) -> Tensor:
        """Say from where each key is looked at: the scores of `forward`, with a softmax over the queries.

        Args:
            query: `(B, T, C)`.
            key: `(B, S, C)`.

        Returns:
            `(B, heads, S, T)` weights, without dropout; each row sums to 1.
        """
        return attention_weights(self._split(self.key(key)), self._split(self.query(query)))

    def _split(self, tokens: Tensor) -> Tensor:
        # (B, T, C) -> (B, heads, T, C / heads)
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Interactor(nn.Module):
    """One post-norm transformer decoder layer: a target of tokens looks at itself, then at a memory.

    Args:
        channels: token width C.
        heads: attention heads.
        ffn_channels: hidden width of the feed-forward part.
        dropout: of attention weights and of each branch in training, in [0, 1).

    Reference:
        Bui et al., "MMI-UNet", Interactor of the image-text matching module.
    """

    def __init__(
        self, channels: int, *, heads: int = 8, ffn_channels: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(channels, heads, dropout=dropout)
        self.cross_attention = MultiHeadAttention(channels, heads, dropout=dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(channels, ffn_channels), nn.ReLU(inplace=True), nn.Linear(ffn_channels, channels)
        )
        self.self_norm = nn.LayerNorm(channels)
        self.cross_norm = nn.LayerNorm(channels)
        self.output_norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        target: Tensor,
        memory: Tensor,
        *,
        target_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Refine the target with the memory.

        Args:
            target: `(B, T, C)`.
            memory: `(B, S, C)`.
            target_mask: `(B, T)` bool, True where a target token is real; None means all.
            memory_mask: `(B, S)` bool, True where a memory token is real; None means all.
            return_attention: also return the cross-attention weights.

        Returns:
            `(B, T, C)`, and `(B, heads, T, S)` cross-attention weights or None.
        """
        attended, _ = self.self_attention(target, target, target, key_mask=target_mask)
        target = self.self_norm(target + self.dropout(attended))
        attended, weights = self.cross_attention(
            target, memory, memory, key_mask=memory_mask, return_weights=return_attention
        )
        target = self.cross_norm(target + self.dropout(attended))
        return self.output_norm(target + self.dropout(self.feed_forward(target))), weights

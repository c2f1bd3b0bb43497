"""Tokenizers: a sentence becomes a `(2, max_tokens)` tensor of token ids and attention mask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .wordpiece import END, PAD, START, embedded_coder

_CACHED_SENTENCES = 4096  # per tokenizer
_CACHED_LENGTH = 2048  # a longer sentence is encoded anew each time: the cache stays small


class Tokenizer(ABC):
    """What turns a sentence into the text tensor of a case.

    Every tokenizer keeps the encodings of the sentences it has seen (a bounded number), copies as itself,
    and can be pickled. Padding stands on the right. A sentence of more tokens than `max_tokens` is cut; the
    closing token, where the tokenizer has one, stays last. `is_truncated` tells; `encode` is silent.

    Args:
        name: What `build_tokenizer` was asked for.
        max_tokens: L, the length of every encoding, special tokens included.
    """

    pad_id: int
    vocab_size: int

    def __init__(self, name: str, *, max_tokens: int) -> None:
        self.name = name
        self.max_tokens = max_tokens
        self._cached = lru_cache(maxsize=_CACHED_SENTENCES)(self._tensor)

    @abstractmethod
    def token_ids(self, sentence: str, limit: int | None = None) -> list[int]:
        """The ids of a whole sentence, special tokens included, or at least the first `limit` + 1 of them."""

    @abstractmethod
    def decode(self, ids: Tensor | list[int]) -> str:
        """The text that ids stand for, special tokens left out.

        Args:
            ids: Token ids, `(L,)`, or an encoding, `(2, L)`.
        """

    @abstractmethod
    def fit(self, ids: list[int]) -> list[int]:
        """Cut ids to `max_tokens`, keeping the closing token last."""

    def encode(self, sentence: str | None) -> Tensor:
        """Encode one sentence.

        Args:
            sentence: Any string; None and "" are the empty prompt.

        Returns:
            int64 tensor `(2, max_tokens)`: token ids, then the attention mask (1 valid, 0 padding).

        Raises:
            TypeError: If the sentence is neither a string nor None.
        """
        if sentence is not None and not isinstance(sentence, str):
            raise TypeError(f"sentence must be a string or None, got {type(sentence).__name__}")
        text = sentence or ""
        if len(text) > _CACHED_LENGTH:
            return self._tensor(text)
        return self._cached(text).clone()

    def is_truncated(self, sentence: str | None) -> bool:
        """Whether `max_tokens` is too few for a sentence, so that its end is not encoded."""
        return len(self.token_ids(sentence or "", self.max_tokens)) > self.max_tokens

    def _tensor(self, sentence: str) -> Tensor:
        ids = self.fit(self.token_ids(sentence, self.max_tokens))
        encoding = torch.tensor([[self.pad_id], [0]]).repeat(1, self.max_tokens)
        encoding[0, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        encoding[1, : len(ids)] = 1
        return encoding

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.name, self.max_tokens)


class EmbeddedTokenizer(Tokenizer):
    """WordPiece over the vocabulary of this package; `[CLS] … [SEP]`, the empty prompt `[CLS] [SEP]`.

    Args:
        max_tokens: Length of every encoding, at least 2.
    """

    def __init__(self, *, max_tokens: int = 24) -> None:
        super().__init__("embedded", max_tokens=max_tokens)
        self._coder = embedded_coder()
        self.vocab_size = len(self._coder.entries)
        self.pad_id = self._coder.ids[PAD]
        self._start, self._end = self._coder.ids[START], self._coder.ids[END]

    def token_ids(self, sentence: str, limit: int | None = None) -> list[int]:
        """The ids of a sentence between `[CLS]` and `[SEP]`."""
        return [self._start, *self._coder.encode(sentence, limit), self._end]

    def decode(self, ids: Tensor | list[int]) -> str:
        """The normal form of the encoded sentence (`wordpiece.normalise`), as far as it was encoded."""
        return self._coder.decode(token_list(ids))

    def fit(self, ids: list[int]) -> list[int]:
        """Cut ids to `max_tokens`, `[SEP]` last."""
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], self._end]


@lru_cache(maxsize=32)
def _build(name: str, max_tokens: int) -> Tokenizer:
    if name == "embedded":
        return EmbeddedTokenizer(max_tokens=max_tokens)
    if name == "zones":
        from .zone_tokenizer import ZoneTokenizer

        return ZoneTokenizer(max_tokens=max_tokens)
    from .huggingface_tokenizer import HuggingFaceTokenizer

    return HuggingFaceTokenizer(name, max_tokens=max_tokens)


def build_tokenizer(name: str = "embedded", *, max_tokens: int = 24) -> Tokenizer:
    """Build, or take again, the tokenizer of a text encoder.

    Args:
        name: "embedded" (this package's vocabulary), "zones" (the zones that the sentence reader finds), or
            a Hugging Face model: a local folder, or an id that is already in the local cache. Nothing is
            downloaded and no code of the model's author runs.
        max_tokens: Length of every encoding, special tokens included, at least 2.

    Returns:
        The tokenizer; the same arguments give the same object.

    Raises:
        TypeError: If `max_tokens` is not an integer or `name` not a string.
        ValueError: If `max_tokens` is below 2, or no tokenizer has that name.
    """
    if not isinstance(name, str):
        raise TypeError(f"name of a tokenizer must be a string, got {type(name).__name__}")
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        raise TypeError(f"max_tokens must be an integer, got {max_tokens!r}")
    if max_tokens < 2:
        raise ValueError(f"max_tokens must be at least 2, got {max_tokens}")
    return _build(name, max_tokens)


def _rebuild(name: str, max_tokens: int) -> Tokenizer:
    return build_tokenizer(name, max_tokens=max_tokens)


def token_list(ids: Tensor | list[int]) -> list[int]:
    """The valid ids of an encoding `(2, L)`, or the ids `(L,)` as they are, as a list."""
    if not isinstance(ids, Tensor):
        return list(ids)
    if ids.ndim == 2:
        ids = ids[0][ids[1].bool()]
    return [int(index) for index in ids.tolist()]

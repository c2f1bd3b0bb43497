"""Sentences and a frozen text model of real size for the benchmarks: no data and no weights needed."""

from __future__ import annotations

import json
import tempfile
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from common.text.encoder import TextEncoder
from common.text.tokenizer import build_tokenizer

MAX_TOKENS = 24
_CONFIG = {"model_type": "bert", "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12}
_PLACES = ("upper", "middle", "lower", "upper middle", "middle lower", "all")


def captions(count: int) -> list[str]:
    """Distinct captions of two lungs.

    Args:
        count: How many, at most 36.

    Raises:
        ValueError: If there are not so many.
    """
    every = [
        f"Bilateral pulmonary infection, two infected areas, {left} left lung and {right} right lung."
        for left, right in product(_PLACES, _PLACES)
    ]
    if not 1 <= count <= len(every):
        raise ValueError(f"count must be in 1 to {len(every)}, got {count}")
    return every[:count]


def caption_tensor(count: int, device: torch.device) -> Tensor:
    """Distinct captions as text tensors `(count, 2, MAX_TOKENS)`.

    Args:
        count: How many, at most 36.
        device: Where they lie.
    """
    tokenizer = build_tokenizer("embedded", max_tokens=MAX_TOKENS)
    return torch.stack([tokenizer.encode(caption) for caption in captions(count)]).to(device)


def bert_encoder(*, seed: int = 0, cache_size: int = 1024) -> TextEncoder:
    """A frozen BERT-base (12 layers, 768 wide) of random weights.

    Args:
        seed: Of the weights.
        cache_size: Sentences kept.
    """
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        Path(folder, "config.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
        torch.manual_seed(seed)
        return TextEncoder(folder, pretrained=False, max_tokens=MAX_TOKENS, cache_size=cache_size)


def batches(texts: Tensor, *, size: int, count: int, seed: int = 0) -> list[Tensor]:
    """Batches of sentences drawn with replacement.

    Args:
        texts: Text tensors `(N, 2, L)`.
        size: Sentences a batch.
        count: How many batches.
        seed: Of the draw.

    Returns:
        Tensors `(size, 2, L)`.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(texts), (count, size), generator=generator)
    return [texts[draw.to(texts.device)] for draw in draws]

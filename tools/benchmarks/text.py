"""Time of the text side alone: tokenising a sentence, and encoding a batch with the sentence cache."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import torch
from transformers import BertTokenizer

from common.text.tokenizer import build_tokenizer
from common.text.wordpiece import VOCABULARY_FILE
from tools.benchmarks.sentences import MAX_TOKENS, batches, bert_encoder, caption_tensor, captions
from tools.benchmarks.timing import comparison, interleaved_medians

TOLERANCE = 1e-4


def text_benchmarks(*, repeats: int = 5, batch_size: int = 32, sentences: int = 30) -> list[dict[str, Any]]:
    """Measure the tokenizer beside `transformers`' own, and the cached frozen encoder beside the plain one.

    Args:
        repeats: Rounds of each; medians are reported.
        batch_size: Sentences a batch.
        sentences: Distinct sentences, at most 36.

    Returns:
        Two rows.

    Raises:
        ArithmeticError: If cached features differ from fresh ones.
    """
    return [_tokenizing(repeats, sentences), _encoding(repeats, batch_size, sentences)]


def _tokenizing(repeats: int, sentences: int) -> dict[str, Any]:
    texts = captions(sentences) * 10
    ours, reference = (
        build_tokenizer("embedded", max_tokens=MAX_TOKENS),
        BertTokenizer(vocab=str(VOCABULARY_FILE)),
    )
    options = {"padding": "max_length", "truncation": True, "max_length": MAX_TOKENS, "return_tensors": "pt"}
    seconds = interleaved_medians(
        lambda: [ours.encode(text) for text in texts],
        lambda: [reference(text, **options) for text in texts],
        repeats=repeats,
    )
    return comparison(
        "tokenize_sentence",
        (seconds[0] / len(texts), seconds[1] / len(texts)),
        sizes={"sentences": len(texts), "distinct": sentences, "tokens": MAX_TOKENS, "repeats": repeats},
        device=torch.device("cpu"),
        unit="us per sentence",
        scale=1e6,
    )


def _encoding(repeats: int, batch_size: int, sentences: int) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = bert_encoder()
    plain = encoder.backbone.backbone.to(device)
    texts = caption_tensor(sentences, device)
    with torch.no_grad():
        fresh = plain(texts[:, 0], texts[:, 1].bool())[0]
    difference = float((encoder(texts).tokens - fresh).abs().max())
    if difference > TOLERANCE:
        raise ArithmeticError(f"cached features must equal fresh ones, got a difference of {difference}")
    drawn = batches(texts, size=batch_size, count=repeats + 1)
    ours, reference = cycle(drawn), cycle(drawn)

    def encode_plainly() -> None:
        text = next(reference)
        with torch.no_grad():
            plain(text[:, 0], text[:, 1].bool())

    seconds = interleaved_medians(lambda: encoder(next(ours)), encode_plainly, repeats=repeats)
    sizes = {
        "batch": batch_size,
        "sentences": sentences,
        "layers": 12,
        "tokens": MAX_TOKENS,
        "repeats": repeats,
    }
    row = comparison("encode_batch", seconds, sizes=sizes, device=device, unit="ms per batch", scale=1e3)
    return row | {"difference": difference}

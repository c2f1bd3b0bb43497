"""Time of a training step whose frozen text encoder keeps its sentences, beside one that runs it each time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.text.encoder import SentenceProjection
from common.text.tokenizer import build_tokenizer
from tools.benchmarks.sentences import MAX_TOKENS, batches, bert_encoder, captions
from tools.benchmarks.timing import comparison, interleaved_medians

Pooled = Callable[[Tensor], Tensor]


class SmallSegmenter(nn.Module):
    """A convolutional network that a sentence modulates: the trainable part of the measured step.

    Args:
        width: Channels.
        sentence_size: D of the text encoder.
    """

    def __init__(self, *, width: int = 32, sentence_size: int = 768) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self.sentence = SentenceProjection(sentence_size, width)
        self.decode = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, 1, 1))

    def forward(self, image: Tensor, pooled: Tensor) -> Tensor:
        """Logits `(B, 1, H, W)` of images `(B, 3, H, W)` and pooled sentence features `(B, D)`."""
        features = self.encode(image) * (1 + self.sentence(pooled)[:, :, None, None])
        return F.interpolate(self.decode(features), size=image.shape[-2:], mode="bilinear")


def step_benchmarks(
    *, repeats: int = 7, batch_size: int = 32, sentences: int = 30, image_size: int = 224
) -> list[dict[str, Any]]:
    """Measure one training step with a frozen 12-layer BERT, with and without the sentence cache.

    A step is text encoding, forward, loss, backward and optimiser. Both ways share the model's weights and
    see the same batches; each trains its own copy of the network. The cache is warm, as it is after the
    first steps of a training.

    Args:
        repeats: Rounds of each; medians are reported.
        batch_size: Cases a batch.
        sentences: Distinct sentences, at most 36.
        image_size: Rows and columns.

    Returns:
        One row.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = bert_encoder()
    plain = encoder.backbone.backbone.to(device)
    tokenizer = build_tokenizer("embedded", max_tokens=MAX_TOKENS)
    texts = torch.stack([tokenizer.encode(text) for text in captions(sentences)]).to(device)
    encoder(texts)  # fills the cache

    def encode_plainly(text: Tensor) -> Tensor:
        with torch.no_grad():
            return plain(text[:, 0], text[:, 1].bool())[1]

    drawn = batches(texts, size=batch_size, count=repeats + 1)
    steps = [
        _training_step(pooled, drawn, image_size=image_size, device=device)
        for pooled in (lambda text: encoder(text).pooled, encode_plainly)
    ]
    seconds = interleaved_medians(steps[0], steps[1], repeats=repeats)
    sizes = {
        "batch": batch_size,
        "image": [image_size, image_size],
        "sentences": sentences,
        "layers": 12,
        "tokens": MAX_TOKENS,
        "repeats": repeats,
    }
    return [
        comparison(
            "training_step_frozen_bert", seconds, sizes=sizes, device=device, unit="ms per step", scale=1e3
        )
    ]


def _training_step(
    pooled: Pooled, texts: list[Tensor], *, image_size: int, device: torch.device
) -> Callable[[], None]:
    """A function that runs the next training step of a fresh network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SmallSegmenter().to(device)
        images = torch.randn(len(texts[0]), 3, image_size, image_size).to(device)
    labels = (images[:, :1] > 1).float()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4)
    endless = cycle(texts)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = network(images, pooled(next(endless)))
        F.binary_cross_entropy_with_logits(logits, labels).backward()
        optimizer.step()

    return step

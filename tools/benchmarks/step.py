"""Time of a training step whose frozen text encoder keeps its sentences, beside one that runs it each time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.text.encoder import SentenceProjection
from tools.benchmarks.sentences import MAX_TOKENS, batches, bert_encoder, caption_tensor
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
    *, repeats: int = 5, batch_size: int = 32, sentences: int = 30, image_size: int = 112
) -> list[dict[str, Any]]:
    """Measure one training step with a frozen 12-layer BERT, with and without the sentence cache.

    A step is text encoding, forward, loss, backward and optimiser. Both ways share the text model and see
    the same batches; each trains its own network. The cache is warm, as after the first steps of a training.

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
    texts = caption_tensor(sentences, device)
    encoder(texts)  # fills the cache

    def encode_plainly(text: Tensor) -> Tensor:
        with torch.no_grad():
            return plain(text[:, 0], text[:, 1].bool())[1]

    drawn = batches(texts, size=batch_size, count=repeats + 1)
    cached, uncached = (
        _training_step(pooled, drawn, image_size=image_size, device=device)
        for pooled in (lambda text: encoder(text).pooled, encode_plainly)
    )
    seconds = interleaved_medians(cached, uncached, repeats=repeats)
    sizes = {"batch": batch_size, "image": [image_size] * 2, "sentences": sentences, "layers": 12}
    sizes |= {"tokens": MAX_TOKENS, "repeats": repeats}
    name = "training_step_frozen_bert"
    return [comparison(name, seconds, sizes=sizes, device=device, unit="ms per step", scale=1e3)]


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

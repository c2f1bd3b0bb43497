"""Whether image vectors find their sentences: the validation of contrastive pretraining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine
from ignite.metrics import Metric
from torch import Tensor
from torch.nn import functional as F

from ..losses import centred_sentences
from .clusters import silhouette

SCORES = ("sentence_mrr", "sentence_recall_1", "sentence_recall_5", "sentence_silhouette")

_Row = tuple[str, str, Tensor, Tensor]  # id, sentence, image vector, sentence vector


def sentence_ranks(image: Tensor, text: Tensor, sentences: Sequence[str]) -> Tensor:
    """Rank of each image's own sentence among the distinct sentences, by cosine similarity.

    Cases with the same sentence are no rivals: it is one candidate, with the mean of their sentence vectors. Of
    candidates that are equally similar the own one takes the middle place, so that vectors which say nothing
    rank like chance.

    Args:
        image: `(n, D)`.
        text: `(n, D)`; row `i` belongs to row `i` of `image`.
        sentences: one per row.

    Returns:
        `(n,)` float64, from 1 to the number of distinct sentences.

    Raises:
        ValueError: if there is no row, or the shapes do not fit each other.
    """
    if image.ndim != 2 or image.shape != text.shape or len(sentences) != len(image) or not len(image):
        raise ValueError(
            "image and text must be (n, D) with one sentence per row and n > 0, got "
            f"{tuple(image.shape)}, {tuple(text.shape)} and {len(sentences)} sentences."
        )
    known = {sentence: number for number, sentence in enumerate(dict.fromkeys(sentences))}
    own = torch.tensor([known[sentence] for sentence in sentences], device=image.device)
    unit = F.normalize(text.double(), dim=1)
    candidates = F.normalize(unit.new_zeros(len(known), unit.shape[1]).index_add(0, own, unit), dim=1)
    scores = F.normalize(image.double(), dim=1) @ candidates.T
    reached = scores.gather(1, own[:, None])
    better = (scores > reached).sum(dim=1).double()
    equal = (scores == reached).sum(dim=1).double() - 1
    return 1 + better + equal / 2


def retrieval_scores(
    image: Tensor, text: Tensor, sentences: Sequence[str], *, center_text: bool = False
) -> dict[str, float]:
    """Summarise how images find their sentences and how images of one sentence keep together.

    Args:
        image: `(n, D)` image vectors.
        text: `(n, D)` sentence vectors.
        sentences: one per row; a blank one is a case without a sentence and is left out.
        center_text: whether `common.losses.centred_sentences` stand for the sentence vectors, as in the training.

    Returns:
        ``sentence_mrr``, the mean of 1 / rank, in (0, 1]; ``sentence_recall_1`` and ``sentence_recall_5``, the
        share of ranks up to 1 and 5; and, where at least two sentences differ, ``sentence_silhouette`` of the
        image vectors by sentence (cosine distance), in [-1, 1]. See `sentence_ranks` and `silhouette`.

    Raises:
        ValueError: if no case has a sentence, or the shapes do not fit each other.
    """
    spoken = [place for place, sentence in enumerate(sentences) if sentence and sentence.strip()]
    if not spoken:
        raise ValueError(
            f"sentences must hold at least one that is not blank, got {len(sentences)} blank ones: contrastive "
            "pretraining is validated on images with sentences."
        )
    chosen = [sentences[place] for place in spoken]
    vectors = centred_sentences(text[spoken]) if center_text else text[spoken]
    ranks = sentence_ranks(image[spoken], vectors, chosen)
    scores = {
        "sentence_mrr": float((1 / ranks).mean()),
        "sentence_recall_1": float((ranks <= 1).double().mean()),
        "sentence_recall_5": float((ranks <= 5).double().mean()),
    }
    if len(set(chosen)) > 1:
        scores["sentence_silhouette"] = silhouette(image[spoken], chosen)
    return scores


class SentenceRetrieval(Metric):
    """Collects the vectors of a validation and puts `retrieval_scores` of all processes into the metrics.

    Attach it under the name of the score that is to choose the weights, as ``key_val_metric`` of an evaluator:
    ``{"sentence_mrr": SentenceRetrieval()}``. The other scores stand beside it in ``engine.state.metrics``. It reads
    ``id`` and ``sentence`` of the batch, and ``image_vector`` and ``sentence_vector`` of the output's ``pred``,
    not decollated. A case that a sampler repeated counts once.

    Args:
        center_text: see `retrieval_scores`.
    """

    def __init__(self, *, center_text: bool = False) -> None:
        self.center_text = center_text
        self._rows: list[_Row] = []
        super().__init__()

    def reset(self) -> None:
        """Forget all vectors."""
        self._rows = []

    def attach(self, engine: Engine, name: str, *args: Any, **kwargs: Any) -> None:
        """Register with an evaluator.

        Raises:
            ValueError: if `name` is none of the scores.
        """
        if name not in SCORES:
            raise ValueError(f"name must be one of {', '.join(SCORES)}, got {name!r}.")
        super().attach(engine, name, *args, **kwargs)

    def iteration_completed(self, engine: Engine) -> None:
        """Add the cases of the batch that `engine` has just processed."""
        self.update((engine.state.batch, engine.state.output["pred"]))

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Tensor]]) -> None:
        """Add cases.

        Args:
            output: a batch with ``sentence`` and perhaps ``id``, and the vectors `(B, D)` of its cases.
        """
        batch, vectors = output
        image, text = (vectors[name].detach().float().cpu() for name in ("image_vector", "sentence_vector"))
        names = batch.get("id", [""] * len(image))
        self._rows += zip(map(str, names), batch["sentence"], image, text, strict=True)

    def compute(self) -> dict[str, float]:
        """Return the scores of all processes; must be called in every one of them."""
        rows = _distinct(_gather(self._rows))
        if not rows:
            raise ValueError("there must be at least one case to validate with, got none.")
        _, sentences, image, text = zip(*rows, strict=True)
        vectors = torch.stack(image), torch.stack(text)
        return retrieval_scores(*vectors, sentences, center_text=self.center_text)

    def completed(self, engine: Engine, name: str) -> None:
        """Put every score into the engine's metrics."""
        engine.state.metrics.update(self.compute())


def _gather(rows: list[_Row]) -> list[_Row]:
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    tables: list[list[_Row]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(tables, rows)
    return [row for table in tables for row in table]


def _distinct(rows: list[_Row]) -> list[_Row]:
    named: dict[str, _Row] = {}
    for row in rows:
        named.setdefault(row[0], row)
    return [*(row for row in rows if not row[0]), *(row for name, row in named.items() if name)]

"""Ranks of sentences by hand, and the scores of a validation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ignite.engine import Engine
from torch import Tensor
from torch.testing import assert_close

from common.metrics import SentenceRetrieval, retrieval_scores, sentence_ranks, silhouette

SENTENCES = ["left", "right", "left", "both"]


def sentence_vectors(sentences: list[str]) -> Tensor:
    known = sorted(set(sentences))
    return torch.eye(len(known))[[known.index(sentence) for sentence in sentences]]


def test_ranks_by_hand() -> None:
    # columns: both, left, right
    image = torch.tensor([[0.1, 0.9, 0.2], [0.5, 0.4, 0.3], [0.9, 0.8, 0.0], [0.0, 0.1, 0.2]])
    ranks = sentence_ranks(image, sentence_vectors(SENTENCES), SENTENCES)
    assert ranks.tolist() == [1, 3, 2, 3]


def test_equal_sentences_are_one_candidate() -> None:
    image = torch.tensor([[0.5, 0.8]] * 5)
    sentences = ["b"] * 4 + ["a"]
    ranks = sentence_ranks(image, sentence_vectors(sentences), sentences)
    assert ranks.tolist() == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("image", [torch.zeros(4, 3), torch.ones(4, 3)])
def test_vectors_that_say_nothing_take_the_middle_rank(image: Tensor) -> None:
    assert sentence_ranks(image, sentence_vectors(SENTENCES), SENTENCES).tolist() == [2, 2, 2, 2]


def test_norms_do_not_matter() -> None:
    torch.manual_seed(0)
    image, text = torch.randn(4, 3), sentence_vectors(SENTENCES)
    scales = torch.tensor([[1.0], [5.0], [0.1], [100.0]])
    assert_close(sentence_ranks(image * scales, text * 7, SENTENCES), sentence_ranks(image, text, SENTENCES))


def test_scores_by_hand() -> None:
    image = torch.tensor([[0.1, 0.9, 0.2], [0.5, 0.4, 0.3], [0.9, 0.8, 0.0], [0.0, 0.1, 0.2]])
    scores = retrieval_scores(image, sentence_vectors(SENTENCES), SENTENCES)
    assert scores == pytest.approx(
        {
            "sentence_mrr": (1 + 1 / 3 + 1 / 2 + 1 / 3) / 4,
            "sentence_recall_1": 0.25,
            "sentence_recall_5": 1.0,
            "sentence_silhouette": silhouette(image, SENTENCES),
        }
    )


def test_cases_without_a_sentence_are_left_out() -> None:
    torch.manual_seed(0)
    image = torch.randn(6, 3)
    text = torch.cat([sentence_vectors(SENTENCES), torch.ones(2, 3)])
    scores = retrieval_scores(image, text, [*SENTENCES, "", "  "])
    assert scores == pytest.approx(retrieval_scores(image[:4], text[:4], SENTENCES))


def test_a_single_sentence_is_always_found_and_has_no_silhouette() -> None:
    scores = retrieval_scores(torch.randn(3, 2), torch.ones(3, 2), ["left"] * 3)
    assert scores == {"sentence_mrr": 1.0, "sentence_recall_1": 1.0, "sentence_recall_5": 1.0}


def batches(size: int, *, repeat: bool = False) -> tuple[list[dict], Callable[[dict], dict]]:
    """Cases in batches, one of them perhaps twice, and the step of an engine that hands out their vectors."""
    torch.manual_seed(0)
    image, text = torch.randn(4, 3), sentence_vectors(SENTENCES)
    places = [0, 1, 2, 3] + ([0] if repeat else [])
    data = [
        {"id": [f"c{i}" for i in chunk], "sentence": [SENTENCES[i] for i in chunk], "places": chunk}
        for chunk in (places[start : start + size] for start in range(0, len(places), size))
    ]

    def step(batch: dict) -> dict:
        return {"pred": {"image_vector": image[batch["places"]], "sentence_vector": text[batch["places"]]}}

    return data, step


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("repeat", [False, True])
def test_an_engine_has_the_scores_of_the_whole_set_in_every_epoch(size: int, repeat: bool) -> None:
    data, step = batches(size, repeat=repeat)
    whole, _ = batches(4)
    expected = retrieval_scores(*step(whole[0])["pred"].values(), SENTENCES)
    engine = Engine(lambda _, batch: step(batch))
    SentenceRetrieval().attach(engine, "sentence_mrr")
    for epochs in (1, 2):
        engine.run(data, max_epochs=epochs)
        assert engine.state.metrics == pytest.approx(expected)


def test_the_rows_of_all_processes_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks have two cases each; the sampler gave rank 1 one of rank 0's again."""
    parts, step = batches(2)
    metrics = []
    for part in parts:
        metric = SentenceRetrieval()
        metric.update((part, step(part)["pred"]))
        metrics.append(metric)
    metrics[1].update((parts[0], step(parts[0])["pred"]))
    tables = [list(metric._rows) for metric in metrics]
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr(
        "torch.distributed.all_gather_object", lambda out, rows: out.__setitem__(slice(None), tables)
    )
    whole, _ = batches(4)
    expected = retrieval_scores(*step(whole[0])["pred"].values(), SENTENCES)
    assert metrics[0].compute() == pytest.approx(expected)
    assert metrics[1].compute() == pytest.approx(expected)


def test_wrong_arguments() -> None:
    with pytest.raises(
        ValueError, match="sentences must hold at least one that is not blank, got 2 blank ones"
    ):
        retrieval_scores(torch.zeros(2, 3), torch.zeros(2, 3), ["", " "])
    with pytest.raises(ValueError, match=r"got \(2, 3\), \(2, 4\) and 2 sentences"):
        sentence_ranks(torch.zeros(2, 3), torch.zeros(2, 4), ["a", "b"])
    with pytest.raises(ValueError, match=r"name must be one of sentence_mrr, .*, got 'loss'"):
        SentenceRetrieval().attach(Engine(lambda engine, batch: None), "loss")
    with pytest.raises(ValueError, match="at least one case to validate with, got none"):
        SentenceRetrieval().compute()


def test_centred_sentences_tell_apart_what_they_share_less() -> None:
    """What all sentences share is taken off, over the cases that have one."""
    image = torch.eye(3)
    text = torch.tensor([[9.0, 8.0, 8.0], [8.0, 9.5, 8.0], [8.0, 8.0, 14.0]])
    sentences = ["a", "b", "c"]
    centred = retrieval_scores(image, text, sentences, center_text=True)
    assert centred["sentence_mrr"] == 1.0
    blank = retrieval_scores(
        torch.cat([image, image[:1]]), torch.cat([text, text[:1] * 5]), [*sentences, " "], center_text=True
    )
    assert blank == centred

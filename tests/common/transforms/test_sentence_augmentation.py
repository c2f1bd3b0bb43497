"""Sentences that lose their words of place in training: which, how often, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from common.data import CaseDataset
from common.text import read_findings
from common.text.laterality import mirror_sentence
from common.text.rewording import drop_position
from common.transforms import RandDropPositiond, TokenizeTextd, flat_compose, text_safe_augmentation

SENTENCE = "Unilateral pulmonary infection, one infected area, upper left lung."
OPTIONS = {"image_size": 32, "zoom": 0.5, "affine": 0.5, "intensity": 0.5, "mirror": 0.5}


def made_case(text: str | None = SENTENCE, name: str = "a") -> dict[str, Any]:
    mask = torch.zeros(1, 32, 32)
    mask[:, 4:16, 4:12] = 1
    return {"image": MetaTensor(mask.expand(3, 32, 32) * 2 - 0.5), "label": mask, "text": text, "id": name}


def prepared(text: str | None = SENTENCE) -> dict[str, Any]:
    return TokenizeTextd()(made_case(text))


def test_words_of_place_go_and_the_tokens_follow() -> None:
    original = prepared()
    case = RandDropPositiond(TokenizeTextd(), prob=1.0)(original)
    assert case["sentence"] == drop_position(SENTENCE)
    read = read_findings(case["sentence"])
    assert (read.zones, read.side, read.count) == (frozenset(), None, 1)
    expected = TokenizeTextd().encode(case["sentence"])
    assert torch.equal(case["text"], expected)
    assert torch.equal(case["image"].meta["text"], expected)
    assert torch.equal(case["image"].as_tensor(), original["image"].as_tensor())
    assert case["label"] is original["label"]
    assert original["sentence"] == SENTENCE  # the cached case is not changed
    assert not torch.equal(original["text"], expected)


@pytest.mark.parametrize("text", ["", "   ", None])
def test_a_blank_sentence_stays_blank(text: str | None) -> None:
    original = prepared(text)
    case = RandDropPositiond(TokenizeTextd(), prob=1.0)(original)
    assert case["sentence"] == original["sentence"]
    assert torch.equal(case["text"], original["text"])


def test_a_share_of_the_sentences_is_drawn() -> None:
    drop, case = RandDropPositiond(TokenizeTextd(), prob=0.3), prepared()
    drop.set_random_state(0)
    dropped = [drop(case)["sentence"] != SENTENCE for _ in range(2000)]
    assert sum(dropped) / len(dropped) == pytest.approx(0.3, abs=0.03)


def test_the_other_draws_stay_as_they_were() -> None:
    data = [made_case(name=str(k)) for k in range(6)]
    sets = [
        CaseDataset(
            data,
            flat_compose([TokenizeTextd(), text_safe_augmentation(**OPTIONS, position_dropout=share)]),
            seed=3,
            progress=False,
        )
        for share in (0.0, 0.5)
    ]
    seen: dict[int, set[str]] = {}
    for epoch in range(8):
        for one in sets:
            one.set_epoch(epoch)
        for k in range(len(data)):
            with_places, case = sets[0][k], sets[1][k]
            assert torch.equal(case["image"].as_tensor(), with_places["image"].as_tensor())
            assert torch.equal(torch.as_tensor(case["label"]), torch.as_tensor(with_places["label"]))
            assert with_places["sentence"] in (SENTENCE, mirror_sentence(SENTENCE))
            assert case["sentence"] in (with_places["sentence"], drop_position(SENTENCE))
            seen.setdefault(k, set()).add(case["sentence"])
    assert all(len(sentences) > 1 for sentences in seen.values())  # drawn anew in every epoch
    assert sum(drop_position(SENTENCE) in sentences for sentences in seen.values()) == len(data)
    sets[1].set_epoch(5)
    first = [sets[1][k]["sentence"] for k in range(len(data))]
    assert [sets[1][k]["sentence"] for k in range(len(data))] == first


def test_it_is_off_by_default_and_comes_last() -> None:
    names = [type(step).__name__ for step in text_safe_augmentation(**OPTIONS)]
    more = [type(step).__name__ for step in text_safe_augmentation(**OPTIONS, position_dropout=0.1)]
    assert more == [*names, "RandDropPositiond"]


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_the_share_is_a_probability(value: float) -> None:
    with pytest.raises(ValueError, match="position_dropout must be a probability between 0 and 1, got"):
        text_safe_augmentation(image_size=32, position_dropout=value)

"""The cases that a contrastive pretraining is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.data import load_cases, spoken_cases
from common.data.phantom_chest import write_phantom_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_phantom_dataset(tmp_path, count=20, size=32, seed=1)
    return tmp_path


def rewrite(folder: Path, sentence: str | None, *, keep: int = 0) -> Path:
    path = folder / "dataset.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for case in document["training"][keep:]:
        if sentence is None:
            del case["text"]
        else:
            case["text"] = sentence
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_they_are_the_cases_with_a_sentence(folder: Path) -> None:
    path = folder / "dataset.json"
    every = load_cases(path, "training")
    spoken = [case for case in every if case["text"].strip()]
    assert [case["id"] for case in spoken_cases(path, "training")] == [case["id"] for case in spoken]
    rewrite(folder, "  ", keep=5)
    kept = [case["id"] for case in spoken_cases(path, "training")]
    assert kept == [case["id"] for case in every[:5] if case["text"].strip()]


@pytest.mark.parametrize(("sentence", "count"), [("", 0), (None, 0), ("always the same", 1)])
def test_too_few_sentences_are_refused(folder: Path, sentence: str | None, count: int) -> None:
    path = rewrite(folder, sentence)
    message = (
        rf"training in dataset\.json must hold at least two different sentences .* got {count} in 14 cases"
    )
    with pytest.raises(ValueError, match=message):
        spoken_cases(path, "training")

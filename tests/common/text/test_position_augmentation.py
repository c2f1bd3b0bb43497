"""Sentences that lose their place, or words."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.text.findings import read_findings
from common.text.position_augmentation import PositionAugmentation, WordAugmentation
from common.text.position_phrases import position_phrases
from common.text.tokenizer import build_tokenizer

CAPTION = "Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung."
DROPPED = "Bilateral pulmonary infection, two infected areas, [UNK_POS]."
BLURRED = "Bilateral pulmonary infection, two infected areas, a region of the lung."
DRAWS = 20_000
REPORTS = st.builds(
    "{} in {}.".format,
    st.sampled_from(["Opacity", "patchy airspace disease", "No nodule", "Two masses"]),
    st.sampled_from(
        [
            "the left lower lobe",
            "both bases",
            "RUL",
            "upper and middle left lung",
            "the right mid zone and LUL",
        ]
    ),
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# place


@pytest.mark.parametrize(
    ("sentence", "dropped", "blurred"),
    [
        (CAPTION, DROPPED, BLURRED),
        (
            "Patchy opacity in the left lower lobe, new.",
            "Patchy opacity in [UNK_POS], new.",
            "Patchy opacity in a region of the lung, new.",
        ),
        ("The left lung is hazy.", "[UNK_POS] is hazy.", "A region of the lung is hazy."),
        ("RUL nodule. LLL mass.", "[UNK_POS] nodule. [UNK_POS] mass.", None),
        (
            "two small polyp, located in top left, center of the image",
            "two small polyp, located in [UNK_POS]",
            "two small polyp, located in a region of the colon",
        ),
        ("No opacity in the right lung.", "No opacity in [UNK_POS].", "No opacity in a region of the lung."),
        ("Large left ventricle.", "Large left ventricle.", "Large left ventricle."),
        ("Bilateral  pneumonia.", "Bilateral  pneumonia.", "Bilateral  pneumonia."),
        ("", "", ""),
    ],
)
def test_every_phrase_is_replaced(sentence: str, dropped: str, blurred: str | None) -> None:
    assert PositionAugmentation(1, 1)(sentence, generator=generator()) == dropped
    if blurred is not None:
        assert PositionAugmentation(1, 0)(sentence, generator=generator()) == blurred


@pytest.mark.parametrize(("probability", "drop_share"), [(0.5, 0.5), (0.3, 0.2), (1.0, 0.9)])
def test_frequencies(probability: float, drop_share: float) -> None:
    augment, draws = PositionAugmentation(probability, drop_share), generator(7)
    seen = Counter(augment(CAPTION, generator=draws) for _ in range(DRAWS))
    expected = {
        CAPTION: 1 - probability,
        DROPPED: probability * drop_share,
        BLURRED: probability * (1 - drop_share),
    }
    assert set(seen) <= set(expected)
    for sentence, share in expected.items():
        assert seen[sentence] / DRAWS == pytest.approx(share, abs=0.01)


def test_never_and_always() -> None:
    draws = generator()
    assert {PositionAugmentation(0)(CAPTION, generator=draws) for _ in range(50)} == {CAPTION}
    assert {PositionAugmentation(1, 1)(CAPTION, generator=draws) for _ in range(50)} == {DROPPED}


def test_what_is_drawn_does_not_depend_on_the_sentence() -> None:
    first, second = generator(3), generator(3)
    for sentence in (CAPTION, "", "Pneumonia.", "RUL nodule."):
        PositionAugmentation()(sentence, generator=first)
        PositionAugmentation(1, 1)(CAPTION, generator=second)
    assert first.random() == second.random()


def test_own_words() -> None:
    augment = PositionAugmentation(1, 0, fuzzy="somewhere", polyp_fuzzy="some place")
    assert augment("RUL nodule.", generator=generator()) == "Somewhere nodule."
    assert augment("polyp at top left", generator=generator()) == "polyp at some place"


@pytest.mark.parametrize("name", ["qata", "mosmed", "polyps"])
@pytest.mark.parametrize("drop_share", [0, 1])
def test_real_captions_lose_every_phrase_and_fit_24_tokens(
    caption_files: dict[str, list[str]], name: str, drop_share: float
) -> None:
    tokenizer = build_tokenizer("embedded", max_tokens=24)
    for caption in caption_files[name]:
        augmented = PositionAugmentation(1, drop_share)(caption, generator=generator())
        before, after = read_findings(caption), read_findings(augmented)
        assert not position_phrases(augmented), augmented
        assert (augmented != caption) == bool(position_phrases(caption))
        assert (after.count, after.negated, after.anatomy) == (before.count, before.negated, before.anatomy)
        assert not tokenizer.is_truncated(augmented)


@settings(max_examples=200, deadline=None)
@given(st.lists(REPORTS, min_size=1, max_size=3), st.sampled_from([0, 1]))
def test_reports_lose_every_phrase(reports: list[str], drop_share: float) -> None:
    sentence = " ".join(reports)
    augmented = PositionAugmentation(1, drop_share)(sentence, generator=generator())
    assert not position_phrases(augmented), augmented
    assert read_findings(augmented).zones == frozenset()
    assert augmented.count(" in ") == sentence.count(" in ")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.integers(0, 9))
def test_any_text_can_be_augmented(sentence: str, seed: int) -> None:
    for augment in (PositionAugmentation(), WordAugmentation()):
        first = augment(sentence, generator=generator(seed))
        assert first == augment(sentence, generator=generator(seed))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": 1.1}, r"probability must be in \[0, 1\], got 1.1"),
        ({"probability": float("nan")}, r"probability must be in \[0, 1\], got nan"),
        ({"drop_share": -0.5}, r"drop_share must be in \[0, 1\], got -0.5"),
        ({"fuzzy": "the left lung"}, "fuzzy must be a phrase that names no side and no level, got 'the left"),
        ({"unknown": "RUL"}, "unknown must be a phrase that names no side and no level, got 'RUL'"),
        ({"polyp_fuzzy": "the bottom"}, "polyp_fuzzy must be a phrase that names no side"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PositionAugmentation(**arguments)  # type: ignore[arg-type]


# words


def naive(words: list[str], hits: list[bool], drops: list[bool]) -> list[str]:
    """Mark what is lost, then swap from the first to the last word."""
    order = [
        (word, hit and not drop, hit and drop) for word, hit, drop in zip(words, hits, drops, strict=True)
    ]
    place = 0
    while place < len(order) - 1:
        if order[place][1]:
            last = place
            while last < len(order) and order[last][1]:
                last += 1
            if last < len(order):  # the word that those before it are swapped with
                order[place : last + 1] = [order[last], *order[place:last]]
            place = last
        place += 1
    return [word for word, _, lost in order if not lost]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 12), st.floats(0, 1), st.integers(0, 99))
def test_words_are_lost_or_swapped_as_drawn(length: int, probability: float, seed: int) -> None:
    words = [f"w{index}" for index in range(length)]
    hits, kinds = generator(seed).random((2, length))
    expected = naive(words, (hits < probability).tolist(), (kinds < 0.5).tolist())
    sentence = " ".join(words)
    augmented = WordAugmentation(probability)(sentence, generator=generator(seed))
    assert augmented == (" ".join(expected) or sentence)


def test_share_of_words_hit() -> None:
    length = DRAWS
    words = [str(index) for index in range(length)]
    kept = WordAugmentation()(" ".join(words), generator=generator()).split()
    assert 1 - len(kept) / length == pytest.approx(0.05, abs=0.01)
    swapped = sum(int(a) > int(b) for a, b in pairwise(kept))
    assert swapped / length == pytest.approx(0.045, abs=0.01)  # a few of them swap with a word that is lost


def test_nothing_hit_keeps_the_spaces() -> None:
    assert WordAugmentation(0)("RUL  nodule ", generator=generator()) == "RUL  nodule "


def test_one_word_stays() -> None:
    assert {WordAugmentation(1)("Pneumonia", generator=generator(seed)) for seed in range(20)} == {
        "Pneumonia"
    }


def test_wrong_probability_of_words_is_named() -> None:
    with pytest.raises(ValueError, match=r"probability must be in \[0, 1\], got 2"):
        WordAugmentation(2)

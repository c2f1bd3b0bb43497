"""Perturbations of sentences and of lists of cases."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.text.findings import read_findings
from common.text.laterality import mirror_sentence
from common.text.perturbation import (
    PERTURBATIONS,
    add_typos,
    exchange_sentences,
    perturb_cases,
    perturb_sentence,
)
from common.text.rewording import abbreviate, drop_position, miscount, paraphrase
from common.text.tokenizer import build_tokenizer
from common.text.zones import LUNG_ZONES

CAPTION = "Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung."
SENTENCES = (
    CAPTION,
    "Unilateral pulmonary infection, one infected area, all left lung.",
    "Unilateral pulmonary infection, three infected areas, upper lower right lung.",
    "No pulmonary infection, zero infected areas.",
    "Patchy airspace opacity in the left lower lobe.",
    "RUL consolidation.",
    "Multifocal GGO bilaterally.",
    "one small white round polyp, located in top left of the image",
    "two medium pink oval polyp, located in center, bottom right of the image",
)


def cases_of(*sentences):
    return [{"id": f"case_{index}", "image": "x.png", "text": text} for index, text in enumerate(sentences)]


def texts(cases):
    return [case["text"] for case in cases]


# lists of cases


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_cases_are_copied_and_seeded(kind):
    cases = [*cases_of(*SENTENCES, None, ""), {"id": "last", "image": "y.png"}]
    before = copy.deepcopy(cases)
    first, again = perturb_cases(cases, kind, seed=4), perturb_cases(cases, kind, seed=4)
    assert cases == before
    assert first == again
    assert [case["id"] for case in first] == [case["id"] for case in cases]
    assert all(isinstance(case["text"], str) for case in first[: len(SENTENCES)])
    assert [case.get("text") for case in first[len(SENTENCES) :]] == [None, "", None]
    assert "text" not in first[-1]


@pytest.mark.parametrize("kind", [kind for kind in PERTURBATIONS if kind != "other"])
def test_a_case_is_perturbed_alike_in_any_list(kind):
    cases = cases_of(*SENTENCES)
    assert perturb_cases(cases[3:], kind, seed=1) == perturb_cases(cases, kind, seed=1)[3:]


@pytest.mark.parametrize("kind", ["typos_05", "typos_20", "paraphrase", "wrong_count", "other"])
def test_another_seed_gives_other_sentences(kind):
    cases = cases_of(*SENTENCES * 3)
    assert perturb_cases(cases, kind, seed=0) != perturb_cases(cases, kind, seed=1)


def test_same_sentences_of_two_cases_slip_differently():
    first, second = texts(perturb_cases(cases_of(CAPTION, CAPTION), "typos_20"))
    assert first != second


def test_none_blank_and_mirror():
    cases = cases_of(*SENTENCES)
    assert perturb_cases(cases, "none") == cases
    assert texts(perturb_cases(cases, "blank")) == [""] * len(cases)
    assert texts(perturb_cases(cases, "mirror")) == [mirror_sentence(sentence) for sentence in SENTENCES]


@pytest.mark.parametrize(
    ("kind", "near"), [("mirrored", "mirror"), ("typo_5", "typos_05"), ("paraphrased", "paraphrase")]
)
def test_unknown_kind_names_the_nearest(kind, near):
    with pytest.raises(ValueError, match=f"did you mean .*'{near}'"):
        perturb_cases([], kind)


def test_a_kind_like_no_other_lists_all():
    with pytest.raises(
        ValueError, match=r"must be one of none, blank, .*, other, got '???'".replace("?", r"\?")
    ):
        perturb_cases([], "???")


def test_single_sentence_has_no_other():
    with pytest.raises(ValueError, match="must be one of none, blank"):
        perturb_sentence(CAPTION, "other")


@pytest.mark.parametrize("nothing", [None, ""])
def test_empty_sentence_stays_empty(nothing):
    assert perturb_sentence(nothing, "paraphrase") == ""


def test_case_without_id_goes_by_its_place():
    assert perturb_cases([{"text": CAPTION}], "typos_10") == perturb_cases([{"text": CAPTION}], "typos_10")


# another case's sentence


def one_zone(zone: int) -> str:
    side, level = LUNG_ZONES[zone]
    return f"Unilateral pulmonary infection, one infected area, {level} {side} lung."


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.integers(0, 5))
def test_other_names_other_zones(zones, seed):
    sentences = [one_zone(zone) for zone in zones]
    if len(set(zones)) == 1:
        with pytest.raises(ValueError, match="must name two different sets of zones or more, got 1"):
            exchange_sentences(sentences, seed=seed)
        return
    exchanged = exchange_sentences(sentences, seed=seed)
    assert all(a != b for a, b in zip(sentences, exchanged, strict=True))
    if 2 * max(Counter(zones).values()) <= len(zones):
        assert Counter(exchanged) == Counter(sentences)


def test_other_leaves_the_silent_out():
    cases = cases_of(one_zone(0), None, one_zone(1), "")
    assert texts(perturb_cases(cases, "other")) == [one_zone(1), None, one_zone(0), ""]


def test_other_mixes_all_cases():
    sentences = [one_zone(zone) for zone in range(6)] * 10
    given_to_first = {exchange_sentences(sentences, seed=seed)[0] for seed in range(30)}
    assert given_to_first == {one_zone(zone) for zone in range(1, 6)}


# typos


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.5])
def test_rate_is_the_share_of_letters(rate):
    generator = np.random.default_rng(0)
    # "q" is replaced, lost, doubled; a swap of two "q" leaves no trace, and takes both
    length = 20_000
    written = add_typos("q" * length, rate, generator)
    replaced = sum(letter != "q" for letter in written)
    assert replaced / length == pytest.approx(rate / 4, rel=0.25)
    assert len(written) == pytest.approx(length, rel=0.02)


def test_no_rate_no_slip():
    assert add_typos(CAPTION, 0, np.random.default_rng(0)) == CAPTION


def test_only_letters_slip():
    assert add_typos("12 mm, 3.5 (7)!".replace("m", "-"), 1, np.random.default_rng(0)) == "12 --, 3.5 (7)!"


def test_each_slip_occurs():
    seen = {add_typos("ab", 0.5, np.random.default_rng(seed)) for seed in range(300)}
    assert {"ab", "b", "a", "aab", "abb", "ba", "sb"} <= seen


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=50), st.floats(0, 1), st.integers(0, 9))
def test_typos_keep_what_they_do_not_hit(sentence, rate, seed):
    written = add_typos(sentence, rate, np.random.default_rng(seed))
    kept = [letter for letter in sentence if not letter.isascii()]
    assert Counter(kept) <= Counter(written)
    assert len(written) <= 2 * len(sentence)


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_wrong_rate_is_named(rate):
    with pytest.raises(ValueError, match=rf"must be in \[0, 1\], got {rate}"):
        add_typos(CAPTION, rate, np.random.default_rng(0))


# other words


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (CAPTION, "Bilat pulmonary infection, 2 infected areas, LLL and RUL."),
        ("Consolidation in the left upper and lower lobes.", "Consolidation in the LUL and LLL."),
        ("Mass of 1.05 cm in the right middle lobe.", "Mass of 1.05 cm in the RML."),
        ("No pulmonary infection.", "No pulmonary infection."),
        (
            "one small polyp, located in top left of the image",
            "1 small polyp, located in top left of the image",
        ),
    ],
)
def test_abbreviations(sentence, expected):
    assert abbreviate(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (CAPTION, "Pulmonary infection, two infected areas."),
        ("RUL consolidation.", "Consolidation."),
        (
            "Patchy opacity in the left lower lobe, new since prior.",
            "Patchy opacity in the lobe, new since prior.",
        ),
        ("one small white polyp, located in top left of the image", "one small white polyp"),
        ("No pulmonary infection, zero infected areas.", "No pulmonary infection, zero infected areas."),
        ("Left.", "Pulmonary infection."),
    ],
)
def test_dropped_position(sentence, expected):
    assert drop_position(sentence) == expected


@pytest.mark.parametrize(
    ("kind", "place"), [("unknown_position", "[UNK_POS]"), ("fuzzy_position", "a region of the lung")]
)
def test_position_is_replaced(kind, place):
    assert perturb_sentence(CAPTION, kind) == f"Bilateral pulmonary infection, two infected areas, {place}."


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("seed", range(6))
def test_paraphrase_says_the_same(sentence, seed):
    other = paraphrase(sentence, np.random.default_rng(seed))
    before, after = read_findings(sentence), read_findings(other)
    assert other != sentence
    assert (after.zones, after.count, after.negated, after.anatomy) == (
        *(before.zones, before.count, before.negated),
        before.anatomy,
    )


def test_paraphrase_has_several_ways():
    assert len({paraphrase(CAPTION, np.random.default_rng(seed)) for seed in range(40)}) >= 6


def test_paraphrase_of_what_says_nothing_is_itself():
    assert paraphrase("Portable chest radiograph.", np.random.default_rng(0)) == "Portable chest radiograph."


@pytest.mark.parametrize(
    ("sentence", "pattern"),
    [
        (CAPTION, "Bilateral pulmonary infection, {} infected areas, lower left lung and upper right lung."),
        ("Two opacities in the left lung.", "{} opacities in the left lung."),
    ],
)
def test_wrong_count_alters_the_number_alone(sentence, pattern):
    words = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
    first = sentence.startswith("Two")
    possible = {pattern.format(word.capitalize() if first else word) for word in words - {"two"}}
    seen = {miscount(sentence, np.random.default_rng(seed)) for seed in range(80)}
    assert seen == possible


def test_wrong_count_of_no_count_is_the_sentence():
    assert miscount("RUL consolidation.", np.random.default_rng(0)) == "RUL consolidation."


@settings(max_examples=150, deadline=None)
@given(
    st.frozensets(st.sampled_from(LUNG_ZONES), min_size=1),
    st.one_of(st.none(), st.integers(1, 9)),
    st.integers(0, 20),
)
def test_any_zones_and_number_survive_a_paraphrase(zones, count, seed):
    sides = [
        f"{' '.join(level for named, level in LUNG_ZONES if named == side and (side, level) in zones)} {side} lung"
        for side in ("left", "right")
        if any(named == side for named, _ in zones)
    ]
    number = "" if count is None else f", {count} infected areas"
    sentence = f"Pulmonary infection{number}, {' and '.join(sides)}."
    other = paraphrase(sentence, np.random.default_rng(seed))
    assert read_findings(other).zones == read_findings(sentence).zones == zones
    assert read_findings(other).count == count
    assert read_findings(abbreviate(sentence)).zones == zones


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80), st.sampled_from([kind for kind in PERTURBATIONS if kind != "other"]))
def test_any_text_can_be_perturbed(sentence, kind):
    assert isinstance(perturb_sentence(sentence, kind, seed=2), str)


# real captions


@pytest.mark.parametrize("name", ["qata", "mosmed", "polyps"])
def test_real_captions_keep_their_meaning(caption_files, name):
    captions = caption_files[name]
    for kind in ("paraphrase", "abbreviations", "wrong_count"):
        for before, after in zip(captions, texts(perturb_cases(cases_of(*captions), kind)), strict=True):
            assert read_findings(after).zones == read_findings(before).zones, (kind, before, after)


@pytest.mark.parametrize("name", ["qata", "mosmed", "polyps"])
def test_real_captions_change(caption_files, name):
    captions = caption_files[name]
    for kind, share in (
        ("paraphrase", 0.99),
        ("abbreviations", 0.95),
        ("wrong_count", 0.97),
        ("typos_05", 0.85),
    ):
        changed = sum(
            a != b for a, b in zip(captions, texts(perturb_cases(cases_of(*captions), kind)), strict=True)
        )
        assert changed >= share * len(captions), kind


@pytest.mark.parametrize("name", ["qata", "mosmed", "polyps"])
def test_real_captions_lose_their_position(caption_files, name):
    for sentence in texts(perturb_cases(cases_of(*caption_files[name]), "drop_position")):
        findings = read_findings(sentence)
        assert sentence
        assert not findings.zones, sentence
        assert findings.side is None, sentence


@pytest.mark.parametrize("name", ["qata", "mosmed"])
def test_paraphrases_of_real_captions_fit_24_tokens(caption_files, name):
    tokenizer = build_tokenizer("embedded", max_tokens=24)
    paraphrased = texts(perturb_cases(cases_of(*caption_files[name]), "paraphrase"))
    assert sum(map(tokenizer.is_truncated, paraphrased)) == 0

"""Left and right exchanged in sentences and findings."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.text.findings import MAX_CHARACTERS, Findings, read_findings
from common.text.laterality import mirror_findings, mirror_sentence, translate_sentence


def real_captions(real_data: Path) -> list[str]:
    files = [("text/qata_captions_train.csv", ",", "caption")]
    files += [(f"text/mosmeddata_plus_{split}.csv", ";", "text") for split in ("train", "val")]
    files += [
        (f"{name}/{split}.csv", ",", "text")
        for name in ("kvasir_seg", "cvc_clinicdb")
        for split in ("train", "test")
    ]
    captions: list[str] = []
    for file, delimiter, column in files:
        with (real_data / file).open(encoding="utf-8", newline="") as stream:
            captions += [row[column] for row in csv.DictReader(stream, delimiter=delimiter)]
    return list(dict.fromkeys(captions))


def test_reading_a_mirrored_sentence_is_mirroring_what_was_read(real_data: Path) -> None:
    captions = real_captions(real_data)
    assert len(captions) > 500
    for caption in captions:
        there, back = read_findings(mirror_sentence(caption)), mirror_findings(read_findings(caption))
        assert there.zones == back.zones, caption
        assert (there.side, there.count, there.negated, there.sizes) == (
            back.side,
            back.count,
            back.negated,
            back.sizes,
        )


def test_mirroring_twice_gives_real_captions_back(real_data: Path) -> None:
    changed = [text for text in real_captions(real_data) if mirror_sentence(mirror_sentence(text)) != text]
    assert changed == ["Unilateral pulmonary infection, one infected area, lower lift lung."]


@pytest.mark.parametrize(
    ("sentence", "mirrored"),
    [
        (
            "Bilateral pulmonary infection, lower left lung.",
            "Bilateral pulmonary infection, lower right lung.",
        ),
        ("Left LEFT left", "Right RIGHT right"),
        ("RUL and LLL; RUZ, LMZ", "LUL and RLL; LUZ, RMZ"),
        ("RML opacity", "lingula opacity"),
        ("leftward, left-sided and leftmost", "rightward, right-sided and rightmost"),
        ("R lower lobe, opacities R>L", "L lower lobe, opacities L>R"),
        ("Rt. base and LT apex", "Lt. base and RT apex"),
        ("both lungs, bilateral, upright, bright", "both lungs, bilateral, upright, bright"),
        ("top left,right  of the\timage", "top right,left  of the\timage"),
        ("😀 left 左", "😀 right 左"),
        ("no side at all", "no side at all"),
    ],
)
def test_mirrored_sentences(sentence: str, mirrored: str) -> None:
    assert mirror_sentence(sentence) == mirrored
    assert mirror_sentence(mirrored) == sentence


@pytest.mark.parametrize(
    ("sentence", "mirrored"),
    [
        ("lower lfet lung", "lower right lung"),
        ("Lower Rihgt lung", "Lower Left lung"),
        ("lower leflung", "lower rightlung"),
        ("lowerright lung", "lowerleft lung"),
        ("lower le ft lung", "lower right lung"),
        ("lower light lung", "lower left lung"),
        ("lingular opacity", "RML opacity"),
        ("R.U.L. opacity", "LUL opacity"),
    ],
)
def test_sides_are_mirrored_as_the_reader_reads_them(sentence: str, mirrored: str) -> None:
    assert mirror_sentence(sentence) == mirrored
    assert read_findings(mirrored).zones == mirror_findings(read_findings(sentence)).zones


SIDES = ("left", "right", "both", "RUL", "lll", "lingula", "Left", "RIGHT", "lfet")
WORDS = (
    *SIDES,
    "upper",
    "lower",
    "middle",
    "all",
    "lung",
    "lobe",
    "and",
    ",",
    ".",
    "no",
    "opacity",
    "bilateral",
    "clear",
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(WORDS), max_size=9))
def test_any_sentence_of_these_words(words: list[str]) -> None:
    sentence = " ".join(words)
    mirrored = mirror_sentence(sentence)
    assert (
        read_findings(mirrored, anatomy="lung").zones
        == mirror_findings(read_findings(sentence, anatomy="lung")).zones
    )
    clean = mirror_sentence(mirrored)
    assert mirror_sentence(mirror_sentence(clean)) == clean


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    mirrored = mirror_sentence(text)
    assert mirror_sentence(mirror_sentence(mirrored)) == mirror_sentence(
        mirror_sentence(mirror_sentence(mirror_sentence(mirrored)))
    )


def test_findings() -> None:
    findings = Findings(
        side="left",
        count=2,
        zones=frozenset({("left", "upper"), ("center", "lower")}),
        unknown_words=("left ventricle",),
        contradictions=("called bilateral, but only the left lung is named",),
    )
    mirrored = mirror_findings(findings)
    assert mirrored.side == "right"
    assert mirrored.zones == {("right", "upper"), ("center", "lower")}
    assert mirrored.unknown_words == ("right ventricle",)
    assert mirrored.contradictions == ("called bilateral, but only the right lung is named",)
    assert mirror_findings(mirrored) == findings
    assert mirror_findings(Findings(side="bilateral")) == Findings(side="bilateral")


def test_translation() -> None:
    sentence = "lower left lung"
    assert translate_sentence(sentence) == "lower right lung"
    assert translate_sentence(sentence, source="image", target="patient") == "lower right lung"
    assert translate_sentence(sentence, source="image", target="image") == sentence
    assert translate_sentence(None) == translate_sentence("") == ""
    with pytest.raises(ValueError, match="source must be 'image' or 'patient', got 'left'"):
        translate_sentence(sentence, source="left")
    with pytest.raises(ValueError, match="target must be 'image' or 'patient', got None"):
        translate_sentence(sentence, target=None)


def test_nothing_and_wrong_types() -> None:
    assert mirror_sentence(None) == mirror_sentence("") == ""
    with pytest.raises(TypeError, match="sentence must be a string or None, got int"):
        mirror_sentence(3)


def test_a_long_text_is_never_half_mirrored() -> None:
    text = "left " * 200_000
    assert mirror_sentence(text) == ("right " * 200_000)[: MAX_CHARACTERS // 5 * 6]
    rng = random.Random(0)
    words = " ".join("".join(rng.choices("abcdefgh", k=6)) for _ in range(3000))
    assert "left" not in mirror_sentence(f"left {words} left")

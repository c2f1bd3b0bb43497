"""Phrases of place as spans, and sentences rewritten to name other zones."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.text.findings import read_findings
from common.text.lexicon import Kind
from common.text.position_phrases import (
    first_phrase,
    join_first_phrases,
    name_zones,
    phrase_runs,
    position_phrases,
)
from common.text.tokenizer import build_tokenizer
from common.text.words import scan
from common.text.zones import LUNG_ZONES, POLYP_ZONES

Zones = frozenset[tuple[str, str]]
CAPTION = "Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung."
ZONE_SETS = [frozenset(zones) for size in range(1, 7) for zones in combinations(LUNG_ZONES, size)]
LEFT_LOWER, RIGHT_UPPER = ("left", "lower"), ("right", "upper")
ALL_LEFT = tuple(zone for zone in LUNG_ZONES if zone[0] == "left")

_FINDINGS = st.sampled_from(
    ["opacity", "Consolidation", "patchy airspace disease", "a nodule", "three masses"]
)
_PLACES = st.sampled_from(
    [
        *("the left lower lobe", "the upper lobe of the right lung", "both bases", "the right lung", "RUL"),
        *("left and right lower lobes", "upper and middle left lung", "the lingula", "bilateral upper lobes"),
        *("the right mid zone and the left upper zone", "lower left lung and all right lung"),
    ]
)
_REMARKS = st.sampled_from(
    [
        *("No pleural effusion.", "Heart size is normal.", "The right lung is clear.", "Worse on the left."),
        *(
            "Small left pleural effusion.",
            "PICC line in the right atrium.",
            "No opacity in the left upper lobe.",
        ),
        *("Bilateral.", "Unchanged since the prior study of the chest.", "", "Unilateral disease."),
    ]
)
REPORTS = st.builds(
    lambda finding, place, remark, first: " ".join(
        [remark, f"{finding} in {place}."] if first else [f"{finding} in {place}.", remark]
    ).strip(),
    *(_FINDINGS, _PLACES, _REMARKS, st.booleans()),
)


def texts(sentence: str) -> list[str]:
    return [phrase.text for phrase in position_phrases(sentence)]


def findings_of(sentence: str) -> set[str]:
    return {token.word for token in scan(sentence) if token.kind is Kind.FINDING} - {
        "infected",
        "area",
        "areas",
    }


# spans


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (CAPTION, ["lower left lung", "upper right lung"]),
        ("all left and upper lower right lung", ["all left", "upper lower right lung"]),
        ("infection, all left lung and upper lower lung.", ["all left lung", "upper lower lung"]),
        ("lowe r left lung, middle lowerright lung", ["lowe r left lung", "middle lowerright lung"]),
        ("opacity in the upper lobe of the right lung", ["upper lobe of the right lung"]),
        ("upper, middle and lower left lung", ["upper, middle and lower left lung"]),
        ("right upper and lower lobes", ["right upper and lower lobes"]),
        ("left lung, lower zone, and RUL", ["left lung, lower zone", "RUL"]),
        ("Left and right lower lobes", ["Left", "right lower lobes"]),
        ("on the right side", ["right side"]),
        ("bilateral lower lobes", ["bilateral lower lobes"]),
        ("Bilateral pneumonia, unilateral disease", []),
        ("left ventricle, right atrium, pneumonia", []),
        ("Small left pleural effusion", ["left"]),
        ("two polyps, located in top left, right side of the image", ["top left", "right side"]),
        ("a polyp in the top left corner of the picture", ["top left corner"]),
        ("a polyp of the right colon", []),
        ("", []),
    ],
)
def test_phrases(sentence: str, expected: list[str]) -> None:
    assert texts(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (CAPTION, [{LEFT_LOWER}, {RIGHT_UPPER}]),
        ("Left and right lower lobes", [{LEFT_LOWER}, {("right", "lower")}]),
        ("Opacity in the left lung.", [set(ALL_LEFT)]),
        ("No opacity in the left lung. RUL mass.", [set(), {RIGHT_UPPER}]),
        ("Unilateral infection, left lung and upper right lung.", [set(), {RIGHT_UPPER}]),
        ("LLL opacity, worse on the left.", [{LEFT_LOWER}, set()]),
        ("Bilateral infection, lower left lung and upper lung.", [{LEFT_LOWER}, {RIGHT_UPPER}]),
        ("polyps, located in center, bottom right", [{("center", "middle")}, {("right", "lower")}]),
    ],
)
def test_zones_of_phrases(sentence: str, expected: list[set[tuple[str, str]]]) -> None:
    assert [set(phrase.zones) for phrase in position_phrases(sentence)] == expected


def test_denied_and_bare_phrases_say_so() -> None:
    denied, found = position_phrases("No opacity in the left lung. RUL mass.")
    assert (denied.affirmed, denied.levelled) == (False, False)
    assert (found.affirmed, found.levelled) == (True, True)


def spans_are_sound(sentence: str) -> None:
    found, end = read_findings(sentence).zones, 0
    for phrase in position_phrases(sentence):
        assert end <= phrase.start < phrase.end <= len(sentence)
        assert phrase.text == sentence[phrase.start : phrase.end] == phrase.text.strip()
        assert phrase.zones <= found
        end = phrase.end
    assert [phrase for run in phrase_runs(sentence) for phrase in run] == list(position_phrases(sentence))


@settings(max_examples=300, deadline=None)
@given(st.one_of(REPORTS, st.text(max_size=80)))
def test_spans_are_sound(sentence: str) -> None:
    spans_are_sound(sentence)


@settings(max_examples=300, deadline=None)
@given(_FINDINGS, _PLACES)
def test_phrases_hold_every_zone_of_a_report(finding: str, place: str) -> None:
    sentence = f"{finding} in {place}."
    named = [phrase.zones for phrase in position_phrases(sentence)]
    assert frozenset[tuple[str, str]]().union(*named) == read_findings(sentence).zones


@pytest.mark.parametrize("name", ["qata", "mosmed", "polyps"])
def test_phrases_hold_every_zone_of_real_captions(caption_files: dict[str, list[str]], name: str) -> None:
    for caption in caption_files[name]:
        spans_are_sound(caption)
        named = [phrase.zones for phrase in position_phrases(caption)]
        assert frozenset[tuple[str, str]]().union(*named) == read_findings(caption).zones, caption


def test_lists_of_phrases() -> None:
    sentence = (
        "Opacity in the RUL, LLL and the left upper lobe; mass of the right base. The lingula is clear."
    )
    runs = [[phrase.text for phrase in run] for run in phrase_runs(sentence)]
    assert runs == [["RUL", "LLL", "left upper lobe"], ["right base"], ["lingula"]]


# first phrases


@pytest.mark.parametrize(
    ("sentence_i", "sentence_j", "expected"),
    [
        (
            CAPTION,
            "Unilateral pulmonary infection, one infected area, middle left lung.",
            CAPTION.replace("lower left lung", "lower left lung and middle left lung"),
        ),
        (CAPTION, "opacity in the Lower  left lung", CAPTION),
        ("RUL mass.", "Upper left lung.", "RUL and upper left lung mass."),
        ("Upper left lung.", "RUL mass.", "Upper left lung and RUL."),
        (
            "Infection, left lung and lower right lung.",
            "LLL.",
            "Infection, left lung and lower right lung and LLL.",
        ),
        (CAPTION, "Pneumonia of the left lung.", CAPTION),
        ("Pneumonia.", CAPTION, CAPTION),
        ("Pneumonia.", "", "Pneumonia."),
        ("polyp at left", "polyp at top", "polyp at left and top"),
    ],
)
def test_first_phrases_are_joined(sentence_i: str, sentence_j: str, expected: str) -> None:
    assert join_first_phrases(sentence_i, sentence_j) == expected


def test_first_phrase_names_a_level() -> None:
    first = first_phrase("Infection, left lung and lower right lung.")
    assert first is not None
    assert first.text == "lower right lung"
    assert first_phrase("Infection of the left lung.") is None


# other zones


@pytest.mark.parametrize(
    ("sentence", "zones", "expected"),
    [
        (CAPTION, {LEFT_LOWER, RIGHT_UPPER}, CAPTION),
        (CAPTION, {LEFT_LOWER}, "Unilateral pulmonary infection, lower left lung."),
        (
            CAPTION,
            {*ALL_LEFT, RIGHT_UPPER},
            "Bilateral pulmonary infection, all left lung and upper right lung.",
        ),
        (
            "Unilateral pulmonary infection, two infected areas, upper left lung.",
            {("left", "upper"), ("left", "lower"), RIGHT_UPPER},
            "Bilateral pulmonary infection, upper lower left lung and upper right lung.",
        ),
        (
            "Patchy opacity in the left lower lobe, new since prior.",
            {RIGHT_UPPER},
            "Patchy opacity in the upper right lung, new since prior.",
        ),
        ("RUL nodule.", {LEFT_LOWER}, "Lower left lung nodule."),
        ("Two nodules in the RUL.", {LEFT_LOWER}, "Nodules in the lower left lung."),
        ("Bilat opacities.", {LEFT_LOWER}, "Unilat opacities, lower left lung."),
        ("Opacity. Chest radiograph", {LEFT_LOWER}, "Opacity. Chest radiograph, lower left lung."),
        ("RUL mass. LLL mass.", {("right", "middle")}, "Middle right lung mass. lung mass."),
        ("LLL mass. Small left effusion.", {("left", "upper")}, "Upper left lung mass. Small left effusion."),
        ("LLL mass, worse on the left.", {RIGHT_UPPER}, "Upper right lung mass, worse on the lung."),
        (
            "RLL mass. The left lung is clear.",
            {RIGHT_UPPER},
            "Upper right lung mass. The left lung is clear.",
        ),
        (
            "RLL mass. The left lung is clear.",
            {LEFT_LOWER},
            "Unilateral pulmonary infection, lower left lung.",
        ),
        ("No pulmonary infection, zero infected areas.", {RIGHT_UPPER}, None),
        ("The left lung is clear.", {RIGHT_UPPER}, None),
        ("", {RIGHT_UPPER}, None),
        (" . ", {RIGHT_UPPER}, None),
        (
            "one small white polyp, located in top left of the image",
            {("left", "upper"), ("center", "middle")},
            "small white polyp, located in top left, center of the image",
        ),
        ("No polyp.", {("left", "upper")}, "Polyp, located in top left of the image"),
        ("A sessile polyp", {("center", "upper")}, "Sessile polyp, located in top of the image"),
    ],
)
def test_named_zones(sentence: str, zones: set[tuple[str, str]], expected: str | None) -> None:
    plain = "Unilateral pulmonary infection, upper right lung."
    assert name_zones(sentence, zones) == (plain if expected is None else expected)


def check_named(sentence: str, zones: Zones) -> str:
    before = read_findings(sentence)
    renamed = name_zones(sentence, zones)
    after = read_findings(renamed)
    assert (after.zones, after.anatomy, after.negated) == (zones, before.anatomy, False), renamed
    if renamed != sentence:
        assert after.count is None, renamed
        assert not after.contradictions, renamed
    return renamed


def check_captions(captions: list[str], zone_sets: list[Zones]) -> None:
    """Round trip; what was found stays; 24 tokens hold it."""
    tokenizer = build_tokenizer("embedded", max_tokens=24)
    for caption in captions:
        for zones in zone_sets:
            renamed = check_named(caption, zones)
            assert findings_of(renamed) == findings_of(caption), renamed
            assert not tokenizer.is_truncated(renamed)


@pytest.mark.parametrize("name", ["qata", "mosmed"])
def test_a_tenth_of_real_captions_with_any_zones(caption_files: dict[str, list[str]], name: str) -> None:
    check_captions(caption_files[name][::10], ZONE_SETS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qata", "mosmed"])
def test_all_real_captions_with_any_zones(caption_files: dict[str, list[str]], name: str) -> None:
    check_captions(caption_files[name], ZONE_SETS)


def test_real_polyp_captions(caption_files: dict[str, list[str]]) -> None:
    cells = [frozenset({zone}) for zone in POLYP_ZONES]
    rows = [
        frozenset({("left", level), ("center", level), ("right", "lower")}) for level in ("upper", "middle")
    ]
    check_captions(caption_files["polyps"][::4], [*cells, *rows])


@settings(max_examples=400, deadline=None)
@given(REPORTS, st.sampled_from(ZONE_SETS))
def test_any_report_and_any_zones(sentence: str, zones: Zones) -> None:
    renamed = check_named(sentence, zones)
    assert name_zones(renamed, zones) == renamed


@settings(max_examples=200, deadline=None)
@given(_FINDINGS, _PLACES, st.sampled_from(ZONE_SETS))
def test_a_report_keeps_what_it_found(finding: str, place: str, zones: Zones) -> None:
    sentence = f"{finding} in {place}."
    assert findings_of(check_named(sentence, zones)) == findings_of(sentence)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80), st.frozensets(st.sampled_from(LUNG_ZONES), min_size=1))
def test_any_text_and_any_zones(sentence: str, zones: Zones) -> None:
    if read_findings(sentence).anatomy == "lung":
        check_named(sentence, zones)


@settings(max_examples=100, deadline=None)
@given(st.frozensets(st.sampled_from(POLYP_ZONES), min_size=1), st.integers(1, 4))
def test_any_cells_of_a_polyp(zones: Zones, number: int) -> None:
    check_named(f"{number} small white polyps, located in top, bottom left of the image", zones)
    check_named("No polyp is seen.", zones)


@pytest.mark.parametrize(
    ("sentence", "zones", "message"),
    [
        (CAPTION, [], r"zones must be one or more of \('left', 'upper'\), .*, got \[\]"),
        (CAPTION, [("center", "upper")], r"got \[\('center', 'upper'\)\]"),
        ("polyp", [("left", "top")], r"zones must be .*\('center', 'middle'\).*got \[\('left', 'top'\)\]"),
    ],
)
def test_unknown_zones_are_named(sentence: str, zones: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        name_zones(sentence, zones)


def test_no_string_is_named() -> None:
    with pytest.raises(TypeError, match="sentence must be a string, got NoneType; the empty prompt is ''"):
        position_phrases(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="sentence must be a string, got list"):
        name_zones([CAPTION], [LEFT_LOWER])  # type: ignore[arg-type]


def test_a_long_text_keeps_what_the_reader_reads() -> None:
    sentence = "RUL mass. " + "Nothing else of note here. " * 400
    assert len(sentence) > 8000
    renamed = check_named(sentence, frozenset({LEFT_LOWER}))
    assert renamed.startswith("Lower left lung mass.")
    assert len(renamed) <= 8030

"""What the reader makes of captions, reports, slips of the hand and nonsense."""

from __future__ import annotations

import csv
import random
import re
import time
from pathlib import Path

import pytest

from common.text.findings import MAX_CHARACTERS, Findings, read_findings
from common.text.lexicon import ADJACENT_KEYS, CORRECTABLE, DISTRACTORS, GLUED, LEXICON, SUSPECT, Kind
from common.text.spelling import entry_of, nearest, recognise, slip_cost
from common.text.zones import LUNG_ZONES

ALL = "111111"
NONE = "000000"


def bits(findings: Findings) -> str:
    """Six bits: upper, middle, lower of the left lung, then of the right."""
    return "".join("01"[zone in findings.zones] for zone in LUNG_ZONES)


def rows_of(path: Path, *, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


# --- real captions -----------------------------------------------------------------------------------------


def test_qata_captions_are_read_as_one_of_their_readings(real_data: Path) -> None:
    rows = rows_of(real_data / "text" / "qata_captions_train.csv")
    wrong = [
        row for row in rows if bits(read_findings(row["caption"])) not in row["accepted_zones"].split("|")
    ]
    assert len(rows) == 278
    assert len(wrong) <= 0.02 * len(rows)
    weights = [sum(int(row["rows"]) for row in part) for part in (wrong, rows)]
    assert weights[0] <= 0.005 * weights[1]


def test_every_qata_caption_has_a_count(real_data: Path) -> None:
    for row in rows_of(real_data / "text" / "qata_captions_train.csv"):
        findings = read_findings(row["caption"])
        assert findings.anatomy == "lung"
        assert not findings.negated
        if "two one" in row["caption"]:
            assert findings.count is None
            assert any("two one" in words for words in findings.contradictions)
        else:
            assert findings.count in range(1, 7), row["caption"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_mosmed_captions(real_data: Path, split: str) -> None:
    pattern = re.compile(r"(?:(upper|middle|lower|all) )?(left|right) lung")
    for row in rows_of(real_data / "text" / f"mosmeddata_plus_{split}.csv", delimiter=";"):
        text = row["text"]
        named = pattern.findall(text)
        if text.startswith("Unilateral") and len(named) == 2:
            named = [(level, side) for level, side in named if level]
        expected = {
            (side, level)
            for word, side in named
            for level in (("upper", "middle", "lower") if word in ("", "all") else (word,))
        }
        findings = read_findings(text)
        assert findings.zones == expected, text
        assert findings.unknown_words == ()
        assert findings.negated == text.startswith("No")
        assert bool(findings.contradictions) == (text.startswith("Unilateral") and "and" in text), text


@pytest.mark.parametrize("folder", ["kvasir_seg", "cvc_clinicdb"])
def test_polyp_captions(real_data: Path, folder: str) -> None:
    names = {"left": ("left", "middle"), "right": ("right", "middle"), "center": ("center", "middle")}
    names |= {"top": ("center", "upper"), "bottom": ("center", "lower")}
    levels = {"top": "upper", "bottom": "lower"}
    numbers = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
    ]
    for split in ("train", "val", "test"):
        for row in rows_of(real_data / folder / f"{split}.csv"):
            places = row["text"].split("located in ")[1].removesuffix(" of the image").split(", ")
            expected = {
                names[place] if place in names else (place.split()[1], levels[place.split()[0]])
                for place in places
            }
            findings = read_findings(row["text"])
            assert findings.anatomy == "polyp"
            assert findings.zones == expected, row["text"]
            assert findings.count == numbers.index(row["text"].split()[0]), row["text"]
            assert findings.contradictions == ()
            assert findings.sizes, row["text"]


def slip(word: str, kind: str, rng: random.Random) -> str:
    place = rng.randrange(len(word))
    letter = rng.choice("abcdefghijklmnopqrstuvwxyz")
    near = rng.choice(sorted(b for a, b in ADJACENT_KEYS if a == word[place].lower()))
    return {
        "lost": word[:place] + word[place + 1 :],
        "other": word[:place] + letter + word[place + 1 :],
        "neighbour": word[:place] + near + word[place + 1 :],
        "added": word[:place] + letter + word[place:],
        "doubled": word[:place] + word[place] + word[place:],
        "swapped": word[: max(place - 1, 0)] + word[max(place - 1, 0) : place + 1][::-1] + word[place + 1 :],
        "split": word[:place] + " " + word[place:],
    }[kind]


def with_slip(sentence: str, kind: str, rng: random.Random, words: set[str]) -> str:
    if kind == "glued":
        spaces = [match.start() for match in re.finditer(r"(?<=[a-z]) (?=[a-z])", sentence)]
        place = rng.choice(spaces)
        return sentence[:place] + sentence[place + 1 :]
    match = rng.choice([m for m in re.finditer(r"[A-Za-z]+", sentence) if m.group().lower() in words])
    return sentence[: match.start()] + slip(match.group(), kind, rng) + sentence[match.end() :]


@pytest.mark.parametrize(
    "kind", ["lost", "other", "neighbour", "added", "doubled", "swapped", "split", "glued"]
)
def test_one_slip_of_the_hand(real_data: Path, kind: str) -> None:
    captions = [row["caption"] for row in rows_of(real_data / "text" / "qata_captions_train.csv")]
    captions += [
        row["text"] for row in rows_of(real_data / "text" / "mosmeddata_plus_val.csv", delimiter=";")
    ][::5]
    words = {"left", "right", "upper", "middle", "lower", "lung", "bilateral", "unilateral", "two", "three"}
    clean = [text for text in captions if all(entry_of(w.lower()) for w in re.findall("[A-Za-z]+", text))]
    rng = random.Random(kind)
    wrong = silent = total = 0
    for caption in clean:
        mistyped = with_slip(caption, kind, rng, words)
        before, after = read_findings(caption), read_findings(mistyped)
        total += 1
        if before.zones != after.zones:
            wrong += 1
            said = (*after.unknown_words, *after.contradictions)
            silent += not set(said) - {*before.unknown_words, *before.contradictions}
    assert total > 200
    assert wrong <= 0.02 * total
    assert silent <= 0.005 * total


# --- LViT's real oddities, in other sentences than the files' ------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (
            "Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung.",
            "001100",
        ),
        ("Unilateral pulmonary infection, one infected area, middle leflung.", "010000"),
        ("Unilateral pulmonary infection, one infected area, lower eft lung.", "001000"),
        ("Unilateral pulmonary infection, one infected area, upper lift lung.", "100000"),
        (
            "Bilateral pulmonary infection, thrr infected areas, uooer left lung andupper right lung.",
            "100100",
        ),
        (
            "Bilateral pulmonary infection, two infected areas, lowerright lung and uppe rlower left lung.",
            "101001",
        ),
        (
            "Bilateral pulmonary infection, two infected areas, lower l right lung and lowe r left lung.",
            "001001",
        ),
        (
            "Bilateral pulmonary infection, two infected areas, all left lung and (wait lower right lung.",
            "111001",
        ),
        ("Bilateral pulmonary infection, two infected areas, top left lung and bottom right lung.", "100001"),
        ("Bilateral pulmonary infection, two infected areas, al left lung and alll right lung.", ALL),
        ("Bilateral infection, two infected areas, middle lung and lower left lung.", "001010"),
        ("Bilateral pulmonary infection.", ALL),
        ("Bilateral pulmonary infection, two infected areas, both lungs.", ALL),
        ("Unilateral pulmonary infection, one infected area.", NONE),
        ("unilateral pulmonary infection one infected area lower left lung", "001000"),
        ("LOWER LEFT LUNG", "001000"),
        ("lower\nleft\tlung", "001000"),
        ("\uff2cower\u3000left lung", "001000"),
    ],
)
def test_captions_with_slips(sentence: str, expected: str) -> None:
    assert bits(read_findings(sentence)) == expected


@pytest.mark.parametrize(
    ("sentence", "expected", "said"),
    [
        ("Unilateral infection, lower left lung and lower right lung.", "001001", "unilateral, but both"),
        ("Unilateral infection, all left and all right lung.", ALL, "unilateral, but both"),
        ("Unilateral infection, left lung and middle right lung.", "000010", "bare left lung was left out"),
        ("Unilateral infection, upper left lung and right lung.", "100000", "bare right lung was left out"),
        ("Unilateral infection, left lung and all right lung.", "000111", "bare left lung was left out"),
        ("Bilateral infection, middle left lung.", "010000", "bilateral, but only the left"),
        ("Bilateral infection, all left lung and upper lung.", "111100", "read as the right lung"),
        ("Unilateral infection, middle right left lung.", "010010", "two sides for one place"),
        ("No pulmonary infection, lower left lung.", "001000", "denied, but zones"),
        ("No pulmonary infection, two infected areas.", NONE, "denied, but a count of 2"),
        ("Unilateral infection, zero infected areas, lower left lung.", "001000", "counted (0), but zones"),
        ("Bilateral infection, two one infected area, lower left and lower right lung.", "001001", "two one"),
        ("Two infected areas, three lesions, lower left lung.", "001000", "disagree: 2 and 3"),
        ("Unilateral bilateral infection, left lung.", "111000", "both unilateral and bilateral"),
        (
            "LLL opacity. No opacity in the left lower lobe.",
            "001000",
            "lower left is both affirmed and denied",
        ),
        ("Either lung shows consolidation.", ALL, "read as both lungs"),
    ],
)
def test_contradictions_are_reported(sentence: str, expected: str, said: str) -> None:
    findings = read_findings(sentence)
    assert bits(findings) == expected
    assert any(said in words for words in findings.contradictions), findings.contradictions


def test_number_of_areas_is_not_the_number_of_zones() -> None:
    findings = read_findings(
        "Unilateral pulmonary infection, one infected area, upper middle lower left lung."
    )
    assert findings == Findings(
        side="left", count=1, zones=frozenset({("left", "upper"), ("left", "middle"), ("left", "lower")})
    )


# --- reports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("RUL consolidation.", "000100"),
        ("RML and RLL opacities", "000011"),
        ("LUL, LLL infiltrates", "101000"),
        ("LLL/RLL consolidation", "001001"),
        ("R.L.L. opacity", "000001"),
        ("left LL and right UL", "001100"),
        ("R lower lobe consolidation, L lung base clear", "000001"),
        ("Lt lower zone opacity, Rt upper zone opacity", "001100"),
        ("b/l lower zones", "001001"),
        ("lingular opacity", "010000"),
        ("Right middle lobe and lingula pneumonia.", "010010"),
        ("bibasilar atelectasis", "001001"),
        ("Opacities at both bases", "001001"),
        ("opacity in the lung bases", "001001"),
        ("biapical scarring", "100100"),
        ("left base, right apex", "001100"),
        ("left perihilar opacity", "010000"),
        ("bilateral perihilar haze", "010010"),
        ("Bilateral lower lobe opacities", "001001"),
        ("lower lobe opacities bilaterally", "001001"),
        ("patchy infiltrates in mid and lower zones bilaterally", "011011"),
        ("Diffuse bilateral opacities, worse in the left lower lobe", ALL),
        ("Bilateral opacities, left greater than right", ALL),
        ("Bilateral lower lobe opacities, L > R.", "001001"),
        ("consolidation in both lungs", ALL),
        ("both lungs, lower zones", "001001"),
        ("right upper and middle lobes", "000110"),
        ("right middle and lower lobes and left lower lobe", "001011"),
        ("left and right lower lobes", "001001"),
        ("left upper and right lower lobes", "100001"),
        ("upper and lower left lung", "101000"),
        ("lower lobe of the left lung", "001000"),
        ("upper and lower zones of the right lung", "000101"),
        ("upper lobe of the left lung and lower lobe of the right lung", "100001"),
        ("both the upper and lower lobes of the right lung", "000101"),
        ("On the left: upper and lower zones, on the right: lower zone.", "101001"),
        ("three infected areas in the left lung: upper, middle and lower", "111000"),
        ("Left-sided pneumonia in the lower lobe", "001000"),
        ("mid to lower zones of the right lung", "000011"),
        ("from upper to lower zones on the left", "111000"),
        ("lower two thirds of the right lung", "000011"),
        ("Consolidation involving the right lung, mainly lower lobe", "000001"),
        ("opacities in all zones except the right upper zone", "111011"),
        ("Diffuse opacities sparing the left apex", "011111"),
        ("superior segment of the left lower lobe", "001000"),
        ("slight opacity in left lower lobe, upright film", "001000"),
        ("felt to represent pneumonia in the right upper lobe", "000100"),
        ("opacity in the left\nlower lobe.", "001000"),
        ("leftbasal and rightapical opacity", "001100"),
    ],
)
def test_radiology_wording(sentence: str, expected: str) -> None:
    findings = read_findings(sentence)
    assert bits(findings) == expected
    assert not findings.negated


@pytest.mark.parametrize(
    "sentence",
    [
        "No pulmonary infection, zero infected areas.",
        "No pulmonary infection",
        "Zero infected areas",
        "Lungs are clear.",
        "Clear lungs bilaterally",
        "Unremarkable",
        "normal chest radiograph",
        "No focal consolidation, pleural effusion or pneumothorax.",
        "No consolidation in the right upper, middle, or lower lobe",
        "without consolidation in the left lung",
        "No left-sided opacity",
        "Neither lung shows consolidation",
        "no consolidation in either lung",
        "Right lung is clear. No infection in the left lung.",
        "consolidation in the left lung has resolved",
        "opacity in the left lung no longer seen",
        "Left lower lobe negative for pneumonia",
        "free of infection",
        "Not infected",
        "There isn't any consolidation in the left lung",
        "On pulmonary infection.",
    ],
)
def test_denial(sentence: str) -> None:
    findings = read_findings(sentence)
    assert findings.negated
    assert findings.zones == frozenset()
    assert findings.side is None
    assert findings.count == 0
    assert findings.contradictions == ()


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("no focal opacity in the right lung but left lower consolidation", "001000"),
        ("No consolidation in the right lung; consolidation in left base.", "001000"),
        ("No evidence of pneumonia in left lung, but there is right lower lobe pneumonia", "000001"),
        ("no consolidation in the left lung and there is consolidation in the right lower lobe", "000001"),
        ("No opacity in left upper lobe, opacity in left lower lobe", "001000"),
        ("opacity in left upper lobe, no opacity in left lower lobe", "100000"),
        ("Left lower lobe consolidation without effusion", "001000"),
        ("No pleural effusion. Left lower lobe consolidation.", "001000"),
        ("opacity w/o effusion in LLL", "001000"),
        ("Left lung without consolidation, right lower opacity", "000001"),
        ("left lower lobe consolidation and the right lung is clear", "001000"),
        ("Left lung: lower zone. Right lung: clear.", "001000"),
        ("Lungs clear except for left base opacity", "001000"),
        ("No consolidation except in the left lower lobe", "001000"),
        ("No interval change in left lower lobe consolidation.", "001000"),
        ("Cannot exclude left lower lobe consolidation", "001000"),
        ("left lower lobe opacity not resolved", "001000"),
        ("The left lung is not clear", "111000"),
        ("resolved left pneumonia, new right lower lobe pneumonia", "000001"),
        (
            "Heart size normal. Consolidation in the right lower zone. Costophrenic angles are clear.",
            "000001",
        ),
        ("Right lung clear\nLeft lower lobe opacity", "001000"),
    ],
)
def test_scope_of_a_denial_is_a_clause(sentence: str, expected: str) -> None:
    findings = read_findings(sentence)
    assert bits(findings) == expected
    assert not findings.negated
    assert findings.contradictions == ()


@pytest.mark.parametrize(
    ("sentence", "expected", "unread"),
    [
        ("lower lobe opacity", NONE, "lower lobe"),
        ("Unilateral infection, lower xzkw lung", NONE, "xzkw"),
        ("Unilateral infection, one infected area, lower lung.", NONE, "lower lung"),
        ("lower light lung", "000001", "light"),
        ("upper power left lung", "101000", "power"),
        ("lower l right lung", "000001", "l"),
        ("Left ventricle enlarged. Right lower lobe opacity", "000001", "Left ventricle"),
        ("Left lower lobe consolidation with small right pleural effusion", "001000", "right pleural"),
        ("RLU consolidation", NONE, "RLU"),
        ("Retrocardiac opacity", NONE, "Retrocardiac"),
        ("left lower lobe, 17 qqq", "001000", "17"),
    ],
)
def test_no_side_is_guessed_silently(sentence: str, expected: str, unread: str) -> None:
    findings = read_findings(sentence)
    assert bits(findings) == expected
    assert unread in findings.unknown_words


# --- counts, sizes, polyps -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "count"),
    [
        ("2 infected areas: LUL and RLL", 2),
        ("thrr infected areas, lower left lung", 3),
        ("tow infected areas, lower left lung", 2),
        ("oneinfected area, lower left lung", 1),
        ("single nodule in the RUL", 1),
        ("one infected area in the left lung and two infected areas in the right lung", 3),
        ("all five lobes", None),
        ("multiple opacities in the right lung", None),
        ("lower two thirds of the left lung", None),
        ("12345678901234567890 infected areas", None),
        ("eleven polyps", 11),
        ("A polyp in the top left", 1),
        ("one small brown middle of ear polyp, located in bottom of the image", 1),
        ("three small, medium white polyp, located in top left, right, top right of the image", 3),
        ("one polyp in the top left and two polyps at the bottom", 3),
        ("Polyp middle left.", None),
    ],
)
def test_count(sentence: str, count: int | None) -> None:
    assert read_findings(sentence).count == count


@pytest.mark.parametrize(
    ("sentence", "zones"),
    [
        ("Polyp middle left.", {("left", "middle")}),
        ("One large,irregular,ulcerated colonic polyp on the middle right.", {("right", "middle")}),
        (
            "two polyps in top left, right, top right of the image",
            {("left", "upper"), ("right", "middle"), ("right", "upper")},
        ),
        ("polyp in the centre", {("center", "middle")}),
        ("polyp at bottom center", {("center", "lower")}),
        ("polyp, center left", {("left", "middle")}),
        ("polyp top middle", {("center", "upper")}),
        ("polyp in the upper right quadrant", {("right", "upper")}),
        ("polyp in the upper and lower left", {("left", "upper"), ("left", "lower")}),
        ("polyp in the left half", {("left", level) for level in ("upper", "middle", "lower")}),
        ("no polyp in the top left, one polyp in the bottom right", {("right", "lower")}),
        ("one round polyp, located in tip left of the image", {("left", "upper")}),
        ("polyp in the right colon", set()),
        ("no polyp", set()),
    ],
)
def test_polyp_grid(sentence: str, zones: set[tuple[str, str]]) -> None:
    findings = read_findings(sentence)
    assert findings.anatomy == "polyp"
    assert findings.zones == zones


def test_sides_of_the_bowel_are_no_places_in_the_image() -> None:
    assert "right colon" in read_findings("polyp in the right colon").unknown_words


def test_sizes() -> None:
    assert read_findings("two small, medium and small polyps").sizes == ("small", "medium")
    assert read_findings("10x8mm polyp").sizes == ("10 x 8 mm",)
    assert read_findings("large 3.5 cm consolidation in RUL").sizes == ("large", "3.5 cm")


def test_side() -> None:
    assert read_findings("left lung").side == "left"
    assert read_findings("RUL and LUL").side == "bilateral"
    assert read_findings("polyp at the top").side == "center"
    assert read_findings("two polyps, left and right").side is None


def test_anatomy_can_be_told() -> None:
    assert read_findings("top right", anatomy="polyp").zones == {("right", "upper")}
    assert read_findings("right", anatomy="polyp").zones == {("right", "middle")}
    assert read_findings("right", anatomy="lung").zones == {
        ("right", level) for level in ("upper", "middle", "lower")
    }


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sentence", [None, "", " ", "\n\t ", "...", ",,;"])
def test_nothing_is_said(sentence: str | None) -> None:
    assert read_findings(sentence) == Findings()


@pytest.mark.parametrize(
    "sentence", ["😀🫁", "左下肺感染", "नमस्ते", "12345", "\x00", "\ud800", "a" * 500, "²³", "le\u200bft"]
)
def test_odd_characters_never_fail(sentence: str) -> None:
    findings = read_findings(sentence)
    assert isinstance(findings, Findings)
    assert all(isinstance(word, str) for word in findings.unknown_words)


def test_emoji_and_foreign_words_are_reported_and_the_rest_is_read() -> None:
    findings = read_findings("😀 Unilateral infection 左, lower left lung 🫁")
    assert bits(findings) == "001000"
    assert set(findings.unknown_words) == {"😀", "左", "🫁"}


@pytest.mark.parametrize(
    "text",
    [
        "lower left lung " * 70_000,
        " ".join(f"q{number:x}z" for number in range(150_000)),
        "a" * 1_000_000,
        ",.;:!?()/&+<>-\n" * 70_000,
        "no left and " * 90_000,
        "l " * 500_000,
    ],
)
def test_a_megabyte_is_cut_and_says_so(text: str) -> None:
    start = time.perf_counter()
    findings = read_findings(text)
    assert time.perf_counter() - start < 2
    assert f"{len(text) - MAX_CHARACTERS} characters" in findings.unknown_words[-1]
    assert len(findings.unknown_words) < 60
    assert all(len(word) < 100 for word in findings.unknown_words)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="sentence must be a string or None, got float"):
        read_findings(float("nan"))
    with pytest.raises(ValueError, match="anatomy must be 'auto', 'lung' or 'polyp', got 'brain'"):
        read_findings("left", anatomy="brain")


def test_findings_are_remembered_and_immutable() -> None:
    first = read_findings("lower left lung")
    assert read_findings("lower left lung") is first
    with pytest.raises(AttributeError):
        first.count = 2


# --- words -----------------------------------------------------------------------------------------------


def test_word_lists_agree() -> None:
    assert set(LEXICON) >= CORRECTABLE | DISTRACTORS | GLUED
    assert not SUSPECT & set(LEXICON)
    assert all(word == word.lower() for word in LEXICON)


@pytest.mark.parametrize(
    "word", ["light", "bright", "slight", "upright", "felt", "cleft", "tight", "within", "mild"]
)
def test_ordinary_words_are_no_slips(word: str) -> None:
    kinds = {LEXICON[piece.word].kind for piece in recognise(word)}
    assert not kinds & {Kind.SIDE, Kind.LEVEL, Kind.NEGATION}


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("leflung", ["left", "lung"]),
        ("andupper", ["and", "upper"]),
        ("lowerright", ["lower", "right"]),
        ("rlower", ["lower"]),
        ("lowe", ["lower"]),
        ("midldle", ["middle"]),
        ("oneinfected", ["one", "infected"]),
        ("threeinfectedareas", ["three", "infected", "areas"]),
        ("qwxyz", []),
        ("office", ["office"]),
    ],
)
def test_single_words(written: str, words: list[str]) -> None:
    pieces = recognise(written)
    assert [piece.word for piece in pieces] == words
    assert "".join(written[piece.start : piece.end] for piece in pieces) in (written, "")


def test_slip_cost() -> None:
    assert slip_cost("left", "left") == 0
    assert slip_cost("lwft", "left") == pytest.approx(0.6)  # w lies beside e
    assert slip_cost("lfet", "left") == pytest.approx(0.6)
    assert slip_cost("leftt", "left") == pytest.approx(0.6)
    assert slip_cost("lef", "left") == pytest.approx(0.7)
    assert slip_cost("lpft", "left") == pytest.approx(1.0)
    assert slip_cost("uooer", "upper") < slip_cost("uooer", "lower")


def test_words_at_the_same_distance_are_not_told_apart() -> None:
    assert nearest("xpper", ["upper", "lower"], limit=1) is not None
    assert nearest("reft", ["left", "right"], limit=3).word == "left"
    assert nearest("ight", ["light", "right"], limit=1) is None
    assert nearest("zzzz", ["left", "right"], limit=1) is None

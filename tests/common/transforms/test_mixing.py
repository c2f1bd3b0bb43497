"""Tests of patch mixing: what is visible is what is told, and what is pasted is what the labels show."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from common.data.phantom_captions import caption
from common.text.findings import read_findings
from common.text.position_phrases import join_first_phrases, position_phrases
from common.text.zones import LUNG_ZONES, zone_regions
from common.transforms.mixing import Mixed, PatchMix

SIDE, BLOCK = 48, 8
EVERYWHERE = "Bilateral pulmonary infection, two infected areas, all left lung and all right lung."
LEFT = "Unilateral pulmonary infection, one infected area, upper left lung."
RIGHT = "Unilateral pulmonary infection, one infected area, lower right lung."
BOTH = "Bilateral pulmonary infection, two infected areas, lower left lung and lower right lung."
PLACELESS = "Bilateral pulmonary infection, two infected areas, [UNK_POS]."
OPPOSITE = {frozenset({"left"}), frozenset({"right"})}
WORDS = (
    "left",
    "right",
    "both",
    "RUL",
    "LLL",
    "upper",
    "lower",
    "middle",
    "all",
    "lung",
    "lobe",
    "and",
    ",",
    ".",
)
WORDS += ("no", "opacity", "clear", "bilateral", "unilateral", "infected", "one", "two", "areas", "[UNK_POS]")
WORDS += ("polyp", "top", "center", "bottom", "image")


def lung_sentence(generator: np.random.Generator) -> str:
    """A sentence of phantoms, or one that names no place."""
    zones = [zone for zone in LUNG_ZONES if generator.random() < 0.35]
    if generator.random() < 0.1:
        return str(generator.choice(["", PLACELESS, "Pneumonia.", "The lungs are clear."]))
    wording = str(generator.choice(["lvit", "free"]))
    return caption(generator, zones, count=int(generator.integers(1, 5)), wording=wording)


def polyp_sentence(generator: np.random.Generator) -> str:
    level, side = generator.choice(["top", "bottom"]), generator.choice(["left", "right"])
    place = generator.choice([f"{level} {side}", str(level), "center", str(side)])
    return f"one small polyp located in {place} of the image"


def visible(label: Tensor, sentence: str, laterality: str) -> frozenset[tuple[str, str]]:
    """The zones, in the anatomy of the sentence, in which a label `(1, H, W)` shows anything."""
    anatomy = read_findings(sentence).anatomy
    regions = zone_regions(*label.shape[1:], anatomy=anatomy, laterality=laterality)
    return frozenset(zone for zone, region in regions.items() if label[0].numpy()[region].any())


def scene(
    sentences: list[str], generator: np.random.Generator, *, laterality: str = "image", lesion: float = 0.9
) -> tuple[Tensor, Tensor]:
    """Random images, and a teacher that finds lesion in all of each zone that a sentence names, and nowhere else."""
    probability = torch.full((len(sentences), 1, SIDE, SIDE), 0.1)
    for index, sentence in enumerate(sentences):
        findings = read_findings(sentence)
        regions = zone_regions(SIDE, SIDE, anatomy=findings.anatomy, laterality=laterality)
        for zone in findings.zones:
            probability[index, 0][torch.from_numpy(regions[zone])] = lesion
    image = torch.from_numpy(generator.normal(size=(len(sentences), 2, SIDE, SIDE))).float()
    return image, probability


def mix(
    sentences: list[str], seed: int = 0, *, lesion: float = 0.9, **options: object
) -> tuple[Tensor, Tensor, Mixed]:
    generator = np.random.default_rng(seed)
    laterality = str(options.get("laterality", "image"))
    image, probability = scene(sentences, generator, laterality=laterality, lesion=lesion)
    mixing = PatchMix(**{"block": BLOCK, "rate": 1.0, **options})
    return image, probability, mixing(image, probability, sentences, generator=generator)


def sides(sentence: str) -> set[str]:
    return (
        {side for side, _ in read_findings(sentence).zones} - {"center"}
        if position_phrases(sentence)
        else set()
    )


def check_truth(sentences: list[str], seed: int, *, laterality: str = "image") -> tuple[int, int]:
    """Check what position mode promises; return how many cases were mixed, and how many were told anew."""
    _, _, batch = mix(sentences, seed, laterality=laterality)
    for index, (before, after) in enumerate(zip(sentences, batch.sentences, strict=True)):
        assert read_findings(after).zones == visible(batch.label[index], after, laterality), (before, after)
        if not batch.mixed[index]:
            assert after == before
            continue
        other = sentences[int(batch.partner[index])]
        assert position_phrases(before)
        assert {frozenset(sides(before)), frozenset(sides(other))} != OPPOSITE, (before, other)
        assert read_findings(after).zones <= read_findings(before).zones | read_findings(other).zones
    told = sum(a != b for a, b in zip(sentences, batch.sentences, strict=True))
    return int(batch.mixed.sum()), told


@pytest.mark.parametrize("laterality", ["image", "patient"])
@pytest.mark.parametrize("write", [lung_sentence, polyp_sentence])
def test_the_mixed_sentence_names_what_is_visible(
    write: Callable[[np.random.Generator], str], laterality: str
) -> None:
    generator = np.random.default_rng(1)
    counts = [
        check_truth([write(generator) for _ in range(12)], seed, laterality=laterality) for seed in range(40)
    ]
    mixed, told = np.sum(counts, axis=0)
    assert mixed > 100
    assert told > 40


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_sentences_of_any_words_stay_true(sentences: list[str], seed: int) -> None:
    check_truth([*sentences, BOTH, EVERYWHERE], seed)


def test_real_captions_stay_true(real_data: Path) -> None:
    captions = []
    for file, delimiter, column in [
        ("text/qata_captions_train.csv", ",", "caption"),
        ("text/mosmeddata_plus_train.csv", ";", "text"),
        ("kvasir_seg/train.csv", ",", "text"),
    ]:
        with (real_data / file).open(encoding="utf-8", newline="") as stream:
            captions.append(
                list(dict.fromkeys(row[column] for row in csv.DictReader(stream, delimiter=delimiter)))
            )
    mixed = 0
    for distinct in captions:
        order = np.random.default_rng(0).permutation(len(distinct))
        for start in range(0, len(distinct), 24):
            mixed += check_truth([distinct[i] for i in order[start : start + 24]], start)[0]
    assert mixed > 50


@pytest.mark.parametrize("mode", ["position", "probability"])
def test_left_and_right_are_never_mixed(mode: str) -> None:
    """All of both images is lesion to the teacher: nothing but the sentences forbids it."""
    image, probability = torch.randn(6, 1, SIDE, SIDE), torch.ones(6, 1, SIDE, SIDE)
    sentences = [LEFT, RIGHT] * 3
    mixing, pairs = PatchMix(mode, block=BLOCK, rate=1.0), set()
    for seed in range(20):
        batch = mixing(image, probability, sentences, generator=np.random.default_rng(seed))
        for case in batch.mixed.nonzero()[:, 0].tolist():
            pairs.add((sentences[case], sentences[int(batch.partner[case])]))
    assert pairs == {(LEFT, LEFT), (RIGHT, RIGHT)}


def test_one_side_and_both_are_mixed() -> None:
    sentences = [LEFT, BOTH]
    texts = {mix(sentences, seed)[2].sentences[0] for seed in range(30)}
    named = {read_findings(text).zones for text in texts}
    own = frozenset({("left", "upper")})
    assert named == {own, own | {("left", "lower")}, own | {("right", "lower")}}


def test_lungs_and_polyps_are_not_mixed() -> None:
    sentences = [EVERYWHERE, "one polyp located in top left of the image"]
    image, probability = torch.randn(2, 1, SIDE, SIDE), torch.ones(2, 1, SIDE, SIDE)
    mixing = PatchMix(block=BLOCK, rate=1.0)
    for seed in range(10):
        assert not mixing(image, probability, sentences, generator=np.random.default_rng(seed)).mixed.any()


def test_a_sentence_without_a_phrase_of_place_is_not_mixed() -> None:
    image, probability = torch.randn(2, 1, SIDE, SIDE), torch.ones(2, 1, SIDE, SIDE)
    mixing = PatchMix(block=BLOCK, rate=1.0)
    seen = torch.zeros(2, dtype=torch.bool)
    for seed in range(10):
        batch = mixing(image, probability, [PLACELESS, EVERYWHERE], generator=np.random.default_rng(seed))
        seen |= batch.mixed
        assert batch.sentences == [PLACELESS, EVERYWHERE]
    assert seen.tolist() == [False, True]


@pytest.mark.parametrize("mode", ["position", "probability"])
def test_a_rejected_patch_changes_nothing(mode: str) -> None:
    """Half of each zone is lesion to the teacher, in stripes, so that every block has a mean of 0.5."""
    probability = torch.zeros(4, 1, SIDE, SIDE)
    probability[..., ::2] = 1.0
    image, sentences = torch.randn(4, 3, SIDE, SIDE), [EVERYWHERE, BOTH, EVERYWHERE, EVERYWHERE]
    for seed in range(10):
        mixing = PatchMix(mode, block=BLOCK, rate=1.0, accept=0.55)
        batch = mixing(image, probability, sentences, generator=np.random.default_rng(seed))
        assert not batch.mixed.any()
        assert not batch.region.any()
        assert torch.equal(batch.image, image)
        assert torch.equal(batch.label, (probability >= 0.55).float())
        assert batch.sentences == sentences
        accepted = PatchMix(mode, block=BLOCK, rate=1.0, accept=0.5)(
            image, probability, sentences, generator=np.random.default_rng(seed)
        )
        assert accepted.mixed.any() == (accepted.partner != torch.arange(4)).any()


def test_mixing_before_the_gate_leaves_the_rejected_patch_in_the_image_alone() -> None:
    image, probability, batch = mix([EVERYWHERE] * 4, 3, lesion=0.6, accept=0.7, mix_before_gate=True)
    assert batch.region.flatten(1).sum(dim=1).unique().tolist() == [BLOCK**2]
    assert not batch.mixed.any()
    assert batch.sentences == [EVERYWHERE] * 4
    assert torch.equal(batch.label, (probability >= 0.55).float())
    assert torch.equal(batch.image, torch.where(batch.region, image[batch.partner], image))
    assert not torch.equal(batch.image, image)


@pytest.mark.parametrize("mode", ["position", "probability", "cutmix"])
def test_image_and_label_are_the_equations_pixel_by_pixel(mode: str) -> None:
    generator = np.random.default_rng(5)
    image = torch.from_numpy(generator.normal(size=(5, 2, 24, 24)))
    probability = torch.from_numpy(generator.beta(2, 1, size=(5, 1, 24, 24))).float()
    mixing = PatchMix(mode, block=BLOCK, rate=0.7)
    before = image.clone(), probability.clone()
    batch = mixing(image, probability, [EVERYWHERE] * 5, generator=generator)
    assert batch.mixed.any()
    assert not batch.mixed.all()
    for case in range(5):
        other, mixed = int(batch.partner[case]), bool(batch.mixed[case])
        assert int(batch.region[case].sum()) == (BLOCK**2 if mixed else 0)
        for row in range(24):
            for column in range(24):
                source = other if batch.region[case, 0, row, column] else case
                value = float(probability[source, 0, row, column])
                assert torch.equal(batch.image[case, :, row, column], image[source, :, row, column])
                assert batch.label[case, 0, row, column] == float(value >= (0.5 if mixed else 0.55))
    assert torch.equal(image, before[0])
    assert torch.equal(probability, before[1])
    assert sorted(batch.partner.tolist()) == list(range(5))
    assert (batch.label.dtype, batch.region.dtype, batch.mixed.dtype) == (
        torch.float32,
        torch.bool,
        torch.bool,
    )


def corner(batch: Mixed, case: int = 0) -> tuple[int, int] | None:
    """The first row and column of the block in an image."""
    rows, columns = batch.region[case, 0].nonzero(as_tuple=True)
    return (int(rows.min()), int(columns.min())) if len(rows) else None


def test_probability_mode_pastes_around_lesion_and_leaves_the_text_alone() -> None:
    sentences = [BOTH, LEFT, BOTH, PLACELESS, "", "Pneumonia."]
    probability = torch.zeros(6, 1, SIDE, SIDE)
    probability[:, :, 2, 40:46] = 0.6  # six sure pixels near the upper right corner
    probability[:, :, 5:12, 30:39] = 0.54
    mixing = PatchMix("probability", block=BLOCK, rate=1.0, accept=0.0)
    corners = set()
    for seed in range(40):
        image = torch.randn(6, 1, SIDE, SIDE)
        batch = mixing(image, probability, sentences, generator=np.random.default_rng(seed))
        assert batch.sentences == sentences
        assert torch.equal(batch.mixed, batch.partner != torch.arange(6))
        corners |= {corner(batch, case) for case in batch.mixed.nonzero()[:, 0].tolist()}
    assert corners == {(0, column) for column in range(36, 41)}  # centred; at the border moved inside


def test_probability_mode_needs_a_sure_pixel() -> None:
    batch = mix([EVERYWHERE] * 4, lesion=0.54, accept=0.0, mode="probability")[2]
    assert not batch.region.any()


def test_cutmix_asks_neither_teacher_nor_sentences() -> None:
    image, probability = torch.randn(2, 1, 12, 12), torch.zeros(2, 1, 12, 12)
    mixing, corners = PatchMix("cutmix", block=BLOCK, rate=1.0), set()
    for seed in range(400):
        batch = mixing(image, probability, [LEFT, RIGHT], generator=np.random.default_rng(seed))
        assert batch.sentences == [LEFT, RIGHT]
        assert torch.equal(batch.mixed, batch.partner != torch.arange(2))
        corners.add(corner(batch))
    assert corners - {None} == {(row, column) for row in range(5) for column in range(5)}


def test_blocks_of_position_mode_lie_anywhere_in_a_named_zone_and_nowhere_else() -> None:
    """Zones of 10 x 12 pixels and a block of 8: 3 x 5 spots in each of the two zones, none more likely."""
    image, probability = torch.zeros(50, 1, 30, 24), torch.ones(50, 1, 30, 24)
    sentences = ["Unilateral pulmonary infection, two infected areas, upper lower left lung."] * 50
    mixing, generator, counts = PatchMix(block=BLOCK, rate=1.0), seeded(0), Counter()
    for _ in range(80):
        batch = mixing(image, probability, sentences, generator=generator)
        counts.update(corner(batch, case) for case in batch.mixed.nonzero()[:, 0].tolist())
    assert set(counts) == {(row + top, column) for top in (0, 20) for row in range(3) for column in range(5)}
    expected = counts.total() / len(counts)
    np.testing.assert_allclose(list(counts.values()), expected, rtol=0, atol=4.5 * expected**0.5)


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_share_of_mixed_cases_is_the_rate() -> None:
    image, probability = torch.zeros(50, 1, 24, 24), torch.ones(50, 1, 24, 24)
    mixing, generator = PatchMix(block=BLOCK), np.random.default_rng(0)
    mixed = [mixing(image, probability, [EVERYWHERE] * 50, generator=generator).mixed for _ in range(400)]
    assert torch.cat(mixed).float().mean() == pytest.approx(0.08 * 49 / 50, abs=0.008)  # four deviations


def test_draws_repeat_with_the_seed_and_do_not_depend_on_what_is_shown() -> None:
    first, second = mix([EVERYWHERE] * 6, 7)[2], mix([EVERYWHERE] * 6, 7)[2]
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.region, second.region)
    generators = [np.random.default_rng(0) for _ in range(3)]
    image = torch.zeros(6, 1, SIDE, SIDE)
    for generator, value, mode in zip(
        generators, (0.0, 1.0, 1.0), ("position", "probability", "cutmix"), strict=True
    ):
        PatchMix(mode, rate=0.5)(image, image + value, [LEFT] * 6, generator=generator)
    assert len({generator.random() for generator in generators}) == 1


def test_first_phrases_are_joined_as_in_the_papers_code() -> None:
    """The block lies in the box of the first phrase of i, and the text names what j names, visible or not."""
    upper_lower = "Unilateral pulmonary infection, two infected areas, upper lower left lung."
    sentences, corners = [upper_lower, BOTH], set()
    image, probability = torch.randn(2, 1, SIDE, SIDE), torch.ones(2, 1, SIDE, SIDE)
    mixing = PatchMix(block=BLOCK, rate=1.0, first_phrase_only=True)
    for seed in range(200):
        batch = mixing(image, probability, sentences, generator=seeded(seed))
        if batch.mixed.any():
            assert batch.sentences == [join_first_phrases(*sentences), join_first_phrases(*sentences[::-1])]
            corners.add(corner(batch))
    assert "upper lower left lung and lower left lung" in join_first_phrases(*sentences)
    rows, columns = np.array(sorted(corners)).T
    assert (rows.min(), columns.max()) == (0, 24 - BLOCK)
    assert rows.max() > 32  # the lower zone; the middle one, which the phrase spans, is between
    assert ((rows > 8) & (rows < 24)).any()


def test_first_phrases_of_two_sides_are_not_joined() -> None:
    image, probability = torch.randn(2, 1, SIDE, SIDE), torch.ones(2, 1, SIDE, SIDE)
    mixing = PatchMix(block=BLOCK, rate=1.0, first_phrase_only=True)
    for sentences in ([RIGHT, BOTH], [LEFT, RIGHT], [PLACELESS, ""]):
        for seed in range(5):
            batch = mixing(image, probability, sentences, generator=seeded(seed))
            assert not batch.mixed.any()
            assert batch.sentences == sentences


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_of_a_teacher_is_read(dtype: torch.dtype) -> None:
    with torch.inference_mode():
        image, probability = scene([EVERYWHERE] * 4, np.random.default_rng(0))
        probability = probability.to(dtype)
    batch = PatchMix(block=BLOCK, rate=1.0)(image.clone(), probability, [EVERYWHERE] * 4, generator=seeded(2))
    assert batch.mixed.any()
    assert batch.label.dtype == torch.float32
    assert not batch.label.is_inference()
    assert not batch.image.requires_grad


def test_a_single_case_and_an_empty_sentence_pass() -> None:
    image, probability = torch.randn(1, 1, SIDE, SIDE), torch.full((1, 1, SIDE, SIDE), 0.52)
    batch = PatchMix(rate=1.0)(image, probability, [None], generator=seeded(0))
    assert batch.sentences == [""]
    assert torch.equal(batch.image, image)
    assert not batch.label.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "pos"}, "mode must be one of position, probability, cutmix, got 'pos'"),
        ({"block": 0}, "block must be at least 1 pixel, got 0"),
        ({"rate": 1.5}, r"rate must be between 0 and 1, got 1\.5"),
        ({"accept": -0.1}, r"accept must be between 0 and 1, got -0\.1"),
        ({"threshold": 2}, "threshold must be between 0 and 1, got 2"),
        ({"mixed_threshold": 2}, "mixed_threshold must be between 0 and 1, got 2"),
        ({"laterality": "left"}, "laterality must be image or patient, got 'left'"),
    ],
)
def test_arguments_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatchMix(**options)


@pytest.mark.parametrize(
    ("image", "probability", "sentences", "message"),
    [
        ((2, 3, 48), (2, 1, 48, 48), 2, r"image must be \(B, C, H, W\), got \(2, 3, 48\)"),
        (
            (2, 3, 48, 48),
            (2, 48, 48),
            2,
            r"probability must be \(2, 1, 48, 48\) like the image, got \(2, 48, 48\)",
        ),
        ((2, 3, 48, 48), (2, 1, 48, 48), 1, r"sentences must be one per image \(2\), got 1"),
        (
            (2, 3, 32, 48),
            (2, 1, 32, 48),
            2,
            "block must be at most 10 pixels for images of 32 x 48 in mode 'position'",
        ),
    ],
)
def test_batches_are_checked(
    image: tuple[int], probability: tuple[int], sentences: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PatchMix()(torch.zeros(image), torch.zeros(probability), [LEFT] * sentences, generator=seeded(0))


@pytest.mark.parametrize("value", [1.1, -0.1, float("nan")])
def test_logits_are_refused(value: float) -> None:
    image, probability = torch.zeros(2, 1, SIDE, SIDE), torch.zeros(2, 1, SIDE, SIDE)
    probability[1, 0, 3, 4] = value
    with pytest.raises(ValueError, match=r"probability must lie in 0\.\.1.*apply the sigmoid"):
        PatchMix()(image, probability, [LEFT] * 2, generator=seeded(0))

"""Zones of a batch of sentences as bits."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.text.findings import read_findings
from common.text.laterality import mirror_sentence
from common.text.zone_bits import zone_bits
from common.text.zones import LUNG_ZONES, POLYP_ZONES

POLYP = "one small round polyp, located in top left of the image"


def digits(bits: torch.Tensor) -> list[str]:
    return ["".join(str(int(bit)) for bit in row) for row in bits]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (
            "Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung.",
            "001100",
        ),
        ("Unilateral pulmonary infection, one infected area, all left lung.", "111000"),
        ("Opacity in the left lung.", "111000"),
        ("RML consolidation.", "000010"),
        ("No consolidation in the left lung. Right lower lobe opacity.", "000001"),
        ("No pulmonary infection, zero infected areas.", "000000"),
        ("Pulmonary infection.", "000000"),
        ("", "000000"),
        (None, "000000"),
    ],
)
def test_lung_sentences(sentence: str | None, expected: str) -> None:
    assert digits(zone_bits([sentence])) == [expected]


def test_type_and_shape() -> None:
    bits = zone_bits([None, POLYP, POLYP])
    assert bits.dtype == torch.bool
    assert bits.shape == (3, 9)
    assert zone_bits([]).shape == (0, 6)
    assert zone_bits([], anatomy="polyp").shape == (0, 9)


def test_polyp_sentences() -> None:
    assert digits(zone_bits([POLYP, "two polyps at center, bottom right"])) == ["100000000", "000010001"]


def test_anatomy_of_the_majority() -> None:
    lung = "Opacity in the upper left lung."
    assert zone_bits([lung, POLYP, None, ""]).shape == (4, 6)  # as many of both: lungs
    mixed = zone_bits([lung, POLYP, POLYP])
    assert digits(mixed) == ["100000000"] * 3
    assert digits(zone_bits([POLYP, None, None])) == ["100000000", "000000000", "000000000"]
    assert digits(zone_bits([POLYP], anatomy="lung")) == ["100000"]


def test_mirrored_sentences_have_mirrored_bits() -> None:
    sentences = ["lower left lung and upper right lung", "RUL opacity", "lingula", "both bases"]
    bits = zone_bits(sentences)
    mirrored = zone_bits([mirror_sentence(sentence) for sentence in sentences])
    torch.testing.assert_close(mirrored, bits[:, [3, 4, 5, 0, 1, 2]], rtol=0, atol=0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.frozensets(st.sampled_from(LUNG_ZONES)), max_size=6),
    st.lists(st.frozensets(st.sampled_from(POLYP_ZONES), min_size=1), max_size=6),
)
def test_bits_are_the_zones_of_the_reader(
    lungs: list[frozenset[tuple[str, str]]], polyps: list[frozenset[tuple[str, str]]]
) -> None:
    sentences = ["; ".join(f"opacity in the {level} {side} lung" for side, level in zones) for zones in lungs]
    sentences += [
        "polyp at " + ", ".join(f"{level} {side}" for side, level in sorted(zones)) for zones in polyps
    ]
    for anatomy, order in (("lung", LUNG_ZONES), ("polyp", POLYP_ZONES)):
        bits = zone_bits(sentences, anatomy=anatomy)
        for sentence, row in zip(sentences, bits, strict=True):
            read = read_findings(sentence, anatomy=anatomy).zones
            assert {zone for zone, bit in zip(order, row, strict=True) if bit} == read
    torch.testing.assert_close(
        zone_bits(sentences[: len(lungs)], anatomy="lung").sum(1),
        torch.tensor([len(zones) for zones in lungs], dtype=torch.int64),
    )


def test_real_captions_have_the_bits_of_their_table(real_data: Path) -> None:
    with (real_data / "text" / "qata_captions_train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row, bits in zip(rows, digits(zone_bits([row["caption"] for row in rows])), strict=True):
        assert bits in row["accepted_zones"].split("|"), row["caption"]


def test_errors() -> None:
    with pytest.raises(TypeError, match="sequence of sentences, got one string: put it into a list"):
        zone_bits("RUL opacity")
    with pytest.raises(TypeError, match="must be a string or None, got int"):
        zone_bits([3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="anatomy must be 'auto', 'lung' or 'polyp', got 'liver'"):
        zone_bits([], anatomy="liver")

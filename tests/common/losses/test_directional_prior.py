"""The Gaussians of the named zones: where they lie, how they mirror."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from common.losses import directional_prior
from common.text import (
    LUNG_ZONES,
    POLYP_ZONES,
    Findings,
    mirror_findings,
    mirror_sentence,
    read_findings,
    zone_regions,
)

COMBINATIONS = [frozenset(c) for n in range(1, 7) for c in itertools.combinations(LUNG_ZONES, n)]


def named_pixels(zones: frozenset, size: tuple[int, int], **where: str) -> torch.Tensor:
    regions = zone_regions(*size, **where)
    return torch.from_numpy(np.logical_or.reduce([regions[zone] for zone in zones]))


def test_there_are_63_combinations() -> None:
    assert len(COMBINATIONS) == 63


@pytest.mark.parametrize("laterality", ["image", "patient"])
@pytest.mark.parametrize("size", [(224, 224), (96, 96), (48, 70)])
def test_every_combination_of_lung_zones_is_drawn_where_it_is_named(
    size: tuple[int, int], laterality: str
) -> None:
    findings = [Findings(zones=zones) for zones in COMBINATIONS]
    priors = directional_prior(findings, size, laterality=laterality)
    assert priors.shape == (63, 1, *size)
    assert float(priors.min()) >= 0
    assert float(priors.max()) <= 1
    for zones, prior in zip(COMBINATIONS, priors[:, 0], strict=True):
        named = named_pixels(zones, size, laterality=laterality)
        assert named.flatten()[prior.argmax()], zones
        if len(zones) < 6:
            assert prior[named].mean() >= 1.3 * prior[~named].mean(), zones


def test_every_combination_mirrors_exactly_with_its_image() -> None:
    findings = [Findings(zones=zones) for zones in COMBINATIONS]
    mirrored = [mirror_findings(found) for found in findings]
    for size in ((96, 96), (33, 41)):
        torch.testing.assert_close(
            directional_prior(mirrored, size), directional_prior(findings, size).flip(3), rtol=0, atol=0
        )


def test_a_mirrored_sentence_mirrors_the_prior_inside_a_mirrored_box() -> None:
    sentence = (
        "Bilateral pulmonary infection, two infected areas, lower left lung and upper middle right lung."
    )
    box, flipped = torch.tensor([[3, 40, 5, 22]]), torch.tensor([[3, 40, 50 - 22, 50 - 5]])
    prior = directional_prior([read_findings(sentence)], (44, 50), boxes=box)
    mirrored = directional_prior([read_findings(mirror_sentence(sentence))], (44, 50), boxes=flipped)
    torch.testing.assert_close(mirrored, prior.flip(3), rtol=0, atol=0)


def test_both_lateralities_draw_the_same_words_on_opposite_halves() -> None:
    found = [read_findings("Unilateral pulmonary infection, one infected area, lower left lung.")]
    image, patient = (
        directional_prior(found, (60, 80), laterality=name)[0, 0] for name in ("image", "patient")
    )
    assert int(image.argmax()) % 80 < 40 <= int(patient.argmax()) % 80
    assert image[:, :40].sum() > 2 * image[:, 40:].sum()
    torch.testing.assert_close(patient, image.flip(1), rtol=0, atol=0)


def test_polyp_zones_are_thirds() -> None:
    for count in (1, 2, 5, 8):
        for zones in itertools.combinations(POLYP_ZONES, count):
            found = Findings(zones=frozenset(zones), anatomy="polyp")
            prior = directional_prior([found], (48, 48))[0, 0]
            named = named_pixels(found.zones, (48, 48), anatomy="polyp")
            assert named.flatten()[prior.argmax()]
            assert prior[named].mean() >= 1.3 * prior[~named].mean()


@pytest.mark.parametrize(
    ("sentence", "zones"),
    [
        ("Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung.", 2),
        ("Unilateral pulmonary infection, one infected area, all left lung.", 3),
        ("Bilateral pulmonary infection, four infected areas, all left lung and all right lung.", 6),
        ("Unilateral pulmonary infection, one infected area, left lung.", 3),
        ("one medium polyp, bottom right", 1),
    ],
)
def test_all_phrases_of_a_sentence_count(sentence: str, zones: int) -> None:
    found = read_findings(sentence)
    assert len(found.zones) == zones
    prior = directional_prior([found], (90, 90))[0, 0]
    for zone in found.zones:
        region = zone_regions(90, 90, anatomy=found.anatomy)[zone]
        assert float(prior[torch.from_numpy(region)].max()) > 0.99


@pytest.mark.parametrize("sentence", [None, "", "Pulmonary infection.", "No findings.", "xyzzy"])
def test_a_sentence_without_direction_gives_a_flat_prior(sentence: str | None) -> None:
    found = read_findings(sentence)
    torch.testing.assert_close(directional_prior([found], (20, 30)), torch.ones(1, 1, 20, 30))
    boxed = directional_prior([found], (20, 30), boxes=torch.tensor([[2, 10, 4, 20]]))
    expected = torch.zeros(1, 1, 20, 30)
    expected[:, :, 2:10, 4:20] = 1
    torch.testing.assert_close(boxed, expected)


def test_one_zone_is_the_gaussian_of_the_docstring() -> None:
    prior = directional_prior([Findings(zones=frozenset({("right", "upper")}))], (60, 40))[0, 0]
    for row, column in ((0, 0), (10, 30), (59, 39)):
        u, v = (column + 0.5) / 40, (row + 0.5) / 60
        expected = math.exp(-((u - 0.75) ** 2) / (2 * 0.25**2) - (v - 1 / 6) ** 2 / (2 * 0.2**2))
        assert float(prior[row, column]) == pytest.approx(expected, rel=1e-5)


def test_a_batch_may_mix_anatomies() -> None:
    lung, polyp = read_findings("lower left lung"), read_findings("two small polyps, top center")
    both = directional_prior([lung, polyp], (24, 24))
    for index, found in enumerate((lung, polyp)):
        torch.testing.assert_close(both[index : index + 1], directional_prior([found], (24, 24)))


def test_the_prior_is_zero_outside_its_box() -> None:
    box = torch.tensor([[10, 30, 20, 44]])
    prior = directional_prior([read_findings("lower left lung")], (50, 50), boxes=box)
    outside = torch.ones(50, 50, dtype=torch.bool)
    outside[10:30, 20:44] = False
    assert float(prior[0, 0][outside].abs().max()) == 0
    assert bool((prior[0, 0, 10:30, 20:44] > 0).all())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"laterality must be 'image' or 'patient', got 'viewer'"):
        directional_prior([Findings()], (8, 8), laterality="viewer")
    with pytest.raises(ValueError, match=r"boxes must be \(1, 4\), one per image, got \(2, 4\)"):
        directional_prior([Findings()], (8, 8), boxes=torch.zeros(2, 4, dtype=torch.long))

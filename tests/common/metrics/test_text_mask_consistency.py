"""Agreement of masks with sentences on side, zones and count, by construction and on real captions."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from common.metrics import Consistency, count_components, named_sides, text_mask_consistency
from common.text.findings import Findings, read_findings

UPPER_LEFT, LOWER_LEFT, LOWER_RIGHT = ("left", "upper"), ("left", "lower"), ("right", "lower")


def findings(*zones: tuple[str, str], **other) -> Findings:
    fields = {"side": None, "count": None, "negated": False, "sizes": (), "anatomy": "lung"}
    fields.update(unknown_words=(), contradictions=(), zones=frozenset(zones))
    return Findings(**{**fields, **other})


def mask(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (90, 120)) -> np.ndarray:
    drawn = np.zeros(shape, bool)
    for top, bottom, left, right in boxes:
        drawn[top:bottom, left:right] = True
    return drawn


IMAGE_UPPER_LEFT, IMAGE_LOWER_LEFT, IMAGE_LOWER_RIGHT = (5, 20, 10, 40), (65, 85, 10, 40), (65, 85, 80, 110)


@pytest.mark.parametrize(
    ("boxes", "named", "side", "zones"),
    [
        ([IMAGE_LOWER_LEFT], [LOWER_LEFT], 1, 1),
        ([IMAGE_LOWER_LEFT], [LOWER_RIGHT], 0, 0),
        ([IMAGE_LOWER_LEFT], [LOWER_LEFT, LOWER_RIGHT], 0, 1 / 2),
        ([IMAGE_LOWER_LEFT, IMAGE_LOWER_RIGHT], [LOWER_LEFT], 0, 1 / 2),
        ([IMAGE_LOWER_LEFT, IMAGE_UPPER_LEFT], [LOWER_LEFT], 1, 1 / 2),
        ([IMAGE_UPPER_LEFT, IMAGE_LOWER_RIGHT], [UPPER_LEFT, LOWER_RIGHT], 1, 1),
        ([IMAGE_UPPER_LEFT, IMAGE_LOWER_RIGHT], [LOWER_LEFT, LOWER_RIGHT], 1, 1 / 3),
        ([], [LOWER_LEFT], 0, 0),
    ],
)
def test_side_and_zones(boxes, named, side: float, zones: float) -> None:
    agreement = text_mask_consistency(mask(*boxes), findings(*named))
    assert agreement.side == side
    assert agreement.zones == pytest.approx(zones)


@pytest.mark.parametrize("anatomy", ["lung", "polyp"])
def test_mirrored_mask_agrees_in_the_other_laterality(anatomy: str) -> None:
    drawn, named = mask(IMAGE_LOWER_LEFT), findings(LOWER_LEFT, anatomy=anatomy)
    assert text_mask_consistency(drawn, named, laterality="image").side == 1
    assert text_mask_consistency(drawn, named, laterality="patient").side == 0
    for laterality, image in (("image", drawn), ("patient", drawn[:, ::-1])):
        assert text_mask_consistency(image, named, laterality=laterality) == Consistency(1.0, 1.0, None)


def test_polyps_have_a_centre_and_three_columns() -> None:
    middle = mask((40, 50, 50, 70))
    named = findings(("center", "middle"), anatomy="polyp")
    assert text_mask_consistency(middle, named) == Consistency(1.0, 1.0, None)
    assert text_mask_consistency(mask((40, 50, 0, 20)), named) == Consistency(0.0, 0.0, None)


def test_a_polyp_is_where_its_centre_is_and_lungs_are_where_their_pixels_are() -> None:
    large = mask((20, 70, 30, 90))
    named = {("center", "middle")}
    assert text_mask_consistency(large, findings(*named, anatomy="polyp", count=1)) == Consistency(
        1.0, 1.0, 1.0
    )
    speck = mask((20, 70, 30, 90), (0, 1, 0, 1))
    assert text_mask_consistency(speck, findings(*named, anatomy="polyp")).zones == 1
    levels = ("upper", "middle", "lower")
    lungs = findings(*((side, level) for side in ("left", "right") for level in levels))
    assert text_mask_consistency(large, lungs) == Consistency(1.0, 1.0, None)


@pytest.mark.parametrize(("count", "expected"), [(2, 1), (1, 0), (3, 0), (None, None)])
def test_count_leaves_specks_out(count: int | None, expected: float | None) -> None:
    drawn = mask(IMAGE_LOWER_LEFT, IMAGE_LOWER_RIGHT, (0, 1, 0, 1))
    assert count_components(drawn) == 2
    assert count_components(drawn, min_component=0) == 3
    assert text_mask_consistency(drawn, findings(count=count)).count == expected


def test_components_that_touch_at_a_corner_are_one() -> None:
    assert count_components(mask((0, 10, 0, 10), (10, 20, 10, 20))) == 1
    assert count_components(mask()) == 0


def test_a_few_pixels_beyond_the_midline_do_not_make_a_second_side() -> None:
    leaking = mask((60, 80, 20, 60), (60, 62, 60, 62))
    assert text_mask_consistency(leaking, findings(LOWER_LEFT)).side == 1
    assert text_mask_consistency(leaking, findings(LOWER_LEFT), min_share=0).side == 0


def test_a_sentence_that_denies_everything_wants_an_empty_mask() -> None:
    denied = findings(negated=True)
    assert text_mask_consistency(mask(), denied) == Consistency(1.0, 1.0, 1.0)
    assert text_mask_consistency(mask(IMAGE_LOWER_LEFT), denied) == Consistency(0.0, 0.0, 0.0)


def test_what_the_sentence_does_not_say_is_undefined() -> None:
    drawn = mask(IMAGE_LOWER_LEFT)
    assert text_mask_consistency(drawn, None) == Consistency()
    assert text_mask_consistency(drawn, findings()) == Consistency()
    assert text_mask_consistency(drawn, findings(side="left")) == Consistency(side=1.0)
    assert text_mask_consistency(drawn, findings(side="bilateral")) == Consistency(side=0.0)
    assert Consistency(1.0, 0.5, None).columns("truth") == {
        "side_truth": 1.0,
        "zones_truth": 0.5,
        "count_truth": None,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"side": "left"}, {"left"}),
        ({"side": "bilateral"}, {"left", "right"}),
        ({"side": "center", "anatomy": "polyp"}, {"center"}),
        ({"negated": True}, set()),
        ({}, None),
    ],
)
def test_named_sides(given: dict, expected: set[str] | None) -> None:
    assert named_sides(findings(**given)) == expected
    assert named_sides(findings(UPPER_LEFT, LOWER_RIGHT)) == {"left", "right"}


def test_a_volume_is_seen_through_its_slices() -> None:
    volume = np.zeros((90, 120, 4), bool)
    volume[65:85, 10:40, 1:3] = True
    assert text_mask_consistency(volume, findings(LOWER_LEFT, count=1)) == Consistency(1.0, 1.0, 1.0)


def test_errors_name_what_came() -> None:
    with pytest.raises(ValueError, match="mask must hold only 0 and 1"):
        text_mask_consistency(np.full((4, 4), 0.5), findings())
    with pytest.raises(ValueError, match=r"2 or 3 dimensions \(no channel\), got 4"):
        text_mask_consistency(np.zeros((1, 4, 4, 4)), findings())
    with pytest.raises(ValueError, match=r"min_share must be in \[0, 1\), got 1"):
        text_mask_consistency(mask(), findings(), min_share=1)
    with pytest.raises(ValueError, match=r"laterality must be .* got 'radiologist'"):
        text_mask_consistency(mask(), findings(LOWER_LEFT), laterality="radiologist")


def test_true_masks_of_real_captions_agree_on_side_and_count(real_data) -> None:
    folder = real_data / "qata_cov19"
    with (folder / "prompt" / "test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:150]
    agreements = []
    for row in rows:
        path = folder / "Test" / "GTs" / row["Image"]
        with Image.open(path if path.is_file() else path.with_name(f"mask_{path.name}")) as picture:
            true = np.asarray(picture.convert("L")) > 127
        agreements.append(text_mask_consistency(true, read_findings(row["Description"])))
    assert np.mean([a.side for a in agreements if a.side is not None]) > 0.95
    assert np.mean([a.count for a in agreements if a.count is not None]) > 0.9
    assert np.mean([a.zones for a in agreements if a.zones is not None]) > 0.5

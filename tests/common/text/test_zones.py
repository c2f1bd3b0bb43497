"""Zones as lists, vectors and regions of the image."""

from __future__ import annotations

import numpy as np
import pytest

from common.text.findings import read_findings
from common.text.zones import LUNG_ZONES, POLYP_ZONES, zone_regions, zone_vector, zones_of


def test_order() -> None:
    assert LUNG_ZONES == (
        ("left", "upper"),
        ("left", "middle"),
        ("left", "lower"),
        ("right", "upper"),
        ("right", "middle"),
        ("right", "lower"),
    )
    assert len(set(POLYP_ZONES)) == 9
    assert zones_of("polyp") == POLYP_ZONES


def test_vector() -> None:
    assert zone_vector(read_findings("lower left lung and upper right lung")) == [0, 0, 1, 1, 0, 0]
    assert zone_vector(read_findings("polyp top left")) == [1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert zone_vector(read_findings(None)) == [0] * 6


@pytest.mark.parametrize("anatomy", ["lung", "polyp"])
@pytest.mark.parametrize("laterality", ["image", "patient"])
@pytest.mark.parametrize("size", [(1, 1), (6, 6), (7, 5), (224, 224), (3, 100)])
def test_regions_are_a_partition(anatomy: str, laterality: str, size: tuple[int, int]) -> None:
    regions = zone_regions(*size, anatomy=anatomy, laterality=laterality)
    assert tuple(regions) == zones_of(anatomy)
    assert all(region.shape == size and region.dtype == bool for region in regions.values())
    np.testing.assert_array_equal(np.sum(list(regions.values()), axis=0), 1)


def test_left_is_where_column_is_below_half_the_width() -> None:
    for width in (4, 5, 8, 9):
        regions = zone_regions(9, width)
        left = sum(regions["left", level] for level in ("upper", "middle", "lower"))
        np.testing.assert_array_equal(left[0].astype(bool), np.arange(width) < width / 2)


def test_patient_left_is_drawn_on_the_right() -> None:
    image, patient = zone_regions(6, 6), zone_regions(6, 6, laterality="patient")
    for side, other in (("left", "right"), ("right", "left")):
        for level in ("upper", "middle", "lower"):
            np.testing.assert_array_equal(image[side, level], patient[other, level])
    assert image["left", "upper"][:2, :3].all()
    grid = zone_regions(9, 9, anatomy="polyp", laterality="patient")
    assert grid["left", "lower"][6:, 6:].all()
    assert grid["center", "upper"][:3, 3:6].all()


def test_errors() -> None:
    with pytest.raises(ValueError, match="height and width must be at least 1, got 0 x 4"):
        zone_regions(0, 4)
    with pytest.raises(ValueError, match="laterality must be 'image' or 'patient', got 'mirror'"):
        zone_regions(4, 4, laterality="mirror")
    with pytest.raises(ValueError, match="anatomy must be 'lung' or 'polyp', got 'auto'"):
        zone_regions(4, 4, anatomy="auto")

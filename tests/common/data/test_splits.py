"""Splits: published counts, nesting, and independence of the global random state."""

from __future__ import annotations

import random
from itertools import chain, pairwise

import pytest

from common.data.splits import (
    draw_subset,
    labelled_unlabelled_split,
    random_sections,
    subset_in_file_order,
    subset_in_name_order,
)

QATA = [f"mask_covid_{index}.png" for index in range(5716)]
MOSMED = [f"study_{index}.png" for index in range(2183)]


@pytest.mark.parametrize(
    ("fraction", "count"),
    [(0.01, 57), (0.02, 114), (0.05, 286), (0.15, 857), (0.1, 572), (0.25, 1429), (1.0, 5716)],
)
def test_file_order_counts_are_the_published_ones(fraction: float, count: int) -> None:
    assert len(subset_in_file_order(QATA, fraction)) == count


@pytest.mark.parametrize(
    ("fraction", "count"), [(0.01, 21), (0.02, 43), (0.05, 109), (0.15, 327), (1.0, 2183)]
)
def test_name_order_counts_are_the_published_ones(fraction: float, count: int) -> None:
    assert len(subset_in_name_order(MOSMED, fraction)) == count


def test_file_order_is_a_shuffle_of_the_list_as_it_stands() -> None:
    expected = list(QATA)
    random.Random(42).shuffle(expected)
    assert subset_in_file_order(QATA, 0.01) == expected[:57]
    assert subset_in_file_order(QATA[::-1], 0.01) != expected[:57]


def test_name_order_does_not_depend_on_the_order_given() -> None:
    expected = sorted(MOSMED)
    random.Random(42).shuffle(expected)
    assert subset_in_name_order(MOSMED[::-1], 0.05) == expected[:109]
    cases = [{"id": name} for name in MOSMED]
    assert subset_in_name_order(cases, 0.01, key=lambda case: case["id"]) == [
        {"id": x} for x in expected[:21]
    ]


@pytest.mark.parametrize("rule", ["file_order", "name_order"])
def test_subsets_are_nested(rule: str) -> None:
    subsets = [draw_subset(QATA, fraction, rule=rule) for fraction in (0.01, 0.02, 0.05, 0.15, 1.0)]
    for small, large in pairwise(subsets):
        assert large[: len(small)] == small


@pytest.mark.parametrize("rule", ["file_order", "name_order"])
def test_labelled_and_unlabelled_are_a_partition(rule: str) -> None:
    labelled, unlabelled = labelled_unlabelled_split(QATA, 0.05, rule=rule, seed=7)
    assert labelled == draw_subset(QATA, 0.05, rule=rule, seed=7)
    assert not set(labelled) & set(unlabelled)
    assert sorted(labelled + unlabelled) == sorted(QATA)


def test_input_and_global_generator_are_left_alone() -> None:
    items = list(QATA[:50])
    random.seed(3)
    before = random.getstate()
    subset_in_file_order(items, 0.5)
    random_sections(items)
    assert random.getstate() == before
    assert items == QATA[:50]


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\], got"):
        subset_in_file_order(QATA, fraction)


def test_fraction_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"keep at least one case, got 0\.05 of 10: use 0\.1 or more"):
        subset_in_name_order(QATA[:10], 0.05)


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(
        ValueError, match="subset rule must be 'file_order' or 'name_order', got 'alphabetical'"
    ):
        draw_subset(QATA, 0.5, rule="alphabetical")


def test_random_sections_keep_counts_order_and_seed() -> None:
    sections = random_sections(list(range(50)))
    assert [len(sections[name]) for name in ("training", "validation", "test")] == [35, 5, 10]
    assert sorted(chain(*sections.values())) == list(range(50))
    assert all(part == sorted(part) for part in sections.values())
    assert sections == random_sections(list(range(50)))
    assert sections != random_sections(list(range(50)), seed=1)


def test_random_sections_keep_groups_together() -> None:
    items = [(patient, image) for patient in range(20) for image in range(5)]
    sections = random_sections(items, group=lambda item: item[0])
    patients = [{patient for patient, _ in part} for part in sections.values()]
    assert [len(part) for part in patients] == [14, 2, 4]
    assert len(set().union(*patients)) == sum(len(part) for part in patients)


def test_random_sections_refuse_shares_that_do_not_sum_to_one() -> None:
    with pytest.raises(ValueError, match="three shares that sum to 1"):
        random_sections([1, 2], fractions=(0.5, 0.1, 0.1))

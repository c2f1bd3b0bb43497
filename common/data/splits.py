"""Deterministic subsets and splits of ordered lists of cases, free of any file access."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")

SECTIONS = ("training", "validation", "test")


def subset_in_file_order(items: Sequence[Item], fraction: float, *, seed: int = 42) -> list[Item]:
    """Draw a low-data subset: shuffle the list as it stands, keep the first ``round(N * fraction)``.

    Subsets with the same seed are nested: a smaller fraction is a prefix of a larger one.

    Args:
        items: cases in the order of the data set's own list.
        fraction: share to keep, in (0, 1].
        seed: seed of a private generator; the global one is not touched.

    Returns:
        The kept items in their shuffled order.

    Raises:
        ValueError: if ``fraction`` is outside (0, 1] or keeps nothing.

    Reference:
        Semi-MedRef, low-data lists of QaTa-COV19: 57, 114, 286 and 857 of 5716 images with seed 42.
    """
    _check_fraction(fraction)
    return _prefix(_shuffled(items, seed), round(len(items) * fraction), fraction)


def subset_in_name_order(
    items: Sequence[Item], fraction: float, *, seed: int = 42, key: Callable[[Item], Any] | None = None
) -> list[Item]:
    """Draw a low-data subset: sort by name, shuffle, keep the first ``floor(N * fraction)``.

    Args:
        items: cases in any order.
        fraction: share to keep, in (0, 1].
        seed: seed of a private generator.
        key: name to sort by; the item itself by default.

    Returns:
        The kept items in their shuffled order.

    Raises:
        ValueError: if ``fraction`` is outside (0, 1] or keeps nothing.

    Reference:
        Semi-MedRef, low-data lists of MosMedData+: 21, 43, 109 and 327 of 2183 images with seed 42.
    """
    _check_fraction(fraction)
    shuffled = _shuffled(sorted(items, key=key), seed)
    return _prefix(shuffled, math.floor(len(items) * fraction), fraction)


def labelled_unlabelled_split(
    items: Sequence[Item],
    fraction: float,
    *,
    rule: str = "file_order",
    seed: int = 42,
    key: Callable[[Item], Any] | None = None,
) -> tuple[list[Item], list[Item]]:
    """Split a list into the labelled subset of a low-data protocol and all the rest.

    Args:
        items: cases in the order of the data set's own list.
        fraction: labelled share, in (0, 1].
        rule: ``file_order`` (:func:`subset_in_file_order`) or ``name_order`` (:func:`subset_in_name_order`).
        seed: seed of a private generator.
        key: name to sort by under ``name_order``.

    Returns:
        The labelled items, equal to the subset of the same rule, fraction and seed, and the unlabelled
        ones, in their shuffled order. Together they are a permutation of ``items``.

    Raises:
        ValueError: if ``rule`` is unknown, or ``fraction`` is outside (0, 1] or labels nothing.
    """
    labelled = draw_subset(items, fraction, rule=rule, seed=seed, key=key)
    everything = draw_subset(items, 1.0, rule=rule, seed=seed, key=key)
    return labelled, everything[len(labelled) :]


def draw_subset(
    items: Sequence[Item],
    fraction: float,
    *,
    rule: str = "file_order",
    seed: int = 42,
    key: Callable[[Item], Any] | None = None,
) -> list[Item]:
    """Draw a low-data subset by the rule that a data set names.

    Args:
        items: cases in the order of the data set's own list.
        fraction: share to keep, in (0, 1].
        rule: ``file_order`` or ``name_order``.
        seed: seed of a private generator.
        key: name to sort by under ``name_order``.

    Returns:
        The kept items in their shuffled order.

    Raises:
        ValueError: if ``rule`` is unknown, or ``fraction`` is outside (0, 1] or keeps nothing.
    """
    if rule == "file_order":
        return subset_in_file_order(items, fraction, seed=seed)
    if rule == "name_order":
        return subset_in_name_order(items, fraction, seed=seed, key=key)
    raise ValueError(f"subset rule must be 'file_order' or 'name_order', got {rule!r}")


def random_sections(
    items: Sequence[Item],
    *,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 42,
    group: Callable[[Item], Hashable] | None = None,
) -> dict[str, list[Item]]:
    """Split a list at random into training, validation and test, keeping groups together.

    Args:
        items: cases in any stable order.
        fractions: shares of training, validation and test, each in [0, 1], summing to 1.
        seed: seed of a private generator.
        group: a patient, say: items of one group land in one section. Every item alone by default.

    Returns:
        The three sections, each in the order of ``items``. Counts follow the fractions as closely as whole
        groups allow: test and validation are filled first, up to their rounded counts, then training.

    Raises:
        ValueError: if the fractions are negative or do not sum to 1.
    """
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-9):
        raise ValueError(f"fractions must be three shares that sum to 1, got {fractions}")
    groups: dict[Hashable, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(index if group is None else group(item), []).append(index)
    wanted = {"test": round(len(items) * fractions[2]), "validation": round(len(items) * fractions[1])}
    chosen: dict[str, list[int]] = {name: [] for name in SECTIONS}
    for members in _shuffled(list(groups.values()), seed):
        fits = (name for name, count in wanted.items() if len(chosen[name]) + len(members) <= count)
        chosen[next(fits, "training")].extend(members)
    return {name: [items[index] for index in sorted(indices)] for name, indices in chosen.items()}


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")


def _shuffled(items: Sequence[Item], seed: int) -> list[Item]:
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled


def _prefix(shuffled: list[Item], count: int, fraction: float) -> list[Item]:
    if shuffled and count == 0:
        raise ValueError(
            f"fraction must keep at least one case, got {fraction} of {len(shuffled)}: "
            f"use {1 / len(shuffled):.3g} or more"
        )
    return shuffled[:count]

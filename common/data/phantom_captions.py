"""Sentences for the chest phantoms, in the wording of LViT's captions and in free wording."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .phantom_opacities import LEVELS, SIDES, ZONES, Zone

CAPTION_VERSION = "phantom-1"
WORDINGS = ("lvit", "free")

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_FINDINGS = (
    "patchy opacity",
    "ground-glass opacity",
    "consolidation",
    "airspace opacity",
    "hazy opacity",
    "infiltrate",
)
_NORMAL = (
    "No pulmonary infection.",
    "No pulmonary infection, zero infected areas.",
    "No consolidation.",
    "No infiltrate in either lung.",
)
_OPENINGS = ("{finding} in {place}.", "{finding} of {place}.", "There is {finding} in {place}.")


def caption(rng: np.random.Generator, zones: Iterable[Zone], *, count: int, wording: str) -> str:
    """Write a sentence that names the zones and no others.

    Args:
        rng: source of randomness; it is advanced.
        zones: what the sentence names, in the laterality that the sentence uses.
        count: number of infected areas.
        wording: "lvit" or "free".

    Returns:
        The sentence; without zones, one that says that there is no infection.

    Raises:
        ValueError: an unknown wording or zone.
    """
    named = set(zones)
    if wording not in WORDINGS:
        raise ValueError(f"wording must be one of {WORDINGS}, got {wording!r}")
    if not named <= set(ZONES):
        raise ValueError(f"zones must be among {ZONES}, got {sorted(named - set(ZONES))}")
    levels = {side: [level for level in LEVELS if (side, level) in named] for side in SIDES}
    if not named:
        return str(rng.choice(_NORMAL[:2] if wording == "lvit" else _NORMAL))
    if wording == "lvit":
        return _lvit(rng, levels, count)
    return _free(rng, levels)


def _lvit(rng: np.random.Generator, levels: dict[str, list[str]], count: int) -> str:
    sides = [side for side in SIDES if levels[side]]
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    places = [f"{_lvit_levels(rng, levels[side])} {side} lung" for side in sides]
    return (
        f"{'Bilateral' if len(sides) == 2 else 'Unilateral'} pulmonary infection, "
        f"{number} infected area{'' if count == 1 else 's'}, {' and '.join(places)}."
    )


def _lvit_levels(rng: np.random.Generator, levels: list[str]) -> str:
    return "all" if len(levels) == 3 and rng.random() < 0.7 else " ".join(levels)


def _free(rng: np.random.Generator, levels: dict[str, list[str]]) -> str:
    finding = str(rng.choice(_FINDINGS))
    if levels["left"] == levels["right"] and len(levels["left"]) == 1:
        return _sentence(_symmetric(rng, levels["left"][0], finding))
    order = [side for side in SIDES if levels[side]]
    if rng.random() < 0.5:
        order.reverse()
    place = " and ".join(_place(rng, side, levels[side]) for side in order)
    return _sentence(str(rng.choice(_OPENINGS)).format(finding=finding, place=place))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _symmetric(rng: np.random.Generator, level: str, finding: str) -> str:
    if level == "lower" and rng.random() < 0.4:
        return f"bibasilar {finding}."
    return f"bilateral {level} zone {finding}."


def _place(rng: np.random.Generator, side: str, levels: list[str]) -> str:
    if len(levels) == 3:
        return f"the entire {side} lung"
    if len(levels) == 1:
        return _zone(rng, side, levels[0])
    first, second = levels
    if rng.random() < 0.5:
        return f"the {side} {first} and {second} zones"
    return f"the {first} and {second} {side} lung"


def _zone(rng: np.random.Generator, side: str, level: str) -> str:
    phrases = [f"the {side} {level} zone", f"the {level} {side} lung", f"the {level} zone of the {side} lung"]
    if level == "middle":
        phrases.append(f"the {side} mid zone")
    if (side, level) != ("left", "middle"):
        phrases.append(f"the {side} {level} lobe")
        phrases.append(f"the {(side[0] + level[0]).upper()}L")
    return str(rng.choice(phrases))

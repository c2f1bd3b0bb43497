"""Perturbations of sentences, for tests and for measuring how much a network listens to its text."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .findings import read_findings
from .laterality import mirror_sentence
from .lexicon import ADJACENT_KEYS
from .position_augmentation import PositionAugmentation
from .rewording import abbreviate, drop_position, miscount, paraphrase

Perturbation = Callable[[str, np.random.Generator], str]

_NEIGHBOURS = {key: sorted(b for a, b in ADJACENT_KEYS if a == key) for key, _ in ADJACENT_KEYS}
_UNKNOWN_POSITION = PositionAugmentation(1, 1)
_FUZZY_POSITION = PositionAugmentation(1, 0)
_SLIPS = ("replace", "lose", "double", "swap")


def add_typos(sentence: str, rate: float, generator: np.random.Generator) -> str:
    """Let the hand slip: each ASCII letter is mistyped with a given probability.

    A slip, each kind as likely as the others, replaces the letter by a neighbour on a QWERTY keyboard,
    loses it, doubles it, or swaps it with the next letter. Digits, marks and spaces stay.

    Args:
        sentence: Any sentence.
        rate: Expected share of letters with a slip, in [0, 1].
        generator: What draws the slips.

    Returns:
        The mistyped sentence.

    Raises:
        ValueError: If the rate is not in [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate of typos must be in [0, 1], got {rate}")
    slips, kinds, picks = generator.random((3, len(sentence)))
    written: list[str] = []
    skip = False
    for index, letter in enumerate(sentence):
        following = sentence[index + 1 : index + 2]
        if skip or slips[index] >= rate or letter.lower() not in _NEIGHBOURS:
            written.append("" if skip else letter)
            skip = False
            continue
        kind = _SLIPS[int(kinds[index] * len(_SLIPS))]
        skip = kind == "swap" and following.isalpha()
        written.append(_slip(letter, following if skip else "", kind, picks[index]))
    return "".join(written)


def exchange_sentences(sentences: Sequence[str], *, seed: int = 0) -> list[str]:
    """Give every case the sentence of another case that names other zones.

    Where no zones are named by more than half of the sentences this is a permutation: every sentence is
    used once. Otherwise the sentences that are left over are drawn from those that name other zones.

    Args:
        sentences: One a case, none of them empty.
        seed: Seed of the draw.

    Returns:
        A sentence a case, in the order of the cases.

    Raises:
        ValueError: If all sentences name the same zones.
    """
    zones = [read_findings(sentence).zones for sentence in sentences]
    if len(set(zones)) < 2:
        raise ValueError(f"sentences must name two different sets of zones or more, got {len(set(zones))}")
    generator = np.random.default_rng(seed)
    order = _by_zones(zones, generator)
    largest = max(zones.count(named) for named in set(zones))
    source = dict(zip(order, order[largest:] + order[:largest], strict=True))
    for case, other in source.items():
        if zones[case] == zones[other]:  # only where one set of zones has the majority
            source[case] = int(generator.choice([i for i in order if zones[i] != zones[case]]))
    _mix(source, zones, generator)
    return [sentences[source[case]] for case in range(len(sentences))]


SENTENCE_PERTURBATIONS: dict[str, Perturbation] = {
    "none": lambda sentence, generator: sentence,
    "blank": lambda sentence, generator: "",
    "mirror": lambda sentence, generator: mirror_sentence(sentence),
    "typos_05": lambda sentence, generator: add_typos(sentence, 0.05, generator),
    "typos_10": lambda sentence, generator: add_typos(sentence, 0.10, generator),
    "typos_20": lambda sentence, generator: add_typos(sentence, 0.20, generator),
    "abbreviations": lambda sentence, generator: abbreviate(sentence),
    "drop_position": lambda sentence, generator: drop_position(sentence),
    "unknown_position": lambda sentence, generator: _UNKNOWN_POSITION(sentence, generator=generator),
    "fuzzy_position": lambda sentence, generator: _FUZZY_POSITION(sentence, generator=generator),
    "paraphrase": paraphrase,
    "wrong_count": miscount,
}
"""What a sentence alone is enough for, by name."""

PERTURBATIONS: tuple[str, ...] = (*SENTENCE_PERTURBATIONS, "other")
"""Every kind that `perturb_cases` knows."""


def perturb_sentence(sentence: str | None, kind: str, *, seed: int = 0) -> str:
    """Perturb one sentence.

    Args:
        sentence: Any sentence; None and "" stay the empty prompt.
        kind: One of `PERTURBATIONS`, but not "other", which needs other cases.
        seed: Seed of whatever the kind draws.

    Returns:
        The perturbed sentence; the same arguments give the same one.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in SENTENCE_PERTURBATIONS:
        raise _unknown(kind, tuple(SENTENCE_PERTURBATIONS))
    return SENTENCE_PERTURBATIONS[kind](sentence, np.random.default_rng(seed)) if sentence else ""


def perturb_cases(cases: Sequence[Mapping[str, Any]], kind: str, *, seed: int = 0) -> list[dict[str, Any]]:
    """Perturb the sentences of a list of cases.

    A case without a sentence keeps none. But for "other", what a case gets depends on its own id (its place
    where it has none), the kind and the seed alone, not on the other cases.

    Args:
        cases: Case dictionaries with "text", which may be missing, None or empty.
        kind: One of `PERTURBATIONS`: "none", "blank", "mirror" (sides exchanged), "other" (another case's
            sentence, of other zones), "typos_05", "typos_10", "typos_20" (share of letters), "abbreviations",
            "drop_position" (words of place left out), "unknown_position" and "fuzzy_position" (replaced by
            what the position augmentation of training writes), "paraphrase", "wrong_count".
        seed: Seed of whatever the kind draws.

    Returns:
        Copies of the cases in their order, each with its new "text".

    Raises:
        ValueError: If the kind is unknown (the nearest is named), or "other" finds no other zones.
    """
    if kind not in PERTURBATIONS:
        raise _unknown(kind, PERTURBATIONS)
    copies = [dict(case) for case in cases]
    spoken = [index for index, case in enumerate(copies) if case.get("text")]
    texts = [str(copies[index]["text"]) for index in spoken]
    if kind == "other":
        perturbed = exchange_sentences(texts, seed=seed)
    else:
        seeds = [_case_seed(copies[index].get("id", index), kind, seed) for index in spoken]
        perturb = partial(perturb_sentence, kind=kind)
        perturbed = [perturb(text, seed=own) for text, own in zip(texts, seeds, strict=True)]
    for index, text in zip(spoken, perturbed, strict=True):
        copies[index]["text"] = text
    return copies


def _slip(letter: str, following: str, kind: str, pick: float) -> str:
    if kind == "swap" and following:
        return following + letter
    if kind == "lose":
        return ""
    if kind == "double":
        return letter * 2
    keys = _NEIGHBOURS[letter.lower()]
    key = keys[int(pick * len(keys))]
    return key.upper() if letter.isupper() else key


def _by_zones(zones: list[frozenset[tuple[str, str]]], generator: np.random.Generator) -> list[int]:
    """Case indices, those of the same zones side by side; zones and cases in random order."""
    groups: dict[frozenset[tuple[str, str]], list[int]] = {}
    for case in generator.permutation(len(zones)):
        groups.setdefault(zones[case], []).append(int(case))
    return [case for group in groups.values() for case in group]


def _mix(
    source: dict[int, int], zones: list[frozenset[tuple[str, str]]], generator: np.random.Generator
) -> None:
    """Exchange the sources of random pairs of cases where both still get other zones."""
    for a, b in generator.integers(len(zones), size=(10 * len(zones), 2)).tolist():
        if zones[a] != zones[source[b]] and zones[b] != zones[source[a]]:
            source[a], source[b] = source[b], source[a]


def _case_seed(name: object, kind: str, seed: int) -> int:
    return zlib.crc32(f"{seed}/{kind}/{name}".encode())


def _unknown(kind: str, known: tuple[str, ...]) -> ValueError:
    near = difflib.get_close_matches(str(kind), known, n=2, cutoff=0.4)
    hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return ValueError(f"text perturbation must be one of {', '.join(known)}, got {kind!r}{hint}")

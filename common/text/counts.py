"""The number of findings that a sentence names."""

from __future__ import annotations

from dataclasses import dataclass

from .lexicon import UNCOUNTED, Kind
from .words import Token

_REACH = 10
_SKIPPED = frozenset({Kind.SIZE, Kind.PLAIN, Kind.UNKNOWN, Kind.STRUCTURE, Kind.COMPARE, Kind.DIFFUSE})
_SKIPPED_POLYP = _SKIPPED | {Kind.COMMA, Kind.AND, Kind.LEVEL, Kind.LINK, Kind.PART}
_PLACES = frozenset({Kind.SIDE, Kind.LEVEL, Kind.ZONE})


@dataclass(frozen=True)
class Count:
    """The number read.

    Attributes:
        value: None when no number is named or the numbers disagree.
        contradictions: in words.
        unused: numbers that count nothing, as written.
    """

    value: int | None
    contradictions: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Named:
    index: int
    number: int


def read_count(tokens: list[Token], *, anatomy: str) -> Count:
    """Read how many findings a sentence names.

    Numbers with places of their own ("one area in the left lung and two in the right lung") are added up;
    numbers that stand side by side ("two one infected area") disagree.

    Args:
        tokens: the words of the sentence.
        anatomy: "lung" or "polyp"; a comma may stand between a number and its polyp.

    Returns:
        The count.
    """
    named: list[_Named] = []
    unused: list[str] = []
    clash: list[str] = []
    for index, token in enumerate(tokens):
        if token.entry.number is None:
            continue
        neighbour = tokens[index + 1] if index + 1 < len(tokens) else None
        if neighbour is not None and neighbour.entry.number is not None:
            clash.append(f"two numbers side by side: {token.word} {neighbour.word}")
        elif _counts(tokens, index, anatomy):
            named.append(_Named(index, token.entry.number))
        elif token.word not in ("one", "single", "sole", "solitary"):
            unused.append(token.written)
    value, disagreement = _total(tokens, named)
    contradictions = (*dict.fromkeys(clash), *disagreement)
    if value is None and not contradictions and _article(tokens) is not None:
        value = 1
    return Count(None if contradictions else value, contradictions, tuple(unused))


def _counts(tokens: list[Token], index: int, anatomy: str) -> bool:
    """Whether a number counts findings: one follows it before anything else does."""
    for token in tokens[index + 1 : index + 1 + _REACH]:
        if token.kind is Kind.FINDING and token.word not in UNCOUNTED:
            return True
        skipped = _SKIPPED_POLYP if anatomy == "polyp" else _SKIPPED
        if token.word == "located" or (token.kind is not Kind.FINDING and token.kind not in skipped):
            return False
    return False


def _total(tokens: list[Token], named: list[_Named]) -> tuple[int | None, tuple[str, ...]]:
    if not named:
        return None, ()
    numbers = [name.number for name in named]
    ends = [name.index for name in named[1:]] + [len(tokens)]
    own_places = all(
        any(token.kind in _PLACES for token in tokens[name.index : end])
        for name, end in zip(named, ends, strict=True)
    )
    if len(numbers) > 1 and own_places:
        return sum(numbers), ()
    if len(set(numbers)) == 1:
        return numbers[0], ()
    return None, ("the numbers disagree: " + " and ".join(str(number) for number in dict.fromkeys(numbers)),)


def number_words(tokens: list[Token], *, anatomy: str) -> list[Token]:
    """Return the words that say how many findings a sentence names.

    Args:
        tokens: the words of the sentence.
        anatomy: "lung" or "polyp".

    Returns:
        The numbers that count, those that stand beside them ("two one infected area"), or the article of
        "a polyp" where no number is written.
    """
    found: list[int] = []
    for index in reversed(range(len(tokens))):
        beside = bool(found) and found[-1] == index + 1
        if tokens[index].entry.number is not None and (beside or _counts(tokens, index, anatomy)):
            found.append(index)
    article = None if found else _article(tokens)
    return [tokens[index] for index in ([] if article is None else [article]) + found[::-1]]


def _article(tokens: list[Token]) -> int | None:
    """Return the place of the article of "a polyp", which counts one."""
    for index, token in enumerate(tokens):
        if token.word not in ("a", "an") or token.kind is not Kind.PLAIN:
            continue
        for following in tokens[index + 1 : index + 6]:
            if following.word in ("polyp", "lesion", "nodule", "mass", "adenoma"):
                return index
            if following.kind not in _SKIPPED:
                break
    return None

"""What a sentence denies: the scope of "no", "without", "clear" and "except"."""

from __future__ import annotations

from enum import Enum

from .lexicon import Kind
from .words import Token

_PLACES = frozenset({Kind.SIDE, Kind.LEVEL, Kind.ZONE, Kind.ORGAN})
_EXPLICIT = frozenset({Kind.SIDE, Kind.LEVEL, Kind.ZONE})
_FINDINGS = frozenset({Kind.FINDING, Kind.PLEURAL})
_REACH = 40  # words: keeps the reading of a text without punctuation linear


class Polarity(Enum):
    """What a sentence says of a word's finding."""

    AFFIRMED = 1
    DENIED = -1
    SPARED = 0  # taken out of what is affirmed: "all zones except the right upper"


def clauses(tokens: list[Token]) -> list[list[tuple[Token, Polarity]]]:
    """Cut a text into clauses and say of each word whether it is affirmed.

    A clause ends at a full stop, a semicolon, "but", "however", "except" and their like; a negation never
    reaches beyond it.

    Args:
        tokens: the words of a text.

    Returns:
        The clauses, without empty ones.
    """
    found: list[list[tuple[Token, Polarity]]] = []
    clause: list[Token] = []
    spared = False
    affirmed_before = False
    for token in [*tokens, None]:
        if token is not None and token.kind not in (Kind.STOP, Kind.BREAK, Kind.EXCEPT):
            clause.append(token)
            continue
        if clause:
            found.append(_polarities(clause, spared=spared))
            affirmed_before = _affirms(found[-1])
        spared = token is not None and token.kind is Kind.EXCEPT and affirmed_before
        if token is not None and token.kind is Kind.STOP:
            affirmed_before = False
        clause = [token] if token is not None and token.kind is Kind.EXCEPT else []
    return found


def _affirms(clause: list[tuple[Token, Polarity]]) -> bool:
    return any(
        polarity is Polarity.AFFIRMED and (token.kind in _PLACES or token.kind in _FINDINGS)
        for token, polarity in clause
    )


def _polarities(clause: list[Token], *, spared: bool) -> list[tuple[Token, Polarity]]:
    if spared:
        return [(token, Polarity.SPARED) for token in clause]
    segments = _segments(clause)
    denied: list[bool] = []
    active = False
    for index, segment in enumerate(segments):
        active = active and _continues(segment, segments[index + 1 :])
        flags, active = _segment_flags(segment, active)
        denied.extend(flags)
    return [
        (token, Polarity.DENIED if flag else Polarity.AFFIRMED)
        for token, flag in zip(clause, denied, strict=True)
    ]


def _segments(clause: list[Token]) -> list[list[Token]]:
    """Cut at commas; a comma opens the part that it precedes."""
    parts: list[list[Token]] = [[]]
    for token in clause:
        if token.kind is Kind.COMMA:
            parts.append([])
        parts[-1].append(token)
    return parts


def _continues(segment: list[Token], later: list[list[Token]]) -> bool:
    """Whether a negation goes on behind a comma: in a list, or where the part names no place."""
    if not any(token.kind in _EXPLICIT for token in segment):
        return True
    opening = [token.kind for token in segment[1:2]]
    if Kind.OR in opening or any(token.word == "nor" for token in segment[1:2]):
        return True
    if any(token.kind is Kind.SIDE for token in segment):
        return False
    return any(part[1:2] and part[1].kind is Kind.OR for part in later[:4])


def _segment_flags(segment: list[Token], active: bool) -> tuple[list[bool], bool]:
    flags: list[bool] = []
    start = len(segment) if not active else 0
    for index in range(len(segment)):
        itself = False
        if active and _ends(segment, start, index):
            active = False
        elif _denies_ahead(segment, index):
            flags = _reach_back(segment, index, flags)
            active, start = True, index
        elif _denies_behind(segment, index):
            flags = _behind(segment, index, flags)
            itself = not any(other.kind is Kind.STRUCTURE for other in segment)
        flags.append(active or itself)
    return flags, active


def _ends(segment: list[Token], start: int, index: int) -> bool:
    """Whether a negation ends at a word within a part of the sentence."""
    token = segment[index]
    if token.kind is Kind.AND:
        return _new_statement(segment, start, index)
    return token.word in ("in", "at", "within") and _inserted(segment, start, index)


def _inserted(segment: list[Token], start: int, index: int) -> bool:
    """Whether a negation is inserted between a finding and its place: "opacity without effusion in the LLL"."""
    before, between = segment[max(0, start - _REACH) : start], segment[max(start, index - _REACH) : index]
    return (
        any(token.kind in _FINDINGS for token in before)
        and any(token.kind in _FINDINGS and token.word != "involvement" for token in between)
        and not any(token.kind in _PLACES for token in [*before, *between])
    )


def _denies_ahead(segment: list[Token], index: int) -> bool:
    """Whether a word denies what follows it."""
    token = segment[index]
    if token.kind is Kind.NEGATION or token.word == "neither":
        follows = segment[index + 1].kind if index + 1 < len(segment) else None
        if token.word in ("free", "negative"):
            return follows is Kind.LINK
        return not _is_hollow(segment, index)
    if token.kind is Kind.RESOLVED:
        opens = all(other.kind in (Kind.COMMA, Kind.PLAIN) for other in segment[:index])
        return opens and _next_kind(segment, index) in _PLACES | _FINDINGS
    return token.kind is Kind.CLEAR and not _undone(segment, index) and _next_kind(segment, index) in _PLACES


def _denies_behind(segment: list[Token], index: int) -> bool:
    """Whether a word denies what stands before it: "the left lung is clear"."""
    token = segment[index]
    if token.kind is Kind.CLEAR:
        following = _next_kind(segment, index)
        return following not in _FINDINGS and following is not Kind.STRUCTURE and not _undone(segment, index)
    closing = token.word in ("negative", "free", "nil", "none") and token.kind is Kind.NEGATION
    return (token.kind is Kind.RESOLVED or closing) and not _undone(segment, index)


def _is_hollow(segment: list[Token], index: int) -> bool:
    """Whether a negation denies no finding: "no change in", "cannot exclude", "not clear"."""
    for token in segment[index + 1 : index + 5]:
        if token.kind in _FINDINGS or token.kind in _EXPLICIT:
            return False
        if token.kind in (Kind.CHANGE, Kind.RESOLVED):
            return True
        if token.kind is Kind.CLEAR:
            return segment[index].word not in ("no", "without")
    return False


def _undone(segment: list[Token], index: int) -> bool:
    """Whether "not" or "no" before a word takes it back: "not clear", "not yet resolved"."""
    before = segment[max(0, index - 3) : index]
    return any(token.kind is Kind.NEGATION and token.word not in ("negative", "free") for token in before)


def _next_kind(segment: list[Token], index: int) -> Kind | None:
    for token in segment[index + 1 :]:
        if token.kind not in (Kind.PLAIN, Kind.UNKNOWN, Kind.LINK):
            return token.kind
        if token.kind is Kind.LINK and token.word != "of":
            return None
    return None


def _reach_back(segment: list[Token], index: int, flags: list[bool]) -> list[bool]:
    """Deny the words before a negation where they are what it speaks of.

    "left lung without opacity" and "opacity in the left lung not seen" deny the left lung,
    "left opacity without effusion" does not.
    """
    found = any(token.kind in _FINDINGS for token in segment[:index])
    place = any(token.kind in _PLACES for token in segment[:index])
    return [True] * index if (place and not found) or _seen_behind(segment, index) else flags


def _seen_behind(segment: list[Token], index: int) -> bool:
    for token in segment[index + 1 : index + 5]:
        if token.kind in _FINDINGS:
            return False
        if token.kind is Kind.SEEN:
            return True
    return False


def _behind(segment: list[Token], index: int, flags: list[bool]) -> list[bool]:
    """Deny the words before: "clear" only back to the last finding, "resolved" all of them."""
    first = 0
    if segment[index].kind is Kind.CLEAR:
        first = max((place + 1 for place in range(index) if segment[place].kind in _FINDINGS), default=0)
    return [flag or place >= first for place, flag in enumerate(flags)]


def _new_statement(segment: list[Token], start: int, index: int) -> bool:
    """Whether "and" opens an affirmed statement: both sides of it have a finding and a side of their own."""
    before, after = segment[max(start, index - _REACH) : index], segment[index : index + _REACH]
    return all(
        any(token.kind in _FINDINGS for token in part) and any(token.kind in _EXPLICIT for token in part)
        for part in (before, after)
    )

"""Where in a sentence its phrases of place stand."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .context import read_words
from .lexicon import Kind
from .lung_phrases import Phrase, phrases_of
from .negation import Polarity, clauses
from .polyp_phrases import Cell, cells_of
from .words import Token

__all__ = ["Span", "joined_by", "place_spans"]

_LIST = r"(?:\b(?:and|or|plus)\b|[,/&+])"
_ARTICLE = r"(?:\b(?:of|the|in|at)\b)"
_OTHER = re.compile(rf"(?:\s|{_ARTICLE})*", re.IGNORECASE)
_LISTED = re.compile(rf"(?:\s|{_LIST}|{_ARTICLE})*", re.IGNORECASE)
_AND = re.compile(r"and|or|plus|[/&+]", re.IGNORECASE)
_Clauses = list[list[tuple[Token, Polarity]]]


@dataclass(frozen=True)
class Span:
    """Where a phrase of place stands.

    Attributes:
        start: position of its first character.
        end: position after its last character.
        affirmed: whether the sentence says that something is found there.
        sided: whether it names a side.
        levels: of "upper", "middle", "lower".
        organ: "lung" or "lobe" when such a noun ends it, else "".
    """

    start: int
    end: int
    affirmed: bool
    sided: bool
    levels: frozenset[str]
    organ: str = ""


def place_spans(sentence: str, *, anatomy: str) -> list[Span]:
    """Return the spans of the phrases of place of a sentence.

    Args:
        sentence: any text.
        anatomy: "lung" or "polyp".

    Returns:
        The spans in order, none of which overlaps another. A level and its side, written apart ("lower lobe of
        the left lung", "upper and lower left lung"), are one.
    """
    tokens = read_words(sentence)
    parts = clauses(tokens)
    spans = _polyp_spans(parts) if anatomy == "polyp" else _lung_spans(parts)
    spans = [_with_tail(span, tokens) for span in spans]
    return spans if anatomy == "polyp" else _behind(sentence, _ahead(sentence, spans))


def joined_by(gap: str) -> str | None:
    """Say how two phrases are joined by the text between them.

    Args:
        gap: the text.

    Returns:
        "list" for "and", "or" and commas, "link" for articles, "of" and nothing, None for any other words.
    """
    if _OTHER.fullmatch(gap):
        return "link"
    return "list" if _LISTED.fullmatch(gap) else None


def _lung_spans(parts: _Clauses) -> list[Span]:
    sides = [[(token, sign) for token, sign in part if token.values != ("center",)] for part in parts]
    return [_lung_span(phrase) for phrase in phrases_of(sides) if not phrase.other_organ]


def _lung_span(phrase: Phrase) -> Span:
    affirmed = phrase.polarity is Polarity.AFFIRMED
    return Span(
        phrase.start, phrase.end, affirmed, bool(phrase.sides), frozenset(phrase.levels), phrase.organ
    )


def _polyp_spans(parts: _Clauses) -> list[Span]:
    found = [item for part in parts for item in cells_of(part) if not item[0].bowel]
    return [_polyp_span(cell, affirmed=sign is Polarity.AFFIRMED) for cell, sign in found]


def _polyp_span(cell: Cell, *, affirmed: bool) -> Span:
    return Span(cell.start, cell.end, affirmed, bool(cell.sides), frozenset(cell.levels))


def _with_tail(span: Span, tokens: list[Token]) -> Span:
    """Take in the noun behind a phrase: "left side", "top left corner"."""
    behind = [token for token in tokens if token.start >= span.end][:1]
    if behind and behind[0].kind in (Kind.PART, Kind.ORGAN):
        return replace(span, end=behind[0].end)
    return span


def _ahead(sentence: str, spans: list[Span]) -> list[Span]:
    """Join levels without a side to the phrase behind them that has one."""
    joined: list[Span] = []  # from the last to the first
    for span in reversed(spans):
        after = joined[-1] if joined else None
        if after is not None and _belongs_ahead(span, after, sentence[span.end : after.start]):
            joined[-1] = _join(span, after)
        else:
            joined.append(span)
    return joined[::-1]


def _belongs_ahead(orphan: Span, after: Span, gap: str) -> bool:
    join = joined_by(gap)
    if orphan.sided or join is None or orphan.affirmed is not after.affirmed:
        return False
    return join == "link" or not orphan.organ


def _behind(sentence: str, spans: list[Span]) -> list[Span]:
    """Join levels without a side to the phrase before them that has one."""
    joined: list[Span] = []
    for span in spans:
        before = joined[-1] if joined else None
        if before is not None and _belongs_behind(span, before, sentence[before.end : span.start]):
            joined[-1] = _join(before, span)
        else:
            joined.append(span)
    return joined


def _belongs_behind(orphan: Span, before: Span, gap: str) -> bool:
    join = joined_by(gap)
    if orphan.sided or not before.sided or join is None or orphan.affirmed is not before.affirmed:
        return False
    if join == "link":
        return True
    return orphan.organ != "lung" and not (before.organ and _AND.search(gap))


def _join(first: Span, second: Span) -> Span:
    return replace(
        second, start=first.start, sided=first.sided or second.sided, levels=first.levels | second.levels
    )

"""Reading of single words: misspelt, glued together, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import process
from rapidfuzz.distance import OSA

from .lexicon import ADJACENT_KEYS, CORRECTABLE, DISTRACTORS, GLUED, LEXICON, SUSPECT, Entry, Kind

MAX_WORD = 40
POSITION_KINDS = frozenset({Kind.SIDE, Kind.LEVEL})
_MARGIN = 0.5
_NEAR = sorted(CORRECTABLE | DISTRACTORS)
_LONG = sorted(word for word in CORRECTABLE if len(word) > 6)
_PARTS = sorted(word for word in GLUED if len(word) > 3)
_INFLECTED = frozenset({Kind.PLAIN, Kind.FINDING, Kind.STRUCTURE, Kind.SIZE, Kind.BOWEL})


@dataclass(frozen=True)
class Piece:
    """A known word inside a written one: `written[start:end]` stands for `word`."""

    word: str
    start: int
    end: int
    edits: int = 0


def entry_of(word: str) -> Entry | None:
    """Return what a word means, itself or without its English ending; None for an unknown word."""
    found = LEXICON.get(word)
    if found is not None:
        return found
    if word.endswith("'s"):
        return entry_of(word[:-2])
    if word.endswith("n't"):
        return LEXICON["not"]
    for ending in ("s", "es", "ed", "ly", "ing"):
        stem = word[: -len(ending)]
        if len(stem) > 3 and word.endswith(ending) and stem in LEXICON and LEXICON[stem].kind in _INFLECTED:
            return LEXICON[stem]
    return None


def slip_cost(written: str, word: str) -> float:
    """Return how unlikely a slip of the hand is, as an edit distance whose cheap edits are the common slips.

    Neighbouring keys, swapped letters and a doubled letter cost 0.6, a lost last letter 0.7, another first
    letter 1.6, all else 1.

    Args:
        written: what stands there.
        word: what may be meant.

    Returns:
        The cost, 0 for equal words.
    """
    before: list[float] = []
    above = [float(j) for j in range(len(word) + 1)]
    for i, a in enumerate(written, start=1):
        row = [float(i)]
        for j, b in enumerate(word, start=1):
            cost = 0.6 if (a, b) in ADJACENT_KEYS else 1.6 if i == j == 1 else 1.0
            cost = 0.0 if a == b else cost
            extra = 0.6 if i > 1 and written[i - 2] == a else 1.0
            lost = 0.7 if j == len(word) and i == len(written) else 1.0
            best = min(above[j - 1] + cost, above[j] + extra, row[j - 1] + lost)
            if i > 1 and j > 1 and a == word[j - 2] and written[i - 2] == b:
                best = min(best, before[j - 2] + 0.6)
            row.append(best)
        before, above = above, row
    return above[-1]


def nearest(written: str, words: Iterable[str], *, limit: int) -> Piece | None:
    """Return the one word within an edit distance, or None when there is none or several come into question.

    Of words that mean the same any will do. A side or a level goes before a noun such as "lobe"; different
    sides or levels, and a place and an ordinary word, are told apart only by a clear difference in
    `slip_cost`.

    Args:
        written: lower-case word.
        words: the words that may be meant.
        limit: largest edit distance (insertion, deletion, substitution, swap of neighbours), ≥ 1.

    Returns:
        The word with its edit distance.
    """
    hits = process.extract(written, words, scorer=OSA.distance, score_cutoff=limit, limit=None)
    if not hits:
        return None
    fewest = min(edits for _, edits, _ in hits)
    ranked = sorted(
        (slip_cost(written, word), word, int(edits)) for word, edits, _ in hits if edits == fewest
    )
    places = [hit for hit in ranked if LEXICON[hit[1]].kind in POSITION_KINDS or hit[1] in DISTRACTORS]
    ranked = places or ranked
    cost, word, edits = ranked[0]
    rivals = [other for other in ranked if other[0] < cost + _MARGIN]
    if any(LEXICON[rival].values != LEXICON[word].values for _, rival, _ in rivals):
        return None
    if any(LEXICON[rival].kind is not LEXICON[word].kind for _, rival, _ in rivals):
        return None
    return None if word in DISTRACTORS else Piece(word, 0, len(written), edits)


@lru_cache(maxsize=65536)
def recognise(written: str) -> tuple[Piece, ...]:
    """Return the known words in a written one, without looking at its neighbours.

    Args:
        written: a lower-case word without spaces.

    Returns:
        One piece for a known or misspelt word, several for glued words, none for an unknown word.
    """
    if entry_of(written) is not None:
        return (Piece(written, 0, len(written)),)
    if not 4 <= len(written) <= MAX_WORD or not written.isascii() or written in SUSPECT:
        return ()
    close = nearest(written, _NEAR, limit=1)
    if close is not None:
        return (close,)
    glued = _side_and_word(written) or _split(written)
    if glued:
        return glued
    far = nearest(written, _LONG, limit=2) if len(written) >= 7 else None
    return (far,) if far is not None else ()


def _side_and_word(written: str) -> tuple[Piece, ...]:
    """Cut "leftapical" and "persistentleft": a side glued to any known word."""
    for side in ("left", "right"):
        size, rest = len(side), len(written) - len(side)
        if rest > 2 and written.startswith(side) and entry_of(written[size:]) is not None:
            return Piece(side, 0, size), Piece(written[size:], size, len(written))
        if rest > 2 and written.endswith(side) and entry_of(written[:rest]) is not None:
            return Piece(written[:rest], 0, rest), Piece(side, rest, len(written))
    return ()


def _split(written: str) -> tuple[Piece, ...]:
    """Cut glued words into two to five known ones; one of them may be of two letters or misspelt by one."""
    if len(written) < 5:
        return ()
    best = _cuts(written, 0)
    if len(best) < 2 or not any(LEXICON[piece.word].kind is not Kind.PLAIN for piece in best):
        return ()
    return best


def _cuts(written: str, edits: int) -> tuple[Piece, ...]:
    """Dynamic programme over cut positions: fewest edits, then fewest pieces; () when no cut works."""
    size = len(written)
    table: dict[tuple[int, int], tuple[Piece, ...]] = {(0, edits): ()}
    for end in range(2, size + 1):
        for start in range(max(0, end - 13), end - 1):
            for used in (0, 1):
                head = table.get((start, used))
                if head is None or len(head) > 4:
                    continue
                piece = _piece(written, start, end, exact_only=used == 1)
                if piece is not None:
                    key = (end, used + piece.edits + (end - start < 3))
                    if key[1] < 2 and (key not in table or len(head) + 1 < len(table[key])):
                        table[key] = (*head, piece)
    return table.get((size, 0)) or table.get((size, 1)) or ()


def _piece(written: str, start: int, end: int, *, exact_only: bool) -> Piece | None:
    part = written[start:end]
    if part in GLUED:
        return Piece(part, start, end)
    if exact_only or len(part) < 3 or part in LEXICON:
        return None
    close = _near_piece(part)
    return None if close is None else Piece(close.word, start, end, close.edits)


@lru_cache(maxsize=65536)
def _near_piece(part: str) -> Piece | None:
    return nearest(part, _PARTS, limit=1)

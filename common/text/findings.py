"""What a sentence says about an image: side, zones, count, negation, and what in it could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .context import read_words
from .counts import Count, read_count
from .lexicon import Kind
from .lung_phrases import phrases_of
from .lung_zones import lung_places
from .negation import Polarity, clauses
from .polyp_phrases import grid_places
from .words import Token

ANATOMIES = ("lung", "polyp")
MAX_CHARACTERS = 8000
MAX_UNKNOWN = 50
_POLYP_WORDS = frozenset(
    {"polyp", "polyps", "adenoma", "colonic", "colon", "colonoscopy", "rectum", "rectal"}
)
_POLYP_WORDS |= frozenset({"pedunculated", "sessile", "cecum", "caecum", "sigmoid", "mucosa", "endoscopic"})
_LUNG_WORDS = frozenset({"pulmonary", "chest", "pneumonia", "infiltrate", "covid", "bronchopneumonia"})
_LUNG_KINDS = frozenset({Kind.ZONE, Kind.PLEURAL, Kind.UNILATERAL})
_PLACE_KINDS = frozenset({Kind.SIDE, Kind.LEVEL, Kind.ZONE})
_Clauses = list[list[tuple[Token, Polarity]]]


@dataclass(frozen=True)
class Findings:
    """What a sentence says; left and right are the sentence's own.

    Attributes:
        side: "left", "right" or "center" when all zones lie there, "bilateral" for zones in both lungs, else None.
        count: number of findings, None when none is named or the numbers disagree.
        zones: `(side, level)` with level "upper", "middle" or "lower"; side "left" or "right", for polyps also
            "center".
        negated: whether the sentence says that there is nothing to find.
        sizes: size words and measures, without repetition.
        anatomy: "lung" or "polyp".
        unknown_words: what could not be read, or was read by its place alone; words of place among them.
        contradictions: what does not fit together, in words.
    """

    side: str | None = None
    count: int | None = None
    zones: frozenset[tuple[str, str]] = frozenset()
    negated: bool = False
    sizes: tuple[str, ...] = ()
    anatomy: str = "lung"
    unknown_words: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()


def read_findings(sentence: str | None, *, anatomy: str = "auto") -> Findings:
    """Read what a sentence says about an image, without a model: a lexicon, edit distance and the rules of captions.

    A side is never guessed: what is not clear stands in `unknown_words` and `contradictions`. Of the text the
    first 8000 characters are read; a longer one says so in `unknown_words`.

    Args:
        sentence: any text; None and "" say nothing.
        anatomy: "lung" (left and right, three levels), "polyp" (3 x 3 grid) or "auto" (by the words).

    Returns:
        The findings; equal for equal sentences.

    Raises:
        TypeError: if the sentence is neither a string nor None.
        ValueError: if the anatomy is unknown.
    """
    if sentence is not None and not isinstance(sentence, str):
        raise TypeError(f"sentence must be a string or None, got {type(sentence).__name__}.")
    if anatomy not in (*ANATOMIES, "auto"):
        raise ValueError(f"anatomy must be 'auto', 'lung' or 'polyp', got {anatomy!r}.")
    text = sentence or ""
    return _read(text[:MAX_CHARACTERS], anatomy, max(0, len(text) - MAX_CHARACTERS))


@lru_cache(maxsize=8192)
def _read(text: str, anatomy: str, cut: int) -> Findings:
    tokens = read_words(text)
    parts = clauses(tokens)
    organ = _anatomy(tokens) if anatomy == "auto" else anatomy
    count = read_count(tokens, anatomy=organ)
    zones, denied, unread, contradictions = _polyp(parts) if organ == "polyp" else _lung(parts)
    negated, conflicts = _negation(parts, zones, count)
    twice = [f"{level} {side} is both affirmed and denied" for side, level in sorted(zones & denied)]
    return Findings(
        side=_side(zones, organ),
        count=0
        if negated and count.value is None and not zones and not count.contradictions
        else count.value,
        zones=zones,
        negated=negated,
        sizes=_sizes(tokens),
        anatomy=organ,
        unknown_words=_unknown([*_unread_words(tokens), *count.unused, *unread], cut),
        contradictions=tuple(dict.fromkeys([*contradictions, *count.contradictions, *conflicts, *twice])),
    )


def _anatomy(tokens: list[Token]) -> str:
    """Decide by the words; a sentence that tells neither is about lungs, unless it speaks of the centre."""
    polyp = sum(token.word in _POLYP_WORDS or token.kind is Kind.BOWEL for token in tokens)
    lung = sum(
        token.word in _LUNG_WORDS
        or token.kind in _LUNG_KINDS
        or (token.kind is Kind.ORGAN and token.word not in ("quadrant", "quadrants", "region", "corner"))
        for token in tokens
    )
    if polyp == lung == 0:
        return (
            "polyp"
            if any(token.values == ("center",) and token.word != "central" for token in tokens)
            else "lung"
        )
    return "polyp" if polyp > lung else "lung"


_Places = tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]], tuple[str, ...], tuple[str, ...]]


def _polyp(parts: _Clauses) -> _Places:
    places = grid_places(parts)
    return places.affirmed, places.denied, places.unread, ()


def _lung(parts: _Clauses) -> _Places:
    parts = [[(token, sign) for token, sign in part if token.values != ("center",)] for part in parts]
    affirmed = {token.kind for part in parts for token, sign in part if sign is Polarity.AFFIRMED}
    places = lung_places(
        phrases_of(parts),
        unilateral=Kind.UNILATERAL in affirmed,
        bilateral=Kind.BILATERAL in affirmed,
        diffuse=Kind.DIFFUSE in affirmed,
    )
    return places.affirmed, places.denied, places.unread, places.contradictions


def _negation(parts: _Clauses, zones: frozenset[tuple[str, str]], count: Count) -> tuple[bool, list[str]]:
    """Whether the text denies every finding, and what speaks against it."""
    words = [item for part in parts for item in part]
    counted = count.value is not None and count.value > 0
    signs = {sign for token, sign in words if _is_finding(token)}
    affirmed = Polarity.AFFIRMED in signs or (counted and not signs)
    denied = any(sign is Polarity.DENIED for _, sign in words)
    if count.value == 0:
        return True, ["no finding is counted (0), but zones are named"] if zones else []
    if affirmed or not denied:
        return False, []
    if zones and not any(_denies_all(part) for part in parts):
        loose = Polarity.DENIED in signs and Polarity.SPARED not in signs
        return False, ["a finding is denied, and another place is named without one"] if loose else []
    conflicts = ["the finding is denied, but zones are named"] if zones else []
    return True, [
        *conflicts,
        f"the finding is denied, but a count of {count.value} is named",
    ] if counted else conflicts


def _is_finding(token: Token) -> bool:
    return token.kind is Kind.EXCEPT or (token.kind is Kind.FINDING and token.word not in ("area", "areas"))


def _denies_all(part: list[tuple[Token, Polarity]]) -> bool:
    """Whether a clause denies a finding without saying where."""
    denied = [token for token, sign in part if sign is Polarity.DENIED]
    return any(map(_is_finding, denied)) and not any(token.kind in _PLACE_KINDS for token in denied)


def _side(zones: frozenset[tuple[str, str]], anatomy: str) -> str | None:
    sides = {side for side, _ in zones}
    if len(sides) == 1:
        return next(iter(sides))
    return "bilateral" if anatomy == "lung" and sides else None


def _sizes(tokens: list[Token]) -> tuple[str, ...]:
    """Size words and measures: ("small",), ("12 mm",)."""
    return tuple(dict.fromkeys(token.word for token in tokens if token.kind is Kind.SIZE))


def _unread_words(tokens: list[Token]) -> list[str]:
    """Words without a meaning, and those that were read by their place alone."""
    return [token.written for token in tokens if token.guessed or token.kind is Kind.UNKNOWN]


def _unknown(words: list[str], cut: int) -> tuple[str, ...]:
    distinct = list(dict.fromkeys(word if len(word) <= 60 else f"{word[:57]}..." for word in words))
    shown = distinct[:MAX_UNKNOWN]
    if len(distinct) > MAX_UNKNOWN:
        shown.append(f"[{len(distinct) - MAX_UNKNOWN} more words]")
    if cut:
        shown.append(f"[{cut} characters behind the first {MAX_CHARACTERS} were not read]")
    return tuple(shown)

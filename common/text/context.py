"""Reading of words by their neighbours: split words, single letters, slips that only their place explains."""

from __future__ import annotations

from .lexicon import CORRECTABLE, LEXICON, SUSPECT, Entry, Kind
from .spelling import POSITION_KINDS, nearest
from .words import Token, plain_letters, scan

_JOINABLE = frozenset(
    {Kind.SIDE, Kind.LEVEL, Kind.UNILATERAL, Kind.BILATERAL, Kind.ORGAN, Kind.NEGATION, Kind.FINDING}
)
_PLACE = frozenset({Kind.SIDE, Kind.LEVEL, Kind.ORGAN, Kind.ZONE})
_GAP = frozenset({Kind.PLAIN, Kind.UNKNOWN, Kind.LETTER})
_NUMBERS = [word for word, entry in LEXICON.items() if entry.kind is Kind.NUMBER]
_POSITIONS = [word for word in CORRECTABLE if LEXICON[word].kind in POSITION_KINDS]
_SIDES = ["left", "right"]
_GRID = ["left", "right", "top", "bottom", "center", "centre", "middle", "upper", "lower"]
_AFTER_NO = frozenset({"pulmonary", "evidence", "focal", "acute", "signs"})
_NEAR_NO = frozenset({"n", "o", "on", "mo", "bo", "ni", "ono", "noo", "nno"})
_PLACE_OR_LINK = frozenset({Kind.SIDE, Kind.LEVEL, Kind.LINK, Kind.COMMA, Kind.AND, Kind.STOP, Kind.OR})
_ORGANS = [word for word in CORRECTABLE if LEXICON[word].kind is Kind.ORGAN]
_LOBES = {"UL": "upper", "ML": "middle", "LL": "lower"}


def read_words(sentence: str) -> list[Token]:
    """Return the words of a sentence, each with the meaning that it has among its neighbours.

    Args:
        sentence: any text.

    Returns:
        The words in order. Those that stay unknown have the kind `Kind.UNKNOWN`; those whose meaning rests on
        their place alone are marked `guessed`.
    """
    tokens = _joined(sentence, scan(sentence))
    for rule in _RULES:
        tokens = [rule(tokens, index) for index in range(len(tokens))]
    return tokens


def _joined(sentence: str, tokens: list[Token]) -> list[Token]:
    """Put words together that a space has split: "lowe r", "bi-lateral", "le ft"."""
    joined: list[Token] = []
    for token in tokens:
        merged = _join(sentence, joined[-1], token) if joined else None
        if merged is None:
            joined.append(token)
        else:
            joined[-1] = merged
    return joined


def _join(sentence: str, first: Token, second: Token) -> Token | None:
    gap = sentence[first.end : second.start]
    if not gap or len(gap) > 2 or gap.isalnum() or not (_may_join(first) or _may_join(second)):
        return None
    text = sentence[first.start : second.end]
    word = plain_letters(first.written + second.written)
    entry = LEXICON.get(word)
    joinable = entry is not None and (entry.kind in _JOINABLE or (entry.kind is Kind.ZONE and text.isupper()))
    if entry is None or not joinable or len(word) < 3:
        return None
    return Token(entry, word, text, first.start, second.end, edits=1)


def _may_join(token: Token) -> bool:
    return token.kind in (Kind.UNKNOWN, Kind.PLAIN, Kind.LETTER) or token.edits > 0 or len(token.written) == 1


def _at(tokens: list[Token], index: int) -> Kind:
    return tokens[index].kind if 0 <= index < len(tokens) else Kind.STOP


def _word_at(tokens: list[Token], index: int) -> str:
    return tokens[index].word if 0 <= index < len(tokens) else ""


def _lobe_abbreviation(tokens: list[Token], index: int) -> Token:
    """Read "left LL" and "R UL": a lobe after a side."""
    token = tokens[index]
    if token.written in _LOBES and _at(tokens, index - 1) in (Kind.SIDE, Kind.LETTER):
        return token.read_as(_LOBES[token.written])
    return token


def _letter(tokens: list[Token], index: int) -> Token:
    """Read a single "l" or "r" as a side where a side can stand and none is written beside it."""
    token = tokens[index]
    if token.kind is not Kind.LETTER:
        return token
    if _is_side(tokens, index):
        return token.read_as("left" if token.values == ("left",) else "right")
    return Token(Entry(Kind.UNKNOWN), token.word, token.written, token.start, token.end)


def _is_side(tokens: list[Token], index: int) -> bool:
    ahead = index + 1
    while _at(tokens, ahead) is Kind.LEVEL or (_at(tokens, ahead) is Kind.PLAIN and ahead < index + 3):
        ahead += 1
    behind = index - 1
    while _at(tokens, behind) is Kind.LEVEL:
        behind -= 1
    if Kind.SIDE in (_at(tokens, ahead), _at(tokens, behind)):
        return False
    following = _at(tokens, index + 1)
    if following in (Kind.LEVEL, Kind.ORGAN, Kind.COMPARE, Kind.PART) or _at(tokens, ahead) is Kind.ORGAN:
        return True
    before = _at(tokens, index - 1)
    opening = before in (Kind.LINK, Kind.COMPARE, Kind.LEVEL) or following in (
        Kind.AND,
        Kind.FINDING,
        Kind.PLEURAL,
    )
    closing = before is Kind.AND and _at(tokens, index - 2) in (Kind.LETTER, Kind.SIDE)
    return tokens[index].written.isupper() and (opening or closing)


def _misspelt_place(tokens: list[Token], index: int) -> Token:
    """Read a badly misspelt side or level where one must stand: "uooer middle", "eft lung"."""
    token = tokens[index]
    before, after = _at(tokens, index - 1), _at(tokens, index + 1)
    listed = after in (Kind.AND, Kind.OR) and _at(tokens, index + 2) is Kind.SIDE
    called_for = {before, after} & _PLACE or listed or _word_at(tokens, index + 1) == "sided"
    if token.kind is not Kind.UNKNOWN or not called_for or not token.word.isascii():
        return token
    if len(token.word) > 2:
        shortest = 4 if len(token.word) == 3 else 3
        words = [word for word in _POSITIONS if len(word) >= shortest]
        found = nearest(token.word, words, limit=2 if len(token.word) > 4 else 1)
        if found is not None:
            return token.read_as(found.word, guessed=found.edits > 1 or token.word in SUSPECT)
    short = 2 <= len(token.word) <= 4 and nearest(token.word, ["all"], limit=1) is not None
    return token.read_as("all") if short and after is Kind.SIDE and before is not Kind.LEVEL else token


def _slip_into_word(tokens: list[Token], index: int) -> Token:
    """Read another word as the side or level that must stand in its place, and say so: "lower light lung"."""
    token = tokens[index]
    if token.kind is Kind.ZONE and _at(tokens, index + 1) is Kind.SIDE and token.written.islower():
        doubtful = nearest(token.word, ["all"], limit=1) is not None  # "lll left" for "all left"
        return token.read_as("all", guessed=True) if doubtful else token
    if token.kind not in (Kind.PLAIN, Kind.NUMBER) or len(token.word) < 3:
        return token
    side = nearest(token.word, _SIDES, limit=1)
    return (
        token.read_as(side.word, guessed=True)
        if side is not None and _side_must_stand(tokens, index)
        else token
    )


def _side_must_stand(tokens: list[Token], index: int) -> bool:
    word, before, after = tokens[index].word, _at(tokens, index - 1), _at(tokens, index + 1)
    if before is Kind.LEVEL and after in (Kind.ORGAN, Kind.AND, Kind.COMMA, Kind.STOP):
        return True
    if _word_at(tokens, index + 1) == "lung":
        return word in ("eight", "felt", "might") or _word_at(tokens, index - 1) == "the"
    return word == "might" and after is Kind.LEVEL


def _misspelt_no(tokens: list[Token], index: int) -> Token:
    """Read a misspelt "no" that opens a sentence, and say so: "On pulmonary infection", "N opacity"."""
    token = tokens[index]
    if token.word not in _NEAR_NO or _at(tokens, index - 1) is not Kind.STOP:
        return token
    opens = _at(tokens, index + 1) in (Kind.FINDING, Kind.PLEURAL) or _word_at(tokens, index + 1) in _AFTER_NO
    return token.read_as("no", guessed=True) if opens or token.word != "on" else token


def _grid_place(tokens: list[Token], index: int) -> Token:
    """Read what stands behind "located in" as a place: "tip left", "enter of the image"."""
    token = tokens[index]
    if token.kind in _PLACE_OR_LINK or token.word in ("the", "a", "image") or not 2 <= len(token.word) <= 8:
        return token
    for behind in range(index - 1, max(-1, index - 40), -1):
        if tokens[behind].word == "located":
            found = nearest(token.word, _GRID, limit=2 if len(token.word) > 4 else 1)
            return (
                token if found is None else token.read_as(found.word, guessed=token.kind is not Kind.UNKNOWN)
            )
        if tokens[behind].kind is Kind.STOP or tokens[behind].word == "of":
            return token
    return token


def _misspelt_number(tokens: list[Token], index: int) -> Token:
    """Read a misspelt number before "infected areas": "thrr infected", "tow areas"."""
    token = tokens[index]
    counted = _at(tokens, index + 1) is Kind.FINDING and tokens[index + 1].word in (
        "infected",
        "area",
        "areas",
    )
    opening = _at(tokens, index - 1) in (Kind.COMMA, Kind.STOP, Kind.NUMBER)
    loose = token.kind in (Kind.UNKNOWN, Kind.PLAIN, Kind.LINK, Kind.RANGE, Kind.NEGATION)
    if not (counted and opening and loose) or token.word in ("no", "not", "a", "an", "the", "in", "with"):
        return token
    found = nearest(token.word, _NUMBERS, limit=2 if len(token.word) > 3 else 1)
    return token if found is None else token.read_as(found.word)


def _misspelt_organ(tokens: list[Token], index: int) -> Token:
    """Read a misspelt "lung" or "lobe" behind a side or a level: "right ung"."""
    token = tokens[index]
    if token.kind is Kind.UNKNOWN and _at(tokens, index - 1) in POSITION_KINDS and len(token.word) > 2:
        found = nearest(token.word, _ORGANS, limit=1 if len(token.word) < 4 else 2)
        if found is not None:
            return token.read_as(found.word)
    return token


def _both_lungs(tokens: list[Token], index: int) -> Token:
    """Read "bilateral" as "both" where it belongs to a level: "bilateral lower lobes", "bases bilaterally"."""
    token = tokens[index]
    if token.kind is not Kind.BILATERAL:
        return token
    ahead = index + 1
    while _at(tokens, ahead) in _GAP or (
        _at(tokens, ahead) is Kind.ORGAN and _at(tokens, ahead + 1) is Kind.LEVEL
    ):
        ahead += 1
    leads = _at(tokens, ahead) is Kind.LEVEL and not _side_follows(tokens, ahead)
    return token.read_as("both") if leads or _trails_level(tokens, index) else token


def _side_follows(tokens: list[Token], index: int) -> bool:
    while _at(tokens, index) is Kind.LEVEL or _at(tokens, index) in _GAP:
        index += 1
    return _at(tokens, index) is Kind.SIDE


def _trails_level(tokens: list[Token], index: int) -> bool:
    """Whether a level without a side stands before, in the same part of the sentence."""
    level = False
    for behind in range(index - 1, max(-1, index - 9), -1):
        kind = tokens[behind].kind
        if kind in (Kind.COMMA, Kind.STOP, Kind.BREAK) or kind is Kind.SIDE:
            return level and kind is not Kind.SIDE
        level = level or kind is Kind.LEVEL
    return level


def _two_thirds(tokens: list[Token], index: int) -> Token:
    """Read the number of "lower two thirds" as the middle level, which belongs to it."""
    token = tokens[index]
    if token.kind is Kind.NUMBER and token.entry.number == 2 and _at(tokens, index - 1) is Kind.LEVEL:
        spelt = _at(tokens, index + 1) is Kind.PART
        digits = [following.written for following in tokens[index + 1 : index + 3]] == ["/", "3"]
        return token.read_as("middle") if spelt or digits else token
    return token


_RULES = (
    _lobe_abbreviation,
    _letter,
    _misspelt_place,
    _slip_into_word,
    _misspelt_no,
    _grid_place,
    _misspelt_number,
    _misspelt_organ,
    _both_lungs,
    _two_thirds,
)

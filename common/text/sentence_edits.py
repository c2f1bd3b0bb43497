"""Edits of a sentence: pieces replaced, numbers left out, "unilateral" exchanged for "bilateral"."""

from __future__ import annotations

from .counts import number_words
from .lexicon import Kind
from .rewording import capitalised
from .words import Token

__all__ = ["Edit", "edited", "fitted", "number_edits", "side_count_edits"]

Edit = tuple[int, int, str]
"""First character, position after the last one, and what to write in between."""

_SIDE_COUNT = {Kind.UNILATERAL: "uni", Kind.BILATERAL: "bi"}
_ENDS = frozenset({Kind.COMMA, Kind.STOP})
_AREA_WORDS = frozenset({"infected", "area", "areas"})


def edited(sentence: str, edits: list[Edit]) -> str:
    """Replace pieces of a sentence.

    Args:
        sentence: Any text.
        edits: What to replace, in any order; of two that overlap the first given stands.

    Returns:
        The new sentence with single spaces, and a capital letter where a word that had one was left out; the
        sentence itself where there is no edit.
    """
    chosen: list[Edit] = []
    for edit in edits:
        if all(edit[1] <= start or end <= edit[0] for start, end, _ in chosen):
            chosen.append(edit)
    text, position, capital = "", 0, False
    for start, end, written in [*sorted(chosen), (len(sentence), len(sentence), "")]:
        kept = sentence[position:start].lstrip() if capital else sentence[position:start]
        text += capitalised(kept, like="A" if capital else "") + written
        capital = (capital and not kept) or (not written and sentence[start:end][:1].isupper())
        position = end
    return " ".join(text.split()).replace(" ,", ",").replace(" .", ".") if chosen else sentence


def fitted(text: str, sentence: str, start: int) -> str:
    """Give a text the capital letter that the words it stands in for have at the start of a sentence.

    Args:
        text: What is written instead.
        sentence: The sentence before the edit.
        start: Position of the words that it stands in for.

    Returns:
        The text, with a capital letter where those words open a sentence with one.
    """
    before = sentence[:start].rstrip()
    return text if before and before[-1] not in ".!?" else capitalised(text, like=sentence[start:])


def side_count_edits(tokens: list[Token], *, both: bool) -> list[Edit]:
    """Exchange "unilateral" and "bilateral" where the other one is true.

    Args:
        tokens: The words of a sentence about the lungs.
        both: Whether both lungs are meant.

    Returns:
        The edits; a word keeps its ending and its capital letter ("Bilat" becomes "Unilat").
    """
    wanted = "bi" if both else "uni"
    edits: list[Edit] = []
    for token in tokens:
        written = _SIDE_COUNT.get(token.kind, wanted)
        if written != wanted:
            ending = token.word.removeprefix(written) if token.word.startswith(f"{written}lat") else "lateral"
            edits.append((token.start, token.end, capitalised(wanted + ending, like=token.written)))
    return edits


def number_edits(tokens: list[Token], *, anatomy: str) -> list[Edit]:
    """Leave out the number of findings.

    Args:
        tokens: The words of a sentence.
        anatomy: "lung" or "polyp".

    Returns:
        The edits. Between commas, "two infected areas" goes as a whole where the finding is named elsewhere.
    """
    edits: list[Edit] = []
    for number in number_words(tokens, anatomy=anatomy):
        first, last = _part(tokens, tokens.index(number))
        rest = [*tokens[:first], *tokens[last + 1 :]]
        hollow = all(_is_area(token) for token in tokens[first : last + 1])
        behind_comma = first > 0 and tokens[first - 1].kind is Kind.COMMA
        if (
            hollow
            and behind_comma
            and any(token.kind is Kind.FINDING and not _is_area(token) for token in rest)
        ):
            edits.append((tokens[first - 1].start, tokens[last].end, ""))
        else:
            edits.append((number.start, number.end, ""))
    return edits


def _part(tokens: list[Token], index: int) -> tuple[int, int]:
    """First and last word of the part between commas that a word stands in."""
    first = last = index
    while first > 0 and tokens[first - 1].kind not in _ENDS:
        first -= 1
    while last + 1 < len(tokens) and tokens[last + 1].kind not in _ENDS:
        last += 1
    return first, last


def _is_area(token: Token) -> bool:
    return token.entry.number is not None or token.word in _AREA_WORDS

"""Phrases of place in a sentence about the lungs, as it writes them: sides, levels, and what links them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .lexicon import Kind
from .negation import Polarity
from .words import Token

_WORDS_INSIDE = 3
_INSIDE = frozenset(
    {Kind.PLAIN, Kind.UNKNOWN, Kind.NUMBER, Kind.SIZE, Kind.DIFFUSE, Kind.BILATERAL, Kind.PART}
)
_LISTING = frozenset({Kind.AND, Kind.OR, Kind.COMMA})
_REMARK = frozenset({Kind.STRUCTURE, Kind.BOWEL, Kind.PLEURAL})


@dataclass
class Phrase:
    """A side with its levels, or one of the two.

    Attributes:
        sides: of "left", "right", as written.
        levels: of "upper", "middle", "lower"; empty where none is named.
        polarity: whether the sentence affirms it.
        words: the words as written.
        links: kinds of the words between the phrase before and this one, within the clause.
        organ: "lung" or "lobe" when such a noun ends it, else "".
        plural: whether its noun speaks of both lungs.
        side_first: whether the side stands before its levels ("left upper"), not behind ("upper left").
        other_organ: whether it places something that is not the lung ("left ventricle").
        pleural: whether it places an effusion or a pneumothorax.
        compared: whether it only compares ("worse on the left").
        clause: number of its clause.
        adopted: whether levels from another phrase were given to it.
        in_row: whether two sides stand side by side.
        first_word: the known word that opens it.
        range_open: whether "to" stands before the next level.
        start: position of its first character in the sentence.
        end: position after its last one; a remark that ends it ("effusion", "ventricle") stands behind.
    """

    clause: int
    polarity: Polarity
    links: frozenset[Kind] = frozenset()
    sides: set[str] = field(default_factory=set)
    levels: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    organ: str = ""
    plural: bool = False
    side_first: bool = False
    other_organ: bool = False
    pleural: bool = False
    compared: bool = False
    adopted: bool = False
    in_row: bool = False
    first_word: str = ""
    range_open: bool = False
    start: int = 0
    end: int = 0

    @property
    def bare(self) -> bool:
        """Whether it names a side alone."""
        return bool(self.sides) and not self.levels

    @property
    def orphan(self) -> bool:
        """Whether it names a level alone."""
        return bool(self.levels) and not self.sides

    @property
    def listed(self) -> bool:
        """Whether "and", "or" or a comma stands before it."""
        return bool(self.links & _LISTING)

    @property
    def text(self) -> str:
        """The words as written."""
        return " ".join(self.words)

    def add(self, token: Token) -> None:
        """Take a side or a level in."""
        self.start = self.start if self.words else token.start
        self.end = token.end
        self.words.append(token.written)
        self.first_word = self.first_word or token.word
        if token.kind is Kind.SIDE:
            self.side_first |= not self.levels
            self.in_row |= bool(self.sides) and not self.sides.issuperset(token.values)
            self.sides.update(token.values)
            return
        if self.range_open and self.levels | set(token.values) >= {"upper", "lower"}:
            self.levels.add("middle")
        self.range_open = False
        self.levels.update(token.values)
        self.plural |= token.entry.plural
        if token.word in ("base", "bases", "apex", "apices", "hila", "hilum"):
            self.organ = "lobe"

    def closed_by(self, token: Token) -> bool:
        """Whether a side or a level opens a new phrase: "upper left | lower right", "left upper | right lower"."""
        if not (self.sides and self.levels):
            return False
        if token.kind is Kind.SIDE:
            return self.side_first and not self.sides.issuperset(token.values)
        return not self.side_first


@dataclass
class _Reader:
    phrases: list[Phrase] = field(default_factory=list)
    current: Phrase | None = None
    links: set[Kind] = field(default_factory=set)
    inside: int = 0
    comparing: bool = False

    def open(self, clause: int, polarity: Polarity) -> Phrase:
        phrase = Phrase(clause, polarity, links=frozenset(self.links), compared=self.comparing)
        self.phrases.append(phrase)
        self.current, self.links, self.inside = phrase, set(), 0
        return phrase


def phrases_of(clauses: list[list[tuple[Token, Polarity]]]) -> list[Phrase]:
    """Return the phrases of place of a text.

    Args:
        clauses: the clauses with the polarity of each word.

    Returns:
        The phrases in order, as written: no side or level is carried over yet.
    """
    found: list[Phrase] = []
    for number, clause in enumerate(clauses):
        reader = _Reader()
        for token, polarity in clause:
            _read(reader, token, polarity, number)
        found.extend(reader.phrases)
    return found


def _read(reader: _Reader, token: Token, polarity: Polarity, clause: int) -> None:
    if token.kind in (Kind.SIDE, Kind.LEVEL):
        current = reader.current
        if current is None or current.closed_by(token) or current.polarity is not polarity:
            current = reader.open(clause, polarity)
        current.add(token)
        reader.inside = 0
    elif token.kind is Kind.ZONE:
        _add_zone(reader, token, polarity, clause)
    elif token.kind is Kind.ORGAN or token.kind in _REMARK:
        _end(reader, token)
    elif token.kind is Kind.RANGE and reader.current is not None and reader.current.levels:
        reader.current.range_open = True
    elif token.kind in _INSIDE:
        reader.inside += 1
        if reader.inside > _WORDS_INSIDE:
            reader.current = None
    else:
        _break(reader, token)


def _add_zone(reader: _Reader, token: Token, polarity: Polarity, clause: int) -> None:
    phrase = reader.open(clause, polarity)
    side, *levels = token.values
    phrase.sides = {"left", "right"} if side == "both" else {side}
    phrase.levels, phrase.words, phrase.organ = set(levels), [token.written], "lobe"
    phrase.side_first = True
    phrase.start, phrase.end = token.start, token.end
    reader.current = None


def _end(reader: _Reader, token: Token) -> None:
    """Close a phrase with its noun."""
    current = reader.current
    if current is not None:
        current.words.append(token.written)
        if token.kind is Kind.ORGAN:
            current.end = token.end
            current.organ = current.organ or token.values[0]
            current.plural |= token.entry.plural
        elif token.kind is Kind.PLEURAL:
            current.pleural = True
        else:
            current.other_organ = True
    elif token.kind is Kind.PLEURAL:
        reader.links.add(Kind.FINDING)
    reader.current = None


def _break(reader: _Reader, token: Token) -> None:
    reader.current = None
    reader.links.add(token.kind)
    if token.kind is Kind.COMMA:
        reader.comparing = False
    if token.kind is Kind.COMPARE:
        reader.comparing = True
        if reader.phrases and token.word in (
            "greater",
            "more",
            "worse",
            "less",
            ">",
            "<",
            "predominant",
            "predominance",
        ):
            last = reader.phrases[-1]
            last.compared |= last.bare and Kind.FINDING not in reader.links and Kind.LINK not in reader.links

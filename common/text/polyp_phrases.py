"""Places of polyps: the cells of a 3 x 3 grid over the image."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from .lexicon import LEVELS, Kind
from .negation import Polarity
from .words import Token

_COLUMNS = ("left", "center", "right")
_INSIDE = frozenset({Kind.PLAIN, Kind.UNKNOWN, Kind.ORGAN})


@dataclass
class Cell:
    """A phrase of place, as the sentence writes it.

    Attributes:
        sides: of "left", "center", "right", as written.
        levels: of "upper", "middle", "lower".
        words: the words as written.
        stretched: whether "half", "side" or "third" stretches it to a whole row or column.
        bowel: whether it is a part of the bowel ("right colon"), which says nothing about the image.
        after_and: whether "and" joins it to the cell before.
        start: position of its first character in the sentence.
        end: position after its last one.
    """

    sides: list[str] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    stretched: bool = False
    bowel: bool = False
    after_and: bool = False
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class GridPlaces:
    """The cells that a sentence names.

    Attributes:
        affirmed: cells with a polyp.
        denied: cells without one.
        unread: words of place that say nothing about the image ("right colon").
    """

    affirmed: frozenset[tuple[str, str]]
    denied: frozenset[tuple[str, str]]
    unread: tuple[str, ...]


def grid_places(clauses: list[list[tuple[Token, Polarity]]]) -> GridPlaces:
    """Read the grid cells of polyp sentences.

    One word names one cell ("right" is the middle of the right column, "top" the centre of the upper row);
    "half", "side" and "third" stretch it to the whole column or row, "all" and "diffuse" to the grid.

    Args:
        clauses: the clauses of the text with the polarity of each word.

    Returns:
        The cells.
    """
    cells: dict[Polarity, set[tuple[str, str]]] = {polarity: set() for polarity in Polarity}
    unread: list[str] = []
    for clause in clauses:
        for cell, polarity in cells_of(clause):
            if cell.bowel:
                unread.append(" ".join(cell.words))
            else:
                cells[polarity] |= _zones(cell)
    affirmed = cells[Polarity.AFFIRMED] - cells[Polarity.SPARED]
    return GridPlaces(frozenset(affirmed), frozenset(cells[Polarity.DENIED]), tuple(unread))


def cells_of(clause: list[tuple[Token, Polarity]]) -> list[tuple[Cell, Polarity]]:
    """Return the phrases of place of a clause.

    Args:
        clause: its words, each with its polarity.

    Returns:
        The cells in order, each with its polarity; levels that share a side have it.
    """
    found: list[tuple[Cell, Polarity]] = []
    cell: Cell | None = None
    joined = False
    for token, polarity in _place_part(clause):
        if token.kind in (Kind.SIDE, Kind.LEVEL, Kind.DIFFUSE, Kind.BILATERAL):
            if cell is None:
                cell = Cell(after_and=joined, start=token.start)
                found.append((cell, polarity))
            _add(cell, token)
        elif cell is not None and token.kind in (Kind.PART, Kind.BOWEL):
            cell.stretched |= token.kind is Kind.PART
            cell.bowel |= token.kind is Kind.BOWEL or token.word == "colonic"
            cell.words.append(token.word)
            cell.end = token.end
        elif token.kind not in _INSIDE:
            joined = token.kind is Kind.AND and cell is not None
            cell = None
    for (first, _), (second, _) in pairwise(found):
        if second.after_and and second.levels and not first.sides:  # "upper and lower left"
            first.sides = list(second.sides)
    return found


def _place_part(clause: list[tuple[Token, Polarity]]) -> list[tuple[Token, Polarity]]:
    """The words behind "located", where there is one: those before describe the polyp."""
    for index, (token, _) in enumerate(clause):
        if token.word == "located":
            return clause[index + 1 :]
    return clause


def _add(cell: Cell, token: Token) -> None:
    cell.end = token.end
    cell.words.append(token.written)
    if token.kind in (Kind.DIFFUSE, Kind.BILATERAL):
        cell.levels.extend(LEVELS if token.kind is Kind.DIFFUSE else ())
        cell.sides.extend(() if token.kind is Kind.DIFFUSE else ("left", "right"))
    elif token.kind is Kind.SIDE:
        cell.sides.extend(token.values)
    else:
        cell.levels.extend(token.values)


def _zones(cell: Cell) -> set[tuple[str, str]]:
    sides, levels = set(cell.sides), set(cell.levels)
    if "center" in sides and len(sides) > 1:  # "center left": the middle of the left column
        sides.discard("center")
        levels = levels or {"middle"}
    if not sides and "middle" in levels and len(levels) == 2:  # "top middle": the centre of the upper row
        levels.discard("middle")
    every = levels == set(LEVELS)
    rows = levels or (set(LEVELS) if cell.stretched else {"middle"})
    columns = sides or (set(_COLUMNS) if cell.stretched or every else {"center"})
    return {(column, row) for column in columns for row in rows}

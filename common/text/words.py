"""From a sentence to the words in it, each with its meaning and its place in the text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

from .lexicon import LEXICON, Entry, Kind
from .spelling import entry_of, recognise

_WORD = re.compile(
    r"""(?P<dotted>(?<![^\W\d_])(?:[A-Za-z]\.){1,2}[A-Za-z]\b\.?)
      | (?P<slashed>\b(?:w/o|b/l|w/)(?![^\W\d_]))
      | (?P<measure>\d+(?:[.,]\d+)?(?:\s*[x×]\s*\d+(?:[.,]\d+)?)*\s*-?\s*
          (?:mm|cm|milli(?:metre|meter)s?|centi(?:metre|meter)s?)\b)
      | (?P<number>\d+(?:[.,]\d+)?)
      | (?P<word>[^\W\d_]+(?:['’][^\W\d_]+)?)
      | (?P<mark>[,;.:!?()/&+<>，。；：、—–\-\n])
      | (?P<other>[^\s\w]|_)""",
    re.VERBOSE | re.IGNORECASE,
)
_MARKS = {
    ",": Kind.COMMA,
    "(": Kind.COMMA,
    ")": Kind.COMMA,
    "、": Kind.COMMA,
    "—": Kind.COMMA,
    "–": Kind.COMMA,
}
_MARKS |= {".": Kind.STOP, ";": Kind.STOP, "!": Kind.STOP, "?": Kind.STOP, "。": Kind.STOP}
_ALIAS = {"，": ",", "；": ";", "：": ":"}
_UNKNOWN = Entry(Kind.UNKNOWN)
_LONGEST_NUMBER = 6


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a sentence.

    Attributes:
        entry: what it means.
        word: the known word that it stands for; the written one in lower case when it is unknown.
        written: the word as written.
        start: position of its first character in the sentence.
        end: position after its last character.
        edits: how many letters were corrected.
        guessed: whether its meaning was taken from its neighbours, so that it must be reported.
    """

    entry: Entry
    word: str
    written: str
    start: int
    end: int
    edits: int = 0
    guessed: bool = False

    @property
    def kind(self) -> Kind:
        """The part that the word plays."""
        return self.entry.kind

    @property
    def values(self) -> tuple[str, ...]:
        """The side or the levels that it names."""
        return self.entry.values

    def read_as(self, word: str, *, guessed: bool = False) -> Token:
        """Return the token read as another known word."""
        return replace(self, entry=LEXICON[word], word=word, guessed=guessed)


def scan(sentence: str) -> list[Token]:
    """Return the words of a sentence, each read without its neighbours.

    Args:
        sentence: any text.

    Returns:
        Its words and punctuation marks in order; glued words are taken apart, symbols are unknown words.
    """
    tokens: list[Token] = []
    for match in _WORD.finditer(sentence):
        group, text = str(match.lastgroup), match.group()
        if group == "mark":
            tokens.extend(_mark(sentence, match))
        elif group == "number":
            tokens.append(_number(match))
        elif group == "measure":
            tokens.append(Token(Entry(Kind.SIZE), _measure(text), text, match.start(), match.end()))
        elif group == "word":
            tokens.extend(_words(text, match.start()))
        elif group == "other":
            if unicodedata.category(text[0])[0] == "S":
                tokens.append(Token(_UNKNOWN, text, text, match.start(), match.end()))
        else:
            tokens.append(_abbreviation(match))
    return tokens


def _mark(sentence: str, match: re.Match[str]) -> list[Token]:
    mark = _ALIAS.get(match.group(), match.group())
    before = sentence[max(0, match.start() - 80) : match.start()]
    after = sentence[match.end() : match.end() + 80]
    kind = _MARKS.get(mark)
    if mark == "\n":
        kind = Kind.STOP if _ends_line(before, after) else None
    elif mark == "-":
        kind = Kind.COMMA if before[-1:].isspace() and after[:1].isspace() else None
    entry = Entry(kind) if kind else LEXICON.get(mark)
    return [Token(entry, mark, mark, match.start(), match.end())] if entry else []


def _ends_line(before: str, after: str) -> bool:
    """Whether a line break ends a sentence: not where a long sentence is merely wrapped."""
    first = after.lstrip(" \t\r")[:1]
    return not first or first == "\n" or not first.islower() or before.rstrip()[-1:] in ".;:!?"


def _measure(text: str) -> str:
    """Return "12 mm" for "12mm", "10 x 8 mm" for "10x8 mm"."""
    numbers = re.findall(r"\d+(?:[.,]\d+)?", text)
    return " x ".join(numbers) + (" cm" if re.search(r"c", text, re.IGNORECASE) else " mm")


def _number(match: re.Match[str]) -> Token:
    text = match.group()
    if text.isdecimal() and len(text) <= _LONGEST_NUMBER:
        return Token(Entry(Kind.NUMBER, number=int(text)), text, text, match.start(), match.end())
    return Token(_UNKNOWN, text[:_LONGEST_NUMBER], text, match.start(), match.end())


def _abbreviation(match: re.Match[str]) -> Token:
    text = match.group()
    word = text.lower() if "/" in text else text.replace(".", "").lower()
    return Token(LEXICON.get(word, _UNKNOWN), word, text, match.start(), match.end())


def _words(text: str, start: int) -> list[Token]:
    plain = plain_letters(text)
    pieces = recognise(plain) if len(plain) == len(text) else ()
    if not pieces:
        return [Token(_UNKNOWN, plain, text, start, start + len(text))]
    return [
        Token(
            entry_of(piece.word) or _UNKNOWN,
            piece.word,
            text[piece.start : piece.end],
            start + piece.start,
            start + piece.end,
            piece.edits,
        )
        for piece in pieces
    ]


def plain_letters(text: str) -> str:
    """Return a word in lower case, without accents and full-width forms."""
    folded = unicodedata.normalize("NFKD", text.replace("’", "'")).lower()
    return "".join(letter for letter in folded if not unicodedata.combining(letter))

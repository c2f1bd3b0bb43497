"""Left and right: sentences and findings mirrored, and translated between image and patient.

In some data "left" is the left of the picture, in a radiology report it is the patient's left, drawn on the
right. A sentence is mirrored when it is carried from one to the other, and when its image is flipped.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from .context import read_words
from .findings import MAX_CHARACTERS, Findings
from .lexicon import Kind
from .words import Token

LATERALITIES = ("image", "patient")
_PAIRS = (
    ("left", "right"),
    ("l", "r"),
    ("lt", "rt"),
    ("leftward", "rightward"),
    ("leftwards", "rightwards"),
    ("leftmost", "rightmost"),
    ("lefthand", "righthand"),
    ("lul", "rul"),
    ("lll", "rll"),
    ("luz", "ruz"),
    ("lmz", "rmz"),
    ("llz", "rlz"),
    ("lml", "rml"),
)
_MIRROR = dict(_PAIRS) | {b: a for a, b in _PAIRS}
_MIRROR |= {"rml": "lingula", "lingula": "RML", "lingular": "RML", "lingulae": "RML", "lulobe": "RUL"}
_MIRRORED_SIDE = {"left": "right", "right": "left"}


def mirror_sentence(sentence: str | None) -> str:
    """Return a sentence with left and right exchanged, all else as it was.

    Sides are recognised as the reader recognises them ("lfet" becomes "right"), in the case in which they are
    written; RUL and LUL, RLL and LLL, Lt and Rt are exchanged, RML and the lingula stand for each other.
    Mirroring twice gives a sentence back, except that misspelt sides come back corrected, "LML" as
    "lingula", and "lingular" as "lingula". Of a text of more than 8000 characters the first 8000 are kept,
    which is what the reader reads: no half-mirrored text is ever returned.

    Args:
        sentence: any text; None is the empty sentence.

    Returns:
        The mirrored sentence.

    Raises:
        TypeError: if the sentence is neither a string nor None.
    """
    if sentence is not None and not isinstance(sentence, str):
        raise TypeError(f"sentence must be a string or None, got {type(sentence).__name__}.")
    return _mirror((sentence or "")[:MAX_CHARACTERS])


@lru_cache(maxsize=8192)
def _mirror(sentence: str) -> str:
    parts: list[str] = []
    position = 0
    for token in read_words(sentence):
        mirrored = _mirrored_word(token)
        if mirrored is not None:
            parts += [sentence[position : token.start], mirrored]
            position = token.end
    return "".join([*parts, sentence[position:]])


def translate_sentence(sentence: str | None, source: str = "patient", target: str = "image") -> str:
    """Return a sentence in another laterality.

    Args:
        sentence: any text; None is the empty sentence.
        source: the sentence's laterality, "image" or "patient".
        target: the wanted one.

    Returns:
        The sentence as it is when the two agree, else mirrored.

    Raises:
        ValueError: if a laterality is unknown.
        TypeError: if the sentence is neither a string nor None.
    """
    for name, laterality in (("source", source), ("target", target)):
        if laterality not in LATERALITIES:
            raise ValueError(f"{name} must be 'image' or 'patient', got {laterality!r}.")
    return (sentence or "") if source == target else mirror_sentence(sentence)


def mirror_findings(findings: Findings) -> Findings:
    """Return the findings of the mirrored sentence.

    Args:
        findings: of a sentence.

    Returns:
        The same with left and right exchanged, also in the words that could not be read.
    """
    return replace(
        findings,
        side=_MIRRORED_SIDE.get(findings.side or "", findings.side),
        zones=frozenset((_MIRRORED_SIDE.get(side, side), level) for side, level in findings.zones),
        unknown_words=tuple(mirror_sentence(word) for word in findings.unknown_words),
        contradictions=tuple(mirror_sentence(words) for words in findings.contradictions),
    )


def _mirrored_word(token: Token) -> str | None:
    """The word to write instead, or None where the word names no side."""
    word = token.written.lower() if len(token.written) == 1 else token.word  # "R" is read as "right"
    if token.kind not in (Kind.SIDE, Kind.ZONE) or word not in _MIRROR:
        return None
    mirrored = _MIRROR[word]
    short = mirrored.isupper() or mirrored == "lingula"
    return mirrored if short else _in_case_of(token.written, mirrored)


def _in_case_of(written: str, word: str) -> str:
    letters = [letter for letter in written if letter.isalpha()]
    if all(letter.isupper() for letter in letters) and (len(letters) > 1 or len(word) == 1):
        return word.upper()
    return word.capitalize() if letters[0].isupper() else word

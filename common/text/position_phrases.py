"""Phrases of place of a sentence, and sentences rewritten to name other places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from .context import read_words
from .findings import MAX_CHARACTERS, Findings, read_findings
from .lexicon import LEVELS
from .phrase_spans import Span, joined_by, place_spans
from .rewording import cell_name, drop_position
from .sentence_edits import Edit, edited, fitted, number_edits, side_count_edits
from .zones import zones_of

__all__ = [
    "PositionPhrase",
    "first_phrase",
    "join_first_phrases",
    "name_zones",
    "phrase_runs",
    "position_phrases",
]

Zones = frozenset[tuple[str, str]]
_MARKS = " \n\t.,;"
_ANYWHERE = {"lung": "lung", "polyp": "image"}


@dataclass(frozen=True)
class PositionPhrase:
    """A phrase of place in a sentence, such as "lower left lung".

    Attributes:
        start: position of its first character.
        end: position after its last character.
        text: the sentence between the two.
        zones: `(side, level)` of the zones that the sentence reader finds in the sentence by this phrase; empty
            where the place is denied, or left out by the reader.
        affirmed: whether the sentence says that something is found there.
        levelled: whether it names a level, not a side alone.
    """

    start: int
    end: int
    text: str
    zones: Zones
    affirmed: bool = True
    levelled: bool = True


def position_phrases(sentence: str) -> tuple[PositionPhrase, ...]:
    """Return the phrases of place of a sentence.

    A phrase is a side, levels, or both, with the noun that ends it: "lower left lung", "upper lobe of the right
    lung", "RUL", "both bases"; for polyps "top left". "Unilateral" and "bilateral" as such are not phrases
    ("bilateral lower lobes" is one), nor is what places another organ ("left ventricle", "right colon").

    Args:
        sentence: any text; the first 8000 characters are read.

    Returns:
        The phrases in order; none overlaps another.

    Raises:
        TypeError: If the sentence is not a string.
    """
    _check_string(sentence)
    return _phrases(sentence[:MAX_CHARACTERS])


def first_phrase(sentence: str) -> PositionPhrase | None:
    """Return the phrase of place that the paper's code works on: the first one that names a level.

    Args:
        sentence: any text.

    Returns:
        The phrase, for polyps the first of any kind; None where there is none.
    """
    polyp = read_findings(sentence).anatomy == "polyp"
    return next((phrase for phrase in position_phrases(sentence) if polyp or phrase.levelled), None)


def phrase_runs(sentence: str) -> tuple[tuple[PositionPhrase, ...], ...]:
    """Return the phrases of place of a sentence, those of one list together.

    Args:
        sentence: any text.

    Returns:
        Runs of phrases, all affirmed or all denied, with nothing but "and", "or", commas and articles between.
    """
    runs: list[list[PositionPhrase]] = []
    for phrase in position_phrases(sentence):
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and last.affirmed is phrase.affirmed
            and joined_by(sentence[last.end : phrase.start]) is not None
        ):
            runs[-1].append(phrase)
        else:
            runs.append([phrase])
    return tuple(map(tuple, runs))


def join_first_phrases(sentence_i: str, sentence_j: str) -> str:
    """Join the first phrases of place of two sentences within the first sentence, as the paper's code does.

    Args:
        sentence_i: The sentence that is rewritten.
        sentence_j: The sentence whose phrase is added.

    Returns:
        The first sentence with "phrase of i and phrase of j" in the place of its phrase; itself where both
        phrases are the same; the sentence that has a phrase where only one has; the first where none has.

    Reference:
        Semi-MedRef, T-PatchMix, position-aware span mixing.
    """
    own, other = first_phrase(sentence_i), first_phrase(sentence_j)
    if own is None:
        return sentence_i if other is None else sentence_j
    if other is None or own.text.lower().split() == other.text.lower().split():
        return sentence_i
    added = other.text if other.text[:2].isupper() else other.text[:1].lower() + other.text[1:]
    return f"{sentence_i[: own.end]} and {added}{sentence_i[own.end :]}"


def name_zones(sentence: str, zones: Iterable[tuple[str, str]]) -> str:
    """Rewrite a sentence so that the sentence reader finds other zones in it.

    Its phrases of place, and "unilateral" or "bilateral", are replaced; what it found stays. The number of
    areas, no longer known, is left out. A sentence that names these zones already is returned as it is. Where
    its wording cannot be kept (it denies every finding, or one in a zone to be named), a plain caption is
    written.

    Args:
        sentence: Any text.
        zones: `(side, level)` of the zones to name, of the sentence's anatomy.

    Returns:
        The new sentence, in which `read_findings` finds exactly these zones.

    Raises:
        TypeError: If the sentence is not a string.
        ValueError: If no zone is given, or one that the sentence's anatomy does not have.
    """
    _check_string(sentence)
    findings, wanted = read_findings(sentence), frozenset(zones)
    known = zones_of(findings.anatomy)
    if not wanted or not wanted.issubset(known):
        raise ValueError(f"zones must be one or more of {', '.join(map(str, known))}, got {sorted(wanted)}.")
    if findings.zones == wanted and not findings.negated:
        return sentence
    if sentence.strip(_MARKS) and not findings.negated:
        for candidate in _renamed(sentence[:MAX_CHARACTERS], findings, wanted):
            if _says(candidate, wanted, findings.anatomy):
                return candidate
    return _caption(wanted, findings.anatomy)


def _check_string(sentence: str) -> None:
    if not isinstance(sentence, str):
        raise TypeError(f"sentence must be a string, got {type(sentence).__name__}; the empty prompt is ''.")


@lru_cache(maxsize=8192)
def _phrases(sentence: str) -> tuple[PositionPhrase, ...]:
    findings = read_findings(sentence)
    anatomy = findings.anatomy
    spans = place_spans(sentence, anatomy=anatomy)
    alone = [read_findings(sentence[span.start : span.end], anatomy=anatomy).zones for span in spans]
    named = frozenset[tuple[str, str]]().union(*alone)
    exact = {
        side
        for span, zones in zip(spans, alone, strict=True)
        if span.affirmed and span.levels and anatomy == "lung"
        for side, _ in zones
    }
    return tuple(
        PositionPhrase(
            start=span.start,
            end=span.end,
            text=sentence[span.start : span.end],
            zones=_zones_there(span, zones, findings.zones, named, exact),
            affirmed=span.affirmed,
            levelled=bool(span.levels),
        )
        for span, zones in zip(spans, alone, strict=True)
    )


def _zones_there(span: Span, alone: Zones, found: Zones, named: Zones, exact: set[str]) -> Zones:
    """The zones that the reader finds by a phrase in its sentence, from those that it finds in the phrase alone.

    A level without a side has those that no other phrase names; a bare side is a remark where another phrase
    says exactly where on that side.
    """
    if not span.affirmed:
        return frozenset()
    if not span.sided and not alone:
        return frozenset(zone for zone in found - named if zone[1] in span.levels)
    remark = not span.levels and {side for side, _ in alone} <= exact
    return frozenset() if remark else alone & found


def _says(candidate: str, wanted: Zones, anatomy: str) -> bool:
    read = read_findings(candidate)
    right = (read.zones, read.anatomy, read.count) == (wanted, anatomy, None)
    return right and not read.negated and not read.contradictions


def _renamed(sentence: str, findings: Findings, wanted: Zones) -> Iterator[str]:
    """The sentence with other zones, in the order in which more of its wording stays."""
    anatomy, text = findings.anatomy, _places(wanted, findings.anatomy)
    tokens = read_words(sentence)
    edits = number_edits(tokens, anatomy=anatomy)
    if anatomy == "lung":
        edits += side_count_edits(tokens, both=_both(wanted))
    runs = phrase_runs(sentence)
    placed = [run for run in runs if any(phrase.zones for phrase in run)]
    if not placed:
        yield _appended(edited(sentence, edits), text, anatomy)
    else:
        yield _replaced(sentence, placed, text, anatomy, edits)
        yield _replaced(sentence, [run for run in runs if run[0].affirmed], text, anatomy, edits)
    if all(run[0].affirmed for run in runs):
        unplaced = drop_position(sentence)
        numbers = number_edits(read_words(unplaced), anatomy=anatomy)
        yield _appended(edited(unplaced, numbers), text, anatomy)


def _replaced(
    sentence: str, runs: list[tuple[PositionPhrase, ...]], text: str, anatomy: str, edits: list[Edit]
) -> str:
    """The sentence with a new place for its first list of phrases, and none for the others."""
    start, end = runs[0][0].start, runs[0][-1].end
    here = [(start, end, fitted(text, sentence, start))]
    here += [(run[0].start, run[-1].end, _ANYWHERE[anatomy]) for run in runs[1:]]
    return edited(sentence, [*here, *edits])


def _places(zones: Zones, anatomy: str) -> str:
    """The zones as captions write them: "all left lung and lower right lung", "top left, center"."""
    if anatomy == "polyp":
        return ", ".join(cell_name(zone) for zone in zones_of(anatomy) if zone in zones)
    sides = {side: [level for level in LEVELS if (side, level) in zones] for side in ("left", "right")}
    named = {side: ["all"] if len(levels) == len(LEVELS) else levels for side, levels in sides.items()}
    return " and ".join(f"{' '.join(levels)} {side} lung" for side, levels in named.items() if levels)


def _caption(zones: Zones, anatomy: str) -> str:
    if anatomy == "polyp":
        return _appended("Polyp", _places(zones, anatomy), anatomy)
    header = "Bilateral" if _both(zones) else "Unilateral"
    return _appended(f"{header} pulmonary infection", _places(zones, anatomy), anatomy)


def _both(zones: Zones) -> bool:
    return len({side for side, _ in zones}) > 1


def _appended(sentence: str, text: str, anatomy: str) -> str:
    said = sentence.rstrip(_MARKS)
    if anatomy == "polyp":
        return f"{said}, located in {text} of the image"
    return f"{said}, {text}."

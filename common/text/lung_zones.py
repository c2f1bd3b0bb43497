"""Which lung zones a sentence names: phrases completed from each other, and the rules of real captions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from .lexicon import LEVELS, Kind
from .lung_phrases import Phrase
from .negation import Polarity

_AHEAD = frozenset({Kind.LINK, Kind.FINDING, Kind.SEEN, Kind.CHANGE})
_BOTH = {"left", "right"}
Zones = set[tuple[str, str]]


@dataclass(frozen=True)
class LungPlaces:
    """The zones that a sentence names.

    Attributes:
        affirmed: zones with a finding.
        denied: zones without one.
        unread: phrases of place that could not be used.
        contradictions: in words.
    """

    affirmed: frozenset[tuple[str, str]]
    denied: frozenset[tuple[str, str]]
    unread: tuple[str, ...]
    contradictions: tuple[str, ...]


def lung_places(phrases: list[Phrase], *, unilateral: bool, bilateral: bool, diffuse: bool) -> LungPlaces:
    """Complete the phrases of a text and return the zones that they name.

    A side without a level is the whole lung. A level without a side takes the side of the phrase that it
    belongs to; the side of "lung" in a bilateral sentence that names one side elsewhere is the other one. A
    unilateral sentence that names one bare lung and one with a level ("left lung and middle right lung")
    means the latter.

    Args:
        phrases: as written, see `phrases_of`.
        unilateral: whether the text says so.
        bilateral: whether the text says so.
        diffuse: whether the text speaks of a diffuse finding.

    Returns:
        The zones.
    """
    own = [phrase for phrase in phrases if not phrase.other_organ]
    unread = [phrase.text for phrase in phrases if phrase.other_organ and phrase.sides]
    for clause in dict.fromkeys(phrase.clause for phrase in own):
        _complete([phrase for phrase in own if phrase.clause == clause])
    contradictions = _place_orphans(own, unilateral=unilateral, bilateral=bilateral)
    unread += [phrase.text for phrase in own if phrase.orphan and phrase.polarity is not Polarity.DENIED]
    told = [phrase for phrase in own if phrase.sides and phrase.polarity is Polarity.AFFIRMED]
    orphaned = any(phrase.orphan and phrase.polarity is Polarity.AFFIRMED for phrase in own)
    contradictions += [f"two sides for one place: {phrase.text}" for phrase in told if phrase.in_row]
    contradictions += [
        f"read as both lungs: {phrase.text}" for phrase in told if phrase.first_word == "either"
    ]
    kept, dropped = _without_remarks(told)
    unread += dropped
    affirmed = _spread(
        _zones(kept), kept, unilateral=unilateral, bilateral=bilateral, diffuse=diffuse, orphaned=orphaned
    )
    affirmed, conflict = _header(affirmed, kept, unilateral=unilateral, bilateral=bilateral)
    denied = _zones([phrase for phrase in own if phrase.polarity is Polarity.DENIED])
    spared = _zones([phrase for phrase in own if phrase.polarity is Polarity.SPARED])
    return LungPlaces(
        frozenset(affirmed - spared), frozenset(denied | spared), tuple(unread), (*contradictions, *conflict)
    )


def _complete(phrases: list[Phrase]) -> None:
    """Give every level of a clause its side, and shared levels to both sides."""
    _drop_correlative(phrases)
    live: list[Phrase] = []  # from the last phrase to the first
    for index in range(len(phrases) - 1, -1, -1):
        phrase = phrases[index]
        previous = phrases[index - 1] if index else None
        if phrase.orphan and live and _belongs_ahead(phrase, live[-1], previous):
            _adopt_ahead(live[-1], phrase)
        else:
            live.append(phrase)
    live.reverse()
    last: Phrase | None = None
    for phrase in live:
        if phrase.sides:
            last = phrase
        elif last is not None and _belongs_behind(phrase, last):
            last.adopted |= last.bare
            last.levels |= phrase.levels
            last.words += phrase.words
            phrase.levels = set()
    live = [phrase for phrase in live if phrase.sides or phrase.levels]
    for first, second in pairwise(live):
        _share(first, second)


def _drop_correlative(phrases: list[Phrase]) -> None:
    """Take "both" back in "both the upper and lower lobes of the right lung"."""
    for index, phrase in enumerate(phrases):
        if phrase.first_word != "both" or not phrase.levels:
            continue
        rest = phrases[index + 1 : index + 3]
        owner = rest[1:] if rest and rest[0].orphan and rest[0].listed and not phrase.organ else rest[:1]
        if owner and owner[0].bare and len(owner[0].sides) == 1 and not owner[0].listed:
            phrase.sides.clear()


def _belongs_ahead(orphan: Phrase, after: Phrase, previous: Phrase | None) -> bool:
    """Whether a level belongs to what follows: "lower lobe of the left lung", "upper and lower left lung"."""
    if after.polarity is not orphan.polarity:
        return False
    if not after.listed:
        return (
            bool(after.links)
            and after.links <= _AHEAD
            and bool(after.sides)
            and (after.bare or after.adopted)
        )
    if orphan.organ:
        return False
    listed_behind = previous is not None and previous.sides and previous.side_first and not previous.organ
    return after.orphan or not after.side_first or (after.bare and not listed_behind)


def _adopt_ahead(phrase: Phrase, orphan: Phrase) -> None:
    if phrase.bare:
        phrase.adopted, phrase.side_first = True, False
    phrase.levels |= orphan.levels
    phrase.links = orphan.links
    phrase.words = orphan.words + phrase.words
    orphan.levels = set()


def _belongs_behind(orphan: Phrase, before: Phrase) -> bool:
    """Whether a level belongs to what precedes it: "left lung, lower zone", "right upper and middle lobes"."""
    if before.polarity is not orphan.polarity or (orphan.organ == "lung" and orphan.listed):
        return False
    if not orphan.links:
        return True
    if before.bare:
        return not (Kind.AND in orphan.links and before.organ)
    if before.adopted:
        return True
    other_place = Kind.FINDING in orphan.links or (orphan.plural and before.organ)
    return before.side_first and orphan.listed and not other_place


def _share(first: Phrase, second: Phrase) -> None:
    """Share levels: "left and right lower lobes", "lower left and right lung"."""
    if first.organ or not second.links & {Kind.AND, Kind.OR} or first.polarity is not second.polarity:
        return
    if first.bare and second.sides and second.levels and second.side_first and not second.adopted:
        first.levels = set(second.levels)
    elif second.bare and first.sides and first.levels and not first.side_first:
        second.levels = set(first.levels)


def _place_orphans(phrases: list[Phrase], *, unilateral: bool, bilateral: bool) -> list[str]:
    """Give a level without any side its lung where the rest of the sentence says which; return what was inferred."""
    orphans = [phrase for phrase in phrases if phrase.orphan]
    named = set().union(
        *(phrase.sides for phrase in phrases if phrase.polarity is Polarity.AFFIRMED and phrase.sides)
    )
    notes: list[str] = []
    for orphan in orphans:
        if orphan.plural or (bilateral and not named) or _whole_lungs(orphan, named, unilateral):
            orphan.sides = set(_BOTH)
        elif bilateral and len(named) == 1 and orphan.organ:
            (other,) = _BOTH - named
            orphan.sides = {other}
            notes.append(
                f"no side is named for {orphan.text}: read as the {other} lung of a bilateral sentence"
            )
    return notes


def _whole_lungs(orphan: Phrase, named: set[str], unilateral: bool) -> bool:
    return orphan.levels == set(LEVELS) and orphan.organ == "lung" and not named and not unilateral


def _without_remarks(phrases: list[Phrase]) -> tuple[list[Phrase], list[str]]:
    """Leave out bare sides that only refine or remark on what is named more exactly elsewhere."""
    exact = {side for phrase in phrases if phrase.levels for side in phrase.sides}
    only_pleural = all(phrase.pleural for phrase in phrases)
    kept: list[Phrase] = []
    dropped: list[str] = []
    for phrase in phrases:
        if phrase.bare and phrase.pleural and not only_pleural:
            dropped.append(phrase.text)
        elif not (phrase.bare and phrase.sides <= exact):
            kept.append(phrase)
    return kept, dropped


def _zones(phrases: list[Phrase]) -> Zones:
    return {(side, level) for phrase in phrases for side in phrase.sides for level in phrase.levels or LEVELS}


def _spread(
    zones: Zones, phrases: list[Phrase], *, unilateral: bool, bilateral: bool, diffuse: bool, orphaned: bool
) -> Zones:
    """Read all zones where a sentence says "bilateral" or "diffuse" and no place, or a place only in comparison."""
    if unilateral or orphaned or not (bilateral or diffuse):
        return zones
    remarks = all(phrase.compared for phrase in phrases) and {side for side, _ in zones} != _BOTH
    whole = bilateral and (diffuse or remarks)
    return {(side, level) for side in _BOTH for level in LEVELS} if whole or not zones else zones


def _header(
    zones: Zones, phrases: list[Phrase], *, unilateral: bool, bilateral: bool
) -> tuple[Zones, list[str]]:
    """Compare "unilateral" and "bilateral" with the sides that are named."""
    sides = {side for side, _ in zones}
    conflicts = ["called both unilateral and bilateral"] if unilateral and bilateral else []
    if bilateral and not unilateral and len(sides) == 1:
        conflicts.append(f"called bilateral, but only the {next(iter(sides))} lung is named")
    if not unilateral or bilateral or len(sides) < 2:
        return zones, conflicts
    exact = {side for phrase in phrases if phrase.levels for side in phrase.sides}
    if len(exact) == 1:
        (side,) = exact
        (other,) = _BOTH - exact
        conflicts.append(f"called unilateral, but both lungs are named: the bare {other} lung was left out")
        return {zone for zone in zones if zone[0] == side}, conflicts
    return zones, [*conflicts, "called unilateral, but both lungs are named"]

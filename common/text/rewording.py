"""Other words for the same finding: abbreviations, paraphrases, and sentences that lost one piece of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from .findings import Findings, read_findings
from .lexicon import Kind
from .wordpiece import normalise
from .words import scan
from .zones import LUNG_ZONES, POLYP_ZONES

_NUMBER_NAMES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_NUMBERS = _NUMBER_NAMES.split()
_LEVELS = ("upper", "middle", "lower")
_LEVEL = r"(?:upper|middle|lower|all)"
_LEVEL_LIST = rf"{_LEVEL}(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s+){_LEVEL})*"
_LUNG_PLACE = re.compile(
    rf"\b(?:(?P<levels>{_LEVEL_LIST})\s+(?P<side>left|right)\s+lung"
    rf"|(?P<side_first>left|right)\s+(?P<levels_last>{_LEVEL_LIST})\s+(?:lung|lobe|zone)s?)\b",
    re.IGNORECASE,
)
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(_NUMBERS)})\b", re.IGNORECASE)
_NUMBER = re.compile(rf"{_NUMBER_WORD.pattern}|(?<![\d.,])[0-9]{{1,4}}(?![\d.])", re.IGNORECASE)
_CLAUSE_END = re.compile(r"(,(?!\d)|[.;!?](?=\s|$))")
_FEW_WORDS = 22  # what 24 tokens hold beside the opening and the closing one
_POSITION = frozenset(
    {Kind.SIDE, Kind.LETTER, Kind.LEVEL, Kind.ZONE, Kind.DIFFUSE, Kind.UNILATERAL, Kind.BILATERAL}
)
_CONTENT = frozenset({Kind.FINDING, Kind.NUMBER, Kind.NEGATION, Kind.CLEAR, Kind.SIZE})


def abbreviate(sentence: str) -> str:
    """Abbreviate as reports do: "lower left lung" to "LLL", "bilateral" to "bilat", "two" to "2".

    Only what the sentence reader reads as the same finding is abbreviated; polyps keep their words of place.

    Args:
        sentence: Any sentence.

    Returns:
        The abbreviated sentence; the sentence itself where nothing can be abbreviated.
    """
    findings = read_findings(sentence)
    zones = sentence if findings.anatomy == "polyp" else _LUNG_PLACE.sub(_zone_letters, sentence)
    short = re.sub(r"\b(bi|uni)lateral\b", r"\1lat", zones, flags=re.IGNORECASE)
    digits = _NUMBER_WORD.sub(lambda match: _digits(match[0]), short)
    return _first_alike(findings, (digits, short, zones), otherwise=sentence)


def paraphrase(sentence: str, generator: np.random.Generator) -> str:
    """Say the same zones, number and negation in other words, drawn from templates.

    A sentence that 24 tokens hold goes before a longer one.

    Args:
        sentence: Any sentence.
        generator: What draws the template.

    Returns:
        The new sentence, which the reader reads as the same finding; the sentence itself where it names no
        zone and denies nothing, or no template says the same.
    """
    findings = read_findings(sentence)
    candidates = list(_paraphrases(findings))
    drawn = [candidates[index] for index in generator.permutation(len(candidates))]
    drawn.sort(key=lambda candidate: max(_FEW_WORDS, len(normalise(candidate).split())))
    return _first_alike(findings, drawn, otherwise=sentence)


def drop_position(sentence: str) -> str:
    """Leave out every word of place: what is found stays, where it is does not.

    Args:
        sentence: Any sentence.

    Returns:
        The sentence without sides and levels. The reader finds no zone in it.
    """
    findings = read_findings(sentence)
    pieces = _CLAUSE_END.split(sentence)
    kept: list[str] = []
    for clause, mark in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        shorter = _without_position(clause)
        if shorter:
            kept.append(shorter + mark)
        elif kept and mark in (".", ";", "!", "?"):
            kept[-1] = kept[-1].rstrip(",;.") + mark
    text = capitalised(" ".join(kept).rstrip(", "), like=sentence)
    named = read_findings(text)
    return text if text and not named.zones and named.side is None else _unplaced(findings)


def miscount(sentence: str, generator: np.random.Generator) -> str:
    """Replace the number of areas or polyps by another one between one and nine.

    Args:
        sentence: Any sentence.
        generator: What draws the number.

    Returns:
        The sentence with a wrong number; the sentence itself where the reader finds no number, or where
        another one would change its zones.
    """
    findings = read_findings(sentence)
    others = [number for number in range(1, 10) if number != findings.count]
    drawn = int(generator.choice(others))
    for match in _NUMBER.finditer(sentence):
        if findings.count is None or _digits(match[0]) != str(findings.count):
            continue
        word = str(drawn) if match[0].isdigit() else capitalised(_NUMBERS[drawn], like=match[0])
        text = sentence[: match.start()] + word + sentence[match.end() :]
        read = read_findings(text)
        if read.zones == findings.zones and read.count == drawn:
            return text
    return sentence


def _first_alike(findings: Findings, candidates: Iterable[str], *, otherwise: str) -> str:
    wanted = findings.zones, findings.count, findings.negated
    for candidate in candidates:
        read = read_findings(candidate)
        if (read.zones, read.count, read.negated) == wanted:
            return candidate
    return otherwise


def _zone_letters(match: re.Match[str]) -> str:
    side = (match["side"] or match["side_first"]).lower()
    written = re.findall(_LEVEL, (match["levels"] or match["levels_last"]).lower())
    levels = [level for level in _LEVELS if level in written or "all" in written]
    return _listed([f"{side[0]}{level[0]}l".upper() for level in levels])


def _digits(number: str) -> str:
    return str(_NUMBERS.index(number.lower())) if number.lower() in _NUMBERS else str(int(number))


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def capitalised(text: str, *, like: str) -> str:
    """Return a text that begins with a capital letter where another one does.

    Args:
        text: Any text.
        like: The text that it stands in for.

    Returns:
        The text; unchanged where the other one begins otherwise.
    """
    return text[:1].upper() + text[1:] if like[:1].isupper() else text


def _paraphrases(findings: Findings) -> Iterator[str]:
    if findings.anatomy == "polyp":
        yield from _polyp_paraphrases(findings)
    elif findings.zones:
        for places in _lung_places(findings):
            yield from _lung_paraphrases(findings.count, places)
    elif findings.negated:
        yield from ("No consolidation is seen.", "The lungs are clear.", "There is no evidence of pneumonia.")


def _lung_paraphrases(count: int | None, places: str) -> Iterator[str]:
    if count is None:
        yield f"There is consolidation in {places}."
        yield f"Opacities are seen in {places}."
        yield f"The radiograph shows pneumonia of {places}."
        return
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    lesion, verb = ("opacity", "is") if count == 1 else ("opacities", "are")
    yield f"There {verb} {number} {lesion} in {places}."
    yield f"{number.capitalize()} {lesion} {verb} seen in {places}."
    yield f"The radiograph shows {number} infected {'area' if count == 1 else 'areas'} in {places}."


def _lung_places(findings: Findings) -> Iterator[str]:
    """The zones in words, in three ways."""
    levels = {
        side: [level for named, level in LUNG_ZONES if named == side and (side, level) in findings.zones]
        for side in ("left", "right")
    }
    sides = [side for side, named in levels.items() if named]
    yield _listed([f"the {_listed(levels[s])} {_zone(levels[s])} of the {s} lung" for s in sides])
    yield _listed([f"the {s} {_listed(levels[s])} {_zone(levels[s])}" for s in sides])
    whole = {s: ["whole"] if len(levels[s]) == len(_LEVELS) else levels[s] for s in sides}
    yield _listed([f"the {level} {s} lung" for s in sides for level in whole[s]])


def _zone(levels: list[str]) -> str:
    return "zone" if len(levels) == 1 else "zones"


def _polyp_paraphrases(findings: Findings) -> Iterator[str]:
    if not findings.zones:
        if findings.negated:
            yield from ("No polyp is seen.", "There is no polyp in the image.")
        return
    places = _listed([cell_name(zone) for zone in POLYP_ZONES if zone in findings.zones])
    count = findings.count
    number = "a" if count is None else _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    size = "".join(f"{size} " for size in findings.sizes[:1])
    polyps = f"{number} {size}{'polyp' if number in ('a', 'one') else 'polyps'}"
    yield f"The image shows {polyps} located in {places} of the image."
    yield f"There {'is' if number in ('a', 'one') else 'are'} {polyps} at {places}."
    yield f"{capitalised(polyps, like='A')} in the {places} of the picture."


def cell_name(zone: tuple[str, str]) -> str:
    """Name a cell of the polyp grid as captions do.

    Args:
        zone: `(side, level)`.

    Returns:
        Such as "top left", "right" or "center".
    """
    side, level = zone
    row = {"upper": "top", "middle": "", "lower": "bottom"}[level]
    column = "" if side == "center" else side
    return f"{row} {column}".strip() or "center"


def _without_position(clause: str) -> str:
    """A clause without its words of place; nothing where it holds nothing else."""
    tokens = scan(clause)
    placed = [token for token in tokens if token.kind in _POSITION]
    if not placed:
        return clause.strip()
    if not any(token.kind in _CONTENT for token in tokens):
        return ""
    for token in reversed(placed):
        clause = clause[: token.start] + clause[token.end :]
    return " ".join(clause.split())


def _unplaced(findings: Findings) -> str:
    if findings.anatomy == "polyp":
        return "No polyp." if findings.negated else "Polyp."
    return "No pulmonary infection." if findings.negated else "Pulmonary infection."

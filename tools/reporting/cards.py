"""The pictured cases: overlays, the sentence with its findings, and the same case in the other evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .evaluation import Case, Evaluation
from .guidance import Heat, case_maps
from .pictures import Picture, case_picture
from .sentence import Reading, occupied, read_sentence, zone_map
from .wording import number, without_folders

ORDERS = ("worst", "best", "list")


@dataclass(frozen=True)
class Panel:
    """One evaluation's outlines over the picture, with its sentence and score."""

    name: str
    dice: str
    text: str
    prediction: str | None


@dataclass(frozen=True)
class Card:
    """All that is shown of one case.

    `maps` holds (title, rows of cells) of the zones, `heats` the maps of the method.
    """

    case: Case
    anchor: str
    dice: str
    scores: str
    reading: Reading
    picture: Picture | None = None
    trouble: str = ""
    maps: tuple[tuple[str, list[list[bool]]], ...] = ()
    others: tuple[Panel, ...] = field(default=())
    heats: tuple[Heat, ...] = ()


def pick_cases(cases: Sequence[Case], *, order: str, limit: int) -> list[Case]:
    """Choose the cases to picture.

    Args:
        cases: all cases.
        order: "worst" or "best" Dice first (cases without one, or with two empty masks, last), or "list" for
            the file's order.
        limit: how many.

    Returns:
        The chosen cases in that order.

    Raises:
        ValueError: another order, or a negative limit.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    if limit < 0:
        raise ValueError(f"pictures must be 0 or more, got {limit}")
    if order == "list":
        return list(cases[:limit])
    sign = 1.0 if order == "worst" else -1.0
    return sorted(cases, key=lambda case: (case.rank is None, sign * (case.rank or 0.0)))[:limit]


def make_card(case: Case, number_: int, evaluations: Sequence[Evaluation], *, size: int) -> Card:
    """Read the files of a case and lay out its card; files that cannot be read are said, not raised.

    Args:
        case: a case of the first evaluation.
        number_: its place, for the anchor.
        evaluations: all evaluations, the first being the case's own.
        size: longest side of the picture in pixels.

    Returns:
        The card.
    """
    reading = read_sentence(case.text)
    words = [f"IoU {number(case.values['iou_image'])}"] if case.dice is not None else []
    words += [f"HD95 {number(case.values['hd95'], 1)}"] if case.values["hd95"] is not None else []
    card = Card(case, f"case-{number_}", number(case.dice), " · ".join(words), reading)
    try:
        picture = case_picture(case, size=size)
    except (ValueError, OSError) as error:
        return Card(
            case, card.anchor, card.dice, card.scores, reading, trouble=_without_paths(case, str(error))
        )
    maps = _maps(reading, picture, evaluations[0].laterality)
    others = tuple(_panel(case, picture, other, size) for other in evaluations[1:])
    flat = picture.slice is None
    heats = case_maps(evaluations[0].folder, case.id, size=size) if flat else ()
    return Card(case, card.anchor, card.dice, card.scores, reading, picture, "", maps, others, heats)


def _without_paths(case: Case, message: str) -> str:
    """Keep the reason of an error and drop the folders that it names."""
    for path in (case.image, case.label, case.prediction):
        if path is not None:
            message = message.replace(str(path), path.name)
    return without_folders(message)


def _maps(reading: Reading, picture: Picture, laterality: str) -> tuple[tuple[str, list[list[bool]]], ...]:
    findings = reading.findings
    if findings is None:
        return ()
    where = {"anatomy": findings.anatomy, "laterality": laterality}
    maps = [("sentence", zone_map(findings.zones, **where))]
    for title, mask in (("truth", picture.truth_mask), ("prediction", picture.prediction_mask)):
        if mask is not None:
            maps.append((title, zone_map(occupied(mask, **where), **where)))
    return tuple(maps)


def _panel(case: Case, picture: Picture, other: Evaluation, size: int) -> Panel:
    """The same case in another evaluation; without its outlines when they cannot be read or differ in size."""
    twin = next((candidate for candidate in other.cases if candidate.id == case.id), None)
    if twin is None:
        return Panel(other.name, number(None), "not evaluated", None)
    try:
        drawn = case_picture(twin, size=size)
    except (ValueError, OSError):
        return Panel(other.name, number(twin.dice), twin.text, None)
    same = (drawn.width, drawn.height, drawn.slice) == (picture.width, picture.height, picture.slice)
    return Panel(other.name, number(twin.dice), twin.text, drawn.prediction if same else None)

"""Where a block of another image may be pasted, and what the sentence is to say of it then."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from torch import Tensor

from ..text.findings import Findings, read_findings
from ..text.position_phrases import first_phrase, join_first_phrases, name_zones, position_phrases
from ..text.zones import zone_regions

Zone = tuple[str, str]
_Box = tuple[int, int, int, int]  # top, left, bottom, right; the last two are outside


@dataclass(frozen=True)
class Pair:
    """A case and its partner.

    Attributes:
        sentence: of the case.
        other: the partner's sentence.
        probability: the partner's, `(H, W)`, on the CPU.
    """

    sentence: str
    other: str
    probability: Tensor


@dataclass(frozen=True)
class Spot:
    """Where a block lies.

    Attributes:
        top: its first row.
        left: its first column.
        zone: the zone in which it lies, where the rule keeps it within one.
    """

    top: int
    left: int
    zone: Zone | None = None


class PlaceRule(ABC):
    """Where the block of a pair lies, and what the pair's sentence becomes.

    Args:
        block: side of the block in pixels, at most the image's.

    Attributes:
        gated: whether the block has to show lesion.
    """

    gated = True

    def __init__(self, block: int) -> None:
        self.block = block

    @abstractmethod
    def place(self, pair: Pair, draw: float) -> Spot | None:
        """The spot that a number in [0, 1) stands for; None: the two are not to be mixed."""

    def sentence(self, pair: Pair, spot: Spot) -> str:
        """What is told of the mixed image: the rule's default is what was told of the case."""
        return pair.sentence

    def _within(self, boxes: Iterable[tuple[Zone | None, _Box]], draw: float) -> Spot | None:
        """One of the spots at which the block lies inside one of the boxes, all alike."""
        spots = [
            (zone, top, left, bottom - top - self.block + 1, right - left - self.block + 1)
            for zone, (top, left, bottom, right) in boxes
        ]
        spots = [spot for spot in spots if min(spot[3:]) > 0]
        index = int(draw * sum(rows * columns for *_, rows, columns in spots))
        for zone, top, left, rows, columns in spots:
            if index < rows * columns:
                return Spot(top + index // columns, left + index % columns, zone)
            index -= rows * columns
        return None


class Anywhere(PlaceRule):
    """Anywhere in the image, with or without lesion."""

    gated = False

    def place(self, pair: Pair, draw: float) -> Spot | None:
        return self._within([(None, (0, 0, *pair.probability.shape))], draw)


class AroundLesion(PlaceRule):
    """Around a pixel of the partner that is surely lesion, unless the two sentences conflict.

    Args:
        block: as for every rule.
        threshold: smallest probability of the pixel, 0..1.
    """

    def __init__(self, block: int, threshold: float) -> None:
        super().__init__(block)
        self.threshold = threshold

    def place(self, pair: Pair, draw: float) -> Spot | None:
        sure = (pair.probability >= self.threshold).nonzero()
        if len(sure) == 0 or _conflict(_placed(pair.sentence), _placed(pair.other)):
            return None
        centre = sure[int(draw * len(sure))].tolist()
        top, left = (
            min(max(pixel - self.block // 2, 0), side - self.block)
            for pixel, side in zip(centre, pair.probability.shape, strict=True)
        )
        return Spot(top, left)


class WithinZones(PlaceRule):
    """Within one zone that either sentence names; the mixed sentence names it too.

    Args:
        block: at most a third of the image's sides.
        laterality: "image" or "patient".
    """

    def __init__(self, block: int, laterality: str) -> None:
        super().__init__(block)
        self.laterality = laterality

    def place(self, pair: Pair, draw: float) -> Spot | None:
        own, other = _placed(pair.sentence), _placed(pair.other)
        if not own.zones or _conflict(own, other):
            return None
        boxes = _zone_boxes(*pair.probability.shape, own.anatomy, self.laterality)
        return self._within([item for item in boxes.items() if item[0] in own.zones | other.zones], draw)

    def sentence(self, pair: Pair, spot: Spot) -> str:
        zones = read_findings(pair.sentence).zones
        return pair.sentence if spot.zone in zones else name_zones(pair.sentence, zones | {spot.zone})


class WithinFirstPhrase(WithinZones):
    """Within the box that the zones of the first phrase span; the first phrases are joined."""

    def place(self, pair: Pair, draw: float) -> Spot | None:
        own, other = _first_placed(pair.sentence), _first_placed(pair.other)
        if not own.zones or _conflict(own, other):
            return None
        boxes = _zone_boxes(*pair.probability.shape, own.anatomy, self.laterality)
        tops, lefts, bottoms, rights = zip(*(boxes[zone] for zone in own.zones), strict=True)
        return self._within([(None, (min(tops), min(lefts), max(bottoms), max(rights)))], draw)

    def sentence(self, pair: Pair, spot: Spot) -> str:
        return join_first_phrases(pair.sentence, pair.other)


def _placed(sentence: str) -> Findings:
    """What a sentence finds where; nothing without a phrase of place ("bilateral" alone does not tell where)."""
    findings = read_findings(sentence)
    return findings if position_phrases(sentence) and not findings.negated else Findings()


def _first_placed(sentence: str) -> Findings:
    phrase = first_phrase(sentence)
    return Findings() if phrase is None else replace(read_findings(sentence), zones=phrase.zones)


def _conflict(own: Findings, other: Findings) -> bool:
    """Whether one speaks of the left alone and the other of the right, or they speak of different organs."""
    if not own.zones or not other.zones:
        return False
    sides, others = ({side for side, _ in said.zones} - {"center"} for said in (own, other))
    return own.anatomy != other.anatomy or (len(sides) == len(others) == 1 and sides != others)


@lru_cache(maxsize=32)
def _zone_boxes(height: int, width: int, anatomy: str, laterality: str) -> dict[Zone, _Box]:
    """The rows and columns of each zone, in order."""
    boxes: dict[Zone, _Box] = {}
    for zone, region in zone_regions(height, width, anatomy=anatomy, laterality=laterality).items():
        rows, columns = np.nonzero(region)
        boxes[zone] = int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1
    return boxes

"""The tokenizer of a network that gets no words: ids are the zones that the sentence reader finds."""

from __future__ import annotations

from torch import Tensor

from .findings import read_findings
from .tokenizer import Tokenizer, token_list
from .zones import LUNG_ZONES, POLYP_ZONES

_NEGATED = len(LUNG_ZONES) + len(POLYP_ZONES) + 1


class ZoneTokenizer(Tokenizer):
    """One id per named zone: 0 padding, 1-6 lung zones, 7-15 polyp zones, 16 a negated sentence.

    The ids stand in ascending order. A sentence that names no zone, and the empty prompt, is padding
    alone: all ids 0, all of the mask 0. A negated sentence is id 16 alone.

    Args:
        max_tokens: Length of every encoding; 9 hold every sentence.
    """

    def __init__(self, *, max_tokens: int = 24) -> None:
        super().__init__("zones", max_tokens=max_tokens)
        self.pad_id = 0
        self.vocab_size = _NEGATED + 1

    def token_ids(self, sentence: str, limit: int | None = None) -> list[int]:
        """The ids of the zones of a sentence."""
        findings = read_findings(sentence)
        if findings.negated:
            return [_NEGATED]
        polyp = findings.anatomy == "polyp"
        zones, first = (POLYP_ZONES, 1 + len(LUNG_ZONES)) if polyp else (LUNG_ZONES, 1)
        return [first + index for index, zone in enumerate(zones) if zone in findings.zones]

    def decode(self, ids: Tensor | list[int]) -> str:
        """The zones in words, such as "upper left, lower right"."""
        zones = (*LUNG_ZONES, *POLYP_ZONES)
        named = [index for index in token_list(ids) if index]
        return ", ".join(
            "none" if index == _NEGATED else f"{zones[index - 1][1]} {zones[index - 1][0]}" for index in named
        )

    def fit(self, ids: list[int]) -> list[int]:
        """Cut ids to `max_tokens`."""
        return ids[: self.max_tokens]

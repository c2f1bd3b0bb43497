"""Which zones the sentences of a batch name: the coarse labels of place that a contrast between them needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .findings import ANATOMIES, read_findings
from .zones import zone_vector, zones_of

__all__ = ["zone_bits"]


def zone_bits(sentences: Sequence[str | None], *, anatomy: str = "auto") -> Tensor:
    """Return which zones each sentence names.

    The bits stand in the order of `LUNG_ZONES` (left upper, middle, lower, right upper, middle, lower), or for
    polyps of `POLYP_ZONES` (left, center, right, each upper, middle, lower). Left is the sentence's own; a
    bare side is all of its zones. A sentence without a place, None and "" have no bit. "auto" takes the
    anatomy that most sentences with words speak of (lungs where both are as many) and reads all of them so.

    Args:
        sentences: B sentences, each a string or None.
        anatomy: "lung", "polyp" or "auto".

    Returns:
        Bits `(B, 6)` for lungs, `(B, 9)` for polyps, bool, on the CPU.

    Raises:
        TypeError: if the sentences are one string, or one of them is neither a string nor None.
        ValueError: if the anatomy is unknown.

    Reference:
        Semi-MedRef, position pseudo-label of eq. 9.

    Differences from the paper:
        The labels come from the sentence reader, not from the data set's table of them, so that any data with
        sentences has them; misspelt and negated places are read, too.
    """
    if isinstance(sentences, str):
        raise TypeError("sentences must be a sequence of sentences, got one string: put it into a list.")
    if anatomy not in (*ANATOMIES, "auto"):
        raise ValueError(f"anatomy must be 'auto', 'lung' or 'polyp', got {anatomy!r}.")
    organ = _majority(sentences) if anatomy == "auto" else anatomy
    bits = [zone_vector(read_findings(sentence, anatomy=organ)) for sentence in sentences]
    return torch.tensor(bits, dtype=torch.bool).reshape(len(bits), len(zones_of(organ)))


def _majority(sentences: Sequence[str | None]) -> str:
    told = [read_findings(sentence).anatomy for sentence in sentences if sentence]
    return "polyp" if 2 * told.count("polyp") > len(told) else "lung"

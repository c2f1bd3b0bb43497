"""Random changes of the sentences of training cases."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from ..text.laterality import mirror_sentence
from ..text.rewording import drop_position
from .preprocessing import on_same_grid
from .text import TokenizeTextd


class RandMirrorWithSentenced(RandomizableTransform, MapTransform):
    """Mirror image and mask left to right and swap the sides in the sentence, so that it stays true.

    Args:
        tokenize: the transform that made the tokens; it makes those of the mirrored sentence.
        prob: probability, 0..1.
        keys: keys of arrays whose last axis is the columns; may be missing.
    """

    def __init__(
        self, tokenize: TokenizeTextd, *, prob: float = 0.5, keys: KeysCollection = ("image", "label")
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys=True)
        RandomizableTransform.__init__(self, checked_probability("prob", prob))
        self.tokenize = tokenize

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Mirror one case into a new dictionary, or pass it on."""
        case = dict(data)
        if self.R.uniform() >= self.prob:
            return case
        for key in self.key_iterator(case):
            values = case[key]
            flipped = (values.as_tensor() if isinstance(values, MetaTensor) else values).flip(-1)
            case[key] = on_same_grid(values, flipped) if isinstance(values, MetaTensor) else flipped
        case["sentence"] = mirror_sentence(case.get("sentence") or "")
        self.tokenize.write(case, case["sentence"])
        return case


class RandDropPositiond(RandomizableTransform, MapTransform):
    """Leave the words of place out of the sentence, so that the network must find by itself what it was told before.

    A network that was told the place of every finding looks where the sentence says. One that has met sentences without
    places as well can be asked what it sees: see `common.inference.contradiction_scores`.

    Args:
        tokenize: the transform that made the tokens; it makes those of the shorter sentence.
        prob: probability, 0..1.
    """

    def __init__(self, tokenize: TokenizeTextd, *, prob: float = 0.5) -> None:
        MapTransform.__init__(self, "text", allow_missing_keys=True)
        RandomizableTransform.__init__(self, checked_probability("prob", prob))
        self.tokenize = tokenize

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Shorten the sentence of one case into a new dictionary, or pass it on; a blank one stays blank."""
        case = dict(data)
        sentence = case.get("sentence") or ""
        if self.R.uniform() >= self.prob or not sentence.strip():
            return case
        case["sentence"] = drop_position(sentence)
        self.tokenize.write(case, case["sentence"])
        return case


def checked_probability(name: str, value: float) -> float:
    """Return a probability.

    Args:
        name: of the option, for the message.
        value: of the option.

    Raises:
        ValueError: when it is outside 0..1.
    """
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be a probability between 0 and 1, got {value}")
    return float(value)

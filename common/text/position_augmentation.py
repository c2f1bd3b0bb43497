"""Augmentation of sentences in training: place taken away or blurred, words lost or swapped."""

from __future__ import annotations

import re

import numpy as np

from .findings import read_findings
from .position_phrases import phrase_runs, position_phrases
from .sentence_edits import Edit, edited, fitted

__all__ = ["PositionAugmentation", "WordAugmentation"]

_ARTICLE = re.compile(r"\b(?:the|a|an)\s+$", re.IGNORECASE)
_OF_IMAGE = re.compile(r"\s+of\s+(?:the|this)\s+(?:image|picture|frame|photo)\b", re.IGNORECASE)


class PositionAugmentation:
    """Take the place out of a sentence, or blur it (PosAug).

    With probability `probability` every list of phrases of place ("lower left lung and upper right lung") is
    replaced: in a share `drop_share` of the cases by `unknown`, otherwise by a phrase that names no place. An
    article before it is replaced with it, for polyps also "of the image" behind it. "Unilateral" and
    "bilateral" stay. A sentence without a phrase of place stays as it is.

    Args:
        probability: Share of sentences that are augmented, in [0, 1].
        drop_share: Share of these that get `unknown`, in [0, 1].
        unknown: What stands for a place that was dropped. The tokenizers split it into pieces.
        fuzzy: What stands for a blurred place of the lungs.
        polyp_fuzzy: What stands for a blurred place of a polyp.

    Raises:
        ValueError: If a share is not in [0, 1], or a phrase names a place.

    Reference:
        Semi-MedRef, position-aware text augmentation.

    Differences from the paper:
        The paper's code edits the first phrase alone, which leaves the other lung of most captions readable;
        here every phrase is replaced, a list of them by one, so that 24 tokens hold the sentence. The share
        of fuzzy phrases, which the paper leaves out, is the code's.
    """

    def __init__(
        self,
        probability: float = 0.5,
        drop_share: float = 0.5,
        unknown: str = "[UNK_POS]",
        fuzzy: str = "a region of the lung",
        *,
        polyp_fuzzy: str = "a region of the colon",
    ) -> None:
        _check_share("probability", probability)
        _check_share("drop_share", drop_share)
        for name, phrase in (("unknown", unknown), ("fuzzy", fuzzy), ("polyp_fuzzy", polyp_fuzzy)):
            if position_phrases(phrase):
                raise ValueError(f"{name} must be a phrase that names no side and no level, got {phrase!r}.")
        self.probability = probability
        self.drop_share = drop_share
        self.unknown = unknown
        self.fuzzy = {"lung": fuzzy, "polyp": polyp_fuzzy}

    def __call__(self, sentence: str, *, generator: np.random.Generator) -> str:
        """Augment a sentence.

        Args:
            sentence: Any sentence.
            generator: What draws; two numbers are drawn for any sentence.

        Returns:
            The augmented sentence.
        """
        chosen, kind = generator.random(2)
        if chosen >= self.probability:
            return sentence
        phrase = self.fuzzy[read_findings(sentence).anatomy] if kind >= self.drop_share else self.unknown
        return _replace_places(sentence, phrase)


class WordAugmentation:
    """Lose or swap words: a perturbation that knows nothing of place, to compare with.

    Each word is hit with probability `probability`; half of the hits leave the word out, half swap it with the
    next one (the last word has none, and stays). Words are what spaces separate. A sentence that would lose all of
    them stays as it is.

    Args:
        probability: Share of words that are hit, in [0, 1].

    Raises:
        ValueError: If the probability is not in [0, 1].

    Reference:
        Semi-MedRef, table 3, "TextStrong".

    Differences from the paper:
        The paper does not say what its generic strong text augmentation is; this one is ours.
    """

    def __init__(self, probability: float = 0.1) -> None:
        _check_share("probability", probability)
        self.probability = probability

    def __call__(self, sentence: str, *, generator: np.random.Generator) -> str:
        """Augment a sentence.

        Args:
            sentence: Any sentence.
            generator: What draws; two numbers are drawn for each word.

        Returns:
            The augmented sentence; as it is where no word is hit.
        """
        words = sentence.split()
        hits, kinds = generator.random((2, len(words)))
        hit = hits < self.probability
        if not hit.any():
            return sentence
        kept: list[str] = []
        waiting: list[str] = []
        for word, chosen, kind in zip(words, hit, kinds, strict=True):
            if chosen and kind >= 0.5:
                waiting.append(word)
                continue
            kept += ([] if chosen else [word]) + waiting
            waiting = []
        return " ".join(kept + waiting) or sentence


def _replace_places(sentence: str, phrase: str) -> str:
    edits: list[Edit] = []
    for run in phrase_runs(sentence):
        article = _ARTICLE.search(sentence, 0, run[0].start)
        start = article.start() if article else run[0].start
        image = _OF_IMAGE.match(sentence, run[-1].end)
        edits.append((start, image.end() if image else run[-1].end, fitted(phrase, sentence, start)))
    return edited(sentence, edits)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}.")

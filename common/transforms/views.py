"""The student's strong view of unlabelled images and their sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ..text.position_augmentation import PositionAugmentation, WordAugmentation
from .mixing import MODES, PatchMix, checked_batch, checked_share
from .strong import MirrorAugmentation, StrongAugmentation
from .text import TokenizeTextd


@dataclass(frozen=True)
class View:
    """What the student is given of an unlabelled batch.

    Attributes:
        image: `(B, C, H, W)`.
        label: `(B, 1, H, W)`, 0 or 1: the pseudo-label.
        text: `(B, 2, L)`, int64: the tokens of `sentences`, on the image's device.
        sentences: what the student reads.
        mixed: `(B,)`, bool: which images hold a block of another one.
    """

    image: Tensor
    label: Tensor
    text: Tensor
    sentences: list[str]
    mixed: Tensor


class StrongView:
    """Make the strong view of a batch out of images, the teacher's probabilities and the sentences.

    In this order: mirroring with the sentence, intensity, changes of the sentences, patch mixing, tokens. The
    mixing reads the changed sentences: one whose place `PositionAugmentation` took has no phrase of place any
    more, and mixing by position leaves it alone.

    Args:
        pos_aug: take the place out of sentences (`common.text.PositionAugmentation`).
        mix: "off", "cutmix", "position" or "probability", as `PatchMix`; with "off" nothing is mixed, and the
            label is the thresholded probability.
        text_strong: drop and swap words (`common.text.WordAugmentation`), after `pos_aug` where both are on.
        spc: mirror with the sentence (`MirrorAugmentation`).
        intensity: arguments of `StrongAugmentation` that differ from its own.
        pos_aug_probability: of `pos_aug`, per sentence, 0..1.
        block: side of the pasted square in pixels, as `PatchMix`.
        rate: probability that a case is drawn to be mixed, 0..1.
        accept: smallest mean probability of lesion in the block, 0..1.
        threshold: of the pseudo-label, 0..1.
        mixed_threshold: of the pseudo-label of a mixed image, 0..1.
        first_phrase_only: as `PatchMix`: the phrases of place as the paper's code joins them.
        mix_before_gate: as `PatchMix`: rejected blocks stay in the image.
        laterality: whose left the sentences mean: "image" or "patient".
        text_encoder: name of the tokenizer, as for the preprocessing.
        max_tokens: length of the token sequence, as for the preprocessing.

    Raises:
        ValueError: if `mix` is unknown, or another argument is refused by what it is for.

    Reference:
        Semi-MedRef, sections 2.3 and 3.1.2, table 3.
    """

    def __init__(
        self,
        *,
        pos_aug: bool = True,
        mix: str = "position",
        text_strong: bool = False,
        spc: bool = False,
        intensity: Mapping[str, Any] | None = None,
        pos_aug_probability: float = 0.5,
        block: int = 16,
        rate: float = 0.08,
        accept: float = 0.55,
        threshold: float = 0.55,
        mixed_threshold: float = 0.5,
        first_phrase_only: bool = False,
        mix_before_gate: bool = False,
        laterality: str = "image",
        text_encoder: str = "embedded",
        max_tokens: int = 24,
    ) -> None:
        if mix not in ("off", *MODES):
            raise ValueError(f"mix must be one of off, {', '.join(MODES)}, got {mix!r}")
        self.mirror = MirrorAugmentation() if spc else None
        self.intensity = StrongAugmentation(**(intensity or {}))
        self.wording = [PositionAugmentation(probability=pos_aug_probability)] if pos_aug else []
        self.wording += [WordAugmentation()] if text_strong else []
        self.threshold = checked_share("threshold", threshold)
        self.tokenize = TokenizeTextd(max_tokens=max_tokens, text_encoder=text_encoder, laterality=laterality)
        self.mix = (
            None
            if mix == "off"
            else PatchMix(
                mix,
                block=block,
                rate=rate,
                accept=accept,
                threshold=threshold,
                mixed_threshold=mixed_threshold,
                first_phrase_only=first_phrase_only,
                mix_before_gate=mix_before_gate,
                laterality=laterality,
            )
        )

    def __call__(
        self,
        image: Tensor,
        probability: Tensor,
        sentences: Sequence[str | None],
        *,
        generator: np.random.Generator,
    ) -> View:
        """Make the view of a batch; the inputs stay as they are.

        Args:
            image: `(B, C, H, W)`, standardized: the weak view, which the teacher has seen.
            probability: `(B, 1, H, W)`, 0..1: the teacher's.
            sentences: B sentences of the same view; None is the empty one.
            generator: what draws.

        Raises:
            ValueError: if the parts do not belong together, or a part refuses the size of the images.
        """
        image, probability = (
            values.as_tensor() if isinstance(values, MetaTensor) else values
            for values in (image, probability)
        )
        checked_batch(image, probability, sentences)
        written = [sentence or "" for sentence in sentences]
        if self.mirror is not None:
            image, probability, written = self.mirror(image, probability, written, generator=generator)
        image = self.intensity(image, generator=generator)
        for change in self.wording:
            written = [change(sentence, generator=generator) for sentence in written]
        if self.mix is None:
            label = (probability.float() >= self.threshold).float()
            mixed = torch.zeros(len(image), dtype=torch.bool, device=image.device)
        else:
            batch = self.mix(image, probability, written, generator=generator)
            image, label, written, mixed = batch.image, batch.label, batch.sentences, batch.mixed
        text = torch.stack([self.tokenize.encode(sentence) for sentence in written]).to(image.device)
        return View(image=image, label=label, text=text, sentences=written, mixed=mixed)

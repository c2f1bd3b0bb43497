"""Patch mixing of a batch of images with sentences: T-PatchMix, and CutMix for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..text.zones import LATERALITIES
from .patch_places import Anywhere, AroundLesion, Pair, PlaceRule, WithinFirstPhrase, WithinZones

MODES = ("position", "probability", "cutmix")


@dataclass(frozen=True)
class Mixed:
    """A batch after mixing.

    Attributes:
        image: `(B, C, H, W)`.
        label: `(B, 1, H, W)`, 0 or 1: the pseudo-label.
        sentences: what is told of each image.
        mixed: `(B,)`, bool: whether a block was accepted.
        region: `(B, 1, H, W)`, bool: the pixels of `image` that come from the partner.
        partner: `(B,)`, int64: whom each case was drawn to be mixed with; says something where `region` does.
    """

    image: Tensor
    label: Tensor
    sentences: list[str]
    mixed: Tensor
    region: Tensor
    partner: Tensor


class PatchMix:
    """Paste a block of another case of the batch into an image, and keep label and sentence true (T-PatchMix).

    A case is drawn with probability `rate`, its partner j by a permutation of the batch. The block M, a square,
    is pasted where the teacher finds enough lesion in it (eq. 7); then

        image = (1 - M) image_i + M image_j                                  (eq. 6)
        label = 1[(1 - M) P_i + M P_j >= mixed_threshold]                    (eq. 8)

    and the label of any other case is 1[P_i >= threshold] (eq. 3). Where the block may lie, and what becomes of
    the sentence, is the mode's:

    - "position": within one zone that either sentence names, all zones that fit being alike; a zone that the
      image's own sentence does not name is added to it. A sentence without a phrase of place (as
      `PositionAugmentation` may leave it), or one that denies every finding, is not mixed.
    - "probability": around a pixel where the teacher is sure of a lesion in image j, moved inside at the border;
      the sentence stays.
    - "cutmix": anywhere, without gate and whatever the sentences say: what the other two are compared with.

    In the first two, nothing is pasted when one sentence speaks of the left alone and the other of the right alone,
    or one of lungs and the other of a polyp.

    Args:
        mode: "position", "probability" or "cutmix".
        block: side of the square in pixels; in mode "position" at most a third of the rows and of the columns.
        rate: probability that a case is drawn, 0..1.
        accept: smallest mean of P_j in the block, 0..1; the block must show lesion at `mixed_threshold` as well.
        threshold: of the pseudo-label of an image that is not mixed, and for the centre of a block in mode
            "probability", 0..1.
        mixed_threshold: of the pseudo-label of a mixed image, 0..1.
        first_phrase_only: in mode "position" as in the paper's code: the block lies within the rows and columns
            that the first phrase of sentence i spans, and that phrase becomes "first phrase of i and first
            phrase of j", whatever the block shows.
        mix_before_gate: as in the paper's code: a block that the gate rejects stays in the image, while label
            and sentence remain those of the case alone.
        laterality: whose left the sentences mean: "image" (low columns) or "patient" (high columns).

    Raises:
        ValueError: if the mode or the laterality is unknown, `block` is below 1 or a number is outside 0..1.

    Reference:
        Semi-MedRef, section 2.3, eqs. 6 to 8; thresholds, rate and block of its code.

    Differences from the paper:
        The block of mode "position" may also lie in a zone that sentence j alone names: within the zones of
        sentence i it could show nothing that has to be told. All phrases of both sentences count, not the first
        of each, and a zone is added only where the block shows lesion, for the text is to tell what is visible.
        A conflict of left and right also forbids mode "probability", where the paper has no such rule, since the
        sentence, which stays, would deny the block. A rejected block leaves the image alone (`mix_before_gate`).
    """

    def __init__(
        self,
        mode: str = "position",
        *,
        block: int = 16,
        rate: float = 0.08,
        accept: float = 0.55,
        threshold: float = 0.55,
        mixed_threshold: float = 0.5,
        first_phrase_only: bool = False,
        mix_before_gate: bool = False,
        laterality: str = "image",
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if laterality not in LATERALITIES:
            raise ValueError(f"laterality must be image or patient, got {laterality!r}")
        if block < 1:
            raise ValueError(f"block must be at least 1 pixel, got {block}")
        self.mode, self.block = mode, block
        self.rate = checked_share("rate", rate)
        self.accept = checked_share("accept", accept)
        self.threshold = checked_share("threshold", threshold)
        self.mixed_threshold = checked_share("mixed_threshold", mixed_threshold)
        self.mix_before_gate = mix_before_gate
        self._rule: PlaceRule
        if mode == "position":
            self._rule = (WithinFirstPhrase if first_phrase_only else WithinZones)(block, laterality)
        elif mode == "probability":
            self._rule = AroundLesion(block, threshold)
        else:
            self._rule = Anywhere(block)

    def __call__(
        self,
        image: Tensor,
        probability: Tensor,
        sentences: Sequence[str | None],
        *,
        generator: np.random.Generator,
    ) -> Mixed:
        """Mix a batch; the inputs stay as they are.

        Args:
            image: `(B, C, H, W)`.
            probability: `(B, 1, H, W)`, 0..1: the teacher's for these images.
            sentences: B sentences; None is the empty one.
            generator: draws the same numbers whatever the batch shows.

        Returns:
            The batch; where nothing is pasted, `image` itself.

        Raises:
            ValueError: if shapes do not belong together, the block does not fit the image, or a probability is
                outside 0..1 or not a number.
        """
        self._check(image, probability, sentences)
        probability = probability.detach().float()
        count = len(image)
        partner = generator.permutation(count)
        chance, place = generator.random((2, count))
        drawn = [case for case in range(count) if chance[case] < self.rate and partner[case] != case]
        written = [sentence or "" for sentence in sentences]
        mixed = torch.zeros(count, dtype=torch.bool)
        region = torch.zeros(probability.shape, dtype=torch.bool)
        partners = probability[torch.from_numpy(partner[drawn])].cpu()
        for case, theirs in zip(drawn, partners[:, 0], strict=True):
            pair = Pair(sentences[case] or "", sentences[partner[case]] or "", theirs)
            spot = self._rule.place(pair, float(place[case]))
            if spot is None:
                continue
            pasted = slice(spot.top, spot.top + self.block), slice(spot.left, spot.left + self.block)
            if self._accepts(theirs[pasted]):
                mixed[case] = True
                written[case] = self._rule.sentence(pair, spot)
            region[case, 0][pasted] = bool(mixed[case]) or self.mix_before_gate
        return self._pasted(image, probability, written, mixed, region, torch.from_numpy(partner))

    def _accepts(self, values: Tensor) -> bool:
        """The lesion gate (eq. 7) on the partner's probabilities in the block."""
        if not self._rule.gated:
            return True
        return float(values.double().mean()) >= self.accept and bool((values >= self.mixed_threshold).any())

    def _pasted(
        self,
        image: Tensor,
        probability: Tensor,
        written: list[str],
        mixed: Tensor,
        region: Tensor,
        partner: Tensor,
    ) -> Mixed:
        alone = probability >= self.threshold
        nothing = not bool(region.any())
        mixed, region, partner = (part.to(image.device) for part in (mixed, region, partner))
        if nothing:
            return Mixed(image, alone.float(), written, mixed, region, partner)
        together = torch.where(region, probability[partner], probability) >= self.mixed_threshold
        return Mixed(
            image=torch.where(region, image[partner], image),
            label=torch.where(mixed[:, None, None, None], together, alone).float(),
            sentences=written,
            mixed=mixed,
            region=region,
            partner=partner,
        )

    def _check(self, image: Tensor, probability: Tensor, sentences: Sequence[str | None]) -> None:
        checked_batch(image, probability, sentences)
        rows, columns = image.shape[2:]
        parts = 3 if self.mode == "position" else 1
        largest = min(rows // parts, columns // parts)
        if self.block > largest:
            raise ValueError(
                f"block must be at most {largest} pixels for images of {rows} x {columns} in mode {self.mode!r}, "
                f"got {self.block}: choose a smaller block or larger images"
            )


def checked_batch(image: Tensor, probability: Tensor, sentences: Sequence[str | None]) -> None:
    """Refuse a batch whose parts do not belong together.

    Args:
        image: must be `(B, C, H, W)`.
        probability: must be `(B, 1, H, W)`, 0..1.
        sentences: must be B.

    Raises:
        ValueError: naming the part.
    """
    if image.ndim != 4:
        raise ValueError(f"image must be (B, C, H, W), got {tuple(image.shape)}")
    wanted = (len(image), 1, *image.shape[2:])
    if tuple(probability.shape) != wanted:
        raise ValueError(f"probability must be {wanted} like the image, got {tuple(probability.shape)}")
    if len(sentences) != len(image):
        raise ValueError(f"sentences must be one per image ({len(image)}), got {len(sentences)}")
    low, high = (float(extreme) for extreme in torch.aminmax(probability)) if len(image) else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"probability must lie in 0..1, got {low:.3g} to {high:.3g}: apply the sigmoid to the teacher's logits"
        )


def checked_share(name: str, value: float) -> float:
    """Return `value` as a float.

    Raises:
        ValueError: when it is outside 0..1.
    """
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
    return float(value)

"""The objective of Semi-MedRef: segmentation of masks and of pseudo-masks, and contrast of images with sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..text.zone_bits import zone_bits
from ..text.zones import POLYP_ZONES
from .contrastive import check_pairs, image_text_contrastive, zone_affinity
from .gathering import gather_rows
from .precision import at_least_float32
from .segmentation import SegmentationObjective

CONTRASTS = ("off", "clip", "itcl")


class SemiSupervisedObjective(nn.Module):
    r"""Named, already weighted terms of a step over labelled cases and two views of unlabelled ones.

    .. math::
        L = L_{sup} + \lambda_l L_{ITCL}^l + w_u(e) \left( L_{unsup} + \lambda_u L_{ITCL}^u \right)

    :math:`L_{sup}` is the segmentation loss of the labelled cases, :math:`L_{unsup}` that of the strong view against
    the teacher's pseudo-masks, :math:`L_{ITCL}^u` the contrast of the weak view with its sentences as they are. Up
    to and including epoch `burn_in` there is :math:`L_{sup}` alone; then :math:`w_u` grows evenly, so that it is
    reached `ramp_epochs` epochs after the burn-in.

    The contrast is over the global batch of all processes. A case without a sentence takes no part in it, neither as
    a pair nor as a negative. With a head that compares (`ReferringPair`), its term is there in the burn-in too, with
    the factor 0, so that the gradients of all parameters exist from the first step on.

    Args:
        kind: of the segmentation loss, see `SegmentationObjective`.
        weights: factor of each term of the segmentation loss, of both branches alike.
        contrastive: "off"; "clip", every other case is a negative; or "itcl", cases share as much as their sentences
            have zones in common.
        labelled_weight: :math:`\lambda_l`, >= 0.
        unlabelled_weight: :math:`\lambda_u`, >= 0.
        unsupervised_weight: :math:`w_u` after the ramp, >= 0.
        ramp_epochs: >= 0; 0 is the full weight in the first epoch after the burn-in.
        burn_in: epochs on the labelled cases alone, >= 0.
        temperature: of the contrast, > 0.
        anatomy: whose zones the sentences name, "auto", "lung" or "polyp".

    Raises:
        ValueError: if an argument is not one of the above.

    Reference:
        Semi-MedRef, section 2, equations 2, 4, 5 and 9.

    Differences from the paper:
        It does not print the ramp; that the first epoch after the burn-in already has a share of it is ours, because
        an epoch of weight 0 costs as much as any. Cases without a sentence, and a batch that several processes
        share, are ours.
    """

    def __init__(
        self,
        *,
        kind: str = "dice_bce",
        weights: Mapping[str, float] | None = None,
        contrastive: str = "itcl",
        labelled_weight: float = 0.02,
        unlabelled_weight: float = 0.1,
        unsupervised_weight: float = 0.3,
        ramp_epochs: int = 15,
        burn_in: int = 5,
        temperature: float = 0.07,
        anatomy: str = "auto",
    ) -> None:
        super().__init__()
        if contrastive not in CONTRASTS:
            raise ValueError(f"contrastive must be one of {', '.join(CONTRASTS)}, got {contrastive!r}.")
        if anatomy not in ("auto", "lung", "polyp"):
            raise ValueError(f"anatomy must be 'auto', 'lung' or 'polyp', got {anatomy!r}.")
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, got {temperature}.")
        self.segmentation = SegmentationObjective(kind, weights=weights)
        self.contrastive = contrastive
        self.labelled_weight = _at_least_0("labelled_weight", labelled_weight)
        self.unlabelled_weight = _at_least_0("unlabelled_weight", unlabelled_weight)
        self.unsupervised_weight = _at_least_0("unsupervised_weight", unsupervised_weight)
        self.ramp_epochs = _at_least_0("ramp_epochs", ramp_epochs)
        self.burn_in = _at_least_0("burn_in", burn_in)
        self.temperature = temperature
        self.anatomy = anatomy

    def unsupervised_weight_at(self, epoch: int) -> float:
        r"""Return :math:`w_u`, the factor of all terms of the unlabelled cases.

        Args:
            epoch: the running epoch, from 1.
        """
        after = epoch - self.burn_in
        if after <= 0:
            return 0.0
        return self.unsupervised_weight * min(1.0, after / self.ramp_epochs if self.ramp_epochs else 1.0)

    @property
    def needs_weak(self) -> bool:
        """Whether unlabelled images are compared with their sentences, which is what the weak view is for."""
        return self.contrastive != "off" and self.unlabelled_weight > 0 and self.unsupervised_weight > 0

    def forward(
        self, outputs: Mapping[str, Any], batch: Mapping[str, Any], epoch: int = 0
    ) -> dict[str, Tensor]:
        """Compute the terms of one step; under `torch.distributed`, in every process.

        Args:
            outputs: as `ReferringPair` returns them: ``labelled`` with ``logits`` and, for a contrast,
                ``image_vector`` and ``text_vector`` `(B, D)`; perhaps ``strong`` with ``logits``; and ``weak`` with
                the vectors where `needs_weak` says so.
            batch: ``label`` `(B, C, H, W)` and ``sentence`` of the labelled cases; where there is a strong view,
                ``unlabelled`` with ``label``, the pseudo-masks of the strong view, and ``sentence``, those of the
                weak view, unchanged.
            epoch: the running epoch, from 1.

        Returns:
            The weighted terms by name; their sum is the loss. Those of the segmentation loss; ``contrast`` unless it
            is off; the same with ``unlabelled_`` before them where there is a strong view and its weight is not 0.

        Raises:
            ValueError: if an output or an entry of the batch that a term needs is missing, or the sizes disagree.
        """
        labelled = _entry(outputs, "labelled", "outputs")
        terms = dict(self.segmentation(labelled, batch, epoch))
        if self.contrastive != "off":
            started = float(epoch > self.burn_in)
            contrast = self._contrast(labelled, _entry(batch, "sentence", "batch"))
            terms["contrast"] = started * self.labelled_weight * contrast
        weight = self.unsupervised_weight_at(epoch)
        if "strong" in outputs and weight:
            unlabelled = self._unlabelled(outputs, _entry(batch, "unlabelled", "batch"), epoch)
            terms |= {f"unlabelled_{name}": weight * term for name, term in unlabelled.items()}
        return terms

    def _unlabelled(
        self, outputs: Mapping[str, Any], batch: Mapping[str, Any], epoch: int
    ) -> dict[str, Tensor]:
        terms = dict(self.segmentation(outputs["strong"], batch, epoch))
        if self.needs_weak:
            weak, sentences = _entry(outputs, "weak", "outputs"), _entry(batch, "sentence", "unlabelled")
            terms["contrast"] = self.unlabelled_weight * self._contrast(weak, sentences)
        return terms

    def _contrast(self, outputs: Mapping[str, Tensor], sentences: Sequence[str | None]) -> Tensor:
        image = at_least_float32(_entry(outputs, "image_vector", "outputs"))
        text = at_least_float32(_entry(outputs, "text_vector", "outputs"))
        check_pairs(image, text)
        if len(sentences) != len(image):
            raise ValueError(f"sentence must hold {len(image)} entries, one per image, got {len(sentences)}.")
        # vectors, zones and whether there is a sentence go around in one collective
        said = self._said(sentences).to(image)
        rows = gather_rows(torch.cat([image, text.to(image.dtype), said], dim=1))
        rows = rows[rows[:, -1] > 0]
        image, text, bits, _ = rows.split([image.shape[1], text.shape[1], said.shape[1] - 1, 1], dim=1)
        if not len(rows):
            return rows.sum()
        affinity = zone_affinity(bits) if self.contrastive == "itcl" else None
        return image_text_contrastive(image, text, affinity, temperature=self.temperature)

    def _said(self, sentences: Sequence[str | None]) -> Tensor:
        """The zones of each sentence, as many columns for every anatomy, and then whether there is a sentence."""
        bits = zone_bits(sentences, anatomy=self.anatomy)
        spoken = torch.tensor([bool(sentence and sentence.strip()) for sentence in sentences])
        return torch.cat([F.pad(bits, (0, len(POLYP_ZONES) - bits.shape[1])), spoken[:, None]], dim=1)

    def extra_repr(self) -> str:
        """Say the settings where the module is printed."""
        return (
            f"contrastive={self.contrastive!r}, labelled_weight={self.labelled_weight:g}, "
            f"unlabelled_weight={self.unlabelled_weight:g}, unsupervised_weight={self.unsupervised_weight:g}, "
            f"ramp_epochs={self.ramp_epochs:g}, burn_in={self.burn_in:g}, temperature={self.temperature:g}"
        )


def _entry(given: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in given:
        raise ValueError(
            f"{where} must hold {name!r}, got the keys {sorted(map(str, given))}: the network must be a "
            "ReferringPair with a head, and given the weak view where the objective's needs_weak is True."
        )
    return given[name]


def _at_least_0(name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}.")
    return value

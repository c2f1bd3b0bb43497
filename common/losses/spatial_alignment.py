"""The objective of SSA: segmentation, symmetric alignment of the tokens, and directional guidance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..layers import masked_mean
from .contrastive import symmetric_info_nce
from .directional_guidance import DirectionalGuidance
from .optimal_transport import MARGINALS, transport_alignment_loss
from .segmentation import SegmentationObjective

GRANULARITIES = {"off": (), "global": ("global",), "local": ("local",), "both": ("global", "local")}
DEFAULT_WEIGHTS = {"global": 0.1, "local": 0.02, "guide": 0.1}


class SpatialAlignmentObjective(nn.Module):
    r"""Segmentation loss, alignment :math:`\lambda_g L_{global} + \lambda_l L_{local}` (eq. 2), and guidance (eq. 4).

    ``global`` is the symmetric InfoNCE of the averaged image and text embeddings over the batch of one process;
    ``local`` is the cost of the entropic transport between the tokens of one case; ``guide`` compares the
    prediction with its refined target.

    Args:
        kind: of the segmentation loss, see `SegmentationObjective`.
        dsot: which alignment is on: "off", "global", "local" or "both".
        cdg: whether directional guidance is on.
        ot_mode: "balanced" or "semi_relaxed", see `transport_alignment_loss`.
        guidance: the settings of directional guidance, laterality among them.
        guide_start: first epoch (from 1) of the guidance; before it the term is 0.
        weights: factor of ``global``, ``local`` and ``guide``, >= 0; by default 0.1, 0.02 and 0.1.
        temperature: of InfoNCE, > 0.
        same_text_positives: whether cases with the same sentence count as positives of each other.

    Raises:
        ValueError: if an argument is not one of the above.

    Reference:
        Liao et al., SSA, sections II.A and II.B.

    Differences from the paper:
        It gives no weights, temperature or start; all are ours.
    """

    def __init__(
        self,
        kind: str = "dice_bce",
        *,
        dsot: str = "both",
        cdg: bool = True,
        ot_mode: str = "balanced",
        guidance: DirectionalGuidance | None = None,
        guide_start: int = 5,
        weights: Mapping[str, float] | None = None,
        temperature: float = 0.07,
        same_text_positives: bool = False,
    ) -> None:
        super().__init__()
        if dsot not in GRANULARITIES:
            raise ValueError(f"dsot must be one of {', '.join(GRANULARITIES)}, got {dsot!r}.")
        if ot_mode not in MARGINALS:
            raise ValueError(f"ot_mode must be one of {', '.join(MARGINALS)}, got {ot_mode!r}.")
        self.segmentation = SegmentationObjective(kind)
        self.granularities = GRANULARITIES[dsot]
        self.cdg = cdg
        self.ot_mode = ot_mode
        self.guidance = guidance or DirectionalGuidance()
        self.guide_start = guide_start
        self.weights = _weights(weights)
        self.temperature = temperature
        self.same_text_positives = same_text_positives

    def forward(
        self, outputs: Mapping[str, Any], batch: Mapping[str, Any], epoch: int = 0
    ) -> dict[str, Tensor]:
        """Compute the terms of one batch.

        Args:
            outputs: ``logits``; for the alignment ``image_embedding`` `(B, N, D)`, ``text_embedding``
                `(B, L, D)` and ``text_mask`` `(B, L)`; for the guidance ``text_attention``
                `(B, heads, L, h, w)` and its ``text_attention_mask`` `(B, L)`, where that is not ``text_mask``.
            batch: ``label`` `(B, C, H, W)` and ``sentence``, one per image.
            epoch: the running epoch, from 1.

        Returns:
            The weighted terms by name; their sum is the loss.

        Raises:
            ValueError: if an output that a term needs is missing.
        """
        terms = self.segmentation(outputs, batch, epoch)
        if "global" in self.granularities:
            terms["global"] = self.weights["global"] * self._global(outputs, batch)
        if "local" in self.granularities:
            terms["local"] = self.weights["local"] * self._local(outputs)
        if self.cdg:
            terms["guide"] = self.weights["guide"] * self._guide(outputs, batch, epoch)
        return terms

    def _global(self, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> Tensor:
        image = masked_mean(_output(outputs, "image_embedding"), None)
        text = masked_mean(_output(outputs, "text_embedding"), _output(outputs, "text_mask"))
        groups = batch["sentence"] if self.same_text_positives else None
        return symmetric_info_nce(image, text, temperature=self.temperature, groups=groups)

    def _local(self, outputs: Mapping[str, Any]) -> Tensor:
        return transport_alignment_loss(
            _output(outputs, "image_embedding"),
            _output(outputs, "text_embedding"),
            text_mask=_output(outputs, "text_mask"),
            mode=self.ot_mode,
        )

    def _guide(self, outputs: Mapping[str, Any], batch: Mapping[str, Any], epoch: int) -> Tensor:
        logits = _output(outputs, "logits")
        if epoch < self.guide_start:
            return logits.new_zeros(())
        attention = _output(outputs, "text_attention")
        mask = _output(outputs, "text_attention_mask" if "text_attention_mask" in outputs else "text_mask")
        loss: Tensor = self.guidance(logits, attention, mask, batch["sentence"])
        return loss

    def extra_repr(self) -> str:
        """Say the switches where the module is printed."""
        return f"dsot={'+'.join(self.granularities) or 'off'}, cdg={self.cdg}, ot_mode={self.ot_mode!r}"


def _output(outputs: Mapping[str, Any], name: str) -> Tensor:
    if name not in outputs:
        raise ValueError(
            f"outputs must hold {name!r}, got the keys {sorted(outputs)}: the network must be an AlignedNetwork "
            "whose backbone returns its attention."
        )
    tensor: Tensor = outputs[name]
    return tensor


def _weights(given: Mapping[str, float] | None) -> dict[str, float]:
    unknown = sorted(set(given or {}) - set(DEFAULT_WEIGHTS))
    if unknown:
        raise ValueError(f"weights must name terms of {sorted(DEFAULT_WEIGHTS)}, got {unknown}.")
    weights = {name: float(value) for name, value in (DEFAULT_WEIGHTS | dict(given or {})).items()}
    if not all(0 <= value < float("inf") for value in weights.values()):
        raise ValueError(f"weights must be finite and not negative, got {weights}.")
    return weights

"""Loss functions on logits and tokens, and objectives that combine them into named terms."""

from .contrastive import symmetric_info_nce
from .directional_guidance import (
    DirectionalGuidance,
    GuidanceMaps,
    attention_boxes,
    normalised_attention,
    refined_target,
)
from .directional_prior import directional_prior
from .optimal_transport import cosine_cost, semi_relaxed_plan, sinkhorn_plan, transport_alignment_loss
from .segmentation import SegmentationObjective, bce_loss, dice_loss
from .spatial_alignment import SpatialAlignmentObjective

__all__ = [
    "DirectionalGuidance",
    "GuidanceMaps",
    "SegmentationObjective",
    "SpatialAlignmentObjective",
    "attention_boxes",
    "bce_loss",
    "cosine_cost",
    "dice_loss",
    "directional_prior",
    "normalised_attention",
    "refined_target",
    "semi_relaxed_plan",
    "sinkhorn_plan",
    "symmetric_info_nce",
    "transport_alignment_loss",
]

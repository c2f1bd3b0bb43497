"""Loss functions on logits and tokens, and objectives that combine them into named terms."""

from .cluster_contrastive import (
    ClusterContrastiveObjective,
    centred_sentences,
    cluster_contrastive_loss,
    cluster_targets,
)
from .contrastive import symmetric_info_nce
from .directional_guidance import (
    DirectionalGuidance,
    GuidanceMaps,
    attention_boxes,
    normalised_attention,
    refined_target,
)
from .directional_prior import directional_prior
from .gathering import gather_rows
from .optimal_transport import cosine_cost, semi_relaxed_plan, sinkhorn_plan, transport_alignment_loss
from .segmentation import SegmentationObjective, bce_loss, dice_loss
from .spatial_alignment import SpatialAlignmentObjective

__all__ = [
    "ClusterContrastiveObjective",
    "DirectionalGuidance",
    "GuidanceMaps",
    "SegmentationObjective",
    "SpatialAlignmentObjective",
    "attention_boxes",
    "bce_loss",
    "centred_sentences",
    "cluster_contrastive_loss",
    "cluster_targets",
    "cosine_cost",
    "dice_loss",
    "directional_prior",
    "gather_rows",
    "normalised_attention",
    "refined_target",
    "semi_relaxed_plan",
    "sinkhorn_plan",
    "symmetric_info_nce",
    "transport_alignment_loss",
]

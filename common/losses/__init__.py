"""Loss functions on logits and tokens, and objectives that combine them into named terms."""

from .cluster_contrastive import (
    ClusterContrastiveObjective,
    centred_sentences,
    cluster_contrastive_loss,
    cluster_targets,
)
from .consistency import BiCLIPObjective, augmentation_consistency_loss, cycle_loss, generator_loss
from .contrastive import image_text_contrastive, symmetric_info_nce, zone_affinity
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
from .semi_supervised import SemiSupervisedObjective
from .spatial_alignment import SpatialAlignmentObjective

__all__ = [
    "BiCLIPObjective",
    "ClusterContrastiveObjective",
    "DirectionalGuidance",
    "GuidanceMaps",
    "SegmentationObjective",
    "SemiSupervisedObjective",
    "SpatialAlignmentObjective",
    "attention_boxes",
    "augmentation_consistency_loss",
    "bce_loss",
    "centred_sentences",
    "cluster_contrastive_loss",
    "cluster_targets",
    "cosine_cost",
    "cycle_loss",
    "dice_loss",
    "directional_prior",
    "gather_rows",
    "generator_loss",
    "image_text_contrastive",
    "normalised_attention",
    "refined_target",
    "semi_relaxed_plan",
    "sinkhorn_plan",
    "symmetric_info_nce",
    "transport_alignment_loss",
    "zone_affinity",
]

"""Loss functions on logits and tokens, and objectives that combine them into named terms."""

from .adversarial import discriminator_loss, entropy_map, fool_loss, probability_map
from .class_means import ClassBank, class_means, confident_labels
from .class_segmentation import (
    ClassSegmentationObjective,
    balanced_cross_entropy,
    rarity_weights,
    softmax_dice_loss,
)
from .cluster_contrastive import (
    ClusterContrastiveObjective,
    centred_sentences,
    cluster_contrastive_loss,
    cluster_targets,
)
from .consistency import BiCLIPObjective, augmentation_consistency_loss, cycle_loss, generator_loss
from .contrastive import image_text_contrastive, symmetric_info_nce, zone_affinity
from .covariance import VisionLanguageCovariance, class_covariance, covariance_cosine_loss, domain_text
from .directional_guidance import (
    DirectionalGuidance,
    GuidanceMaps,
    attention_boxes,
    normalised_attention,
    refined_target,
)
from .directional_prior import directional_prior
from .domain_adaptation import DomainAdaptationObjective
from .gathering import gather_rows
from .optimal_transport import cosine_cost, semi_relaxed_plan, sinkhorn_plan, transport_alignment_loss
from .prototype import PrototypeAlignment, prototype_loss
from .segmentation import SegmentationObjective, bce_loss, dice_loss
from .semi_supervised import SemiSupervisedObjective
from .spatial_alignment import SpatialAlignmentObjective

__all__ = [
    "BiCLIPObjective",
    "ClassBank",
    "ClassSegmentationObjective",
    "ClusterContrastiveObjective",
    "DirectionalGuidance",
    "DomainAdaptationObjective",
    "GuidanceMaps",
    "PrototypeAlignment",
    "SegmentationObjective",
    "SemiSupervisedObjective",
    "SpatialAlignmentObjective",
    "VisionLanguageCovariance",
    "attention_boxes",
    "augmentation_consistency_loss",
    "balanced_cross_entropy",
    "bce_loss",
    "centred_sentences",
    "class_covariance",
    "class_means",
    "cluster_contrastive_loss",
    "cluster_targets",
    "confident_labels",
    "cosine_cost",
    "covariance_cosine_loss",
    "cycle_loss",
    "dice_loss",
    "directional_prior",
    "discriminator_loss",
    "domain_text",
    "entropy_map",
    "fool_loss",
    "gather_rows",
    "generator_loss",
    "image_text_contrastive",
    "normalised_attention",
    "probability_map",
    "prototype_loss",
    "rarity_weights",
    "refined_target",
    "semi_relaxed_plan",
    "sinkhorn_plan",
    "softmax_dice_loss",
    "symmetric_info_nce",
    "transport_alignment_loss",
    "zone_affinity",
]

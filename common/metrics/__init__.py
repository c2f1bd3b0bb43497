"""Overlap, surface distances, calibration, agreement with the sentence, and how scores and vectors separate."""

from .calibration import CalibrationError, Reliability, reliability
from .cases import CASE_COLUMNS, METRIC_DEFINITIONS, case_metrics, summarise
from .class_dice import MeanClassDice
from .clusters import largest_groups, silhouette, silhouette_samples
from .cumulative import CaseTable, MicroDice, MicroIoU
from .overlap import (
    EMPTY_RULES,
    OverlapCounts,
    as_binary,
    dice_image,
    dice_micro,
    dice_score,
    iou_image,
    iou_micro,
    iou_score,
    overlap_counts,
    total_counts,
)
from .ranking import RocCurve, paired_auc_interval, roc_auc, roc_curve
from .retrieval import SentenceRetrieval, retrieval_scores, sentence_ranks
from .surface import SurfaceDistances, assd, hd95, surface_distances, surface_pixels
from .text_mask_consistency import Consistency, count_components, named_sides, text_mask_consistency
from .volumes import ClassScore, VolumeTable, class_scores, summarise_volumes, volume_row

__all__ = [
    "CASE_COLUMNS",
    "EMPTY_RULES",
    "METRIC_DEFINITIONS",
    "CalibrationError",
    "CaseTable",
    "ClassScore",
    "Consistency",
    "MeanClassDice",
    "MicroDice",
    "MicroIoU",
    "OverlapCounts",
    "Reliability",
    "RocCurve",
    "SentenceRetrieval",
    "SurfaceDistances",
    "VolumeTable",
    "as_binary",
    "assd",
    "case_metrics",
    "class_scores",
    "count_components",
    "dice_image",
    "dice_micro",
    "dice_score",
    "hd95",
    "iou_image",
    "iou_micro",
    "iou_score",
    "largest_groups",
    "named_sides",
    "overlap_counts",
    "paired_auc_interval",
    "reliability",
    "retrieval_scores",
    "roc_auc",
    "roc_curve",
    "sentence_ranks",
    "silhouette",
    "silhouette_samples",
    "summarise",
    "summarise_volumes",
    "surface_distances",
    "surface_pixels",
    "text_mask_consistency",
    "total_counts",
    "volume_row",
]

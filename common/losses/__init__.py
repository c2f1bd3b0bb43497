"""Loss functions on logits, and objectives that combine them into named terms."""

from .segmentation import SegmentationObjective, bce_loss, dice_loss

__all__ = ["SegmentationObjective", "bce_loss", "dice_loss"]

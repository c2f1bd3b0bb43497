"""Training engines, and the evaluator of a contrastive pretraining."""

from __future__ import annotations

from .contrastive import ContrastiveEvaluator, ContrastiveTrainer
from .supervised import TextGuidedTrainer, loss_terms

__all__ = ["ContrastiveEvaluator", "ContrastiveTrainer", "TextGuidedTrainer", "loss_terms"]

"""Training engines, and the evaluator of a contrastive pretraining."""

from __future__ import annotations

from .contrastive import ContrastiveEvaluator, ContrastiveTrainer
from .schedules import learning_rate_groups, one_cycle
from .supervised import TextGuidedTrainer, loss_terms

__all__ = [
    "ContrastiveEvaluator",
    "ContrastiveTrainer",
    "TextGuidedTrainer",
    "learning_rate_groups",
    "loss_terms",
    "one_cycle",
]

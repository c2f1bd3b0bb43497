"""Training engines, the evaluator of a contrastive pretraining, and the teacher of a semi-supervised training."""

from __future__ import annotations

from .chosen_network import chosen_network
from .contrastive import ContrastiveEvaluator, ContrastiveTrainer
from .mean_teacher import MeanTeacher
from .schedules import learning_rate_groups, one_cycle
from .semi_supervised import SemiSupervisedTrainer
from .supervised import TextGuidedTrainer, loss_terms

__all__ = [
    "ContrastiveEvaluator",
    "ContrastiveTrainer",
    "MeanTeacher",
    "SemiSupervisedTrainer",
    "TextGuidedTrainer",
    "chosen_network",
    "learning_rate_groups",
    "loss_terms",
    "one_cycle",
]

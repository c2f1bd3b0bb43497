"""Training engines with what belongs to them: evaluators, a teacher, adversaries, learning rates."""

from __future__ import annotations

from .adversaries import Adversaries
from .chosen_network import chosen_network
from .contrastive import ContrastiveEvaluator, ContrastiveTrainer
from .domain_adaptation import DomainAdaptationTrainer
from .domain_evaluation import DomainEvaluator
from .mean_teacher import MeanTeacher
from .schedules import learning_rate_groups, one_cycle, polynomial
from .semi_supervised import SemiSupervisedTrainer
from .supervised import TextGuidedTrainer, loss_terms

__all__ = [
    "Adversaries",
    "ContrastiveEvaluator",
    "ContrastiveTrainer",
    "DomainAdaptationTrainer",
    "DomainEvaluator",
    "MeanTeacher",
    "SemiSupervisedTrainer",
    "TextGuidedTrainer",
    "chosen_network",
    "learning_rate_groups",
    "loss_terms",
    "one_cycle",
    "polynomial",
]

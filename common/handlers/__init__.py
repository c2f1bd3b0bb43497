"""Ignite handlers for training and evaluation."""

from __future__ import annotations

from .evaluation import EvaluationTable, MicroDiceMetric
from .maps import SaveGuidanceMaps
from .stages import StartFromStageOne
from .training import EpochSeeds, Progress, SaveBestWeights, StopEarly, TrainingState
from .weights import LoadWeights, StartFromPretrained

__all__ = [
    "EpochSeeds",
    "EvaluationTable",
    "LoadWeights",
    "MicroDiceMetric",
    "Progress",
    "SaveBestWeights",
    "SaveGuidanceMaps",
    "StartFromPretrained",
    "StartFromStageOne",
    "StopEarly",
    "TrainingState",
]

"""Ignite handlers for training and evaluation."""

from __future__ import annotations

from .evaluation import EvaluationTable, MicroDiceMetric
from .maps import SaveGuidanceMaps
from .phases import StartFromPhase
from .selection import MeanClassDiceMetric, ReportOracle, chosen_validator
from .stages import StartFromStageOne
from .training import EpochSeeds, Progress, SaveBestWeights, StopEarly, TrainingState
from .volume_evaluation import VolumeEvaluationTable
from .weights import LoadWeights, StartFromPretrained, StartFromWeights

__all__ = [
    "EpochSeeds",
    "EvaluationTable",
    "LoadWeights",
    "MeanClassDiceMetric",
    "MicroDiceMetric",
    "Progress",
    "ReportOracle",
    "SaveBestWeights",
    "SaveGuidanceMaps",
    "StartFromPhase",
    "StartFromPretrained",
    "StartFromStageOne",
    "StartFromWeights",
    "StopEarly",
    "TrainingState",
    "VolumeEvaluationTable",
    "chosen_validator",
]

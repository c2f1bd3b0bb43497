"""Readers of the layouts in which people have their data, and the writer of the one that we train on."""

from __future__ import annotations

from .preparation import prepare_dataset
from .registry import DATASETS, read_source
from .source import SourceCase, SourceData, SourceError, SourceOptions

__all__ = [
    "DATASETS",
    "SourceCase",
    "SourceData",
    "SourceError",
    "SourceOptions",
    "prepare_dataset",
    "read_source",
]

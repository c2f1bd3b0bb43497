"""Segmenting files and folders with a bundle: streaming, resumable, shared among processes."""

from __future__ import annotations

from .inputs import Case, Listing, list_cases
from .job import Outcome, predict
from .journal import Journal, read_entries
from .request import PredictError, PredictRequest, Shard, preview_limit, read_shard

__all__ = [
    "Case",
    "Journal",
    "Listing",
    "Outcome",
    "PredictError",
    "PredictRequest",
    "Shard",
    "list_cases",
    "predict",
    "preview_limit",
    "read_entries",
    "read_shard",
]

"""Where the images of one sentence lie before and after a contrastive pretraining."""

from __future__ import annotations

from .grouping import GROUPINGS, choose_cases, group_names
from .measures import compare_groups, measure
from .page import markdown, write_together
from .picture import draw, principal_components, shortened
from .run import separate
from .stages import STAGES, VECTORS, SeparationRequest, StageOne, read_stage_one

__all__ = [
    "GROUPINGS",
    "STAGES",
    "VECTORS",
    "SeparationRequest",
    "StageOne",
    "choose_cases",
    "compare_groups",
    "draw",
    "group_names",
    "markdown",
    "measure",
    "principal_components",
    "read_stage_one",
    "separate",
    "shortened",
    "write_together",
]

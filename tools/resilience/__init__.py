"""How a bundle does with degraded images, other sentences and few labels."""

from __future__ import annotations

from .cases import Cases
from .measuring import Measured, calibration_facts, measure_cell
from .page import write_page
from .picture import draw
from .request import Cell, RobustnessError, RobustnessRequest, cells, named_corruptions, read_curve
from .roc import mirrored_roc
from .run import RESULTS, read_results, robustness
from .store import Store

__all__ = [
    "RESULTS",
    "Cases",
    "Cell",
    "Measured",
    "RobustnessError",
    "RobustnessRequest",
    "Store",
    "calibration_facts",
    "cells",
    "draw",
    "measure_cell",
    "mirrored_roc",
    "named_corruptions",
    "read_curve",
    "read_results",
    "robustness",
    "write_page",
]

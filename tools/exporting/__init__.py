"""Exporting a bundle's network to TorchScript, ONNX and `torch.export`, with parity checked in each runtime."""

from __future__ import annotations

from .comparing import largest_difference, milliseconds_per_image
from .export import Exports, Row, export_model, steps_of
from .opened import OpenedModel, opened_model
from .request import FORMATS, ExportError, ExportRequest
from .tables import card_with_table, markdown_document, markdown_table
from .torchscript import TOLERANCE

__all__ = [
    "FORMATS",
    "TOLERANCE",
    "ExportError",
    "ExportRequest",
    "Exports",
    "OpenedModel",
    "Row",
    "card_with_table",
    "export_model",
    "largest_difference",
    "markdown_document",
    "markdown_table",
    "milliseconds_per_image",
    "opened_model",
    "steps_of",
]

"""Training engines."""

from __future__ import annotations

from .supervised import TextGuidedTrainer, loss_terms

__all__ = ["TextGuidedTrainer", "loss_terms"]

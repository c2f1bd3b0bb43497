"""What a bundle must keep to before a host, or the model zoo, takes it: one check, one result, one remedy."""

from __future__ import annotations

from .checking import Check, Result, Skipped, Status, failures
from .opened import OpenedBundle, opened_bundle
from .suite import STATIC_CHECKS, Verification, static_results, verify_bundle

__all__ = [
    "STATIC_CHECKS",
    "Check",
    "OpenedBundle",
    "Result",
    "Skipped",
    "Status",
    "Verification",
    "failures",
    "opened_bundle",
    "static_results",
    "verify_bundle",
]

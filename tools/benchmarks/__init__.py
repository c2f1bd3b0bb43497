"""Benchmarks: what this project does beside the plain way, measured in turns on the same machine."""

from __future__ import annotations

from tools.benchmarks.registry import BENCHMARKS, run_benchmark

__all__ = ["BENCHMARKS", "run_benchmark"]

"""Timing of two ways to do the same, in turns, so that a busy machine slows both alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch


def interleaved_medians(
    ours: Callable[[], Any], reference: Callable[[], Any], *, repeats: int, warm_up: int = 1
) -> tuple[float, float]:
    """Median duration of two functions that take turns.

    Args:
        ours: Called without arguments.
        reference: Called without arguments.
        repeats: Timed rounds, at least 1.
        warm_up: Rounds before, not timed.

    Returns:
        Seconds of ours and of the reference.

    Raises:
        ValueError: If there is no round.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    for _ in range(warm_up):
        ours()
        reference()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, durations in zip((ours, reference), times, strict=True):
            durations.append(_seconds(function))
    return median(times[0]), median(times[1])


def comparison(
    name: str,
    seconds: tuple[float, float],
    *,
    sizes: dict[str, Any],
    device: torch.device,
    unit: str,
    scale: float,
) -> dict[str, Any]:
    """One row of a benchmark.

    Args:
        name: What was measured.
        seconds: Of ours and of the reference.
        sizes: What it was measured on.
        device: Where.
        unit: Of the row's `ours` and `reference`.
        scale: Units a second.

    Returns:
        The row; `ratio` is reference / ours.
    """
    ours, reference = seconds
    return {
        "name": name,
        "ours": ours * scale,
        "reference": reference * scale,
        "ratio": reference / ours,
        "sizes": sizes,
        "device": describe_device(device),
        "unit": unit,
    }


def describe_device(device: torch.device) -> str:
    """A device in words: the GPU's name, or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _seconds(function: Callable[[], Any]) -> float:
    _wait()
    start = time.perf_counter()
    function()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

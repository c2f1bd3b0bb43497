"""Names of the benchmarks and where each one is; a module is imported when its benchmark runs."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

BENCHMARKS: dict[str, str] = {
    "text": "tools.benchmarks.text:text_benchmarks",
    "step": "tools.benchmarks.step:step_benchmarks",
    "metrics": "tools.benchmarks.metrics:metrics_benchmarks",
    "transport": "tools.benchmarks.transport:transport_benchmarks",
    "kan": "tools.benchmarks.kan:kan_benchmarks",
    "predict": "tools.benchmarks.prediction:prediction_benchmarks",
    "semi": "tools.benchmarks.semi_supervised:semi_supervised_benchmarks",
    "corruption": "tools.benchmarks.corruption:corruption_benchmarks",
}
"""Name to "module:function"; the function takes nothing and returns rows."""

COLUMNS = ("name", "ours", "reference", "ratio", "sizes", "device", "unit")
"""What every row holds; `ratio` is reference / ours, so that more than 1 is faster."""


def check_benchmark(name: str) -> None:
    """Check that a benchmark has this name.

    Args:
        name: What was asked for.

    Raises:
        ValueError: If there is none; the nearest is named.
    """
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"benchmark must be one of {', '.join(BENCHMARKS)}, got {name!r}{hint}")


def run_benchmark(name: str) -> list[dict[str, Any]]:
    """Run one benchmark.

    Args:
        name: One of `BENCHMARKS`.

    Returns:
        Its rows, each with at least `COLUMNS`.

    Raises:
        ValueError: If the name is unknown, or a row lacks a column.
    """
    check_benchmark(name)
    module, function = BENCHMARKS[name].split(":")
    rows: list[dict[str, Any]] = getattr(import_module(module), function)()
    for row in rows:
        missing = [column for column in COLUMNS if column not in row]
        if missing:
            raise ValueError(
                f"rows of benchmark {name!r} must hold {', '.join(COLUMNS)}, got none of {missing}"
            )
    return rows

"""What several commands share: options that take several values, and a bar over named steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperCommand


def with_several_values(*names: str) -> type[TyperCommand]:
    """Return the class of a command whose named options take several values at once: ``--seeds 42 43``.

    Args:
        names: such as "--seeds"; in the command they are lists.
    """

    class SeveralValues(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, repeat_options(args, names))

    return SeveralValues


def repeat_options(args: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return ``--seeds 42 --seeds 43`` for ``--seeds 42 43``; other arguments stay as they are."""
    expanded: list[str] = []
    current = None
    for arg in args:
        if arg.startswith("--"):
            current = arg if arg in names else None
        elif current is not None and expanded[-1] != current:
            expanded.append(current)
        expanded.append(arg)
    return expanded


@contextmanager
def bar_over_steps(steps: Sequence[str]) -> Iterator[Callable[[str], None]]:
    """Show a bar on standard error; what it yields is told every step before it begins.

    Args:
        steps: in their order.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(steps[0], total=len(steps))
        yield lambda step: bar.update(task, description=step, completed=steps.index(step))

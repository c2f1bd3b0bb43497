"""What commands in a terminal share."""

from __future__ import annotations

from .commands import bar_over_steps, repeat_options, with_several_values

__all__ = ["bar_over_steps", "repeat_options", "with_several_values"]

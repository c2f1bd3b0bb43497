"""Channel counts that follow a width factor."""

from __future__ import annotations


def scale_channels(channels: int, width: float, *, multiple: int = 8) -> int:
    """Scale a channel count and round it to the nearest multiple, at least one multiple.

    Args:
        channels: count at width 1.
        width: factor, > 0.
        multiple: what the result must be a multiple of.

    Raises:
        ValueError: if `width` is not positive.
    """
    if not width > 0:
        raise ValueError(f"width must be > 0, got {width}")
    return max(multiple, int(channels * width / multiple + 0.5) * multiple)

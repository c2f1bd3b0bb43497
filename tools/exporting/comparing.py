"""An export beside the network that it was made of: differences and durations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    Run = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Durations:
    """Medians for one image, by the size of the batch.

    Attributes:
        milliseconds: that passed.
        processor_milliseconds: of all threads together; with one thread and nothing else on the machine the same.
    """

    milliseconds: dict[str, float]
    processor_milliseconds: dict[str, float]


def largest_difference(run: Run, reference: Run, image: Tensor, text: Tensor) -> float:
    """Return the largest absolute difference of logits, on each case alone and on all together.

    Args:
        run: the export.
        reference: the network.
        image: `(B, C, H, W)`.
        text: `(B, 2, L)`.

    Raises:
        ValueError: when a shape is another, or a number is not finite.
    """
    import torch

    alone = [slice(index, index + 1) for index in range(len(image))]
    largest = 0.0
    with torch.inference_mode():
        for rows in [*alone, slice(None)]:
            expected, given = reference(image[rows], text[rows]), run(image[rows], text[rows])
            if given.shape != expected.shape:
                raise ValueError(
                    f"the exported output must have shape {tuple(expected.shape)}, got {tuple(given.shape)}"
                )
            if not bool(given.isfinite().all()):
                raise ValueError("the exported output must be finite, got numbers that are not")
            largest = max(largest, float((given.cpu() - expected.cpu()).abs().max()))
    return largest


def milliseconds_per_image(
    runs: Mapping[str, tuple[Run, str]], image: Tensor, text: Tensor, *, batches: Sequence[int], repeats: int
) -> dict[str, Durations]:
    """Return the medians of every run at every batch; the runs take turns, so that a busy machine slows all alike.

    Args:
        runs: function and device by name.
        image: `(B, C, H, W)` cases, repeated to make a batch.
        text: `(B, 2, L)`.
        batches: sizes, each >= 1.
        repeats: timed rounds, >= 1; one more before them is not timed.
    """
    import torch

    result = {name: Durations(milliseconds={}, processor_milliseconds={}) for name in runs}
    with torch.inference_mode():
        for size in batches:
            order = torch.arange(size) % len(image)
            fed = {
                name: (image[order].to(device), text[order].to(device)) for name, (_, device) in runs.items()
            }
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
            for turn in range(repeats + 1):
                for name, (run, device) in runs.items():
                    seconds = _seconds(run, fed[name], device)
                    times[name] += [seconds] if turn else []
            for name, pairs in times.items():
                elapsed, used = (
                    round(1000 * median(column) / size, 3) for column in zip(*pairs, strict=True)
                )
                result[name].milliseconds[str(size)] = elapsed
                result[name].processor_milliseconds[str(size)] = used
    return result


def _seconds(run: Callable[..., Any], inputs: Sequence[Any], device: str) -> tuple[float, float]:
    """Elapsed and processor time of one call."""
    import torch

    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    wait()
    started, used = time.perf_counter(), time.process_time()
    run(*inputs)
    wait()
    return time.perf_counter() - started, time.process_time() - used

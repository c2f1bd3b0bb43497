"""TorchScript by tracing. Imports nothing of the project: `tools.verification.probes` loads it by its file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOLERANCE = 1e-4


def write_traced(network: Any, image: Any, text: Any, path: Path) -> None:
    """Trace `network` on a batch and save it.

    Args:
        network: in evaluation mode.
        image: `(B, C, H, W)`; rows and columns become those of the file, the batch does not.
        text: `(B, 2, L)`.
        path: of the file.
    """
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated; and sizes that become constants are meant to
        traced = torch.jit.trace(network, (image, text), check_trace=False)
        torch.jit.save(traced, str(path))


def read_traced(path: Path, *, device: str = "cpu") -> Callable[[Any, Any], Any]:
    """Return the function `(image, text) -> logits` of a file, in a fresh object."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = torch.jit.load(str(path), map_location=device)
    return lambda image, text: loaded(image, text)


def traced_difference(network: Any, image: Any, text: Any, path: Path) -> float:
    """Trace, save and load `network`, and return the largest difference of the logits, on one case and on all.

    Raises:
        ValueError: when it is more than 1e-4.
    """
    import torch

    write_traced(network, image, text, path)
    loaded = read_traced(path)
    with torch.inference_mode():
        rows = [slice(0, 1), slice(None)]
        largest = max(
            float((loaded(image[r], text[r]) - network(image[r], text[r])).abs().max()) for r in rows
        )
    if not largest <= TOLERANCE:
        raise ValueError(
            f"the traced network must give the same within {TOLERANCE:g}, but differs by {largest:.2g}"
        )
    return largest

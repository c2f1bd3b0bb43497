"""A check that weights belong to the network of a configuration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .sources import Overlay, PackError


def check_weights(
    path: Path, inference: Mapping[str, Any], *, overlays: Sequence[Overlay], available: Sequence[str]
) -> None:
    """Load weights strictly into the network that `inference` describes.

    Args:
        path: tensors alone, as ``network.state_dict()``.
        inference: content of ``inference.json`` with the overlays merged.
        overlays: those that were merged.
        available: names of the bundle's overlays, for the error.

    Raises:
        PackError: when the file is missing or holds more than tensors, when the network cannot be built, or when its
            names and shapes are others.
    """
    from common.checks import load_state, read_tensors  # imported here: `--help` should not load PyTorch

    if not path.is_file():
        raise PackError(f"the weights must be a file, got {path}, which does not exist (--weights)")
    try:
        state = read_tensors(path)
    except ValueError as error:
        raise PackError(f"{error} (--weights)") from error
    network = _build_network(inference)
    try:
        load_state(network, state, source=str(path))
    except ValueError as error:
        named = ", ".join(overlay.name for overlay in overlays) or "none"
        raise PackError(
            f"{error}\nOverlays that were merged (--overlay): {named}. Most often an overlay is missing or one too "
            f"many; this bundle has {', '.join(available) or 'none'}"
        ) from error


def _build_network(inference: Mapping[str, Any]) -> Any:
    from monai.bundle import ConfigParser

    parser = ConfigParser(config=dict(inference))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parser.get_parsed_content("network_def")
    except Exception as error:  # whatever a network's constructor raises, MONAI wraps it
        cause = error.__cause__ or error
        raise PackError(f"the network of inference.json cannot be built: {cause}") from error

"""Handing weights from one phase of a training to the next."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from ..checks import load_weights

logger = logging.getLogger(__name__)


class StartFromPhase:
    """Start a network, or its discriminators, from what the last of the phases before left, and say which it was.

    Register it before the handler that resumes a training, whose weights then stand.

    Args:
        network: perhaps wrapped by DistributedDataParallel; or the module with all discriminators, see `Adversaries`.
        paths: weights that the phases before wrote, the last phase first; the first file that is there is loaded, all
            of it. Empty: nothing is asked for.
        name: what it is, in the log.

    Raises:
        ValueError: when the engine starts and the file belongs to another network.
    """

    def __init__(
        self, *, network: nn.Module, paths: Sequence[str | Path] = (), name: str = "network"
    ) -> None:
        self.network = network
        self.paths = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths) if path]
        self.name = name

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights, or say that there are none."""
        found = next((path for path in self.paths if path.is_file()), None)
        if found is not None:
            load_weights(self.network, found)
            logger.info("%s: starts from %s", self.name, found.name)
        elif self.paths:
            names = " or ".join(path.name for path in self.paths)
            logger.warning("%s: no %s, starts without the phases before (run those first)", self.name, names)

"""Loading of trained weights when an engine starts."""

from __future__ import annotations

import logging
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from ..checks import load_weights

logger = logging.getLogger(__name__)


class LoadWeights:
    """Load ``models/model.pt`` strictly into a network when an engine starts.

    Args:
        path: file with the raw state dict.
        network: to load into.

    Raises:
        ValueError: when the engine starts and the file is missing, holds pickled objects, or belongs to another
            network.
    """

    def __init__(self, *, path: str | Path, network: nn.Module) -> None:
        self.path = Path(path)
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Register with any engine."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights."""
        load_weights(self.network, self.path)
        logger.info("loaded %s", self.path.name)

"""Loading of trained and of pretrained weights when an engine starts."""

from __future__ import annotations

import logging
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from ..checks import bare, load_weights

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


class StartFromWeights:
    """Start all of a network from trained weights of its kind when a training starts: fine-tuning.

    Register it before the handler that resumes a training, whose weights then stand.

    Args:
        network: to load into.
        path: file with the raw state dict, such as ``models/model.pt``; None or "" loads nothing.

    Raises:
        ValueError: when the engine starts and the file is missing, holds pickled objects, or belongs to another
            network.
    """

    def __init__(self, *, network: nn.Module, path: str | Path | None = None) -> None:
        self.network = network
        self.path = Path(path) if path else None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights if a file was named."""
        if self.path is not None:
            load_weights(self.network, self.path)
            logger.info("the training starts from the weights in %s", self.path.name)


class StartFromPretrained:
    """Start the image encoder of a network from pretrained weights when a training starts.

    Register it before the handler that resumes a training, whose weights then stand.

    Args:
        network: has ``load_pretrained(name)`` when `name` is given.
        name: Hugging Face id in the local cache, or a folder; None or "" leaves the random initialisation.

    Raises:
        ValueError: when the engine starts and the network cannot use pretrained weights.
        FileNotFoundError: when they are not on this machine.
    """

    def __init__(self, *, network: nn.Module, name: str | None = None) -> None:
        self.network = network
        self.name = name

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights, or say that there are none."""
        if not self.name:
            logger.info("no pretrained image encoder named: training starts from random weights")
            return
        network = bare(self.network)
        if not hasattr(network, "load_pretrained"):
            raise ValueError(f"pretrained must be empty for {type(network).__name__}, got {self.name!r}")
        network.load_pretrained(self.name)
        logger.info("the image encoder starts from %s", self.name)

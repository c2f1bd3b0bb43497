"""Handing weights from one stage of a training to the next."""

from __future__ import annotations

import logging
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from ..checks import bare

logger = logging.getLogger(__name__)


class StartFromStageOne:
    """Start a network from the weights of its pretraining, where there are any, and say which it was.

    Register it before the handler that resumes a training, whose weights then stand.

    Args:
        network: has ``load_pretrained(path)``.
        path: what the pretraining wrote; None or "": it is not asked for.

    Raises:
        ValueError: when the engine starts and the file is there but belongs to another network.
    """

    def __init__(self, *, network: nn.Module, path: str | Path | None = None) -> None:
        self.network = network
        self.path = path

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights, or say that there are none."""
        if not self.path:
            logger.info("pretrained is empty: the training starts without stage I")
        elif not Path(self.path).is_file():
            name = Path(self.path).name
            logger.warning(
                "no %s: the training starts without stage I, at the full learning rate (run 'pretrain' first)",
                name,
            )
        else:
            bare(self.network).load_pretrained(self.path)
            logger.info("the training starts from stage I: %s", Path(self.path).name)

"""Ignite handlers of a training: seeds, exact resume, early stopping, weights, progress."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from torch import nn

from ..checks import bare, load_state, read_tensors

logger = logging.getLogger(__name__)

_STATE_NAMES = {
    "best_epoch",
    "best_metric",
    "epoch",
    "iteration",
    "lr_scheduler",
    "network",
    "optimizer",
    "scaler",
}


class EpochSeeds:
    """Seed every generator from (seed, epoch) when an epoch starts.

    What an epoch does then depends on the weights it starts from and on these two numbers, not on the epochs
    before it: a training that is resumed at an epoch goes on as if it had never stopped.

    Args:
        seed: of the training.
        loader: has ``set_epoch``; None: only the generators are seeded.
    """

    def __init__(self, seed: int, loader: Any = None) -> None:
        self.seed = seed
        self.loader = loader

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed Python, NumPy and PyTorch; every rank gets numbers of its own."""
        sequence = np.random.SeedSequence((self.seed, engine.state.epoch, engine.state.rank))
        python_seed, numpy_seed, torch_seed = (int(word) for word in sequence.generate_state(3))
        random.seed(python_seed)
        np.random.seed(numpy_seed)
        torch.manual_seed(torch_seed)
        if self.loader is not None:
            self.loader.set_epoch(engine.state.epoch)


class TrainingState:
    """Save everything that a training needs to go on, after every epoch, and pick it up when one starts.

    The file holds tensors and plain values alone and is replaced in one step, so a killed training leaves the
    state of its last whole epoch. Register it last: it saves what the other handlers did.

    Args:
        path: the file.
        network: its state is saved bare, without a DistributedDataParallel wrapper.
        optimizer: of `network`.
        lr_scheduler: of `optimizer`.
        validator: its best metric and epoch are kept.
        resume: False starts anew and overwrites the file.
        parts: what else a training needs to go on, by a name of its own each: objects with ``state_dict`` and
            ``load_state_dict``, of tensors and plain values, such as a `MeanTeacher`.

    Raises:
        ValueError: if a part has the name of something else in the file.
    """

    def __init__(
        self,
        *,
        path: str | Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        validator: Engine | None = None,
        resume: bool = True,
        parts: Mapping[str, Any] | None = None,
    ) -> None:
        taken = sorted(set(parts or {}) & _STATE_NAMES)
        if taken:
            raise ValueError(
                f"parts must have names of their own, got {', '.join(taken)}: name them otherwise"
            )
        self.path = Path(path)
        self.network = network
        self.parts = {"optimizer": optimizer, "lr_scheduler": lr_scheduler, **(parts or {})}
        self.validator = validator
        self.resume = resume

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self.restore)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def restore(self, engine: Engine) -> None:
        """Load the state, if there is one and `resume` is set; a host's training is never one that goes on.

        Raises:
            ValueError: when the file belongs to another network, the first differing entries are named; or to a
                training with other parts.
        """
        if not (self.resume and self.path.is_file()):
            return
        if getattr(getattr(engine.state.dataloader, "dataset", None), "is_from_host", False):
            logger.info(
                "a host gave the cases: %s belongs to another training and is not resumed", self.path.name
            )
            return
        state = read_tensors(self.path)
        self._check_parts(state)
        load_state(self.network, state["network"], source=str(self.path))
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        if getattr(engine, "scaler", None) is not None and state["scaler"]:
            engine.scaler.load_state_dict(state["scaler"])
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["iteration"]
        if self.validator is not None:
            self.validator.state.best_metric = state["best_metric"]
            self.validator.state.best_metric_epoch = state["best_epoch"]
        logger.info("resumed %s after epoch %d of %d", self.path, state["epoch"], engine.state.max_epochs)

    def _check_parts(self, state: Mapping[str, Any]) -> None:
        saved = set(state) - (_STATE_NAMES - {"optimizer", "lr_scheduler"})
        if saved != set(self.parts):
            raise ValueError(
                f"{self.path} must hold the state of {', '.join(sorted(self.parts))}, got {', '.join(sorted(saved))}: "
                "it is of a training with other options; resume with those, or start anew with --resume false"
            )

    def save(self, engine: Engine) -> None:
        """Write the state of the epoch that has just ended; only rank 0 writes."""
        if engine.state.rank != 0:
            return
        validation = None if self.validator is None else self.validator.state
        scaler = getattr(engine, "scaler", None)
        state = {
            "network": bare(self.network).state_dict(),
            **{name: part.state_dict() for name, part in self.parts.items()},
            "scaler": scaler.state_dict() if scaler is not None else {},
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "best_metric": -1 if validation is None else float(validation.best_metric),
            "best_epoch": -1 if validation is None else int(validation.best_metric_epoch),
        }
        write_tensors(state, self.path)


class SaveBestWeights:
    """Keep the raw state dict of the epoch with the best validation metric.

    Without a validator, or when validation never ran, the weights of the last epoch are kept.

    Args:
        path: the file, ``models/model.pt``.
        network: saved bare.
        validator: register this handler after the one that runs it.
    """

    def __init__(self, *, path: str | Path, network: nn.Module, validator: Engine | None = None) -> None:
        self.path = Path(path)
        self.network = network
        self.validator = validator

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.after_epoch)
        engine.add_event_handler(Events.COMPLETED, self.after_training)

    def after_epoch(self, engine: Engine) -> None:
        """Save when the validation of this epoch was the best so far."""
        if self.validator is not None and self.validator.state.best_metric_epoch == engine.state.epoch:
            self._save(engine)

    def after_training(self, engine: Engine) -> None:
        """Save the last weights when no validation chose any."""
        if self.validator is None or self.validator.state.best_metric_epoch == -1:
            self._save(engine)

    def _save(self, engine: Engine) -> None:
        if engine.state.rank == 0:
            write_tensors(bare(self.network).state_dict(), self.path)


class StopEarly:
    """End a training whose validation metric has not improved for some epochs.

    Args:
        patience: number of epochs without a new best; 0 never stops.
        validator: register this handler after the one that runs it.
    """

    def __init__(self, *, patience: int, validator: Engine) -> None:
        self.patience = patience
        self.validator = validator

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Terminate `engine` when its patience is at an end."""
        best = self.validator.state.best_metric_epoch
        if self.patience and best != -1 and engine.state.epoch - best >= self.patience:
            logger.info("no better validation metric since epoch %d: stopping", best)
            engine.terminate()


class Progress:
    """A progress bar with the remaining time, on rank 0.

    Args:
        description: in front of the bar.
    """

    def __init__(self, description: str) -> None:
        self.description = description

    def attach(self, engine: Engine) -> None:
        """Register with any engine."""
        if engine.state.rank == 0:
            ProgressBar(persist=True, desc=self.description, mininterval=1.0).attach(
                engine, output_transform=_shown_loss
            )


def _shown_loss(output: Any) -> dict[str, float]:
    first = output[0] if isinstance(output, list) and output else {}
    return {"loss": float(first["loss"])} if "loss" in first else {}


def write_tensors(content: Any, path: Path) -> None:
    """Write `content` with `torch.save` under a temporary name and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)

"""Contrastive pretraining of images with their sentences."""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.distributed as dist
from monai.engines import PrepareBatchExtraInput, SupervisedEvaluator

from ..inferers import TextGuidedInferer
from ..metrics import SentenceRetrieval
from .supervised import Objective, TextGuidedTrainer

logger = logging.getLogger(__name__)


class ContrastiveTrainer(TextGuidedTrainer):
    """`TextGuidedTrainer` for networks that return one vector per image and one per sentence; labels are not needed.

    What it trains is the network it is given: a frozen text encoder, and parts that stage II adds, belong outside
    of the optimizer. Terms, metrics, clipping, AMP, resuming and errors are those of its base.

    Args:
        device: where to train.
        max_epochs: number of epochs in all, those of a resumed training included; 0: `run` does nothing.
        train_data_loader: yields batches with ``image``, ``text``, ``sentence`` and ``id``; a loader's batch size
            must be at least 2 over all processes, for a pair alone has nothing to be told apart from.
        network: maps ``(image, text)`` to a mapping with ``image_vector`` and ``sentence_vector``, `(B, D)` each,
            in training and in evaluation.
        optimizer: of `network`.
        objective: as ``ClusterContrastiveObjective``.
        kwargs: passed to `TextGuidedTrainer`.

    Raises:
        ValueError: if the global batch is a single case.

    Reference:
        C2Seg, section 3.2, stage I.
    """

    def __init__(
        self,
        *,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Any,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        **kwargs: Any,
    ) -> None:
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        batch_size = getattr(train_data_loader, "batch_size", None)
        if batch_size is not None and batch_size * processes < 2:
            raise ValueError(
                f"batch_size must be at least 2 over all processes for contrastive training, got {batch_size} in "
                f"{processes}: every other case of the batch is what a case is told apart from"
            )
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            objective=objective,
            **kwargs,
        )

    def run(self) -> None:
        """Train, unless there is not a single epoch to train."""
        if self.state.max_epochs:
            super().run()
        else:
            logger.info("0 epochs: nothing is pretrained")


class ContrastiveEvaluator(SupervisedEvaluator):
    """MONAI's evaluator for the networks of `ContrastiveTrainer`: whether images find their sentences.

    The metrics are those of `common.metrics.SentenceRetrieval`; ``sentence_mrr`` chooses the weights unless
    `key_val_metric` says otherwise. Unlike the loss they depend neither on the batch size nor on how often a
    sentence comes twice. Labels are not needed.

    Args:
        device: where to evaluate.
        val_data_loader: as the trainer's.
        network: likewise.
        amp: mixed precision, on CUDA devices.
        kwargs: passed to `monai.engines.SupervisedEvaluator`.
    """

    def __init__(
        self,
        *,
        device: str | torch.device,
        val_data_loader: Any,
        network: torch.nn.Module,
        amp: bool = False,
        **kwargs: Any,
    ) -> None:
        device = torch.device(device)
        kwargs.setdefault("inferer", TextGuidedInferer())
        kwargs.setdefault("prepare_batch", PrepareBatchExtraInput(extra_keys={"text": "text"}))
        kwargs.setdefault("decollate", False)
        kwargs.setdefault("key_val_metric", {"sentence_mrr": SentenceRetrieval()})
        super().__init__(
            device=device,
            val_data_loader=val_data_loader,
            network=network,
            amp=amp and device.type == "cuda",
            **kwargs,
        )

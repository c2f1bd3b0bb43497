"""Learning rates of a network whose encoder was trained before the rest of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import bare


def learning_rate_groups(
    network: nn.Module,
    *,
    learning_rate: float,
    encoder_rate: float = 1.0,
    pretrained: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Split what a network trains into its encoder and the rest, as an optimizer takes them.

    Args:
        network: has ``encoder``; perhaps wrapped by DistributedDataParallel. Parameters that require no gradient are
            left out.
        learning_rate: of the rest, > 0.
        encoder_rate: factor on it for the encoder, > 0, if `pretrained` is a file: a small rate keeps what was
            learned, and where nothing was it would only slow down.
        pretrained: weights that the encoder starts from; None, "" or no such file: the factor is 1.

    Returns:
        The encoder's group, then that of the rest, with ``params`` and ``lr`` each.

    Raises:
        ValueError: if a rate is not positive.
    """
    if not (learning_rate > 0 and encoder_rate > 0):
        raise ValueError(
            f"learning_rate and encoder_rate must be positive, got {learning_rate} and {encoder_rate}"
        )
    module = bare(network)
    inside = {id(parameter) for parameter in module.encoder.parameters()}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    factor = encoder_rate if pretrained and Path(pretrained).is_file() else 1.0
    return [
        {"params": [p for p in trained if id(p) in inside], "lr": learning_rate * factor},
        {"params": [p for p in trained if id(p) not in inside], "lr": learning_rate},
    ]


def one_cycle(optimizer: torch.optim.Optimizer, *, total_steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    """Build a one-cycle schedule in which every group of the optimizer rises to its own learning rate.

    Args:
        optimizer: its groups' rates become their peaks.
        total_steps: of the training, >= 1.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps)

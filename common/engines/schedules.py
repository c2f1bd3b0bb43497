"""Learning rates of the parts of a network, and their schedules."""

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
    text_rate: float = 1.0,
) -> list[dict[str, Any]]:
    """Split what a network trains into its visual encoder, its text encoder and the rest, as an optimizer takes them.

    Args:
        network: perhaps with ``encoder``, and with ``text_encoder`` in it or in a part of it; perhaps wrapped by
            DistributedDataParallel. Parameters that require no gradient are left out.
        learning_rate: of the rest, > 0.
        encoder_rate: factor on it for the encoder, > 0, if `pretrained` is a file: a small rate keeps what was
            learned, and where nothing was it would only slow down.
        pretrained: weights that the encoder starts from; None, "" or no such file: the factor is 1.
        text_rate: factor for the text encoder, > 0, where it is trained: a small transformer from scratch forgets its
            words at a rate that convolutions need.

    Returns:
        The groups of the encoder, of the text encoder and of the rest, each where it trains something, with
        ``params`` and ``lr``.

    Raises:
        ValueError: if a rate is not positive.
    """
    rates = {"learning_rate": learning_rate, "encoder_rate": encoder_rate, "text_rate": text_rate}
    if not all(rate > 0 for rate in rates.values()):
        named = ", ".join(f"{name} = {rate}" for name, rate in rates.items())
        raise ValueError(f"learning_rate, encoder_rate and text_rate must be positive, got {named}")
    module = bare(network)
    factor = encoder_rate if pretrained and Path(pretrained).is_file() else 1.0
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [{"params": [], "lr": learning_rate * rate} for rate in (factor, text_rate, 1.0)]
    texts = [part for name, part in module.named_modules() if name.rpartition(".")[2] == "text_encoder"]
    encoders = [module.encoder] if isinstance(getattr(module, "encoder", None), nn.Module) else []
    group_of = {
        id(parameter): number
        for number, parts in enumerate((encoders, texts))
        for part in parts
        for parameter in part.parameters()
    }
    for parameter in trained:
        groups[group_of.get(id(parameter), 2)]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def one_cycle(optimizer: torch.optim.Optimizer, *, total_steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    """Build a one-cycle schedule in which every group of the optimizer rises to its own learning rate.

    Args:
        optimizer: its groups' rates become their peaks.
        total_steps: of the training, >= 1.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps)


def polynomial(
    optimizer: torch.optim.Optimizer, *, total_steps: int, power: float = 0.9
) -> torch.optim.lr_scheduler.PolynomialLR:
    r"""Build the schedule :math:`(1 - t / T)^p` on the rates of all groups.

    Args:
        optimizer: its groups' rates are those of the first step.
        total_steps: T, of the training, >= 1; step it after every step of the optimizer.
        power: p, > 0.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Chen et al., DeepLab, TPAMI 2018, section 4.1.
    """
    if total_steps < 1 or not power > 0:
        raise ValueError(f"total_steps must be at least 1 and power positive, got {total_steps} and {power}")
    return torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=total_steps, power=power)

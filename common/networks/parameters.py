"""Counts of a network's parameters, all of them and those that a common tool sees."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ParameterCounts:
    """How many parameters a network trains.

    Attributes:
        true: all of them.
        thop_equivalent: those of PyTorch's own layers. The tool thop counts a layer by its type, so it overlooks the
            parameters that a module of another type holds itself, as a KAN layer does. Published tables quote it.
    """

    true: int
    thop_equivalent: int


def count_parameters(network: nn.Module) -> ParameterCounts:
    """Count the parameters of a network that require a gradient: a frozen text encoder is left out.

    Args:
        network: any.

    Returns:
        Both counts; a shared parameter counts once.
    """
    every = {parameter for parameter in network.parameters() if parameter.requires_grad}
    layers = [module for module in network.modules() if not any(module.children())]
    known = {
        parameter
        for layer in layers
        if type(layer).__module__.startswith("torch.nn.")
        for parameter in layer.parameters()
        if parameter.requires_grad
    }
    return ParameterCounts(*(sum(parameter.numel() for parameter in part) for part in (every, known)))

"""Discriminators that tell two domains apart by a network's predictions, and what trains them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from ..checks import load_state
from ..losses.adversarial import discriminator_loss, entropy_map, probability_map
from .schedules import polynomial

MAPS = ("entropy", "probability")


class Adversaries:
    """Hold one discriminator for each of a network's predictions, with their optimizer and schedule.

    In a training step `judge` comes first, whose verdict on the target a loss can lower: gradients go through the
    discriminators to the network, not into them. After the network's step, `step` trains the discriminators with the
    predictions of that same step. Both compute in full precision. Under `torch.distributed` the discriminators are
    trained by DistributedDataParallel, with one forward pass a step.

    It can be kept as a part of a `TrainingState`; `discriminators` alone are what a later phase starts from.

    Args:
        discriminators: by the name of the prediction each of them looks at, ``"logits"`` or ``"aux_logits"``; map
            `(B, classes, H, W)` to logits of any shape.
        device: where they are trained.
        maps: what they look at: "entropy", the classes' shares of the entropy, or "probability".
        learning_rate: of Adam, > 0.
        betas: of Adam.
        total_steps: after which a polynomial schedule has brought the rate to 0; None or 0: it is constant.
        power: of the schedule.

    Attributes:
        discriminators: a module that holds all of them.

    Raises:
        ValueError: if there is no discriminator, or an argument is out of its range.

    Reference:
        TCSA-UDA trains two of them as Tsai et al., AdaptSegNet, CVPR 2018, section 4, and Vu et al., ADVENT, CVPR
        2019, equation 6.

    Differences from the paper:
        Source and target go through a discriminator one after the other, as there, but in one call, so that several
        processes can share the work.
    """

    def __init__(
        self,
        discriminators: Mapping[str, nn.Module],
        *,
        device: str | torch.device = "cpu",
        maps: str = "entropy",
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        total_steps: int | None = None,
        power: float = 0.9,
    ) -> None:
        if not discriminators:
            raise ValueError("discriminators must hold at least one, got none: leave the adversaries out")
        if maps not in MAPS:
            raise ValueError(f"maps must be one of {', '.join(MAPS)}, got {maps!r}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate of the discriminators must be positive, got {learning_rate}")
        self.maps = maps
        self.discriminators = nn.ModuleDict(discriminators).to(device)
        distributed = dist.is_available() and dist.is_initialized()
        both = {name: _BothDomains(module) for name, module in self.discriminators.items()}
        self._trained = {
            name: DistributedDataParallel(module) if distributed else module for name, module in both.items()
        }
        self.optimizer = torch.optim.Adam(
            self.discriminators.parameters(), lr=learning_rate, betas=tuple(betas)
        )
        self.schedule = (
            polynomial(self.optimizer, total_steps=total_steps, power=power) if total_steps else None
        )

    def judge(self, target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the discriminators say of the target; the gradient goes to its predictions alone.

        Args:
            target: the network's outputs for the target, with all predictions that are looked at.

        Raises:
            ValueError: if one is missing.
        """
        verdicts = {}
        for name, discriminator in self.discriminators.items():
            discriminator.train()
            constants = {key: parameter.detach() for key, parameter in discriminator.named_parameters()}
            with _full_precision(target, name):
                verdicts[name] = functional_call(discriminator, constants, (self._map(target, name),))
        return verdicts

    def step(self, source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Train every discriminator by one step, and return their losses by name.

        Args:
            source: the network's outputs for the source, with all predictions that are looked at.
            target: likewise.

        Raises:
            ValueError: if one is missing.
            FloatingPointError: if a loss is not finite.
        """
        losses = {}
        self.optimizer.zero_grad()
        for name, discriminator in self._trained.items():
            discriminator.train()
            with torch.enable_grad(), _full_precision(source, name):
                inputs = (self._map(outputs, name).detach() for outputs in (source, target))
                loss = discriminator_loss(*discriminator(*inputs))
                if not torch.isfinite(loss):
                    raise FloatingPointError(
                        f"the loss of the discriminator of {name} must be finite, got "
                        f"{float(loss.detach()):.4g}: lower its learning_rate"
                    )
                loss.backward()
            losses[name] = loss.detach()
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return losses

    def _map(self, outputs: Mapping[str, Tensor], name: str) -> Tensor:
        view = entropy_map if self.maps == "entropy" else probability_map
        return view(_prediction(outputs, name))

    def state_dict(self) -> dict[str, Any]:
        """Return the discriminators, and the states of their optimizer and schedule."""
        return {
            "discriminators": self.discriminators.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {} if self.schedule is None else self.schedule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Args:
            state: of discriminators of the same architecture.

        Raises:
            ValueError: if they are others.
        """
        load_state(self.discriminators, state["discriminators"], source="the saved discriminators")
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None and state["schedule"]:
            self.schedule.load_state_dict(state["schedule"])


class _BothDomains(nn.Module):
    """Run a discriminator on the source, then on the target."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return self.discriminator(source), self.discriminator(target)


def _prediction(outputs: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in outputs:
        raise ValueError(
            f"outputs must hold {name!r}, which a discriminator looks at, got {sorted(map(str, outputs))}: "
            "leave that discriminator out, or let the network return it"
        )
    return outputs[name]


def _full_precision(outputs: Mapping[str, Tensor], name: str) -> torch.autocast:
    return torch.autocast(_prediction(outputs, name).device.type, enabled=False)

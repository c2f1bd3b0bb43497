"""A teacher whose weights are the moving average of a student's."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..checks import bare, load_state


class MeanTeacher:
    r"""Average a student's weights over its steps: :math:`\theta_T \leftarrow a \theta_T + (1 - a) \theta_S`.

    The teacher is a copy of the student in evaluation mode without gradients. Parameters and float buffers are
    averaged, integer buffers copied. What a network shares with its copies, such as a frozen text encoder with its
    sentences, it shares with the teacher too. On several processes the buffers of rank 0 go to all, as those of the
    student do at its next forward pass, so that there is one teacher.

    Args:
        network: the student, perhaps wrapped by DistributedDataParallel; maps ``(image, text)`` to logits in
            evaluation.
        start: a up to the end of `burn_in`, in [0, 1).
        end: a when the ramp is over, in [`start`, 1).
        burn_in: epochs at `start`, >= 0.
        ramp_epochs: epochs in which a rises linearly, >= 0; 0: `end` follows `start` at once.

    Attributes:
        network: the averaged network.
        steps: how often it was updated.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Semi-MedRef, section 2.2, the equation of the teacher; .99 to .999 over 20 epochs after a burn-in of 5 is its
        code's.

    Differences from the paper:
        None in the average. The first epoch after the burn-in already has one step of the ramp, so that the last of
        its epochs has `end`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        start: float = 0.99,
        end: float = 0.999,
        burn_in: int = 5,
        ramp_epochs: int = 20,
    ) -> None:
        if not 0 <= start <= end < 1:
            raise ValueError(f"start and end must satisfy 0 <= start <= end < 1, got {start} and {end}")
        if burn_in < 0 or ramp_epochs < 0:
            raise ValueError(
                f"burn_in and ramp_epochs must be 0 or more epochs, got {burn_in} and {ramp_epochs}"
            )
        self.start = start
        self.end = end
        self.burn_in = burn_in
        self.ramp_epochs = ramp_epochs
        self.network = copy.deepcopy(bare(network)).eval().requires_grad_(False)
        self.steps = 0

    def decay(self, epoch: int) -> float:
        """Return the factor a of an epoch.

        Args:
            epoch: counted from 1.
        """
        over = epoch - self.burn_in
        if over <= 0:
            return self.start
        share = min(1.0, over / self.ramp_epochs) if self.ramp_epochs else 1.0
        return self.start + share * (self.end - self.start)

    def start_from(self, student: nn.Module) -> None:
        """Copy the student as it is now; a teacher that has been updated, or resumed after it was, keeps its own.

        Call it before the student's first step: weights that were loaded after the teacher was built, such as
        pretrained ones, belong to the average.

        Args:
            student: of the same architecture.

        Raises:
            ValueError: if it is another network.
        """
        if not self.steps:
            load_state(self.network, bare(student).state_dict(), source="the teacher's student")

    @torch.no_grad()
    def update(self, student: nn.Module, *, epoch: int) -> None:
        """Follow the student by one step.

        Args:
            student: after its step.
            epoch: counted from 1; see `decay`.
        """
        given = bare(student)
        buffers = list(self.network.buffers())
        pairs = list(zip(self.network.parameters(), given.parameters(), strict=True))
        pairs += zip(buffers, given.buffers(), strict=True)
        average = get_ema_multi_avg_fn(self.decay(epoch))
        own, theirs = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        average(own, theirs, None)
        for ours, counted in pairs:
            if not ours.is_floating_point():
                ours.copy_(counted)
        _share([buffer for buffer in buffers if buffer.is_floating_point()])
        self.steps += 1

    def __call__(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the probability of a lesion without autograd, in the precision of autocast where that is on.

        Args:
            image: `(B, C, H, W)`.
            text: `(B, 2, L)` token ids and attention mask.

        Returns:
            `(B, 1, H, W)` in [0, 1], float32.

        Raises:
            ValueError: if the network has another number of classes.
        """
        with torch.inference_mode():
            logits = self.network(image, text)
            if logits.shape[1] != 1:
                raise ValueError(f"num_classes must be 1 for a teacher's mask, got {logits.shape[1]}")
            probability = logits.float().sigmoid()
        # a tensor of inference mode could not be the target of a loss
        return probability.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of updates."""
        return {"network": self.network.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Args:
            state: of a teacher of the same architecture.

        Raises:
            ValueError: if it belongs to another network.
        """
        load_state(self.network, state["network"], source="the saved teacher")
        self.steps = int(state["steps"])


def _share(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of rank 0, all in one message."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    targets = list(tensors)
    if not targets:
        return
    flat = torch.cat([tensor.flatten() for tensor in targets])
    dist.broadcast(flat, src=0)
    for tensor, values in zip(targets, flat.split([tensor.numel() for tensor in targets]), strict=True):
        tensor.copy_(values.view_as(tensor))

"""Supervised training with named loss terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import IterationEvents, PrepareBatchExtraInput, SupervisedTrainer
from monai.utils import CommonKeys
from torch import Tensor

from ..inferers import TextGuidedInferer

Objective = Callable[[Any, Mapping[str, Any], int], Mapping[str, Tensor]]


class TextGuidedTrainer(SupervisedTrainer):
    """MONAI's supervised trainer for networks that read an image and a sentence.

    It differs from its base in three things. The loss is an *objective*, a callable
    ``(outputs, batch, epoch) -> {name: scalar}`` whose terms are summed; they stay in
    ``engine.state.output[0]["terms"]`` under their names, and their means over an epoch in
    ``engine.state.metrics["train_<name>"]``. Gradients can be clipped by their norm, after unscaling when AMP
    is on. AMP is switched on only where the device is CUDA. A loss that is not finite stops the training with
    an error that names the terms and the cases.

    Args:
        device: where to train.
        max_epochs: number of epochs in all, those of a resumed training included.
        train_data_loader: yields batches with ``image``, ``label``, ``text`` and ``id``.
        network: maps ``(image, text)`` to a mapping with ``logits`` in training mode.
        optimizer: of `network`.
        objective: see above.
        gradient_clip: largest norm of the gradient of all parameters; 0 leaves it as it is.
        amp: mixed precision, on CUDA devices.
        kwargs: passed to `monai.engines.SupervisedTrainer`.
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
        gradient_clip: float = 0.0,
        amp: bool = False,
        **kwargs: Any,
    ) -> None:
        if gradient_clip < 0:
            raise ValueError(f"gradient_clip must be 0 (off) or positive, got {gradient_clip}")
        kwargs.setdefault("inferer", TextGuidedInferer())
        kwargs.setdefault("prepare_batch", PrepareBatchExtraInput(extra_keys={"text": "text"}))
        kwargs.setdefault("decollate", False)
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=self._sum_of_terms,
            amp=amp and torch.device(device).type == "cuda",
            **kwargs,
        )
        self.objective = objective
        self.gradient_clip = gradient_clip
        self._totals: dict[str, float] = {}
        self._steps = 0
        self.add_event_handler(Events.EPOCH_STARTED, self._reset_totals)
        self.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._clip_gradients)
        self.add_event_handler(Events.ITERATION_COMPLETED, self._add_to_totals)

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Any]) -> list[dict[str, Any]]:
        """Train on one batch; the output is a list of one entry, the form that MONAI's loggers read."""
        output = super()._iteration(engine, batchdata)
        return [output | {CommonKeys.LOSS: output[CommonKeys.LOSS].detach()}]

    def _sum_of_terms(self, outputs: Any, label: Tensor) -> Tensor:
        batch = self._objective_batch(label)
        terms = dict(self.objective(outputs, batch, self.state.epoch))
        if not terms:
            raise ValueError("the objective must return at least one named term, got none")
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self.state.output["terms"] = {name: term.detach() for name, term in terms.items()}
        if not self.amp and not torch.isfinite(loss):
            values = ", ".join(f"{name} = {float(term):.4g}" for name, term in terms.items())
            raise FloatingPointError(
                f"the loss must be finite, got {values} in epoch {self.state.epoch} for cases "
                f"{list(batch.get('id', []))}: lower learning_rate or set gradient_clip"
            )
        return loss

    def _objective_batch(self, label: Tensor) -> dict[str, Any]:
        """Return the batch that the objective is given, on the device."""
        return self._on_device(self.state.batch, label)

    def _on_device(self, batch: Mapping[str, Any], label: Tensor) -> dict[str, Any]:
        device = self.state.device
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        image = plain(self.state.output[CommonKeys.IMAGE])
        return {**moved, CommonKeys.IMAGE: image, CommonKeys.LABEL: plain(label)}

    def _clip_gradients(self) -> None:
        if not self.gradient_clip:
            return
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)

    def _reset_totals(self) -> None:
        self._totals, self._steps = {}, 0

    def _add_to_totals(self) -> None:
        """Keep the means up to date with every step: at an epoch's end the loggers come before other handlers."""
        self._steps += 1
        for name, value in loss_terms(self.state.output).items():
            self._totals[name] = self._totals.get(name, 0.0) + value
            self.state.metrics[f"train_{name}"] = self._totals[name] / self._steps


def loss_terms(output: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the total loss and every named term of a trainer's ``engine.state.output``, for loggers."""
    terms = {"loss": output[0][CommonKeys.LOSS], **output[0]["terms"]}
    return {name: float(term) for name, term in terms.items()}


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor without the meta data of a `MetaTensor`, which cost time in every layer."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor

"""Training of a student on labels and on what its teacher sees in images without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from monai.engines import PrepareBatchExtraInput
from monai.utils import CommonKeys
from torch import Tensor, nn

from ..checks import bare
from .mean_teacher import MeanTeacher
from .supervised import Objective, TextGuidedTrainer, plain

MODES = ("off", "ema")

StrongViews = Callable[..., Any]


class SemiSupervisedTrainer(TextGuidedTrainer):
    """`TextGuidedTrainer` with a mean teacher: labels teach during the burn-in, the teacher's masks as well after it.

    A step after the burn-in: the teacher looks at the unlabelled images and their own sentences (the weak view) and
    returns probabilities; `view` makes of all three the strong view and its pseudo labels; the network sees labelled
    and strong view, and the weak one if the objective compares images with sentences, in **one** forward pass, as
    DistributedDataParallel wants it; the objective is given ``"label"`` and ``"sentence"`` of the labelled cases and
    ``"unlabelled": {"label": …, "sentence": …}`` with the pseudo labels and the unchanged sentences. The teacher
    follows after every step, those of the burn-in included. It runs under the autocast of the student; `view` always
    in full precision, for it handles pixels.

    What `view` draws depends on (seed, epoch, iteration, rank) alone, so that a resumed training goes on as one that
    never stopped. Without unlabelled cases (all are labelled) the steps are supervised, and the teacher follows.

    Args:
        device: where to train.
        max_epochs: number of epochs in all, burn-in and those of a resumed training included.
        train_data_loader: yields ``{"labelled": batch, "unlabelled": batch}``, the latter from the end of the burn-in
            on or never; the batches hold ``image``, ``text``, ``sentence`` and ``id``, the labelled one ``label``; see
            `common.data.SemiSupervisedLoader`.
        network: ``(labelled, strong, weak)``, mappings of ``image`` and ``text``, to what the objective reads; its
            attribute ``network`` is the student that segments; see `common.networks.ReferringPair`.
        optimizer: of `network`.
        objective: see `TextGuidedTrainer`, such as `common.losses.SemiSupervisedObjective`; it is given the weak view
            unless it has an attribute ``needs_weak`` that is False.
        teacher: of ``network.network``; None with `ssl` "off".
        view: ``(image, probability, sentences, *, generator)`` to an object with ``image``, ``label`` and ``text``, see
            `common.transforms.StrongView`; None with `ssl` "off".
        ssl: "off", unlabelled cases are not looked at; or "ema".
        burn_in: epochs before the unlabelled cases count, >= 0, of the same length as the others.
        seed: of what `view` draws.
        kwargs: passed to `TextGuidedTrainer`; ``prepare_batch`` prepares the labelled batch, there is no ``inferer``.

    Raises:
        ValueError: if `ssl` is unknown or lacks its teacher or view, `burn_in` is negative or shorter than that of the
            loader, or gradients are accumulated.

    Reference:
        Semi-MedRef, section 2.2, equations 1 to 5.

    Differences from the paper:
        None in the order of a step; epochs, weights and views are described where they are made.
    """

    def __init__(
        self,
        *,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Any,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        teacher: MeanTeacher | None = None,
        view: StrongViews | None = None,
        ssl: str = "ema",
        burn_in: int = 5,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        _check(ssl, teacher, view, burn_in, train_data_loader)
        if kwargs.get("accumulation_steps", 1) != 1:
            raise ValueError(
                f"accumulation_steps must be 1 with a teacher, got {kwargs['accumulation_steps']}: "
                "choose the batch_size instead"
            )
        inner = kwargs.pop("prepare_batch", None) or PrepareBatchExtraInput(extra_keys={"text": "text"})
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            objective=objective,
            prepare_batch=lambda batch, *args, **options: inner(_labelled(batch), *args, **options),
            inferer=self._forward,
            **kwargs,
        )
        self.teacher = teacher if ssl == "ema" else None
        self.view = view
        self.burn_in = burn_in
        self.seed = seed
        self._pseudo: dict[str, Any] | None = None

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> list[dict[str, Any]]:
        """Train on one batch, and let the teacher follow."""
        if self.teacher is None:
            return super()._iteration(engine, batchdata)
        self.teacher.start_from(self._student())
        output = super()._iteration(engine, batchdata)
        self.teacher.update(self._student(), epoch=self.state.epoch)
        return output

    def _student(self) -> nn.Module:
        return bare(self.network).network

    def _forward(self, image: Tensor, network: nn.Module, *, text: Tensor) -> Any:
        """Run the network once on all that this step looks at; what the base calls in place of an inferer."""
        labelled = {CommonKeys.IMAGE: plain(image), "text": plain(text).to(image.device)}
        unlabelled = self.state.batch.get("unlabelled")
        self._pseudo = None
        if self.teacher is None or unlabelled is None or self.state.epoch <= self.burn_in:
            return network(labelled)
        weak = {key: plain(unlabelled[key]).to(image.device) for key in (CommonKeys.IMAGE, "text")}
        strong = self._strong(weak, list(unlabelled["sentence"]))
        return network(labelled, strong, weak if getattr(self.objective, "needs_weak", True) else None)

    def _strong(self, weak: Mapping[str, Tensor], sentences: list[str]) -> dict[str, Tensor]:
        """Return the strong view of the unlabelled cases; its pseudo labels are kept for the objective."""
        probability = self.teacher(weak[CommonKeys.IMAGE], weak["text"])
        state = self.state
        entropy = np.random.SeedSequence((self.seed, state.epoch, state.iteration, state.rank))
        with torch.no_grad(), torch.autocast(probability.device.type, enabled=False):
            view = self.view(
                weak[CommonKeys.IMAGE], probability, sentences, generator=np.random.default_rng(entropy)
            )
        self._pseudo = {CommonKeys.LABEL: view.label, "sentence": sentences}
        return {CommonKeys.IMAGE: view.image, "text": view.text}

    def _objective_batch(self, label: Tensor) -> dict[str, Any]:
        batch = self._on_device(_labelled(self.state.batch), label)
        if self._pseudo is None:
            return batch
        # an error about the loss names the cases of both
        names = [*batch.get("id", []), *self.state.batch["unlabelled"].get("id", [])]
        return {**batch, "id": names, "unlabelled": self._pseudo}


def _check(
    ssl: str, teacher: MeanTeacher | None, view: StrongViews | None, burn_in: int, loader: Any
) -> None:
    if ssl not in MODES:
        raise ValueError(f"ssl must be one of {', '.join(MODES)}, got {ssl!r}")
    if ssl == "ema" and (teacher is None or view is None):
        missing = "teacher" if teacher is None else "view"
        raise ValueError(f"{missing} must be given for ssl 'ema', got None: build it, or set ssl to 'off'")
    if burn_in < 0:
        raise ValueError(f"burn_in must be 0 or more epochs, got {burn_in}")
    withheld = getattr(loader, "burn_in", 0)
    if ssl == "ema" and withheld > burn_in:
        raise ValueError(
            f"burn_in of the loader must be at most that of the trainer, got {withheld} and {burn_in}: "
            "give both the same"
        )


def _labelled(batch: Any) -> dict[str, Any]:
    if not isinstance(batch, Mapping) or "labelled" not in batch:
        got = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(f"a batch must hold 'labelled', got {got}: use common.data.SemiSupervisedLoader")
    return dict(batch["labelled"])

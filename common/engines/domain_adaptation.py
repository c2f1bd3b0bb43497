"""Training of a network on a source with labels and a target without."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import default_prepare_batch
from monai.utils import CommonKeys
from torch import Tensor, nn

from ..data.domains import DOMAINS, modalities_of
from .adversaries import Adversaries
from .supervised import Objective, TextGuidedTrainer, plain

logger = logging.getLogger(__name__)


class DomainAdaptationTrainer(TextGuidedTrainer):
    """`TextGuidedTrainer` over two domains: one has labels, the other is to be segmented as well.

    A step: the images of both go through the network in **one** forward pass, each with the name of its modality;
    the objective is given what the network returns for each; the network learns, the adversaries' verdict on the
    target included; then the adversaries learn from the same predictions. Their losses are logged under
    ``discriminator_<prediction>`` beside the terms, and are no part of the loss. Without a target in the batches the
    steps are supervised.

    The phases of a method are trainings of their own, which differ in what they are given: the first has a loader
    without target, the second adversaries and no alignment in its objective, the third everything; see
    `common.handlers.StartFromPhase`.

    The target's labels are never looked at: a batch that holds some is refused.

    Args:
        device: where to train; an objective that is a module is brought there.
        max_epochs: number of epochs in all, those of a resumed training included; 0: `run` does nothing.
        train_data_loader: yields ``{"source": batch, "target": batch}`` or ``{"source": batch}``; the batches hold
            ``image``, ``id`` and perhaps ``modality`` and ``domain``, the first ``label``; see
            `common.data.DomainLoader`.
        network: maps ``(image, text, modality=names)`` to a mapping in training mode. Of what it returns, tensors of
            four dimensions are cut into source and target; all else, such as class embeddings, both have.
        optimizer: of `network`.
        objective: ``(outputs, batch, epoch)`` to named terms, see `common.losses.DomainAdaptationObjective`.
        adversaries: of the network's predictions; None: there are none. They take part where there is a target.
        direction: see `common.data.modalities_of`; gives their modalities to cases that name none, such as a host's.
            None: those have the network's own.
        kwargs: passed to `TextGuidedTrainer`; ``prepare_batch`` prepares the source batch, there is no ``inferer``.

    Raises:
        ValueError: if gradients are accumulated; in a run, if a batch lacks something or holds a target's label.

    Reference:
        TCSA-UDA (arXiv 2511.05782), section 3; the order of a step is that of Tsai et al., AdaptSegNet, CVPR 2018.

    Differences from the paper:
        Both domains share a forward pass, and with it the statistics of batch normalisation, so that training and
        inference normalise alike. All parts are optimised; the authors' published code never steps the optimizer of
        the head.
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
        adversaries: Adversaries | None = None,
        direction: str | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("accumulation_steps", 1) != 1:
            raise ValueError(
                f"accumulation_steps must be 1 in domain adaptation, got {kwargs['accumulation_steps']}: "
                "choose the batch_size instead"
            )
        inner = kwargs.pop("prepare_batch", None) or default_prepare_batch
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            objective=objective.to(device) if isinstance(objective, nn.Module) else objective,
            prepare_batch=lambda batch, *args, **options: inner(_source(batch), *args, **options),
            inferer=self._forward,
            **kwargs,
        )
        self.adversaries = adversaries
        self._defaults = dict(zip(DOMAINS, modalities_of(direction), strict=True)) if direction else {}
        self._names: dict[str, list[str]] = {}

    def run(self) -> None:
        """Train, unless there is not a single epoch to train."""
        if self.state.max_epochs:
            super().run()
        else:
            logger.info("0 epochs: nothing is trained")

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> list[dict[str, Any]]:
        """Train on one batch, and let the adversaries follow."""
        output = super()._iteration(engine, batchdata)
        predictions = output[0][CommonKeys.PRED]
        if self.adversaries is not None and "target" in predictions:
            losses = self.adversaries.step(predictions["source"], predictions["target"])
            output[0]["terms"].update({f"discriminator_{name}": loss for name, loss in losses.items()})
        return output

    def _forward(self, image: Tensor, network: nn.Module, *_: Any, **__: Any) -> dict[str, Any]:
        """Run the network once on all that this step looks at; what the base calls in place of an inferer."""
        batch = self.state.batch
        target = batch.get("target")
        images = [plain(image)]
        self._names = {"source": self._modalities(batch["source"], "source", len(image))}
        if target is not None:
            _refuse_label(target)
            images.append(plain(target[CommonKeys.IMAGE]).to(image.device))
            self._names["target"] = self._modalities(target, "target", len(images[1]))
        _check_alike(images, self._names)
        names = [name for domain in self._names.values() for name in domain]
        options = {"modality": names} if names else {}
        outputs = _cut(network(torch.cat(images), None, **options), [len(part) for part in images])
        if target is not None and self.adversaries is not None:
            outputs["judged"] = self.adversaries.judge(outputs["target"])
        return outputs

    def _modalities(self, batch: Mapping[str, Any], domain: str, count: int) -> list[str]:
        """Return the modality of each case, or none at all where nobody names one."""
        wrong = [str(given) for given in batch.get("domain", []) if given != domain]
        if wrong:
            raise ValueError(
                f"the {domain} must hold {domain} cases alone, got {', '.join(sorted(set(wrong)))} in "
                f"{list(batch.get('id', []))}: check the loader"
            )
        named = [str(name) for name in batch.get("modality", [])]
        return named or [self._defaults[domain]] * count if self._defaults else named

    def _objective_batch(self, label: Tensor) -> dict[str, Any]:
        """Return the source batch with the number of the step, the modalities, and the cases of both for errors."""
        batch = self._on_device(_source(self.state.batch), label)
        target = self.state.batch.get("target", {})
        # an error about the loss names the cases of both
        names = [*batch.get("id", []), *target.get("id", [])]
        modalities = {f"{domain}_modality": _only(found) for domain, found in self._names.items() if found}
        return {**batch, **modalities, "id": names, "iteration": self.state.iteration}


def _source(batch: Any) -> dict[str, Any]:
    if not isinstance(batch, Mapping) or "source" not in batch:
        got = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(f"a batch must hold 'source', got {got}: use common.data.DomainLoader")
    source = dict(batch["source"])
    if CommonKeys.LABEL not in source:
        raise ValueError(f"source cases must have a label, got none in {list(source.get('id', []))}")
    return source


def _refuse_label(target: Mapping[str, Any]) -> None:
    if CommonKeys.LABEL in target:
        raise ValueError(
            f"target cases must come without a label, got one in {list(target.get('id', []))}: an adaptation that sees "
            "them is a supervised training; take the labels out where the cases are read"
        )


def _check_alike(images: list[Tensor], names: Mapping[str, list[str]]) -> None:
    sizes = {tuple(part.shape[1:]) for part in images}
    if len(sizes) > 1:
        raise ValueError(
            f"source and target images must have one size, got {' and '.join(map(str, sorted(sizes)))}: "
            "give both the same preprocessing"
        )
    if len({bool(found) for found in names.values()}) > 1:
        named = next(domain for domain, found in names.items() if found)
        raise ValueError(
            f"source and target must both name their modality or neither, got it of the {named} alone: set "
            "direction"
        )


def _cut(outputs: Mapping[str, Any], counts: list[int]) -> dict[str, Any]:
    """Give each domain its part of the tensors that have an entry for every image, and all of the rest."""
    parts: dict[str, Any] = {domain: {} for domain, _ in zip(DOMAINS, counts, strict=False)}
    for name, value in outputs.items():
        per_image = isinstance(value, Tensor) and value.ndim == 4
        pieces = value.split(counts) if per_image else [value] * len(counts)
        for part, piece in zip(parts.values(), pieces, strict=True):
            part[name] = piece
    return parts


def _only(names: list[str]) -> str:
    if len(set(names)) > 1:
        raise ValueError(
            f"all cases of a domain must be of one modality, got {', '.join(sorted(set(names)))} in a batch"
        )
    return names[0]

"""The objective of TCSA-UDA: segmentation of the source, and three ways to make the target like it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .adversarial import fool_loss
from .class_means import check_confidence, confident_labels
from .class_segmentation import ClassSegmentationObjective
from .covariance import TEXT_DOMAINS, domain_text

ADVERSARIAL_WEIGHTS = {"logits": 0.003, "aux_logits": 0.00002}
TEXT_TARGETS = {"frozen": "class_embeddings", "projected": "projected_embeddings"}


class DomainAdaptationObjective(nn.Module):
    r"""Named, already weighted terms of a step over a labelled source and a target without labels.

    .. math::
        L = L_{seg} + \sum_o \lambda_o L_{adv}^o + [i > i_0] \left( \lambda_v L_{vlcc} + \lambda_p L_{proto} \right)

    :math:`L_{seg}` is that of `ClassSegmentationObjective` on the source; :math:`L_{adv}` fools the discriminator of
    each of the network's predictions on the target; :math:`L_{vlcc}` is the vision-language covariance cosine loss of
    the source by its labels and of the target by its own predictions; :math:`L_{proto}` aligns the prototypes of both.
    Every one but the first can be left out; without a target there is the first alone.

    Up to and including step :math:`i_0` the banks of the last two follow the batches, and the terms are 0: when they
    begin to count, every class that was met has a mean.

    Args:
        weights: see `ClassSegmentationObjective`.
        aux_weight: see `ClassSegmentationObjective`; 0 also leaves out its discriminator's term, and on several
            processes the network must then have no auxiliary part.
        adversarial_weights: :math:`\lambda_o`, >= 0, by the name of the prediction; None: .003 for ``logits`` and
            2e-5 for ``aux_logits``. A prediction that is not named, or has no discriminator, has no term.
        covariance: as `VisionLanguageCovariance`, for the source; a copy is made for the target. None: no such term.
        vlcc_weight: :math:`\lambda_v`, >= 0; 0 as None above.
        text_domain: whose words describe the classes, "source", "mean" or "own", see `domain_text`.
        text_target: "frozen", the text encoder's own vectors; or "projected", as the network's head projects them,
            which then learn too.
        confidence: smallest probability, in [0, 1], that a target's pixel must have to count in :math:`L_{vlcc}`;
            None counts all.
        prototypes: as `PrototypeAlignment`. None: no such term.
        prototype_weight: :math:`\lambda_p`, >= 0; 0 as None above.
        start_iteration: :math:`i_0`, steps of this training, >= 0.
        modalities: names of the modalities in the order of the class embeddings' first axis, as the network has them;
            None: the source's first, the target's second.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        TCSA-UDA (arXiv 2511.05782), total loss; weights and the first 100 steps are its code's.

    Differences from the paper:
        The authors start from class means of one pass over the source, here the first steps fill the banks, of both
        domains alike. Each domain has a bank of its own for the covariance. The confidence is ours, and off by default
        as in the code.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, float] | None = None,
        aux_weight: float = 0.1,
        adversarial_weights: Mapping[str, float] | None = None,
        covariance: nn.Module | None = None,
        vlcc_weight: float = 1.0,
        text_domain: str = "source",
        text_target: str = "frozen",
        confidence: float | None = None,
        prototypes: nn.Module | None = None,
        prototype_weight: float = 1.0,
        start_iteration: int = 100,
        modalities: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        given = ADVERSARIAL_WEIGHTS if adversarial_weights is None else adversarial_weights
        _check({**given, "vlcc": vlcc_weight, "prototype": prototype_weight}, text_domain, start_iteration)
        if text_target not in TEXT_TARGETS:
            raise ValueError(f"text_target must be one of {', '.join(TEXT_TARGETS)}, got {text_target!r}")
        check_confidence(confidence)
        self.segmentation = ClassSegmentationObjective(weights=weights, aux_weight=aux_weight)
        self.adversarial_weights = {name: float(weight) for name, weight in given.items()}
        if not aux_weight:
            self.adversarial_weights.pop("aux_logits", None)
        self.vlcc_weight = float(vlcc_weight)
        self.covariance = covariance if vlcc_weight else None
        self.target_covariance = copy.deepcopy(self.covariance)
        self.text_domain, self.text_target = text_domain, text_target
        self.confidence = confidence
        self.prototype_weight = float(prototype_weight)
        self.prototypes = prototypes if prototype_weight else None
        self.start_iteration = start_iteration
        self.modalities = None if modalities is None else tuple(modalities)

    def forward(
        self, outputs: Mapping[str, Mapping[str, Any]], batch: Mapping[str, Any], epoch: int = 0
    ) -> dict[str, Tensor]:
        """Compute the terms of one step; under `torch.distributed`, in every process.

        Args:
            outputs: ``source`` and perhaps ``target``, what the network returns for each: ``logits``,
                ``aux_logits``, and for the terms that are on ``features`` `(B, D, h, w)`, ``prototype_features``
                `(B, D', h', w')` and ``class_embeddings`` (or ``projected_embeddings``) `(modalities, classes, E)`;
                perhaps ``judged``, the discriminators' logits for the target by the name of the prediction.
            batch: ``label`` `(B, 1, H, W)` of the source; ``iteration``, the step of this training from 1 (without
                one, all terms count); with `modalities`, ``source_modality`` and ``target_modality``, a name each.
            epoch: the running epoch; only the step counts here.

        Returns:
            The weighted terms by name; their sum is the loss. ``ce``, ``dice``, ``aux_ce``, ``aux_dice``; where there
            is a target and the term is on, ``adversarial``, ``aux_adversarial``, ``vlcc``, ``target_vlcc``,
            ``prototype``.

        Raises:
            ValueError: if an output or an entry of the batch that a term needs is missing, or the sizes disagree.
        """
        terms = self.segmentation(_entry(outputs, "source", "outputs"), batch, epoch)
        if "target" not in outputs:
            return terms
        for name, verdict in outputs.get("judged", {}).items():
            if weight := self.adversarial_weights.get(name, 0.0):
                terms[f"{name.removesuffix('logits')}adversarial"] = weight * fool_loss(verdict)
        counted = batch.get("iteration", math.inf) > self.start_iteration
        with torch.set_grad_enabled(torch.is_grad_enabled() and counted):
            aligned = {**self._covariances(outputs, batch), **self._prototypes(outputs, batch)}
        for name, term in aligned.items():
            terms[name] = term if counted else torch.zeros_like(term)
        return terms

    def _covariances(self, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        if self.covariance is None:
            return {}
        source, target = outputs["source"], outputs["target"]
        pseudo = confident_labels(
            _entry(target, "logits", "outputs['target']").float().softmax(1), confidence=self.confidence
        )
        own, others = self._texts(source, batch)
        terms = {}
        for name, module, side, labels, text in (
            ("vlcc", self.covariance, source, batch["label"], own),
            ("target_vlcc", self.target_covariance, target, pseudo, others),
        ):
            terms[name] = self.vlcc_weight * module(_entry(side, "features", "outputs"), labels, text)
        return terms

    def _texts(self, source: Mapping[str, Any], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the descriptions `(classes, E)` that the source and the target are compared with."""
        embeddings = _entry(source, TEXT_TARGETS[self.text_target], "outputs['source']")
        places = [0, 1]
        if self.modalities is not None:
            names = [_entry(batch, f"{domain}_modality", "batch") for domain in ("source", "target")]
            unknown = sorted({str(name) for name in names} - set(self.modalities))
            if unknown:
                raise ValueError(
                    f"modality must be one of {', '.join(self.modalities)}, got {', '.join(unknown)}"
                )
            places = [self.modalities.index(name) for name in names]
        first, second = (
            domain_text(embeddings, source=places[0], own=own, text_domain=self.text_domain) for own in places
        )
        return first, second

    def _prototypes(self, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Tensor]:
        if self.prototypes is None:
            return {}
        source, target = (
            _entry(outputs[domain], "prototype_features", f"outputs[{domain!r}]")
            for domain in ("source", "target")
        )
        probability = _entry(outputs["target"], "logits", "outputs['target']").detach().float().softmax(1)
        return {
            "prototype": self.prototype_weight * self.prototypes(source, batch["label"], target, probability)
        }

    def extra_repr(self) -> str:
        """Say the settings where the module is printed."""
        return (
            f"adversarial_weights={self.adversarial_weights}, vlcc_weight={self.vlcc_weight:g}, "
            f"text_domain={self.text_domain!r}, confidence={self.confidence}, "
            f"prototype_weight={self.prototype_weight:g}, start_iteration={self.start_iteration}"
        )


def _check(weights: Mapping[str, float], text_domain: str, start_iteration: int) -> None:
    wrong = {name: weight for name, weight in weights.items() if not 0 <= weight < math.inf}
    if wrong:
        raise ValueError(f"weights must be finite and not negative, got {wrong}")
    if text_domain not in TEXT_DOMAINS:
        raise ValueError(f"text_domain must be one of {', '.join(TEXT_DOMAINS)}, got {text_domain!r}")
    if start_iteration < 0:
        raise ValueError(f"start_iteration must be 0 or more steps, got {start_iteration}")


def _entry(given: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in given:
        raise ValueError(
            f"{where} must hold {name!r}, got {sorted(map(str, given))}: switch off the term that needs it, or let "
            "the network or the loader give it"
        )
    return given[name]

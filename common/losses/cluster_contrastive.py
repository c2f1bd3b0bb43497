"""Cluster-aware contrastive learning (CaCL): sentences that say alike share their images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .contrastive import check_pairs
from .gathering import gather_rows
from .precision import at_least_float32

_LEAST_NORM = 1e-4  # of a centred vector: below it, rounding would be taken for a meaning


def centred_sentences(text: Tensor) -> Tensor:
    """Take off the unit vectors of a batch of sentences what they have in common, their mean.

    Encoders that were not trained to tell sentences apart give nearly one vector to all (cosines of 0.99 and more);
    no temperature then sees their differences, neither in the targets nor in the scores. Centring brings these out.

    Args:
        text: `(B, D)`.

    Returns:
        `(B, D)` unit vectors, float32 (float64 stays float64); 0 where all sentences are equal.
    """
    text = at_least_float32(text)
    with torch.autocast(device_type=text.device.type, enabled=False):
        unit = F.normalize(text, dim=1)
        centred = unit - unit.mean(dim=0)
        known = centred.detach().norm(dim=1, keepdim=True) > _LEAST_NORM
        return F.normalize(centred.where(known, 0), dim=1)


def cluster_targets(text: Tensor, *, temperature: float = 0.07, rho: float = 0.8) -> Tensor:
    r"""Share of every sentence of a batch in what an image of sentence `i` is to be matched with.

    .. math::
        M_{ij} = \cos(l_i, l_j), \quad M'_{ij} = \max\Bigl(M_{ij} - \frac{1}{B} \sum_k M_{ik},\, 0\Bigr), \quad
        Y_{ij} = \rho \frac{e^{M'_{ij} / \tau}}{\sum_k e^{M'_{ik} / \tau}} + (1 - \rho) [i = j]

    The mean of a row, its own 1 included, is what all sentences of the batch have in common.

    Args:
        text: `(B, D)` sentence vectors :math:`l` of any norm; no gradient goes back to them.
        temperature: :math:`\tau` > 0.
        rho: :math:`\rho` in [0, 1], the share of the neighbourhood; 0 leaves the identity.

    Returns:
        `(B, B)`, float32 (float64 stays float64); every row adds up to 1.

    Raises:
        ValueError: if the shape, the temperature or rho is none of the above.

    Reference:
        C2Seg, section 3.2, equation 1 and the mixture below it.
    """
    if text.ndim != 2:
        raise ValueError(f"text must be (B, D), one vector per sentence, got {tuple(text.shape)}.")
    _check_settings(temperature, rho)
    text = at_least_float32(text).detach()
    identity = torch.eye(len(text), dtype=text.dtype, device=text.device)
    with torch.autocast(device_type=text.device.type, enabled=False):
        unit = F.normalize(text, dim=1)
        similarity = unit @ unit.T
        above_mean = (similarity - similarity.mean(dim=1, keepdim=True)).clamp(min=0)
        return rho * (above_mean / temperature).softmax(dim=1) + (1 - rho) * identity


def cluster_contrastive_loss(
    image: Tensor,
    text: Tensor,
    *,
    temperature: float = 0.07,
    rho: float = 0.8,
    has_text: Tensor | None = None,
    center_text: bool = False,
) -> Tensor:
    r"""Match the distribution of each image over the sentences, and back, with the sentences' own neighbourhoods.

    With the cosine similarities :math:`s_{ij}`, the targets :math:`Y` of `cluster_targets`, and the softmax
    of :math:`s / \tau` over the sentences, :math:`P^{v \to l}`, and over the images, :math:`P^{l \to v}`,

    .. math::
        -\frac{1}{B} \sum_{ij} \left( Y_{ij} \log P^{v \to l}_{ij} + Y_{ji} \log P^{l \to v}_{ij} \right), \quad
        \frac{\partial L}{\partial s_{ij}} = \frac{1}{B \tau}
        \left( P^{v \to l}_{ij} - Y_{ij} + P^{l \to v}_{ij} - Y_{ji} \right)

    With `rho` 0 this is HardCL: twice `symmetric_info_nce`, which takes the mean of the two directions. HardCL pushes
    every two cases with equal sentences apart, for its targets there are 0; CaCL only where their two probabilities
    exceed :math:`Y_{ij} + Y_{ji}`. This is so for each :math:`s_{ij}` alone: equal sentences have equal vectors, so
    the columns of `s` are equal too, and in the sum over them, which is what reaches an image vector, the pushes
    between exact duplicates cancel, in HardCL as well. What CaCL changes for the image vectors it changes through
    sentences that are alike but not equal.

    A case without a sentence takes no part, neither as a pair nor as a negative nor in a row's mean: no words are
    no meaning that images could share. No case at all costs 0, with a gradient of 0, and so does a single one.

    Args:
        image: `(B, D)` image vectors of any norm.
        text: `(B, D)`, likewise; row `i` belongs to row `i` of `image`.
        temperature: :math:`\tau` > 0, of the targets and of the probabilities.
        rho: in [0, 1], see `cluster_targets`.
        has_text: `(B,)` bool, False for a case without a sentence; None means all have one.
        center_text: whether `centred_sentences` stand for the sentences of the cases that take part.

    Returns:
        A scalar tensor, >= 0, in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the shapes do not fit each other, or the temperature or rho is out of range.

    Reference:
        C2Seg, section 3.2, equations 2 and 3.

    Differences from the paper:
        Equation 3 leaves out the 1/B of equation 2. Cases without a sentence, and centring, are ours.
    """
    check_pairs(image, text)
    _check_settings(temperature, rho)
    if has_text is not None:
        if has_text.shape != image.shape[:1]:
            raise ValueError(f"has_text must be ({len(image)},), one per image, got {tuple(has_text.shape)}.")
        chosen = has_text.to(image.device).bool()
        image, text = image[chosen], text[chosen]
    image = at_least_float32(image)
    text = at_least_float32(text).to(image.dtype)
    if not len(image):
        return image.sum() + text.sum()
    text = centred_sentences(text) if center_text else text
    targets = cluster_targets(text, temperature=temperature, rho=rho)
    with torch.autocast(device_type=image.device.type, enabled=False):
        scores = F.normalize(image, dim=1) @ F.normalize(text, dim=1).T / temperature
        return F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets)


class ClusterContrastiveObjective(nn.Module):
    """CaCL over the batch of all processes, as the one term ``contrast`` of a pretraining.

    Args:
        temperature: > 0.
        rho: share of the sentences' neighbourhood in the targets, in [0, 1]; 0 is hard contrastive learning.
        center_text: see `centred_sentences`; for text encoders that were not trained contrastively, as CLIP's was.

    Raises:
        ValueError: if the temperature or rho is out of range.

    Reference:
        C2Seg, sections 3.2 and 4.1: temperature 0.07, rho 0.8, batches of 256.
    """

    def __init__(self, *, temperature: float = 0.07, rho: float = 0.8, center_text: bool = False) -> None:
        super().__init__()
        _check_settings(temperature, rho)
        self.temperature = temperature
        self.rho = rho
        self.center_text = center_text

    def forward(
        self, outputs: Mapping[str, Any], batch: Mapping[str, Any], epoch: int = 0
    ) -> dict[str, Tensor]:
        """Compute the term of one batch; under `torch.distributed`, in every process.

        Args:
            outputs: ``image_vector`` and ``sentence_vector``, `(B, D)` each.
            batch: ``sentence``, one per image; a blank one is a case without a sentence.
            epoch: not read.

        Returns:
            ``contrast``, the loss of the global batch, the same in every process.

        Raises:
            ValueError: if an output is missing, a shape is another, or there is not one sentence per image.
        """
        image, text = _vector(outputs, "image_vector"), _vector(outputs, "sentence_vector")
        check_pairs(image, text)
        spoken = _present(batch["sentence"], like=image)
        if len(spoken) != len(image):
            raise ValueError(f"batch must hold {len(image)} sentences, one per image, got {len(spoken)}.")
        # image, text and the mask go around in one collective
        rows = torch.cat([image, text.to(image.dtype), spoken[:, None]], dim=1)
        image, text, spoken = gather_rows(rows).split([image.shape[1], text.shape[1], 1], dim=1)
        loss = cluster_contrastive_loss(
            image,
            text,
            temperature=self.temperature,
            rho=self.rho,
            has_text=spoken[:, 0] > 0,
            center_text=self.center_text,
        )
        return {"contrast": loss}

    def extra_repr(self) -> str:
        """Say the settings where the module is printed."""
        return f"temperature={self.temperature}, rho={self.rho}, center_text={self.center_text}"


def _present(sentences: Iterable[str | None], *, like: Tensor) -> Tensor:
    """1 for a sentence and 0 for a blank or missing one, `(B,)`, with the type and device of `like`."""
    present = [bool(sentence and sentence.strip()) for sentence in sentences]
    return torch.tensor(present, dtype=like.dtype, device=like.device)


def _vector(outputs: Mapping[str, Any], name: str) -> Tensor:
    if name not in outputs:
        raise ValueError(
            f"outputs must hold {name!r}, got the keys {sorted(outputs)}: contrastive pretraining needs a network "
            "that returns one vector per image and one per sentence."
        )
    return at_least_float32(outputs[name])


def _check_settings(temperature: float, rho: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}.")
    if not 0 <= rho <= 1:
        raise ValueError(f"rho must be in [0, 1], got {rho}.")

"""Contrastive losses between one vector per image and one per text."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import at_least_float32


def symmetric_info_nce(
    image: Tensor,
    text: Tensor,
    *,
    temperature: float = 0.07,
    groups: Sequence[Hashable] | Tensor | None = None,
) -> Tensor:
    r"""Cross-entropy of finding each image's text among the batch, and each text's image.

    With the cosine similarities :math:`s_{ij} = \cos(\text{image}_i, \text{text}_j) / \tau` and the targets
    :math:`p_{ij}`,

    .. math::
        -\frac{1}{2B} \sum_{ij} p_{ij} \left(
        \log\frac{e^{s_{ij}}}{\sum_k e^{s_{ik}}} + \log\frac{e^{s_{ij}}}{\sum_k e^{s_{kj}}} \right)

    Without groups, :math:`p` is the identity: every other text of the batch is a negative, one with the same words
    too. With groups, all pairs of a group are positives: :math:`p_{ij}` is uniform over the members of item
    `i`'s group and 0 elsewhere, and the loss then cannot fall below the mean, over the items, of the logarithm of
    their group's size. Negatives come from this batch alone, also where several processes train; a batch of one
    item costs 0.

    Args:
        image: `(B, D)` of any norm; it is normalised here.
        text: `(B, D)`, likewise; row `i` belongs to row `i` of `image`.
        temperature: :math:`\tau` > 0.
        groups: for each item something hashable, as its sentence, or an integer in a tensor `(B,)`; equal entries
            are one group.

    Returns:
        A scalar tensor, >= 0, in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the shapes differ, there is not one group for each item, or the temperature is not positive.

    Reference:
        van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018, equation 4 (InfoNCE);
        Radford et al., CLIP, ICML 2021, figure 3 (the symmetric form). SSA, section II-A, the global term.

    Differences from the paper:
        SSA does not name a temperature: 0.07 is what CLIP starts from, and here it is not learned. Groups are
        ours.
    """
    check_pairs(image, text)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}.")
    image = at_least_float32(image)
    text = at_least_float32(text).to(image.dtype)
    targets = _targets(len(image), groups, image)
    with torch.autocast(device_type=image.device.type, enabled=False):
        scores = F.normalize(image, dim=1) @ F.normalize(text, dim=1).T / temperature
        return (F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets)) / 2


def zone_affinity(bits: Tensor) -> Tensor:
    r"""Share of common zones of every two sentences of a batch, the Jaccard index of what they name.

    .. math:: A_{ij} = \frac{|y_i \cap y_j|}{|y_i \cup y_j|}, \quad A_{ii} = 1

    Two different sentences neither of which names a zone have nothing in common: 0.

    Args:
        bits: `(B, Z)` bool, True where sentence :math:`y_i` names a zone; of numbers, all but 0 are True.

    Returns:
        `(B, B)` float32 in [0, 1], symmetric.

    Raises:
        ValueError: if the shape is another.

    Reference:
        Semi-MedRef, section 2.4, the affinity above equation 9.
    """
    if bits.ndim != 2:
        raise ValueError(f"bits must be (B, Z), one row per sentence, got {tuple(bits.shape)}.")
    named = (bits != 0).float()
    with torch.autocast(device_type=named.device.type, enabled=False):
        common = named @ named.T
    count = named.sum(dim=1)
    union = count[:, None] + count[None, :] - common
    return (common / union.clamp(min=1)).fill_diagonal_(1.0)


def image_text_contrastive(
    image: Tensor, text: Tensor, affinity: Tensor | None = None, *, temperature: float = 0.07
) -> Tensor:
    r"""Match images and texts of a batch in both directions, each with as much of the others as they have in common.

    With :math:`s_{ij} = \cos(\text{image}_i, \text{text}_j) / \tau` and the affinities :math:`A`,

    .. math::
        -\frac{1}{2B} \sum_{ij} \left(
        \frac{A_{ij}}{\sum_k A_{ik}} \log\frac{e^{s_{ij}}}{\sum_k e^{s_{ik}}} +
        \frac{A_{ij}}{\sum_k A_{kj}} \log\frac{e^{s_{ij}}}{\sum_k e^{s_{kj}}} \right)

    With the identity, or without affinities, this is `symmetric_info_nce`, the loss of CLIP.

    Args:
        image: `(B, D)` of any norm; it is normalised here.
        text: `(B, D)`, likewise; row `i` belongs to row `i` of `image`.
        affinity: `(B, B)`, >= 0, of image `i` (row) and text `j` (column), every row and column with a sum above 0;
            see `zone_affinity`.
        temperature: :math:`\tau` > 0.

    Returns:
        A scalar tensor, >= 0, in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the shapes do not fit each other, the temperature is not positive, or, on a CPU, an affinity is
            negative or a row or column of them empty; on a GPU this would make it wait for the values.

    Reference:
        Semi-MedRef, section 2.4, equation 9 (ITCL).
    """
    if affinity is None:
        return symmetric_info_nce(image, text, temperature=temperature)
    check_pairs(image, text)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}.")
    _check_affinity(affinity, len(image))
    image = at_least_float32(image)
    text, affinity = at_least_float32(text).to(image.dtype), at_least_float32(affinity).to(image)
    with torch.autocast(device_type=image.device.type, enabled=False):
        scores = F.normalize(image, dim=1) @ F.normalize(text, dim=1).T / temperature
        to_text = affinity / affinity.sum(dim=1, keepdim=True)
        to_image = affinity.T / affinity.T.sum(dim=1, keepdim=True)
        return (F.cross_entropy(scores, to_text) + F.cross_entropy(scores.T, to_image)) / 2


def check_pairs(image: Tensor, text: Tensor) -> None:
    """Refuse image and text vectors that are not `(B, D)` both, with neither B nor D 0, by a ValueError."""
    if image.ndim != 2 or image.shape != text.shape or 0 in image.shape:
        raise ValueError(
            "image and text must have the same shape (B, D), neither of them 0, got "
            f"{tuple(image.shape)} and {tuple(text.shape)}; average tokens and project to one width first."
        )


def _targets(size: int, groups: Sequence[Hashable] | Tensor | None, like: Tensor) -> Tensor:
    """Share of each other item as the positive of an item: a symmetric matrix `(B, B)` whose rows add up to 1."""
    if groups is None:
        return torch.eye(size, dtype=like.dtype, device=like.device)
    if isinstance(groups, Tensor):
        given, numbers = tuple(groups.shape), groups.to(like.device)
    else:
        # equal entries get the number of the first of them
        known: dict[Hashable, int] = {}
        given = (len(groups),)
        numbers = torch.tensor([known.setdefault(group, len(known)) for group in groups], device=like.device)
    if given != (size,):
        raise ValueError(f"groups must hold one entry for each of the {size} items, got the shape {given}.")
    same = (numbers[:, None] == numbers[None, :]).to(like.dtype)
    return same / same.sum(dim=1, keepdim=True)


def _check_affinity(affinity: Tensor, size: int) -> None:
    if affinity.shape != (size, size):
        raise ValueError(
            f"affinity must be ({size}, {size}), one row per image and one column per text, got "
            f"{tuple(affinity.shape)}."
        )
    if affinity.device.type != "cpu":  # reading a value back would stall a GPU
        return
    if (
        not (affinity >= 0).all()
        or not (affinity.sum(dim=0) > 0).all()
        or not (affinity.sum(dim=1) > 0).all()
    ):
        raise ValueError(
            "affinity must be at least 0, with something above 0 in every row and column, got "
            f"{float(affinity.min()):g} as its least value: set its diagonal to 1."
        )

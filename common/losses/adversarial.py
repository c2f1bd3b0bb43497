"""Adversarial alignment of outputs: a discriminator says which domain a map of the network's doubt comes from."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import at_least_float32

SOURCE_LABEL = 0.0
TARGET_LABEL = 1.0


def entropy_map(logits: Tensor) -> Tensor:
    r"""Share of each class in a pixel's entropy, :math:`-p_c \log_2 p_c / \log_2 C`.

    The sum over the classes is the entropy of the softmax :math:`p`, 1 where all classes are as probable. Finite,
    with a finite gradient, for any logits.

    Args:
        logits: `(B, C, H, W)`, C >= 2.

    Returns:
        `(B, C, H, W)`, >= 0, in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the shape is another.

    Reference:
        Vu et al., "ADVENT: adversarial entropy minimization for domain adaptation", 2019, section 3.2; TCSA-UDA.
    """
    logits = _checked(logits)
    with torch.autocast(device_type=logits.device.type, enabled=False):
        log_probability = logits.log_softmax(dim=1)
        return -(log_probability.exp() * log_probability) / math.log(logits.shape[1])


def probability_map(logits: Tensor) -> Tensor:
    """Softmax over the classes: what the discriminators of the warm-up look at.

    Args:
        logits: `(B, C, H, W)`, C >= 2.

    Returns:
        `(B, C, H, W)`, in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the shape is another.

    Reference:
        Tsai et al., "Learning to adapt structured output space for semantic segmentation", 2018.
    """
    return _checked(logits).softmax(dim=1)


def fool_loss(target_logits: Tensor) -> Tensor:
    r"""What the network pays for target maps that the discriminator knows as such.

    Binary cross-entropy against the source's label, 0: its gradient lowers the logits.

    Args:
        target_logits: logits of the discriminator for maps of the target, any shape; it is to have no gradient of its
            own from here, see `nn.Module.requires_grad_`.

    Returns:
        A scalar tensor, >= 0, in float32 (float64 stays float64), also under autocast.

    Reference:
        TCSA-UDA; ADVENT, equation 7.
    """
    return _against(target_logits, SOURCE_LABEL)


def discriminator_loss(source_logits: Tensor, target_logits: Tensor) -> Tensor:
    """What the discriminator pays: binary cross-entropy against 0 on the source and 1 on the target, half of each.

    Args:
        source_logits: logits of the discriminator for maps of the source, any shape. The maps are to be detached,
            so that the network learns nothing here.
        target_logits: likewise, of the target.

    Returns:
        A scalar tensor, >= 0, in float32 (float64 stays float64), also under autocast.

    Reference:
        TCSA-UDA; ADVENT, equation 6.
    """
    return (_against(source_logits, SOURCE_LABEL) + _against(target_logits, TARGET_LABEL)) / 2


def _against(logits: Tensor, label: float) -> Tensor:
    logits = at_least_float32(logits)
    with torch.autocast(device_type=logits.device.type, enabled=False):
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _checked(logits: Tensor) -> Tensor:
    if logits.ndim != 4 or logits.shape[1] < 2:
        raise ValueError(f"logits must be (B, C, H, W) of at least 2 classes, got {tuple(logits.shape)}.")
    return at_least_float32(logits)

"""The losses of BiCLIP: what the pseudo image looks like, the way back to the text, and two views that agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import masked_image
from .precision import at_least_float32
from .segmentation import SegmentationObjective

CYCLE_NORMS = ("l1", "l2")
STOP_GRADIENTS = ("none", "strong")


def generator_loss(pseudo: Tensor, target: Tensor) -> Tensor:
    r"""Mean absolute difference of a pseudo image and what it is to look like, :math:`L_{gen}`.

    Args:
        pseudo: `(B, C, H, W)` in [0, 1].
        target: likewise, see `common.layers.masked_image`; no gradient goes back to it.

    Returns:
        A scalar tensor in [0, 1], in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the shapes differ.

    Reference:
        BiCLIP, section 2.2, overall loss function; EF-UNet.
    """
    pseudo, target = _pair("pseudo", pseudo, "pseudo_target", target)
    return (pseudo - target.detach()).abs().mean()


def cycle_loss(text: Tensor, returned: Tensor, *, norm: str = "l1") -> Tensor:
    r"""Distance of a text vector and what is read of it from its pseudo image, :math:`L_{cycle}`.

    The mean over cases and channels of :math:`|t - \hat t|` ("l1") or :math:`(t - \hat t)^2` ("l2").

    Args:
        text: `(B, d)`, :math:`t`, before the image refined it; no gradient goes back to it.
        returned: `(B, d)`, :math:`\hat t`.
        norm: "l1" or "l2".

    Returns:
        A scalar tensor, >= 0, in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the norm is unknown or the shapes differ.

    Reference:
        BiCLIP, section 2.1, equation 2.

    Differences from the paper:
        It prints the squared norm, a sum over the channels; its code takes the mean absolute difference and stops
        the gradient at :math:`t`, which is the default here. The stop holds for both: without it the text vector
        could shrink towards whatever is read.
    """
    if norm not in CYCLE_NORMS:
        raise ValueError(f"cycle_norm must be one of {', '.join(CYCLE_NORMS)}, got {norm!r}.")
    text, returned = _pair("text_vector", text, "text_vector_from_image", returned)
    difference = text.detach() - returned
    return difference.abs().mean() if norm == "l1" else difference.square().mean()


def augmentation_consistency_loss(weak: Tensor, strong: Tensor, *, stop_gradient: str = "strong") -> Tensor:
    r"""Cosine distance of the vectors of two views of the same images, :math:`L_{IAC}`.

    .. math:: 1 - \frac{p_w^T p_s}{\|p_w\| \|p_s\|}, \text{ the mean over the cases}

    Args:
        weak: `(B, D)`, :math:`p_w`.
        strong: `(B, D)`, :math:`p_s`.
        stop_gradient: "strong", no gradient goes back to `strong`; or "none".

    Returns:
        A scalar tensor in [0, 2], in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if `stop_gradient` is unknown or the shapes differ.

    Reference:
        BiCLIP, section 2.2, equation 6.

    Differences from the paper:
        It states no stop of the gradient; its code has the one that is the default here.
    """
    if stop_gradient not in STOP_GRADIENTS:
        raise ValueError(f"stop_gradient must be one of {', '.join(STOP_GRADIENTS)}, got {stop_gradient!r}.")
    weak, strong = _pair("weak_vector", weak, "strong_vector", strong)
    strong = strong.detach() if stop_gradient == "strong" else strong
    with torch.autocast(device_type=weak.device.type, enabled=False):
        return 1 - F.cosine_similarity(weak, strong, dim=1).mean()


class BiCLIPObjective(nn.Module):
    r"""Segmentation, generator, consistency and cycle, as named and weighted terms whose sum is the loss.

    .. math:: L_{seg} + \lambda_{gen} L_{gen} + \lambda_{IAC} L_{IAC} + \lambda_{cycle} L_{cycle}

    A term whose outputs the network does not return is left out: what takes part are the switches of
    `FusionTraining`. A weight of 0 leaves the term there, so that the gradients of all parameters exist.

    Args:
        kind: of the segmentation loss, see `SegmentationObjective`.
        generator: :math:`\lambda_{gen}`, >= 0.
        iac: :math:`\lambda_{IAC}`, >= 0.
        cycle: :math:`\lambda_{cycle}`, >= 0.
        cycle_norm: "l1" or "l2", see `cycle_loss`.
        stop_gradient: "strong" or "none", see `augmentation_consistency_loss`; as `FusionTraining` was given.

    Raises:
        ValueError: if an argument is not one of the above.

    Reference:
        BiCLIP, section 2.2, equation 8. EF-UNet is the first two terms.

    Differences from the paper:
        It does not print the weights; those are of its code.
    """

    def __init__(
        self,
        kind: str = "dice_bce",
        *,
        generator: float = 0.1,
        iac: float = 0.05,
        cycle: float = 0.07,
        cycle_norm: str = "l1",
        stop_gradient: str = "strong",
    ) -> None:
        super().__init__()
        if cycle_norm not in CYCLE_NORMS:
            raise ValueError(f"cycle_norm must be one of {', '.join(CYCLE_NORMS)}, got {cycle_norm!r}.")
        if stop_gradient not in STOP_GRADIENTS:
            raise ValueError(
                f"stop_gradient must be one of {', '.join(STOP_GRADIENTS)}, got {stop_gradient!r}."
            )
        self.segmentation = SegmentationObjective(kind)
        self.weights = {"generator": generator, "iac": iac, "cycle": cycle}
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {weight}.")
        self.cycle_norm = cycle_norm
        self.stop_gradient = stop_gradient

    def forward(
        self, outputs: Mapping[str, Any], batch: Mapping[str, Any], epoch: int = 0
    ) -> dict[str, Tensor]:
        """Compute the terms of one batch.

        Args:
            outputs: as `FusionTraining` returns them; or as `EFUNet` itself does in training, without ``label`` and
                ``pseudo_target``, which then come from the batch.
            batch: ``label`` `(B, K, H, W)` and ``image`` `(B, C, H, W)` in [0, 1]; read where the outputs lack them.
            epoch: the running epoch; this objective is the same in every one.

        Returns:
            The weighted terms by name: those of the segmentation loss, ``generator``, ``iac`` and ``cycle``.

        Raises:
            ValueError: if ``logits`` are missing, shapes disagree, or the strong view was made without the gradient
                that `stop_gradient` "none" asks for.
        """
        label = outputs["label"] if "label" in outputs else batch.get("label")
        terms = dict(self.segmentation(outputs, {} if label is None else {"label": label}, epoch))
        if "pseudo" in outputs:
            terms["generator"] = generator_loss(outputs["pseudo"], self._target(outputs, batch))
        if "strong_vector" in outputs:
            terms["iac"] = self._consistency(outputs["weak_vector"], outputs["strong_vector"])
        if "text_vector_from_image" in outputs:
            vectors = (outputs["text_vector"], outputs["text_vector_from_image"])
            terms["cycle"] = cycle_loss(*vectors, norm=self.cycle_norm)
        return {name: self.weights.get(name, 1.0) * term for name, term in terms.items()}

    def _target(self, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> Tensor:
        if "pseudo_target" in outputs:
            return outputs["pseudo_target"]
        return masked_image(at_least_float32(batch["image"]), at_least_float32(batch["label"]))

    def _consistency(self, weak: Tensor, strong: Tensor) -> Tensor:
        if self.stop_gradient == "none" and weak.requires_grad and not strong.requires_grad:
            raise ValueError(
                "stop_gradient must be the same in objective and FusionTraining, got 'none' and a strong view "
                "without a gradient: set it to 'none' in both"
            )
        return augmentation_consistency_loss(weak, strong, stop_gradient=self.stop_gradient)

    def extra_repr(self) -> str:
        """Say the settings where the module is printed."""
        weights = ", ".join(f"{name}={weight:g}" for name, weight in self.weights.items())
        return f"{weights}, cycle_norm={self.cycle_norm!r}, stop_gradient={self.stop_gradient!r}"


def _pair(name: str, tensor: Tensor, other_name: str, other: Tensor) -> tuple[Tensor, Tensor]:
    """Check that two tensors have one shape, and return them at the precision of losses."""
    if tensor.shape != other.shape:
        raise ValueError(
            f"{name} and {other_name} must have the same shape, got {tuple(tensor.shape)} and "
            f"{tuple(other.shape)}."
        )
    tensor, other = at_least_float32(tensor), at_least_float32(other)
    return tensor, other.to(tensor)

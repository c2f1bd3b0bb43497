"""Segmentation losses on logits: soft Dice, binary cross-entropy, and their weighted objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

OBJECTIVE_TERMS: dict[str, tuple[str, ...]] = {"dice_bce": ("dice", "bce"), "dice_only": ("dice",)}


def dice_loss(logits: Tensor, target: Tensor, *, smooth: float = 1e-5) -> Tensor:
    r"""Soft Dice loss of the sigmoid probabilities, averaged over batch and channels.

    For each sample and channel, with :math:`p = \sigma(\text{logits})`, sums over the pixels,

    .. math:: 1 - \frac{2 \sum p\,y + \epsilon}{\sum p + \sum y + \epsilon}

    which is MONAI's ``DiceLoss(sigmoid=True)``: an empty target with an empty prediction costs 0. Computed in
    float32 (float64 stays float64), also under autocast.

    Args:
        logits: `(B, C, *spatial)`, any real numbers.
        target: `(B, C, *spatial)`, values in [0, 1].
        smooth: the epsilon of both the numerator and the denominator, > 0.

    Returns:
        A scalar tensor in [0, 1].

    Raises:
        ValueError: if the two shapes differ or there is no spatial dimension.

    Reference:
        Milletari et al., V-Net, 3DV 2016, section 3.

    Differences from the paper:
        The denominator sums the probabilities, not their squares.
    """
    logits, target = _prepare(logits, target)
    with torch.autocast(device_type=logits.device.type, enabled=False):
        return DiceLoss(sigmoid=True, smooth_nr=smooth, smooth_dr=smooth)(logits, target)


def bce_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of the logits, averaged over every pixel.

    Args:
        logits: `(B, C, *spatial)`, any real numbers.
        target: `(B, C, *spatial)`, values in [0, 1].

    Returns:
        A scalar tensor, >= 0, in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the two shapes differ or there is no spatial dimension.
    """
    logits, target = _prepare(logits, target)
    with torch.autocast(device_type=logits.device.type, enabled=False):
        return F.binary_cross_entropy_with_logits(logits, target)


class SegmentationObjective(nn.Module):
    r"""The supervised objective as named, already weighted terms whose sum is the loss.

    ``dice_bce`` has the terms ``dice`` and ``bce``; ``dice_only`` has ``dice`` alone. The published numbers
    of GuideDecoder, MMI-UNet and Semi-MedRef were trained with what amounts to ``dice_only``: their
    ``DiceCELoss`` took the cross-entropy of a softmax over one channel, which is constantly zero.

    Logits at several scales (deep supervision: a sequence under ``logits``, full resolution first, or further
    tensors under ``deep_logits``) are each compared with the target resized to their size (nearest). Scale
    `k` has the weight :math:`2^{-k}`, normalised to a sum of one: the terms keep their names and magnitude.

    Args:
        kind: ``"dice_bce"`` or ``"dice_only"``.
        weights: factor of each term by name, >= 0; a term that is not named has the factor 1.
        smooth: the epsilon of `dice_loss`, > 0.

    Raises:
        ValueError: if the kind is unknown, a weight names another term or is negative.
    """

    def __init__(
        self,
        kind: str = "dice_bce",
        *,
        weights: Mapping[str, float] | None = None,
        smooth: float = 1e-5,
    ) -> None:
        super().__init__()
        if kind not in OBJECTIVE_TERMS:
            raise ValueError(f"kind must be one of {sorted(OBJECTIVE_TERMS)}, got {kind!r}.")
        if not smooth > 0:
            raise ValueError(f"smooth must be positive, got {smooth}.")
        self.kind = kind
        self.smooth = float(smooth)
        self.weights = _checked_weights(OBJECTIVE_TERMS[kind], weights)

    def forward(
        self, outputs: Mapping[str, Any] | Tensor, batch: Mapping[str, Any], epoch: int = 0
    ) -> dict[str, Tensor]:
        """Compute the terms of one batch.

        Args:
            outputs: the network's logits `(B, C, *spatial)`, or a mapping with ``logits`` (a tensor or a
                sequence of tensors, full resolution first) and perhaps ``deep_logits``.
            batch: mapping with ``label`` `(B, C, *spatial)`, values in [0, 1].
            epoch: the running epoch; this objective is the same in every one.

        Returns:
            The weighted terms by name; their sum is the loss.

        Raises:
            ValueError: if ``logits`` or ``label`` is missing, or their shapes disagree.
        """
        scales = _logits_by_scale(outputs)
        if "label" not in batch:
            raise ValueError(f"batch must hold 'label', got the keys {sorted(map(str, batch))}.")
        target = batch["label"]
        shares = [0.5**k for k in range(len(scales))]
        terms: dict[str, Tensor] = {}
        for k, (logits, share) in enumerate(zip(scales, shares, strict=True)):
            scaled_target = target if k == 0 else _resize_target(target, logits)
            for name in OBJECTIVE_TERMS[self.kind]:
                term = self._term(name, logits, scaled_target) * (self.weights[name] * share / sum(shares))
                terms[name] = terms[name] + term if name in terms else term
        return terms

    def _term(self, name: str, logits: Tensor, target: Tensor) -> Tensor:
        if name == "dice":
            return dice_loss(logits, target, smooth=self.smooth)
        return bce_loss(logits, target)

    def extra_repr(self) -> str:
        """Say kind, weights and epsilon where the module is printed."""
        return f"kind={self.kind!r}, weights={self.weights}, smooth={self.smooth:g}"


def _prepare(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check the shapes and return plain tensors of one floating type."""
    if logits.ndim < 3:
        raise ValueError(f"logits must have shape (B, C, *spatial), got {tuple(logits.shape)}.")
    if logits.shape != target.shape:
        raise ValueError(
            f"logits and target must have the same shape, got {tuple(logits.shape)} and "
            f"{tuple(target.shape)}; resize the label to the network's output."
        )
    logits, target = _plain(logits), _plain(target)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.to(dtype), target.to(device=logits.device, dtype=dtype)


def _plain(tensor: Tensor) -> Tensor:
    """Drop the metadata: a loss has no use for it, and every operation on a MetaTensor costs time."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def _logits_by_scale(outputs: Mapping[str, Any] | Tensor) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    if "logits" not in outputs:
        raise ValueError(f"outputs must hold 'logits', got the keys {sorted(map(str, outputs))}.")
    logits = outputs["logits"]
    scales = [logits] if isinstance(logits, Tensor) else list(logits)
    deeper: Sequence[Tensor] = outputs.get("deep_logits") or ()
    if not scales:
        raise ValueError("outputs['logits'] must be a tensor or a sequence of at least one tensor, got none.")
    return [*scales, *deeper]


def _resize_target(target: Tensor, logits: Tensor) -> Tensor:
    if target.shape[2:] == logits.shape[2:]:
        return target
    return F.interpolate(_plain(target).to(torch.float32), size=logits.shape[2:], mode="nearest-exact")


def _checked_weights(terms: Sequence[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    given = dict(weights or {})
    unknown = sorted(set(given) - set(terms))
    if unknown:
        raise ValueError(f"weights must name terms of this objective {list(terms)}, got {unknown}.")
    checked = {name: float(given.get(name, 1.0)) for name in terms}
    if not all(0 <= value < float("inf") for value in checked.values()):
        raise ValueError(f"weights must be finite and not negative, got {checked}.")
    return checked

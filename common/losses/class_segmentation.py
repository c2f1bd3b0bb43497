"""Segmentation losses of several exclusive classes: cross-entropy weighted by rarity, and soft Dice of a softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from .precision import at_least_float32

TERMS = ("ce", "dice")


def rarity_weights(label: Tensor, classes: int) -> Tensor:
    r"""Return the weight of every class, the larger the rarer it is: :math:`w_c = 1 - (n_c + 1) / N`.

    Args:
        label: `(B, 1, *spatial)`, integers in [0, `classes`).
        classes: background included, >= 2.

    Returns:
        `(classes,)` in (0, 1), float32; :math:`n_c` of :math:`N` pixels are of class c.

    Reference:
        TCSA-UDA, its code for the segmentation loss.

    Differences from the paper:
        A class that fills all pixels has a weight of 1/N there with a negative sign, here with a positive one; the
        mean that is weighted by it is the same.
    """
    counts = torch.bincount(label.flatten().long(), minlength=classes).float()
    return (1 - (counts + 1) / label.numel()).clamp_min(1 / label.numel())


def balanced_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of a softmax, as a mean over pixels weighted by `rarity_weights` of the batch.

    Args:
        logits: `(B, classes, *spatial)`, any real numbers.
        label: `(B, 1, *spatial)`, integers in [0, classes).

    Returns:
        A scalar tensor, >= 0, in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the shapes disagree or the label holds something else.

    Reference:
        TCSA-UDA, its code for the segmentation loss.
    """
    logits, label = _prepare(logits, label)
    weights = rarity_weights(label, logits.shape[1]).to(logits)
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits, label[:, 0], weight=weights)


def softmax_dice_loss(logits: Tensor, label: Tensor, *, smooth: float = 1e-5) -> Tensor:
    r"""Soft Dice loss of a softmax with squares in the denominator, averaged over classes, background included.

    With :math:`p` the probability and :math:`y` the label of a class, sums over the pixels of the batch,

    .. math:: 1 - \frac{2 \sum p\,y + \epsilon}{\sum p^2 + \sum y^2 + \epsilon}

    Args:
        logits: `(B, classes, *spatial)`, any real numbers.
        label: `(B, 1, *spatial)`, integers in [0, classes).
        smooth: the epsilon, > 0.

    Returns:
        A scalar tensor in [0, 1], in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the shapes disagree or the label holds something else.

    Reference:
        TCSA-UDA, its code for the segmentation loss; Milletari et al., V-Net, 3DV 2016, section 3.
    """
    logits, label = _prepare(logits, label)
    dice = DiceLoss(
        softmax=True, to_onehot_y=True, squared_pred=True, batch=True, smooth_nr=smooth, smooth_dr=smooth
    )
    with torch.autocast(logits.device.type, enabled=False):
        return dice(logits, label)


class ClassSegmentationObjective(nn.Module):
    """Cross-entropy and Dice of a network's prediction, and with a small weight those of its auxiliary one.

    Predictions that are smaller than the label are enlarged to it first, as at inference.

    Args:
        weights: factor of the terms ``ce`` and ``dice`` by name, >= 0; one that is not named has the factor 1.
        aux_weight: factor of the auxiliary prediction's terms, >= 0; 0: it is not looked at.

    Raises:
        ValueError: if a weight names another term, or one is negative or not finite.

    Reference:
        TCSA-UDA, its code for the segmentation loss: 1 and .1.
    """

    def __init__(self, *, weights: Mapping[str, float] | None = None, aux_weight: float = 0.1) -> None:
        super().__init__()
        given = dict(weights or {})
        unknown = sorted(set(given) - set(TERMS))
        if unknown:
            raise ValueError(f"weights must name terms of this objective {list(TERMS)}, got {unknown}")
        self.weights = {name: float(given.get(name, 1.0)) for name in TERMS}
        self.aux_weight = float(aux_weight)
        if not all(0 <= value < float("inf") for value in (*self.weights.values(), self.aux_weight)):
            raise ValueError(
                f"weights and aux_weight must be finite and not negative, got {self.weights} and {aux_weight}"
            )

    def forward(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], epoch: int = 0
    ) -> dict[str, Tensor]:
        """Compute the terms of one batch.

        Args:
            outputs: ``logits`` and, unless its weight is 0, ``aux_logits``, `(B, classes, h, w)` each.
            batch: ``label`` `(B, 1, H, W)`, integers in [0, classes).
            epoch: the running epoch; this objective is the same in every one.

        Returns:
            The weighted terms ``ce``, ``dice``, ``aux_ce`` and ``aux_dice``; their sum is the loss.

        Raises:
            ValueError: if an output or the label is missing, or their shapes disagree.
        """
        if "label" not in batch:
            raise ValueError(f"batch must hold 'label', got the keys {sorted(map(str, batch))}")
        predictions = {"": ("logits", 1.0), "aux_": ("aux_logits", self.aux_weight)}
        terms: dict[str, Tensor] = {}
        for prefix, (name, factor) in predictions.items():
            if not factor:
                continue
            if name not in outputs:
                raise ValueError(f"outputs must hold {name!r}, got the keys {sorted(map(str, outputs))}")
            logits = enlarged(outputs[name], batch["label"])
            for term, loss in zip(TERMS, (balanced_cross_entropy, softmax_dice_loss), strict=True):
                terms[f"{prefix}{term}"] = loss(logits, batch["label"]) * (self.weights[term] * factor)
        return terms


def enlarged(logits: Tensor, label: Tensor) -> Tensor:
    """Return logits at the size of a label, bilinear with aligned corners.

    Args:
        logits: `(B, classes, h, w)`.
        label: `(B, 1, H, W)`.
    """
    if logits.shape[2:] == label.shape[2:]:
        return logits
    return F.interpolate(at_least_float32(logits), size=label.shape[2:], mode="bilinear", align_corners=True)


def _prepare(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Check the shapes and the label's values, and return plain tensors."""
    if label.ndim != logits.ndim or label.shape[1] != 1 or label.shape[2:] != logits.shape[2:]:
        raise ValueError(
            "label must have the shape (B, 1, *spatial) of logits (B, classes, *spatial), got "
            f"{tuple(label.shape)} and {tuple(logits.shape)}"
        )
    logits, label = at_least_float32(logits), at_least_float32(label)
    classes = logits.shape[1]
    whole = label.long()
    if not (bool((whole == label).all()) and int(whole.min()) >= 0 and int(whole.max()) < classes):
        raise ValueError(
            f"label must hold whole numbers from 0 to {classes - 1}, got {float(label.min()):g} to "
            f"{float(label.max()):g}: check the class list of the data set against num_classes"
        )
    return logits, whole

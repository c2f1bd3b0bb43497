"""Mean feature of each class, in one batch of all processes and remembered over batches."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor, nn
from torch.nn import functional as F

from .gathering import gather_rows
from .precision import at_least_float32

IGNORED = -1  # label of a pixel that belongs to no class


def confident_labels(probability: Tensor, *, confidence: float | None = None) -> Tensor:
    """Name the most probable class of each pixel, where it is probable enough.

    Args:
        probability: `(B, C, H, W)`, of which every pixel adds up to 1; no gradient goes back to it.
        confidence: smallest probability, in [0, 1], that a pixel's class must have; None takes every pixel.

    Returns:
        `(B, H, W)` int64: classes 0 to C - 1, or `IGNORED`.

    Raises:
        ValueError: if the shape or the confidence is none of the above.
    """
    check_confidence(confidence)
    if probability.ndim != 4:
        raise ValueError(f"probability must be (B, C, H, W), got {tuple(probability.shape)}.")
    highest, labels = _plain(probability).detach().max(dim=1)
    return labels if confidence is None else labels.masked_fill(highest < confidence, IGNORED)


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    r"""Average the features of the pixels of each class; under `torch.distributed`, of all processes together.

    .. math:: f_c = \frac{1}{n_c} \sum_{i: y_i = c} F_i

    Every process gets the same means, and the gradients of `gather_rows`: the mean over the processes that
    `DistributedDataParallel` takes is the gradient of the global batch.

    Args:
        features: `(B, D, h, w)`.
        labels: `(B, H, W)` or `(B, 1, H, W)`, whole numbers from 0 to `num_classes` - 1, or below 0 for pixels that
            do not count; resized to `(h, w)` (nearest).
        num_classes: C.

    Returns:
        Means `(C, D)`, float32 (float64 stays float64), 0 for a class without a pixel; and the number of pixels
        `(C,)` in the same type, without gradient.

    Raises:
        ValueError: if a shape does not fit or a label is too large.
    """
    if features.ndim != 4:
        raise ValueError(f"features must be (B, D, h, w), got {tuple(features.shape)}.")
    features = at_least_float32(features)
    numbers = _labels_at(labels, features, num_classes)
    with torch.autocast(device_type=features.device.type, enabled=False):
        rows = features.movedim(1, -1).flatten(0, 2)  # (B h w, D)
        # a column of its own for the ignored, which is cut off
        members = F.one_hot(numbers + 1, num_classes + 1)[:, 1:].to(rows.dtype)
        totals = torch.cat([members.T @ rows, members.sum(dim=0)[:, None]], dim=1)
        # (processes x C, D + 1) -> (C, D + 1)
        totals = gather_rows(totals).unflatten(0, (-1, num_classes)).sum(dim=0)
        counts = totals[:, -1].detach()
        return totals[:, :-1] / counts.clamp(min=1)[:, None], counts


class ClassBank(nn.Module):
    r"""The mean feature of each class, remembered from batch to batch.

    A class of the batch becomes :math:`p_c = g\,m_c + (1 - g) f_c`, at its first visit :math:`f_c`, and is kept:
    :math:`m_c \leftarrow p_c`. One that the batch lacks stays :math:`m_c`. The gradient goes to the features of the
    batch, through :math:`f_c`; what is remembered has none. The bank changes in training mode alone. Its buffers
    belong to the state of a training; they are the same in all processes.

    Args:
        num_classes: C.
        channels: D of the features.
        momentum: :math:`g` in [0, 1), the share of what is remembered.

    Attributes:
        means: buffer `(C, D)`, :math:`m`.
        seen: buffer `(C,)` bool, the classes that there was a pixel of.

    Raises:
        ValueError: if a number is out of range.
    """

    means: Tensor
    seen: Tensor

    def __init__(self, num_classes: int, channels: int, *, momentum: float) -> None:
        super().__init__()
        if num_classes < 2 or channels < 1:
            raise ValueError(
                f"a bank must have at least 2 classes, the background one of them, and 1 channel, got {num_classes} "
                f"and {channels}."
            )
        if not 0 <= momentum < 1:
            raise ValueError(
                f"momentum must be in [0, 1), got {momentum}: it is the share of what is remembered."
            )
        self.momentum = momentum
        self.register_buffer("means", torch.zeros(num_classes, channels))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    def forward(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch into what is remembered; under `torch.distributed`, in every process.

        Args:
            features: `(B, D, h, w)`.
            labels: see `class_means`.

        Returns:
            :math:`p` `(C, D)`, 0 for a class never seen, and the classes that were `(C,)` bool.

        Raises:
            ValueError: see `class_means`; if the features have other channels than the bank.
        """
        num_classes, channels = self.means.shape
        if features.ndim == 4 and features.shape[1] != channels:
            raise ValueError(
                f"features must have the {channels} channels that the bank was built for, got {features.shape[1]}."
            )
        current, counts = class_means(features, labels, num_classes)
        present = counts > 0
        known = self.seen.to(present.device, copy=True)
        remembered = self.means.to(current, copy=True)
        share = self.momentum * (known & present).to(current.dtype)[:, None]
        mixed = torch.where(present[:, None], share * remembered + (1 - share) * current, remembered)
        if self.training:
            self.means.copy_(mixed.detach())
            self.seen.copy_(known | present)
        return mixed, known | present

    def extra_repr(self) -> str:
        """Say the settings where the module is printed."""
        num_classes, channels = self.means.shape
        return f"num_classes={num_classes}, channels={channels}, momentum={self.momentum:g}"


def check_confidence(confidence: float | None) -> None:
    """Refuse a confidence that is neither None nor in [0, 1].

    Raises:
        ValueError: then.
    """
    if confidence is not None and not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be None (every pixel) or in [0, 1], got {confidence}.")


def _labels_at(labels: Tensor, features: Tensor, num_classes: int) -> Tensor:
    """The labels `(B h w,)` of the pixels of the features, -1 for the ignored."""
    labels = _plain(labels).detach().to(features.device)
    labels = labels[:, None] if labels.ndim == 3 else labels
    if labels.ndim != 4 or labels.shape[1] != 1 or len(labels) != len(features):
        raise ValueError(
            f"labels must be ({len(features)}, H, W) or ({len(features)}, 1, H, W), class numbers of each image of the "
            f"features, got {tuple(labels.shape)}."
        )
    if labels.device.type == "cpu" and labels.numel() and labels.max() >= num_classes:
        # elsewhere reading a value back would wait for the device
        raise ValueError(f"labels must be below {num_classes}, the number of classes, got {labels.max():g}.")
    if labels.shape[2:] != features.shape[2:]:
        labels = F.interpolate(labels.float(), size=features.shape[2:], mode="nearest-exact")
    return labels.long().flatten().clamp(min=IGNORED)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor

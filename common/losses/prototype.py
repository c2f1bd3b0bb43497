"""Prototype alignment: each class has the same mean feature in both domains."""

from __future__ import annotations

from torch import Tensor, nn

from .class_means import ClassBank, check_confidence, confident_labels
from .precision import at_least_float32


def prototype_loss(source: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
    r"""Sum over the classes of the mean squared difference of two prototypes.

    .. math:: L = \sum_c \frac{1}{D} \|p^s_c - p^t_c\|^2

    Args:
        source: `(C, D)`, :math:`p^s`.
        target: `(C, D)`, :math:`p^t`.
        known: `(C,)` bool, the classes that have both prototypes; None means all.

    Returns:
        A scalar tensor, >= 0, in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the shapes differ.

    Reference:
        TCSA-UDA (arXiv 2511.05782), prototype alignment; SE-ASA.
    """
    if source.ndim != 2 or source.shape != target.shape:
        raise ValueError(
            f"source and target must have the same shape (C, D), got {tuple(source.shape)} and {tuple(target.shape)}."
        )
    if known is not None and known.shape != source.shape[:1]:
        raise ValueError(f"known must be ({len(source)},), one per class, got {tuple(known.shape)}.")
    distances = (at_least_float32(source) - at_least_float32(target)).square().mean(dim=1)
    return (distances if known is None else distances * known).sum()


class PrototypeAlignment(nn.Module):
    r"""`prototype_loss` of the class means of both domains, the target's by its own predictions.

    A prototype is nearly the batch's mean: what is remembered has the share `momentum`, and stands in for a class
    that the batch lacks, without a gradient. A class counts from when both domains have had a pixel of it.

    Args:
        classes: C, the background one of them, >= 2.
        dim: D of the features.
        momentum: share of what is remembered, in [0, 1).
        confidence: smallest probability of a target's pixel for it to count, in [0, 1]; None counts all.

    Attributes:
        source: `ClassBank` of the source; part of the state of a training.
        target: likewise.

    Raises:
        ValueError: if a number is out of range.

    Reference:
        TCSA-UDA, prototype alignment; SE-ASA, which its code follows: momentum 0.01, no confidence.

    Differences from the paper:
        The confidence is ours. The authors' code starts from the class means of one pass over the source; here a
        class starts at its first batch, which with a momentum of 0.01 is nearly the same. The mean is over the
        pixels of the global batch.
    """

    def __init__(
        self, classes: int, dim: int, *, momentum: float = 0.01, confidence: float | None = None
    ) -> None:
        super().__init__()
        check_confidence(confidence)
        self.confidence = confidence
        self.source = ClassBank(classes, dim, momentum=momentum)
        self.target = ClassBank(classes, dim, momentum=momentum)

    def forward(
        self,
        source_features: Tensor,
        source_label: Tensor,
        target_features: Tensor,
        target_probability: Tensor,
    ) -> Tensor:
        """Compute the loss of one batch; under `torch.distributed`, in every process.

        Args:
            source_features: `(B, D, h, w)`; the gradient goes here and to `target_features`.
            source_label: `(B, H, W)` or `(B, 1, H, W)` class numbers, below 0 for pixels that do not count.
            target_features: `(B', D, h', w')`.
            target_probability: `(B', C, H', W')`, of which every pixel adds up to 1; no gradient goes back to it.

        Returns:
            A scalar tensor, the same in every process; 0 until a class was seen in both domains.

        Raises:
            ValueError: if a shape does not fit or a label is too large.
        """
        pseudo = confident_labels(target_probability, confidence=self.confidence)
        source, seen = self.source(source_features, source_label)
        target, guessed = self.target(target_features, pseudo)
        return prototype_loss(source, target, seen & guessed)

    def extra_repr(self) -> str:
        """Say the settings where the module is printed."""
        return f"confidence={self.confidence}"

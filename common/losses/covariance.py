"""The vision-language covariance cosine loss: classes lie to each other as their descriptions do."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .class_means import ClassBank
from .precision import at_least_float32

TEXT_DOMAINS = ("source", "mean", "own")

_LEAST = 1e-12
_LEAST_NORM = 1e-4  # of the largest number: a shorter vector has no direction to speak of


def class_covariance(vectors: Tensor, *, valid: Tensor | None = None, center: bool = True) -> Tensor:
    r"""Products of all pairs of classes.

    With `center`, :math:`S = X_c X_c^T` of the vectors less their mean over the classes: a shift that all classes
    share, and a rotation, change nothing. Without, :math:`S = P P^T` of the vectors scaled to the length 1, their
    cosines.

    Args:
        vectors: `(C, D)`, one per class.
        valid: `(C,)` bool, the classes that count; None counts all.
        center: see above.

    Returns:
        `(C, C)`, float32 (float64 stays float64), up to a positive factor; rows and columns of classes that do not
        count are 0.

    Raises:
        ValueError: if a shape does not fit.
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors must be (C, D), one per class, got {tuple(vectors.shape)}.")
    if valid is not None and valid.shape != vectors.shape[:1]:
        raise ValueError(f"valid must be ({len(vectors)},), one per class, got {tuple(valid.shape)}.")
    vectors = at_least_float32(vectors)
    counted = torch.ones_like(vectors[:, :1]) if valid is None else valid[:, None].to(vectors)
    with torch.autocast(device_type=vectors.device.type, enabled=False):
        # the loss does not see the scale, and squares of squares would leave the range of the type
        vectors = vectors * counted
        vectors = vectors / vectors.detach().abs().amax().clamp(min=_LEAST)
        if center:
            vectors = vectors - vectors.sum(dim=0) / counted.sum().clamp(min=1)
        else:
            vectors = F.normalize(vectors, dim=1, eps=_LEAST_NORM)
        vectors = vectors * counted
        return vectors @ vectors.T


def covariance_cosine_loss(
    means: Tensor, text: Tensor, *, valid: Tensor | None = None, center: bool = True
) -> Tensor:
    r"""One minus the cosine of the classes' covariance and that of their descriptions.

    .. math:: L = 1 - \frac{\langle S_p, S_t \rangle}{\|S_p\| \|S_t\|}

    with :math:`S` of `class_covariance`. It compares how classes lie to each other, `C x C` numbers, so that image
    and text need no common space: it is 0 where one covariance is a multiple of the other. With `center` it is one
    minus the linear centred kernel alignment, and of two classes always 0: what two points have is one distance,
    whose scale the cosine takes away.

    Args:
        means: `(C, D)` mean feature of each class; the gradient goes here.
        text: `(C, E)` description of each class, of any norm.
        valid: `(C,)` bool, the classes that count; None counts all. With fewer than two the loss is 0.
        center: see `class_covariance`.

    Returns:
        A scalar tensor in [0, 2], in [0, 1] with `center`, in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if the shapes do not fit.

    Reference:
        TCSA-UDA (arXiv 2511.05782), vision-language covariance cosine loss; CoPT, covariance-based pixel-text loss.
    """
    if text.ndim != 2 or text.shape[:1] != means.shape[:1]:
        raise ValueError(
            f"text must be ({len(means)}, E), one description per class of the means, got {tuple(text.shape)}."
        )
    image_side = class_covariance(means, valid=valid, center=center)
    text_side = class_covariance(text.to(means.device), valid=valid, center=center).to(image_side.dtype)
    lengths = torch.linalg.vector_norm(image_side) * torch.linalg.vector_norm(text_side)
    loss = 1 - (image_side * text_side).sum() / lengths.clamp(min=_LEAST)
    counted = len(means) if valid is None else valid.sum()
    return loss * (torch.as_tensor(counted, device=loss.device) >= 2)


def domain_text(embeddings: Tensor, *, source: int, own: int, text_domain: str = "source") -> Tensor:
    """Choose the descriptions that the features of a domain are compared with.

    Args:
        embeddings: `(M, C, E)`, of each modality and class.
        source: index of the source's modality.
        own: index of the modality of the domain that the features are of.
        text_domain: "source", in the source's modality for both domains; "own", each in its own; or "mean", the mean
            over all modalities.

    Returns:
        `(C, E)`.

    Raises:
        ValueError: if the shape, an index or the choice is none of the above.

    Reference:
        TCSA-UDA compares both domains with the source's descriptions.
    """
    if text_domain not in TEXT_DOMAINS:
        raise ValueError(f"text_domain must be one of {', '.join(TEXT_DOMAINS)}, got {text_domain!r}.")
    if embeddings.ndim != 3:
        raise ValueError(f"embeddings must be (modalities, classes, size), got {tuple(embeddings.shape)}.")
    if not all(0 <= index < len(embeddings) for index in (source, own)):
        raise ValueError(f"source and own must be in [0, {len(embeddings)}), got {source} and {own}.")
    if text_domain == "mean":
        return embeddings.mean(dim=0)
    return embeddings[source if text_domain == "source" else own]


class VisionLanguageCovariance(nn.Module):
    r"""`covariance_cosine_loss` of the class means of a batch, mixed with those of the batches before.

    Give each domain a module of its own: what it remembers is of one domain. On the target `labels` are
    pseudo-labels, see `confident_labels`. Classes that the batch lacks count as they are remembered, once there was
    a pixel of them.

    Args:
        classes: C, the background one of them, >= 2; >= 3 with `center`.
        dim: D of the features.
        momentum: share of what is remembered, in [0, 1); 0.5 (MR to CT) and 0.9 (CT to MR) are the authors'.
        center: see `class_covariance`.

    Attributes:
        bank: the `ClassBank`; part of the state of a training.

    Raises:
        ValueError: if a number is out of range.

    Reference:
        TCSA-UDA, section on the vision-language covariance cosine loss; CoPT.

    Differences from the paper:
        The authors' published byte code detaches the bank and then reads the bank alone, so that nothing reaches the
        features; here the batch's own means are in the mixture with their gradient, as in CoPT. They compute it per
        image, here it is per global batch, where more classes meet. The authors scale rows to the length 1 without
        centring, which is `center=False`; the centred form is the default, for a direction that all classes share
        (such as what a modality adds to all of its descriptions) is nothing that tells classes apart. CoPT centres
        each vector over its channels; here it is each channel over the classes, which alone makes the loss
        independent of rotation and of a common shift of the features.
    """

    def __init__(self, classes: int, dim: int, *, momentum: float = 0.5, center: bool = True) -> None:
        super().__init__()
        if center and classes == 2:
            raise ValueError(
                "center must be False with 2 classes, got True: the centred covariance of two classes is always "
                "the same, and the loss always 0."
            )
        self.center = center
        self.bank = ClassBank(classes, dim, momentum=momentum)

    def forward(self, features: Tensor, labels: Tensor, text: Tensor) -> Tensor:
        """Compute the loss of one batch; under `torch.distributed`, in every process.

        Args:
            features: `(B, D, h, w)`.
            labels: `(B, H, W)` or `(B, 1, H, W)` class numbers, below 0 for pixels that do not count; see
                `class_means`.
            text: `(C, E)` description of each class, see `domain_text`. Frozen descriptions keep the features from
                meeting them halfway.

        Returns:
            A scalar tensor, the same in every process; 0 until two classes were seen.

        Raises:
            ValueError: if a shape does not fit or a label is too large.
        """
        means, seen = self.bank(features, labels)
        return covariance_cosine_loss(means, text, valid=seen, center=self.center)

    def extra_repr(self) -> str:
        """Say the settings where the module is printed."""
        return f"center={self.center}"

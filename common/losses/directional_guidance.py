"""Composite directional guidance of SSA: what a sentence says about place, drawn as a target for the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..text import read_findings
from ..text.zones import LATERALITIES
from .directional_prior import directional_prior

PRIOR_FRAMES = ("box", "image")


class GuidanceMaps(NamedTuple):
    """The three maps of a batch, each `(B, 1, H, W)` in float32, values in [0, 1].

    Attributes:
        attention: where the text looks, in units of the most in every image.
        prior: the Gaussians of the named zones, 0 outside the box.
        guide: `attention * prior`.
    """

    attention: Tensor
    prior: Tensor
    guide: Tensor


def normalised_attention(attention: Tensor, text_mask: Tensor, size: Sequence[int]) -> Tensor:
    """Average the attention of the text over heads and real tokens, in units of the highest value of each image.

    Args:
        attention: `(B, heads, L, h, w)`, the weight of each pixel for each token, >= 0.
        text_mask: `(B, L)` bool, True where a token is real; a row without one averages all.
        size: rows H and columns W of the result; the map is resized bilinearly.

    Returns:
        `(B, 1, H, W)` in float32, values in [0, 1], the highest of each image 1. Attention that is almost the same
        everywhere stays almost 1 everywhere: differences of no weight are not stretched to a pattern.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if attention.ndim != 5 or text_mask.shape != (attention.shape[0], attention.shape[2]):
        raise ValueError(
            f"attention must be (B, heads, L, h, w) and text_mask (B, L), got {tuple(attention.shape)} and "
            f"{tuple(text_mask.shape)}."
        )
    weights = (text_mask | ~text_mask.any(dim=1, keepdim=True)).float()
    heads_mean = attention.float().mean(dim=1)
    # (B, L, h, w) -> (B, 1, h, w)
    mean = torch.einsum("bl,blhw->bhw", weights / weights.sum(dim=1, keepdim=True), heads_mean)[:, None]
    mean = F.interpolate(mean, size=tuple(size), mode="bilinear", align_corners=False)
    return mean / mean.amax(dim=(2, 3), keepdim=True).clamp_min(torch.finfo(mean.dtype).tiny)


def attention_boxes(attention: Tensor, *, threshold: float = 0.5, minimum_area: float = 0.01) -> Tensor:
    """Tight box around everything that reaches a threshold.

    Args:
        attention: `(B, 1, H, W)`.
        threshold: a pixel with this value or more belongs to the box.
        minimum_area: a box of less than this fraction of the image becomes the whole image.

    Returns:
        `(B, 4)` int64: first row, last row + 1, first column, last column + 1.
    """
    inside = attention[:, 0] >= threshold
    height, width = inside.shape[1:]
    rows, columns = _extent(inside.any(dim=2)), _extent(inside.any(dim=1))
    area = (rows[:, 1] - rows[:, 0]) * (columns[:, 1] - columns[:, 0])
    whole = torch.tensor([0, height, 0, width], device=attention.device)
    small = area < minimum_area * height * width
    return torch.where(small[:, None], whole, torch.cat([rows, columns], dim=1))


class DirectionalGuidance(nn.Module):
    r"""Composite directional guidance: a loss that draws the prediction to where the sentence points.

    The guide is :math:`M = A \odot G` (eq. 3): the normalised attention of the text times the prior in the box
    of the attention. With the probabilities :math:`P`, the refined target
    :math:`R = P\,(1 - \beta + \beta M / \max M)` is held fixed and the loss is
    :math:`\text{BCE}(P, R)` (eq. 4).

    Args:
        laterality: what the sentences call left, "image" or "patient".
        prior_frame: "box" (the paper: zones are parts of the attention's box) or "image" (of the whole image,
            without a box: safer where attention covers one lung).
        strength: how far the guide changes the target, in [0, 1].
        threshold: attention from which a pixel belongs to the box, in [0, 1].
        minimum_area: fraction of the image under which the box becomes the whole image, in [0, 1].

    Raises:
        ValueError: if an argument is not one of the above.

    Reference:
        Liao et al., SSA, section II.B, eq. 3 and 4.

    Differences from the paper:
        It gives no source of the attention, threshold, rule of refinement or value; all are ours. A sentence
        that denies findings has no direction: the prior is flat.
    """

    def __init__(
        self,
        *,
        laterality: str = "image",
        prior_frame: str = "box",
        strength: float = 0.5,
        threshold: float = 0.5,
        minimum_area: float = 0.01,
    ) -> None:
        super().__init__()
        if laterality not in LATERALITIES:
            raise ValueError(f"laterality must be 'image' or 'patient', got {laterality!r}.")
        if prior_frame not in PRIOR_FRAMES:
            raise ValueError(f"prior_frame must be 'box' or 'image', got {prior_frame!r}.")
        fractions = {"strength": strength, "threshold": threshold, "minimum_area": minimum_area}
        for name, value in fractions.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value}.")
        self.laterality = laterality
        self.prior_frame = prior_frame
        self.strength = strength
        self.threshold = threshold
        self.minimum_area = minimum_area

    @torch.no_grad()
    def maps(
        self, attention: Tensor, text_mask: Tensor, sentences: Sequence[str | None], size: Sequence[int]
    ) -> GuidanceMaps:
        """Draw attention, prior and guide, for the loss and for pictures.

        Args:
            attention: `(B, heads, L, h, w)`, the weight of each pixel for each token.
            text_mask: `(B, L)` bool, True where a token is real.
            sentences: one per image, in the laterality of this object; None and "" say nothing.
            size: rows H and columns W of the maps.

        Returns:
            The maps, without gradient.

        Raises:
            ValueError: if there is not one sentence per image.
        """
        if len(sentences) != attention.shape[0]:
            raise ValueError(
                f"sentences must be one per image, got {len(sentences)} for {attention.shape[0]} images."
            )
        with torch.autocast(device_type=attention.device.type, enabled=False):
            looks = normalised_attention(attention, text_mask, size)
            boxes = attention_boxes(looks, threshold=self.threshold, minimum_area=self.minimum_area)
            if self.prior_frame == "image":
                boxes = boxes.new_tensor([0, size[0], 0, size[1]]).expand_as(boxes)
            findings = [read_findings(sentence) for sentence in sentences]
            prior = directional_prior(findings, size, laterality=self.laterality, boxes=boxes)
            return GuidanceMaps(looks, prior, looks * prior)

    def forward(
        self, logits: Tensor, attention: Tensor, text_mask: Tensor, sentences: Sequence[str | None]
    ) -> Tensor:
        """Compare the prediction with its refined target.

        Args:
            logits: `(B, C, H, W)`.
            attention: `(B, heads, L, h, w)`.
            text_mask: `(B, L)` bool.
            sentences: one per image.

        Returns:
            A scalar, >= 0, in float32. Its gradient reaches the logits alone.
        """
        guide = self.maps(attention, text_mask, sentences, logits.shape[2:]).guide
        with torch.autocast(device_type=logits.device.type, enabled=False):
            logits = logits.float()
            return F.binary_cross_entropy_with_logits(logits, refined_target(logits, guide, self.strength))

    def extra_repr(self) -> str:
        """Say the settings where the module is printed."""
        return f"laterality={self.laterality!r}, prior_frame={self.prior_frame!r}, strength={self.strength}"


def refined_target(logits: Tensor, guide: Tensor, strength: float = 0.5) -> Tensor:
    r"""Fuse the prediction with the guide: :math:`P\,(1 - \beta + \beta M / \max M)`, without gradient.

    Args:
        logits: `(B, C, H, W)`.
        guide: `(B, 1, H, W)`, >= 0; where it is 0 everywhere the prediction is its own target.
        strength: :math:`\beta` in [0, 1].

    Returns:
        `(B, C, H, W)`, values in [0, 1].
    """
    highest = guide.amax(dim=(2, 3), keepdim=True)
    relative = torch.where(highest > 0, guide / highest.clamp_min(torch.finfo(guide.dtype).tiny), 1.0)
    return (logits.sigmoid() * (1 - strength + strength * relative)).detach()


def _extent(occupied: Tensor) -> Tensor:
    """First and last + 1 True of every row, `(B, length)` -> `(B, 2)`; 0 and 0 where there is none."""
    positions = torch.arange(1, occupied.shape[1] + 1, device=occupied.device) * occupied
    end = positions.amax(dim=1)
    first = occupied.int().argmax(dim=1)
    return torch.stack([first, end], dim=1)

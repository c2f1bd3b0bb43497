"""Bidirectional complementary attention (BCAM) and dual attention (DualA): fusion of a feature map with words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .attention import usable_keys

Projection = Callable[[int, int], nn.Module]
RESCALES = ("none", "P")


def vision_path(scores: Tensor, language_value: Tensor, token_mask: Tensor | None = None) -> Tensor:
    r"""Give every pixel the words that it looks at: :math:`F_v = \text{softmax}_N(A) \, L_{value}`.

    Args:
        scores: A, `(B, P, N)`.
        language_value: `(B, N, C)`.
        token_mask: `(B, N)` bool, True where a token is real; None means all. A row without any counts all.

    Returns:
        `(B, P, C)`.

    Reference:
        C2Seg, section 3.3, equation 5.
    """
    if token_mask is not None:
        scores = scores.masked_fill(~usable_keys(token_mask)[:, None, :], torch.finfo(scores.dtype).min)
    return _softmax(scores, dim=2).to(language_value.dtype) @ language_value


def language_path(
    scores: Tensor, visual_value: Tensor, token_mask: Tensor | None = None, *, rescale: str = "P"
) -> Tensor:
    r"""Weigh every pixel by how much the words look at it.

    .. math::
        F_l = \Bigl(\frac{1}{N} \sum_n \text{softmax}_P(A^\top)_n\Bigr) \odot V_{value}

    The sum over the words does not depend on the channel, so it is one map, taken before the product with the
    values: nothing of size P N C is made.

    Args:
        scores: A, `(B, P, N)`.
        visual_value: `(B, P, C)`.
        token_mask: `(B, N)` bool, True where a token is real; the mean is over these. None means all; a row without
            any gives 0.
        rescale: ``"P"`` multiplies by the number of pixels, so that a word that looks everywhere alike leaves the
            values as they are; ``"none"`` is the paper's, of the order 1 / P.

    Returns:
        `(B, P, C)`.

    Reference:
        C2Seg, section 3.3, equation 6.

    Differences from the paper:
        Its softmax over P pixels makes this path vanish beside the other where P is large: `rescale` is ours, and so
        is the mask of padding.
    """
    weights = _softmax(scores, dim=1)  # (B, P, N), over the pixels
    if token_mask is None:
        pixels = weights.mean(dim=2)
    else:
        real = token_mask.to(weights.dtype)
        # unlike a matrix product, this stays in float32 under autocast, as weights of the order 1 / P need
        pixels = (weights * (real / real.sum(dim=1, keepdim=True).clamp(min=1))[:, None, :]).sum(dim=2)
    if rescale == "P":
        pixels = pixels * scores.shape[1]
    return pixels.to(visual_value.dtype)[:, :, None] * visual_value


def _softmax(scores: Tensor, *, dim: int) -> Tensor:
    """Softmax in at least float32: 1 / P is too small for float16 where there are many pixels."""
    return scores.softmax(dim=dim, dtype=torch.promote_types(scores.dtype, torch.float32))


class KGate(nn.Module):
    r"""Weigh every feature by a factor in (-1, 1) that its pixel's features decide.

    .. math::
        F \odot \tanh(p_2(\text{ReLU}(p_1(F))))

    Args:
        channels: C.
        projection: makes :math:`p_1` and :math:`p_2`, maps of the last axis: KAN layers in the paper, linear ones
            for its MLP.

    Reference:
        C2Seg, section 3.4, equation 7.
    """

    def __init__(self, channels: int, *, projection: Projection) -> None:
        super().__init__()
        self.first = projection(channels, channels)
        self.second = projection(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Gate `(B, P, C)` features."""
        return features * torch.tanh(self.second(torch.relu(self.first(features))))


class _Fusion(nn.Module, ABC):
    """What BCAM and DualA share: projections, scores, gates, the mixing convolution and the residual.

    Args:
        channels: C of the feature map and of the tokens.
        projection: makes each of the four maps to keys and values, as ``KANLinear`` or ``nn.Linear``:
            called with the numbers of input and output features, it returns a map of the last axis.
        gate: the same for the two layers of each path's `KGate`; None: no gates.

    Raises:
        ValueError: if there is no channel.
    """

    def __init__(self, channels: int, *, projection: Projection, gate: Projection | None = None) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.channels = channels
        self.visual_key = projection(channels, channels)
        self.visual_value = projection(channels, channels)
        self.language_key = projection(channels, channels)
        self.language_value = projection(channels, channels)
        self.first_gate = nn.Identity() if gate is None else KGate(channels, projection=gate)
        self.second_gate = nn.Identity() if gate is None else KGate(channels, projection=gate)
        self.mix = nn.Linear(2 * channels, channels)  # a 1 x 1 convolution of pixels as tokens

    def forward(self, visual: Tensor, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Add to a feature map what it and the words make of each other.

        Args:
            visual: `(B, C, H, W)`.
            tokens: `(B, N, C)`, words of the same width.
            token_mask: `(B, N)` bool, True where a token is real; None means all. A case without a real token
                keeps its feature map as it is.

        Returns:
            `(B, C, H, W)`.

        Raises:
            ValueError: if the shapes do not fit each other.
        """
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
            self._check(visual, tokens, token_mask)
        pixels = visual.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, P, C)
        first, second = self._paths(pixels, tokens, token_mask)
        fused = self.mix(torch.cat([self.first_gate(first), self.second_gate(second)], dim=2))
        if token_mask is not None:
            fused = fused * token_mask.any(dim=1).to(fused.dtype)[:, None, None]
        return visual + fused.transpose(1, 2).unflatten(2, visual.shape[2:])

    def text_attention(self, visual: Tensor, tokens: Tensor) -> Tensor:
        """Say where each word looks: `(B, C, H, W)` and `(B, N, C)` to `(B, N, H, W)`, each map adding up to 1."""
        key = self.visual_key(visual.flatten(2).transpose(1, 2))
        return _softmax(self._scores(key, tokens), dim=1).transpose(1, 2).unflatten(2, visual.shape[2:])

    @abstractmethod
    def _paths(self, pixels: Tensor, tokens: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The two streams of features that are fused, `(B, P, C)` each."""

    def _scores(self, visual_key: Tensor, tokens: Tensor) -> Tensor:
        # (B, P, C) and (B, N, C) -> A: (B, P, N)
        key = self.language_key(tokens) * self.channels**-0.5
        return visual_key @ key.transpose(1, 2)

    def _check(self, visual: Tensor, tokens: Tensor, token_mask: Tensor | None) -> None:
        if visual.ndim != 4 or visual.shape[1] != self.channels:
            raise ValueError(f"visual must be (B, {self.channels}, H, W), got {tuple(visual.shape)}")
        if tokens.ndim != 3 or (len(tokens), tokens.shape[2]) != (len(visual), self.channels):
            raise ValueError(f"tokens must be ({len(visual)}, N, {self.channels}), got {tuple(tokens.shape)}")
        if token_mask is not None and (token_mask.shape, token_mask.dtype) != (tokens.shape[:2], torch.bool):
            raise ValueError(
                f"token_mask must be bool {tuple(tokens.shape[:2])}, "
                f"got {token_mask.dtype} {tuple(token_mask.shape)}"
            )


class BidirectionalComplementaryAttention(_Fusion):
    r"""BCAM: one path in which pixels look at words, one in which words look at pixels, both on the pixel grid.

    With :math:`A = V_{key} L_{key}^\top / \sqrt{C}`, `vision_path` and `language_path` give :math:`F_v` and
    :math:`F_l`; each passes its `KGate`, both are concatenated and mixed by a 1 x 1 convolution, and the result is
    added to the feature map. Memory grows as P N + P C.

    Args:
        channels: C of the feature map and of the tokens.
        projection: makes each of the four maps to keys and values, as ``KANLinear`` or ``nn.Linear``: called with
            the numbers of input and output features, it returns a map of the last axis.
        gate: the same for the two layers of each path's `KGate`; None: no gates.
        fl_rescale: ``"P"`` or ``"none"``, see `language_path`.

    Raises:
        ValueError: if there is no channel or `fl_rescale` is unknown.

    Reference:
        C2Seg, sections 3.3 and 3.4, equations 4 to 7.

    Differences from the paper:
        The residual, the mask of padding, one head of width C, and `fl_rescale` are ours.
    """

    def __init__(
        self,
        channels: int,
        *,
        projection: Projection,
        gate: Projection | None = None,
        fl_rescale: str = "P",
    ) -> None:
        super().__init__(channels, projection=projection, gate=gate)
        if fl_rescale not in RESCALES:
            raise ValueError(f"fl_rescale must be one of {', '.join(RESCALES)}, got {fl_rescale!r}")
        self.fl_rescale = fl_rescale

    def _paths(self, pixels: Tensor, tokens: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        scores = self._scores(self.visual_key(pixels), tokens)
        vision = vision_path(scores, self.language_value(tokens), token_mask)
        return vision, language_path(scores, self.visual_value(pixels), token_mask, rescale=self.fl_rescale)


class DualAttention(_Fusion):
    r"""DualA, the ablation of BCAM: words look at pixels too, but reach the decoder only through pixels.

    The tokens are updated, :math:`L' = L + \text{softmax}_P(A^\top) V_{value}`, and the pixels look at the words
    before and after: the two streams are :math:`F_v` of L and :math:`F_v` of L', with the same projections. The rest
    is as in `BidirectionalComplementaryAttention`, with as many parameters.

    Args:
        channels: C of the feature map and of the tokens.
        projection: makes each of the four maps to keys and values.
        gate: the same for the two layers of each stream's `KGate`; None: no gates, as in the paper's ablation.

    Raises:
        ValueError: if there is no channel.

    Reference:
        C2Seg, section 3.3 (first paragraph), table 3 (b).

    Differences from the paper:
        It describes DualA in words alone: shared projections, the residual of the tokens and the concatenation of
        both streams are ours.
    """

    def _paths(self, pixels: Tensor, tokens: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        key, value = self.visual_key(pixels), self.visual_value(pixels)
        scores = self._scores(key, tokens)
        before = vision_path(scores, self.language_value(tokens), token_mask)
        updated = tokens + _softmax(scores, dim=1).to(value.dtype).transpose(1, 2) @ value
        after = vision_path(self._scores(key, updated), self.language_value(updated), token_mask)
        return before, after

"""A segmentation head whose first convolution is written for each image, from its own summary and the classes' text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .scaling import scale_channels


def dynamic_pointwise(features: Tensor, parameters: Tensor) -> Tensor:
    r"""Apply to every image a 1 x 1 convolution of its own.

    Args:
        features: `(B, C, h, w)`.
        parameters: `(B, K * (C + 1))`: for each of K outputs its C weights, and after all weights the K biases.

    Returns:
        `(B, K, h, w)`.

    Raises:
        ValueError: if there is not one row per image, or its length is no multiple of C + 1.
    """
    channels = features.shape[1]
    fits = parameters.shape[0] == features.shape[0] and parameters.shape[1] % (channels + 1) == 0
    if not (fits or torch.jit.is_tracing()):
        raise ValueError(
            f"parameters must be ({features.shape[0]}, K * {channels + 1}), weights and biases of each image, got "
            f"{tuple(parameters.shape)}."
        )
    outputs = parameters.shape[1] // (channels + 1)
    weight, bias = parameters.split([outputs * channels, outputs], dim=1)
    mixed = torch.baddbmm(bias[:, :, None], weight.unflatten(1, (outputs, channels)), features.flatten(2))
    return mixed.unflatten(2, features.shape[2:])


class DynamicHead(nn.Module):
    """Logits of features by a convolution that image and class descriptions together determine.

    A summary of the deepest features (group norm, ReLU, mean, 1 x 1) is joined with the description of each class;
    what comes of it attends to the summary, goes through an MLP, and its mean over the classes becomes the weights
    and biases of a 1 x 1 convolution, applied to the features; two fixed ones make logits of that.

    Args:
        num_classes: C, of the descriptions and of the logits.
        feature_channels: of the features.
        deep_channels: of the deepest features, a multiple of 8.
        embedding_size: E of the descriptions.
        width: factor on the channels 256, 512, 128 and 64 inside.

    Attributes:
        text: maps descriptions `(..., E)` to `(..., text_channels)`.
        text_channels: 256 at width 1.

    Reference:
        TCSA-UDA's code; the controller is that of CLIP-Driven Universal Model.

    Differences from the paper:
        The attention has a single key, the image's summary, whose weight is therefore 1: projections of queries and
        keys have neither effect nor gradient and are left out (0.39 M), as is a second attention that the published
        code builds and does not call (0.53 M). In the code nothing steps the head's own optimiser; here it is part
        of `parameters()` like the rest.
    """

    def __init__(
        self,
        num_classes: int,
        feature_channels: int,
        deep_channels: int,
        *,
        embedding_size: int = 512,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        inner, wide, dynamic, last = (scale_channels(count, width) for count in (256, 512, 128, 64))
        self.text_channels = inner
        self.summary = nn.Sequential(
            nn.GroupNorm(8, deep_channels),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(deep_channels, inner, kernel_size=1),
            nn.Flatten(),
        )
        self.text = nn.Sequential(nn.Linear(embedding_size, inner), nn.ReLU(inplace=True))
        self.join = nn.Sequential(nn.Linear(2 * inner, inner), nn.ReLU(inplace=True))
        self.attention = nn.Sequential(
            nn.Linear(inner, 3 * inner),
            nn.ReLU(inplace=True),
            nn.Linear(3 * inner, inner),
            nn.ReLU(inplace=True),
        )
        self.attention_norm = nn.LayerNorm(inner)
        self.mlp = nn.Sequential(nn.Linear(inner, wide), nn.ReLU(inplace=True), nn.Linear(wide, inner))
        self.mlp_norm = nn.LayerNorm(inner)
        self.controller = nn.Sequential(
            nn.Linear(inner, wide), nn.ReLU(inplace=True), nn.Linear(wide, dynamic * (feature_channels + 1))
        )
        self.classify = nn.Sequential(
            nn.Conv2d(dynamic, last, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(last, num_classes, kernel_size=1),
        )

    def forward(self, features: Tensor, deep: Tensor, descriptions: Tensor) -> Tensor:
        """Compute logits.

        Args:
            features: `(B, feature_channels, h, w)`.
            deep: `(B, deep_channels, h, w)`.
            descriptions: `(B, C, E)`, of each image's modality.

        Returns:
            `(B, num_classes, h, w)`.
        """
        return self.classify(dynamic_pointwise(features, self.controller(self.context(deep, descriptions))))

    def context(self, deep: Tensor, descriptions: Tensor) -> Tensor:
        """Return what the convolution is written from, `(B, text_channels)`.

        Args:
            deep: as in `forward`.
            descriptions: as in `forward`.
        """
        summary = self.summary(deep)[:, None]  # (B, 1, inner)
        words = self.text(descriptions)
        tokens = self.join(torch.cat([words, summary.expand_as(words)], dim=2))  # (B, C, inner)
        tokens = self.attention_norm(tokens + self.attention(summary))
        return self.mlp_norm(tokens + self.mlp(tokens)).mean(dim=1)

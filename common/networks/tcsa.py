"""TCSA-UDA's network: DeepLabV2 with dense features and a head that the classes' descriptions condition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import DynamicHead, scale_channels
from ..text.prompt_embeddings import class_embeddings
from .checks import check_image
from .deeplab import RESNET101_DEPTHS, AtrousPyramid, DilatedResNet

CHAIN = (1024, 512, 256, 128, 256)


class TCSA(nn.Module):
    """Segment an image of one of several modalities; what each class is called in each modality is part of the network.

    The descriptions of the classes are a buffer, `class_embeddings`, saved with the weights, so that nothing that
    encodes text is needed after the training. They start as the random directions of
    `common.text.prompt_embeddings.class_embeddings`; `set_class_embeddings` puts others in their place before a
    training.

    Args:
        classes: names, "background" first; their number is that of the channels of the logits.
        modalities: of "ct", "mr", "flair" and "t2", those the network is for.
        modality: that of images whose modality is not said; None or "" is the first of `modalities`.
        in_channels: channels of the image.
        width: factor on all channel counts; 1 is the paper.
        depths: blocks of each stage of the ResNet; the default is ResNet-101.
        output_stride: pixels of the image per pixel of the features, 8 or 4.
        embedding_size: numbers of a description, 512 for CLIP and BiomedCLIP.
        auxiliary: whether training outputs hold logits of the third stage.
        convention: how pixels are scaled, see `DilatedResNet`.
        freeze_norm: see `DilatedResNet`.
        pretrained: ResNet weights, see `DilatedResNet.load_pretrained`.

    Attributes:
        num_classes: channels of the logits.
        feature_channels: of `features`, 256 at width 1.
        prototype_channels: of `prototype_features`, 2048 at width 1.

    Raises:
        ValueError: if an argument is none of the above.

    Reference:
        TCSA-UDA (arXiv 2511.05782) and its code.

    Differences from the paper:
        Both domains go through the network in one batch, so that batch norm sees both together; every part is
        trained; and what `DynamicHead` says.
    """

    class_embeddings: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        modalities: Sequence[str] = ("mr", "ct"),
        *,
        modality: str | None = None,
        in_channels: int = 3,
        width: float = 1.0,
        depths: Sequence[int] = RESNET101_DEPTHS,
        output_stride: int = 8,
        embedding_size: int = 512,
        auxiliary: bool = True,
        convention: str = "plain",
        freeze_norm: bool = False,
        pretrained: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        # refuses names that it cannot describe
        self.register_buffer("class_embeddings", class_embeddings(classes, modalities, size=embedding_size))
        self.classes, self.modalities = tuple(classes), tuple(modalities)
        self.modality = modality or self.modalities[0]
        self.modality_index(self.modality)
        self.in_channels = in_channels
        self.num_classes = len(self.classes)
        self.encoder = DilatedResNet(
            in_channels,
            depths=depths,
            width=width,
            output_stride=output_stride,
            convention=convention,
            freeze_norm=freeze_norm,
            pretrained=pretrained,
        )
        middle, deep = self.encoder.channels
        channels = [deep, *(scale_channels(count, width) for count in CHAIN)]
        self.feature_channels, self.prototype_channels = channels[-1], deep
        self.projection = nn.Sequential(*map(_convolution, channels[:-1], channels[1:]))
        self.head = DynamicHead(
            self.num_classes, channels[-1], deep, embedding_size=embedding_size, width=width
        )
        self.auxiliary = AtrousPyramid(middle, self.num_classes) if auxiliary else None

    def set_class_embeddings(self, embeddings: Tensor) -> TCSA:
        """Take other descriptions of the classes, before a training.

        Args:
            embeddings: `(modalities, classes, embedding_size)`, see `common.text.prompt_embeddings.class_embeddings`.

        Returns:
            The network itself, so that a configuration can go on with it.

        Raises:
            ValueError: if the shape is another.
        """
        if embeddings.shape != self.class_embeddings.shape:
            raise ValueError(
                f"embeddings must be {tuple(self.class_embeddings.shape)}, modalities x classes x embedding_size, got "
                f"{tuple(embeddings.shape)}: make them of the network's classes and modalities, and set its "
                "embedding_size to theirs"
            )
        self.class_embeddings.copy_(embeddings)
        return self

    def load_pretrained(self, path: str | PathLike[str]) -> None:
        """Start the encoder from ResNet weights, see `DilatedResNet.load_pretrained`."""
        self.encoder.load_pretrained(path)

    def modality_index(self, modality: str) -> int:
        """Return the place of a modality in `class_embeddings`.

        Raises:
            ValueError: if the network was not built for it.
        """
        if modality not in self.modalities:
            raise ValueError(f"modality must be one of {', '.join(self.modalities)}, got {modality!r}")
        return self.modalities.index(modality)

    def parameter_groups(self, learning_rate: float, *, head_factor: float = 10.0) -> list[dict[str, Any]]:
        """Return parameter groups for an optimiser: a higher rate for all that does not start from pretrained weights.

        Args:
            learning_rate: of the encoder, > 0.
            head_factor: how many times that rate the rest has, > 0.

        Returns:
            The encoder's group, then that of the rest; parameters that are not trained are in neither.

        Raises:
            ValueError: if a number is not positive and finite.
        """
        for name, value in (("learning_rate", learning_rate), ("head_factor", head_factor)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        trained = {key: weight for key, weight in self.named_parameters() if weight.requires_grad}
        encoder = [weight for key, weight in trained.items() if key.startswith("encoder.")]
        rest = [weight for key, weight in trained.items() if not key.startswith("encoder.")]
        return [
            {"params": encoder, "lr": learning_rate},
            {"params": rest, "lr": head_factor * learning_rate},
        ]

    def forward(
        self,
        image: Tensor,
        text: Tensor | None = None,
        *,
        modality: str | Sequence[str] | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """Segment.

        Args:
            image: `(B, in_channels, H, W)`, about [-1, 1], H and W multiples of 32.
            text: ignored, the descriptions are inside.
            modality: of all images, or one for each; None or "" is the network's.

        Returns:
            In evaluation, logits `(B, classes, H, W)`. In training, a dict with `logits`; `aux_logits` likewise, of
            the third stage, if there is `auxiliary`; `features` `(B, feature_channels, h, w)`, that the descriptions
            are compared with; `prototype_features` `(B, prototype_channels, h, w)`; `class_embeddings`
            `(modalities, classes, embedding_size)`, frozen; and `projected_embeddings`
            `(modalities, classes, text_channels)`, as the head projects them.

        Raises:
            ValueError: if the image's shape or a modality does not fit.
        """
        del text
        check_image(image, self.in_channels)
        descriptions = self._descriptions(modality, image.shape[0])
        middle, deep = self.encoder(image)
        features = self.projection(deep)
        logits = _resized(self.head(features, deep, descriptions), image)
        if not self.training:
            return logits
        outputs = {
            "logits": logits,
            "features": features,
            "prototype_features": deep,
            "class_embeddings": self.class_embeddings,
            "projected_embeddings": self.head.text(self.class_embeddings),
        }
        if self.auxiliary is not None:
            outputs["aux_logits"] = _resized(self.auxiliary(middle), image)
        return outputs

    def _descriptions(self, modality: str | Sequence[str] | None, batch_size: int) -> Tensor:
        """The descriptions `(B, classes, embedding_size)` of the images' modalities."""
        if modality is None or isinstance(modality, str):
            own = self.class_embeddings[self.modality_index(modality or self.modality)]
            return own.expand(batch_size, -1, -1)
        if len(modality) != batch_size:
            raise ValueError(
                f"modality must be one name, or {batch_size}, one per image, got {len(modality)}"
            )
        return self.class_embeddings[[self.modality_index(name) for name in modality]]


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
    nn.init.kaiming_normal_(layers[0].weight, mode="fan_out", nonlinearity="relu")
    return layers


def _resized(logits: Tensor, image: Tensor) -> Tensor:
    return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=True)

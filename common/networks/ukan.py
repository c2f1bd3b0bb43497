"""U-KAN: a U-Net whose two deepest levels mix channels by KAN layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import KANBlock, scale_channels
from .plain import PlainNetwork

CHANNELS = (256, 320, 512)


class UKAN(PlainNetwork):
    """U-KAN: three levels of convolutions, two of KAN blocks, additive skips.

    The published sizes: `width` 1 has 25.36 million parameters (of which `count_parameters` finds the 9.38 million
    that are quoted in tables), `width` 0.5 has 6.36 million.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image.
        width: factor on `channels`, rounded to multiples of 8.
        dropout: of what a KAN block adds, in [0, 1).
        channels: of the third convolutional and of the two KAN levels; the first two levels have an eighth and a
            quarter of the first number.

    Raises:
        ValueError: if `channels` are not three.

    Reference:
        Li et al., "U-KAN makes strong backbone for medical image segmentation and generation", 2025.

    Differences from the paper:
        Plain dropout in place of stochastic depth, off by default.
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        dropout: float = 0.0,
        channels: Sequence[int] = CHANNELS,
    ) -> None:
        levels = ukan_channels(channels, width=width)
        encoder = UKANEncoder(levels, in_channels=in_channels, dropout=dropout)
        decoder = UKANDecoder(levels, dropout=dropout)
        # 64: a deepest map of one pixel has no variance that batch norm could divide by in a batch of one
        super().__init__(
            _UNet(encoder, decoder, nn.Conv2d(levels[0], num_classes, 1)), in_channels, smallest_side=64
        )


class UKANEncoder(nn.Module):
    """Three levels of two convolutions and a pooling, then two of an embedding and a KAN block.

    Args:
        channels: of the five levels.
        in_channels: channels of the image.
        dropout: of what a KAN block adds, in [0, 1).
        kan_levels: the last so many levels have KAN blocks, 0 to 5; the others convolutions.

    Raises:
        ValueError: if `channels` are not five or `kan_levels` is out of its range.
    """

    def __init__(
        self, channels: Sequence[int], *, in_channels: int = 3, dropout: float = 0.0, kan_levels: int = 2
    ) -> None:
        super().__init__()
        if len(channels) != 5:
            raise ValueError(f"channels must be five numbers, got {tuple(channels)}")
        if not 0 <= kan_levels <= 5:
            raise ValueError(f"kan_levels must be in 0 to 5, got {kan_levels}")
        self.channels = tuple(channels)
        pairs = zip((in_channels, *channels[:-1]), channels, strict=True)
        first = len(channels) - kan_levels
        self.levels = nn.ModuleList(
            ConvLevel(before, after) if number < first else KANLevel(before, after, dropout=dropout)
            for number, (before, after) in enumerate(pairs)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Turn an image `(B, in, H, W)` into features `(B, C_l, H / 2^l, W / 2^l)`, l = 1 to 5."""
        features = []
        for level in self.levels:
            image = level(image)
            features.append(image)
        return features


class UKANDecoder(nn.Module):
    """Five times two convolutions and a doubling; the skips are added, KAN blocks follow the first two.

    Args:
        channels: of the encoder's five levels.
        dropout: of what a KAN block adds, in [0, 1).
    """

    def __init__(self, channels: Sequence[int], *, dropout: float = 0.0) -> None:
        super().__init__()
        after = (channels[0], *channels[:-1])
        self.levels = nn.ModuleList(
            conv_pair(wide, narrow, middle=wide) for wide, narrow in zip(channels, after, strict=True)
        )
        self.blocks = nn.ModuleList(
            NormedKANBlock(count, dropout=dropout) for count in (channels[3], channels[2])
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn the encoder's five feature maps into `(B, C_1, H, W)`, twice the size of the first of them."""
        result = features[-1]
        for number in range(4, -1, -1):
            result = F.interpolate(
                self.levels[number](result), scale_factor=2.0, mode="bilinear", align_corners=False
            )
            if number > 0:
                result = result + features[number - 1]
            if number >= 3:
                result = self.blocks[4 - number](result)
        return result


class ConvLevel(nn.Module):
    """Two convolutions, then the maximum over 2 x 2.

    Args:
        in_channels: of what comes in.
        out_channels: of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolutions = conv_pair(in_channels, out_channels, middle=out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, in, H, W)` into `(B, out, H / 2, W / 2)`."""
        return F.max_pool2d(self.convolutions(features), 2)


class KANLevel(nn.Module):
    """A convolution of stride 2 with LayerNorm, then a KAN block with LayerNorm.

    Args:
        in_channels: of what comes in.
        out_channels: of the result.
        dropout: of what the KAN block adds, in [0, 1).
    """

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_channels)
        self.block = NormedKANBlock(out_channels, dropout=dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, in, H, W)` into `(B, out, H / 2, W / 2)`."""
        return self.block(_normalize(self.norm, self.embed(features)))


class NormedKANBlock(nn.Module):
    """A KAN block and LayerNorm over the channels of its result.

    Args:
        channels: of the features.
        dropout: of what the block adds, in [0, 1).
    """

    def __init__(self, channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.block = KANBlock(channels, dropout=dropout)
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Turn features `(B, C, H, W)` into others of the same shape."""
        return _normalize(self.norm, self.block(features))


class _UNet(nn.Module):
    """Encoder, decoder and the last convolution."""

    def __init__(self, encoder: UKANEncoder, decoder: UKANDecoder, classify: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.classify = classify

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.decoder(self.encoder(image)))


def ukan_channels(
    channels: Sequence[int] = CHANNELS, *, width: float = 1.0
) -> tuple[int, int, int, int, int]:
    """Channels of the five levels of U-KAN.

    Args:
        channels: of the third, fourth and fifth level at width 1.
        width: factor on them, > 0; the results are multiples of 8.

    Returns:
        An eighth and a quarter of the third level's, then the three.

    Raises:
        ValueError: if `channels` are not three.
    """
    if len(channels) != 3:
        raise ValueError(f"channels must be three numbers, got {tuple(channels)}")
    third, fourth, fifth = (scale_channels(count, width) for count in channels)
    return third // 8, third // 4, third, fourth, fifth


def conv_pair(in_channels: int, out_channels: int, *, middle: int) -> nn.Sequential:
    """Twice 3 x 3 convolution, BatchNorm, ReLU: from `in_channels` over `middle` to `out_channels`."""
    return nn.Sequential(
        nn.Conv2d(in_channels, middle, kernel_size=3, padding=1),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _normalize(norm: nn.LayerNorm, features: Tensor) -> Tensor:
    return norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

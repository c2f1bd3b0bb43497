"""MONAI's networks without text behind the interface of the text-guided ones."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks import nets
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import scale_channels
from .checks import check_image

UNET_CHANNELS = (32, 64, 128, 256, 512)
UNETPP_FEATURES = (32, 32, 64, 128, 256, 32)
DYNUNET_FILTERS = (32, 64, 128, 256, 512, 512)


class PlainNetwork(nn.Module):
    """A network that sees the image alone and ignores the text.

    An image side below `smallest_side` is padded by zeros on the right or bottom, and the logits are cut back:
    the networks with instance norm cannot normalise the single pixel that five halvings leave of 32.

    Args:
        network: maps `(B, in_channels, H, W)` to logits `(B, num_classes, H, W)`.
        in_channels: channels of the image.
        smallest_side: smallest side that `network` takes, in pixels.
    """

    def __init__(self, network: nn.Module, in_channels: int, *, smallest_side: int = 32) -> None:
        super().__init__()
        self.network = network
        self.in_channels = in_channels
        self.smallest_side = smallest_side

    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Segment the image.

        Args:
            image: `(B, in_channels, H, W)`, H and W multiples of 32.
            text: ignored.

        Returns:
            In evaluation, logits `(B, num_classes, H, W)`; in training, a dict with `logits`.
        """
        del text
        check_image(image, self.in_channels)
        height, width = image.shape[2:]
        missing = (0, max(self.smallest_side - width, 0), 0, max(self.smallest_side - height, 0))
        logits = self.network(F.pad(image, missing))[:, :, :height, :width]
        return {"logits": logits} if self.training else logits


class UNet(PlainNetwork):
    """MONAI's residual U-Net of five levels.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image.
        width: factor on the channels 32, 64, 128, 256, 512.
        dropout: in every convolution, in [0, 1).

    Reference:
        Kerfoot et al., "Left-ventricle quantification using residual U-Net", 2019.
    """

    def __init__(
        self, num_classes: int = 1, in_channels: int = 3, *, width: float = 1.0, dropout: float = 0.0
    ) -> None:
        network = nets.UNet(
            2,
            in_channels,
            num_classes,
            _scaled(UNET_CHANNELS, width),
            (2,) * 4,
            num_res_units=2,
            dropout=dropout,
        )
        super().__init__(network, in_channels)


class UNetPlusPlus(PlainNetwork):
    """MONAI's U-Net++ without deep supervision.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image.
        width: factor on the features 32, 32, 64, 128, 256, 32.
        dropout: in every convolution, in [0, 1).

    Reference:
        Zhou et al., "UNet++: a nested U-Net architecture for medical image segmentation", 2018.
    """

    def __init__(
        self, num_classes: int = 1, in_channels: int = 3, *, width: float = 1.0, dropout: float = 0.0
    ) -> None:
        network = nets.BasicUNetPlusPlus(
            2, in_channels, num_classes, _scaled(UNETPP_FEATURES, width), dropout=dropout
        )
        # heads of deep supervision that no result comes from
        network.final_conv_0_1 = network.final_conv_0_2 = network.final_conv_0_3 = nn.Identity()
        super().__init__(_First(network), in_channels)


class AttentionUNet(PlainNetwork):
    """MONAI's Attention U-Net of five levels.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image.
        width: factor on the channels 32, 64, 128, 256, 512.
        dropout: in every convolution, in [0, 1).

    Reference:
        Oktay et al., "Attention U-Net: learning where to look for the pancreas", 2018.
    """

    def __init__(
        self, num_classes: int = 1, in_channels: int = 3, *, width: float = 1.0, dropout: float = 0.0
    ) -> None:
        network = nets.AttentionUnet(
            2, in_channels, num_classes, _scaled(UNET_CHANNELS, width), (2,) * 4, dropout=dropout
        )
        super().__init__(network, in_channels)


class SwinUNETR(PlainNetwork):
    """MONAI's Swin UNETR for 2-D images.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image.
        width: factor on the feature size of 24, rounded to a multiple of 12.
        dropout: of features and attention weights, in [0, 1).

    Reference:
        Hatamizadeh et al., "Swin UNETR", 2022.
    """

    def __init__(
        self, num_classes: int = 1, in_channels: int = 3, *, width: float = 1.0, dropout: float = 0.0
    ) -> None:
        network = nets.SwinUNETR(
            in_channels,
            num_classes,
            feature_size=scale_channels(24, width, multiple=12),
            drop_rate=dropout,
            attn_drop_rate=dropout,
            spatial_dims=2,
        )
        super().__init__(network, in_channels, smallest_side=64)


class DynUNet(PlainNetwork):
    """nnU-Net's network for 2-D images of about 224 x 224 (six levels), without deep supervision.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image.
        width: factor on the filters 32, 64, 128, 256, 512, 512.
        dropout: in every convolution, in [0, 1).

    Reference:
        Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
        segmentation", 2021.

    Differences from the paper:
        A fixed plan, no deep supervision, and none of nnU-Net's training.
    """

    def __init__(
        self, num_classes: int = 1, in_channels: int = 3, *, width: float = 1.0, dropout: float = 0.0
    ) -> None:
        filters = _scaled(DYNUNET_FILTERS, width)
        strides = (1,) + (2,) * (len(filters) - 1)
        network = nets.DynUNet(
            2,
            in_channels,
            num_classes,
            kernel_size=(3,) * len(filters),
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=filters,
            dropout=dropout or None,
        )
        super().__init__(network, in_channels, smallest_side=64)


class _First(nn.Module):
    """Only the first of a network's results."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image)[0]


def _scaled(channels: Sequence[int], width: float) -> list[int]:
    return [scale_channels(count, width) for count in channels]

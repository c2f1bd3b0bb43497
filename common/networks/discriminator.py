"""The discriminator of adversarial adaptation: from which domain is each patch of a map?"""

from __future__ import annotations

from monai.networks import nets
from torch import Tensor, nn

from ..layers import scale_channels

SMALLEST_SIDE = 32


class PatchDiscriminator(nn.Module):
    """MONAI's PatchGAN discriminator: one logit for each patch of 70 x 70 pixels.

    Four convolutions of 4 x 4 (64, 128, 256, 512 channels; strides 2, 2, 2, 1) with LeakyReLU of 0.2, batch norm but
    after the first, and one of 4 x 4 to the logit.

    Args:
        in_channels: channels of the map, the number of classes.
        width: factor on the channels 64 to 512.
        norm: MONAI's name of the norm, such as "BATCH" or "INSTANCE".

    Attributes:
        in_channels: as given.

    Reference:
        Isola et al., "Image-to-image translation with conditional adversarial networks", 2017, of 3 layers, as
        TCSA-UDA's code has it.
    """

    def __init__(self, in_channels: int, *, width: float = 1.0, norm: str = "BATCH") -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}.")
        self.in_channels = in_channels
        self.layers = nets.PatchDiscriminator(
            spatial_dims=2,
            channels=scale_channels(64, width),
            in_channels=in_channels,
            num_layers_d=3,
            norm=norm,
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Judge maps.

        Args:
            maps: `(B, in_channels, H, W)`, H and W at least 32, such as of `common.losses.entropy_map`.

        Returns:
            Logits `(B, 1, h, w)`, `h = H / 8 - 2` for sides that 8 divides: above 0 for the target.

        Raises:
            ValueError: if the shape is another.
        """
        if maps.ndim != 4 or maps.shape[1] != self.in_channels or min(maps.shape[2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"maps must be (B, {self.in_channels}, H, W) with sides of at least {SMALLEST_SIDE}, "
                f"got {tuple(maps.shape)}."
            )
        return self.layers(maps)[-1]

"""Zone U-Net: a U-Net that gets no words, only the zones that they name."""

from __future__ import annotations

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import scale_channels
from .checks import check_image, check_text

ZONE_IDS = 16
MAP_CHANNELS = 16
MAP_SIDE = 6


class ZoneUNet(nn.Module):
    """MONAI's BasicUNet on the image beside a coarse map learnt from the named zones.

    The multi-hot vector of zone ids passes a linear layer to a `(16, 6, 6)` map, which is up-sampled bilinearly
    to the image and concatenated with it. The empty prompt is the zero vector: the layer's bias alone is seen.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image.
        width: factor on the features 24, 24, 48, 96, 192, 24.
        dropout: in the U-Net's convolutions, in [0, 1).
        zone_dropout: probability in training that a case is shown without its zones, in [0, 1).

    Raises:
        ValueError: if `zone_dropout` is not in [0, 1).
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        dropout: float = 0.0,
        zone_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= zone_dropout < 1:
            raise ValueError(f"zone_dropout must be in [0, 1), got {zone_dropout}")
        self.in_channels = in_channels
        self.zone_dropout = zone_dropout
        self.zone_map = nn.Linear(ZONE_IDS, MAP_CHANNELS * MAP_SIDE**2)
        self.unet = BasicUNet(
            spatial_dims=2,
            in_channels=in_channels + MAP_CHANNELS,
            out_channels=num_classes,
            features=[scale_channels(count, width) for count in (24, 24, 48, 96, 192, 24)],
            dropout=dropout,
        )

    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Segment what lies in the named zones.

        Args:
            image: `(B, in_channels, H, W)`, H and W multiples of 32.
            text: `(B, 2, L)`: zone ids of the tokenizer "zones" (0 padding, 1 to 15 zones, 16 negated) and
                their mask; None is the empty prompt.

        Returns:
            In evaluation, logits `(B, num_classes, H, W)`; in training, a dict with `logits`.
        """
        check_image(image, self.in_channels)
        zones = image.new_zeros(image.shape[0], ZONE_IDS)
        if text is not None:
            check_text(text, image.shape[0])
            zones = zone_multi_hot(text).to(zones)
        if self.training and self.zone_dropout > 0:
            zones = zones * (torch.rand(zones.shape[0], 1, device=zones.device) >= self.zone_dropout)
        # (B, 16) -> (B, 16, 6, 6) -> (B, 16, H, W)
        coarse = self.zone_map(zones).unflatten(1, (MAP_CHANNELS, MAP_SIDE, MAP_SIDE))
        coarse = F.interpolate(coarse, size=image.shape[2:], mode="bilinear", align_corners=False)
        logits = self.unet(torch.cat([image, coarse.to(image.dtype)], dim=1))
        return {"logits": logits} if self.training else logits


def zone_multi_hot(text: Tensor) -> Tensor:
    """Turn zone ids and their mask, `(B, 2, L)`, into a float vector `(B, 16)` where id k sets entry k - 1.

    Raises:
        ValueError: if an id is not in 0 to 16, as those of another tokenizer are.
    """
    ids = text[:, 0] * text[:, 1]
    exported = torch.jit.is_tracing() or torch.compiler.is_compiling()
    if not exported and bool(((ids < 0) | (ids > ZONE_IDS)).any()):
        raise ValueError(
            f"text must hold zone ids 0 to {ZONE_IDS}, got {int(ids.min())} to {int(ids.max())}: "
            'set text_encoder to "zones" in preprocessing'
        )
    # (B, L) -> (B, L, 17) -> (B, 16)
    return F.one_hot(ids.long(), ZONE_IDS + 1).amax(dim=1)[:, 1:].float()

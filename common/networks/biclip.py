"""BiCLIP: EF-UNet whose sentence is refined by the image before it is drawn."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..layers import TextRefinement, scale_channels
from .ef_unet import EFUNet

IMAGE_VECTOR_CHANNELS = (64, 256)


class BiCLIP(EFUNet):
    """EF-UNet with bidirectional multimodal fusion: the image refines the text vector of which the pseudo image is.

    The parts that only training needs, the image-to-text head of the cycle and the projection of the augmentation
    consistency, are those of `FusionTraining`; without `bmf` this is EF-UNet, weight by weight.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image and of the pseudo image.
        bmf: whether the image refines the text vector; there is nothing to refine without text.
        width: factor on the channels of the U-Net and on those of the image vector, 64 and 256.
        kwargs: passed to `EFUNet`.

    Attributes:
        refinement: the `TextRefinement`, or None.

    Raises:
        ValueError: as `EFUNet`.

    Reference:
        Talaei et al., "BiCLIP: Bidirectional and Consistent Language-Image Processing for Robust Medical Image
        Segmentation", section 2.1.

    Differences from the paper:
        Inference takes no mask, which the forward of its code asks for; those of `EFUNet`.
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 3,
        *,
        bmf: bool = True,
        width: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, width=width, **kwargs)
        self.refinement: TextRefinement | None = None
        if bmf and self.vector_channels:
            first, second = (scale_channels(count, width) for count in IMAGE_VECTOR_CHANNELS)
            self.refinement = TextRefinement(
                self.vector_channels, in_channels, image_channels=(first, second)
            )

    def refine(self, vector: Tensor, image: Tensor) -> Tensor:
        """Return the text vectors `(B, d)` that are drawn, refined by the images `(B, in_channels, H, W)`."""
        return vector if self.refinement is None else self.refinement(vector, image)

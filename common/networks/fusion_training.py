"""What BiCLIP and EF-UNet train: augmentation after the fusion, two views, and the way back to the sentence."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from ..layers import ConsistencyProjection, PseudoImageReader, masked_image
from .checks import check_image
from .ef_unet import Drawing, EFUNet

STOP_GRADIENTS = ("none", "strong")
LOOSE_RANGE = (-0.5, 1.5)
"""Of pixels that resampling and jitter took out of [0, 1]: they are clipped. Beyond it, a z-score is suspected."""


class Augmentation(Protocol):
    """Geometry for image, pseudo image and label alike, and the strong view of an image, as `FusedAugmentation`."""

    def __call__(
        self, image: Tensor, pseudo: Tensor | None, label: Tensor, *, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Move the three alike."""

    def strong(self, image: Tensor, *, generator: np.random.Generator) -> Tensor:
        """Return the strong view of images that have moved already."""


class FusionTraining(nn.Module):
    """Train `BiCLIP` or `EFUNet` in one forward pass: fuse, move all alike, look at a weak and a strong view.

    A step: the sentence is drawn as a pseudo image; image, pseudo image and label move together, so that gradients
    go through the motion to the generator; the weak view (the image as it is) gives the logits; with `iac` the
    strong view, which has the same geometry and pseudo image, and the weak one are projected to vectors; with
    `cycle` the sentence's vector is read from the pseudo image again. What the generator is to draw, the image
    inside of its mask, is taken before the motion, and so is the pseudo image that is compared with it.

    In evaluation it is the network itself: the heads take no part, and the network's own state dict is what
    inference loads. The trainer must hand over the label: ``PrepareBatchExtraInput`` with the extra keys
    ``{"text": "text", "label": "label"}``.

    Args:
        network: `BiCLIP` or `EFUNet`.
        augmentation: moves and changes, as `common.transforms.FusedAugmentation`; None does neither, and then `iac`
            must be False, for the two views would be one.
        iac: whether there is a strong view, which costs one more pass of the U-Net.
        cycle: whether the text vector is read back; not without text.
        stop_gradient: "strong", no gradient goes back through the strong view, which saves half of its cost; or
            "none". The objective must be given the same.

    Raises:
        ValueError: if `stop_gradient` is unknown, or there is no augmentation for `iac`.

    Reference:
        BiCLIP, section 2.2, equations 3 to 7, and equation 2 for the way back; EF-UNet with neither head.

    Differences from the paper:
        The stop of the gradient is that of its code. The pseudo image is compared and read back as the generator
        drew it, resized to the image, before the motion.
    """

    def __init__(
        self,
        network: EFUNet,
        *,
        augmentation: Augmentation | None = None,
        iac: bool = True,
        cycle: bool = True,
        stop_gradient: str = "strong",
    ) -> None:
        super().__init__()
        if stop_gradient not in STOP_GRADIENTS:
            raise ValueError(
                f"stop_gradient must be one of {', '.join(STOP_GRADIENTS)}, got {stop_gradient!r}"
            )
        if iac and augmentation is None:
            raise ValueError(
                "augmentation must be given for iac, got None: the strong view is made by it, or set iac to False"
            )
        self.network = network
        self.augmentation = augmentation
        self.stop_gradient = stop_gradient
        self.projection = ConsistencyProjection(network.feature_channels) if iac else None
        self.reader: PseudoImageReader | None = None
        if cycle and network.vector_channels:
            self.reader = PseudoImageReader(network.vector_channels, network.in_channels)

    def forward(
        self,
        image: Tensor,
        text: Tensor | None = None,
        label: Tensor | None = None,
        *,
        generator: np.random.Generator | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """Run one step, or, in evaluation, the network itself.

        Args:
            image: `(B, in_channels, H, W)` in [0, 1]; what lies a little beyond is clipped in training.
            text: `(B, 2, L)` token ids and attention mask; None is the empty prompt.
            label: `(B, K, H, W)` in [0, 1]; needed in training, not read in evaluation.
            generator: of what the augmentation draws. None: one that PyTorch's global generator seeds, which
                `common.handlers.EpochSeeds` sets from (seed, epoch, rank), so that a resumed training draws the same.

        Returns:
            In evaluation, logits `(B, num_classes, H, W)`. In training, a dict with ``logits`` of the weak view and
            ``label``, which moved with it; with text, ``pseudo`` and ``pseudo_target`` `(B, in_channels, H, W)`
            before the motion, and ``text_vector`` `(B, d)`; with `cycle`, ``text_vector_from_image`` `(B, d)`; with
            `iac`, ``weak_vector`` and ``strong_vector`` `(B, 256)`.

        Raises:
            ValueError: in training, if there is no label, it does not fit the image, or the image is not in [0, 1].
        """
        if not self.training:
            return self.network(image, text)
        image, label = self._checked(image, label)
        drawing = self.network.draw(image, text)
        outputs = {} if drawing is None else self._drawn(drawing, image, label)
        pseudo = None if drawing is None else drawing.pseudo
        generator = _from_global_seed() if generator is None else generator
        if self.augmentation is not None:
            with torch.autocast(image.device.type, enabled=False):
                pseudo = None if pseudo is None else pseudo.to(image)
                image, pseudo, label = self.augmentation(image, pseudo, label, generator=generator)
        features = self.network.unet.features(self.network.fuse(image, pseudo))
        outputs |= {"logits": self.network.unet.head(features), "label": label}
        if self.projection is not None:
            outputs["weak_vector"] = self.projection(features)
            outputs["strong_vector"] = self._strong(image, pseudo, generator)
        return outputs

    def _drawn(self, drawing: Drawing, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        outputs = {**drawing._asdict(), "pseudo_target": masked_image(image, label)}
        if self.reader is not None:
            outputs["text_vector_from_image"] = self.reader(drawing.pseudo)
        return outputs

    def _strong(self, image: Tensor, pseudo: Tensor | None, generator: np.random.Generator) -> Tensor:
        """The vector of the strong view of an image that has moved already."""
        with torch.autocast(image.device.type, enabled=False):
            image = self.augmentation.strong(image, generator=generator)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stop_gradient == "none"):
            return self.projection(self.network.unet.features(self.network.fuse(image, pseudo)))

    def _checked(self, image: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        if label is None:
            raise ValueError(
                "label must be given in training, got None: set the trainer's prepare_batch to "
                "PrepareBatchExtraInput with extra_keys {'text': 'text', 'label': 'label'}"
            )
        image, label = (_plain(tensor) for tensor in (image, label))
        check_image(image, self.network.in_channels)
        lowest, highest = (float(value) for value in torch.aminmax(image.detach()))
        if lowest < LOOSE_RANGE[0] or highest > LOOSE_RANGE[1]:
            raise ValueError(
                f"image must be in [0, 1], got values from {lowest:.3g} to {highest:.3g}: "
                "set normalise to 'unit' in preprocessing"
            )
        return image.clamp(0, 1), label.to(image)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def _from_global_seed() -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**62, ())))

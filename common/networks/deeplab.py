"""The parts of DeepLabV2: a ResNet that keeps its resolution by dilation, and an atrous pyramid."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..checks import read_tensors
from ..layers import scale_channels
from ..text.weights import read_weights

logger = logging.getLogger(__name__)

RESNET101_DEPTHS = (3, 4, 23, 3)
EXPANSION = 4
CONVENTIONS = ("plain", "caffe", "torchvision")
DILATIONS = (6, 12, 18, 24)

_CAFFE_MEAN = (104.00698793, 116.66876762, 122.67891434)  # blue, green, red, of 0 to 255
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PREFIXES = ("module.", "model.", "backbone.", "Scale.")


class Bottleneck(nn.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1 beside a shortcut.

    Args:
        in_channels: of the features.
        channels: inside; the result has 4 times as many.
        stride: 1 or 2.
        dilation: of the 3 x 3 convolution.
        early_stride: whether the first convolution has the stride, as in Caffe's weights, and not the second.

    Reference:
        He et al., "Deep residual learning for image recognition", 2016, figure 5.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        early_stride: bool = False,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if early_stride else (1, stride)
        out_channels = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(
            channels, channels, 3, stride=second, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, in_channels, H, W)` into `(B, 4 channels, H / stride, W / stride)`."""
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        return self.relu(self.bn3(self.conv3(residual)) + self.downsample(features))


class DilatedResNet(nn.Module):
    """ResNet of bottlenecks whose last two stages are dilated by 2 and 4 and do not shrink.

    Names of the weights are torchvision's. The sides are those of DeepLab: 256 pixels become 33 at stride 8.

    Args:
        in_channels: channels of the image.
        depths: blocks of each stage; the default is ResNet-101.
        width: factor on all channel counts.
        output_stride: 8, or 4, where the second stage does not shrink either (for small images).
        convention: of pixels and stride. "plain": the image as it is. "caffe" (the authors' weights) and
            "torchvision": images in [-1, 1] of 3 channels are scaled to what such weights were trained with; "caffe"
            also has the stride in the first convolution of a block.
        freeze_norm: whether scale and shift of the batch norms stay as they are; the statistics move on.
        pretrained: see `load_pretrained`; None starts at random.

    Attributes:
        channels: of the two results.

    Raises:
        ValueError: if an argument is none of the above, or the weights are another network's.

    Reference:
        Chen et al., "DeepLab: semantic image segmentation with deep convolutional nets, atrous convolution, and fully
        connected CRFs", 2018; TCSA-UDA's code.

    Differences from the paper:
        A random start is He's and not a standard deviation of 0.01.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        depths: Sequence[int] = RESNET101_DEPTHS,
        width: float = 1.0,
        output_stride: int = 8,
        convention: str = "plain",
        freeze_norm: bool = False,
        pretrained: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        _check(in_channels, depths, output_stride, convention)
        self.in_channels = in_channels
        self.convention = convention
        early = convention == "caffe"
        base = [scale_channels(64 * 2**stage, width) for stage in range(4)]
        self.conv1 = nn.Conv2d(in_channels, base[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base[0])
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
        second = output_stride // 4
        self.layer1 = _stage(base[0], base[0], depths[0], early=early)
        self.layer2 = _stage(EXPANSION * base[0], base[1], depths[1], stride=second, early=early)
        self.layer3 = _stage(EXPANSION * base[1], base[2], depths[2], dilation=2, early=early)
        self.layer4 = _stage(EXPANSION * base[2], base[3], depths[3], dilation=4, early=early)
        self.channels = (EXPANSION * base[2], EXPANSION * base[3])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d) and freeze_norm:
                module.requires_grad_(False)
        if pretrained is None:
            logger.info("DeepLab encoder starts at random: no pretrained weights named")
        else:
            self.load_pretrained(pretrained)

    def load_pretrained(self, path: str | PathLike[str]) -> None:
        """Take over weights with torchvision's names (torchvision, timm, and the authors' DeepLab).

        Args:
            path: file of tensors (`.safetensors`, or what `torch.save` wrote), or folder with `model.safetensors` or
                `pytorch_model.bin`. Heads are passed over.

        Raises:
            ValueError: if it holds other than tensors, or lacks weights of this network's names and shapes.
        """
        saved = {_plain(name): tensor for name, tensor in _read(Path(path)).items()}
        wanted = self.state_dict()
        # files of the first versions of PyTorch do not count the batches
        needed = [name for name in wanted if not name.endswith("num_batches_tracked")]
        wrong = [name for name in needed if name not in saved or saved[name].shape != wanted[name].shape]
        if wrong:
            found = tuple(saved[wrong[0]].shape) if wrong[0] in saved else "none"
            raise ValueError(
                f"pretrained must hold the ResNet's weights, {wrong[0]} of {tuple(wanted[wrong[0]].shape)} among them, "
                f"got {found} in {str(path)!r}: set width to 1 and depths to those of the weights, or leave "
                "pretrained empty"
            )
        self.load_state_dict({name: saved[name].float() for name in needed}, strict=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the last two stages, both at the output stride.

        Args:
            image: `(B, in_channels, H, W)`.
        """
        features = self.pool(self.relu(self.bn1(self.conv1(self._standardized(image)))))
        middle = self.layer3(self.layer2(self.layer1(features)))
        return middle, self.layer4(middle)

    def _standardized(self, image: Tensor) -> Tensor:
        if self.convention == "plain":
            return image
        if self.convention == "caffe":
            return (image.flip(1) + 1) * 127.5 - _column(_CAFFE_MEAN, image)
        return ((image + 1) / 2 - _column(_MEAN, image)) / _column(_STD, image)


class AtrousPyramid(nn.Module):
    """The sum of 3 x 3 convolutions of several dilations, straight to logits.

    Args:
        in_channels: of the features.
        num_classes: channels of the logits.
        dilations: of the convolutions.

    Reference:
        Chen et al., DeepLab, 2018, section 3.2 (ASPP-L).
    """

    def __init__(self, in_channels: int, num_classes: int, *, dilations: Sequence[int] = DILATIONS) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(in_channels, num_classes, 3, padding=dilation, dilation=dilation)
            for dilation in dilations
        )

    def forward(self, features: Tensor) -> Tensor:
        """Turn `(B, in_channels, h, w)` into logits `(B, num_classes, h, w)`."""
        return torch.stack([branch(features) for branch in self.branches]).sum(dim=0)


def _stage(
    in_channels: int, channels: int, depth: int, *, stride: int = 1, dilation: int = 1, early: bool = False
) -> nn.Sequential:
    first = Bottleneck(in_channels, channels, stride=stride, dilation=dilation, early_stride=early)
    rest = (Bottleneck(EXPANSION * channels, channels, dilation=dilation) for _ in range(depth - 1))
    return nn.Sequential(first, *rest)


def _column(values: Sequence[float], image: Tensor) -> Tensor:
    return torch.tensor(values, dtype=image.dtype, device=image.device)[:, None, None]


def _check(in_channels: int, depths: Sequence[int], output_stride: int, convention: str) -> None:
    if len(depths) != 4 or min(depths) < 1:
        raise ValueError(f"depths must have 4 entries, each at least 1, got {list(depths)}")
    if output_stride not in (4, 8):
        raise ValueError(f"output_stride must be 4 or 8, got {output_stride}")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    if convention != "plain" and in_channels != 3:
        raise ValueError(f"in_channels must be 3 with the convention {convention!r}, got {in_channels}")


def _read(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        return read_weights(path)
    if path.suffix != ".safetensors":
        return read_tensors(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"pretrained must be a readable file of weights, got {str(path)!r}: {error}"
        ) from error


def _plain(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name

from __future__ import annotations

import pytest
import torch
from monai.networks.blocks import SubpixelUpsample
from torch.testing import assert_close

from common.layers import SegmentationHead, UpBlock, scale_channels


@pytest.mark.parametrize("num_classes", [1, 3])
def test_head_equals_subpixel_upsampling_then_convolution(num_classes: int) -> None:
    torch.manual_seed(0)
    head = SegmentationHead(16, 8, num_classes)
    torch.nn.init.normal_(head.upsample.bias)
    reference = SubpixelUpsample(2, 16, 8, scale_factor=4)
    reference.conv_block.load_state_dict(head.upsample.state_dict())
    features = torch.randn(2, 16, 5, 7)
    logits = head(features)
    assert logits.shape == (2, num_classes, 20, 28)
    assert_close(logits, head.classify(reference(features)), atol=1e-5, rtol=1e-5)


def test_head_starts_as_nearest_neighbour_upsampling() -> None:
    head = SegmentationHead(8, 8, 1)
    kernel = head.upsample.weight.unflatten(0, (8, 16))
    assert_close(kernel, kernel[:, :1].expand_as(kernel))


def test_up_block_doubles_and_uses_both_inputs() -> None:
    block = UpBlock(16, 8).eval()
    coarse = torch.randn(2, 16, 3, 5, requires_grad=True)
    skip = torch.randn(2, 8, 6, 10, requires_grad=True)
    result = block(coarse, skip)
    assert result.shape == (2, 8, 6, 10)
    result.sum().backward()
    assert coarse.grad.abs().sum() > 0
    assert skip.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("channels", "width", "multiple", "expected"),
    [(96, 1.0, 8, 96), (96, 0.5, 8, 48), (24, 0.5, 8, 16), (96, 0.01, 8, 8), (24, 0.75, 12, 24)],
)
def test_channels_follow_the_width(channels: int, width: float, multiple: int, expected: int) -> None:
    assert scale_channels(channels, width, multiple=multiple) == expected


def test_width_must_be_positive() -> None:
    with pytest.raises(ValueError, match="width must be > 0, got 0"):
        scale_channels(96, 0)

"""The classic U-Net: its size, its levels, and its last decoder map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from common.layers import ClassicUNet, DoubleConv


def by_hand(block: DoubleConv, maps: Tensor) -> Tensor:
    """Both convolutions and norms of a block in evaluation, written out."""
    for convolution, norm in ((block[0], block[1]), (block[3], block[4])):
        maps = F.conv2d(maps, convolution.weight, padding=1)
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]
        maps = (maps - norm.running_mean[:, None, None]) * scale + norm.bias[:, None, None]
        maps = maps.clamp(min=0)
    return maps


def test_the_known_size() -> None:
    # 31,037,633 for an image of three channels, the count that is known for this U-Net; three more cost 64 * 9 each
    counts = [sum(weight.numel() for weight in ClassicUNet(given, 1).parameters()) for given in (3, 6)]
    assert counts == [31_037_633, 31_037_633 + 3 * 64 * 9]


def test_two_levels_written_out() -> None:
    torch.manual_seed(0)
    network = ClassicUNet(2, 3, channels=(4, 6)).eval()
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.running_mean)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
            torch.nn.init.uniform_(norm.bias)
    image = torch.randn(2, 2, 8, 6)
    fine = by_hand(network.encoder[0], image)
    coarse = by_hand(network.encoder[1], fine.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(-1, -2)))
    upsampled = F.conv_transpose2d(coarse, network.upsample[0].weight, network.upsample[0].bias, stride=2)
    expected = by_hand(network.decoder[0], torch.cat([fine, upsampled], dim=1))
    assert_close(network.features(image), expected, atol=1e-5, rtol=1e-4)
    logits = torch.einsum("kc,bchw->bkhw", network.head.weight[:, :, 0, 0], expected)
    assert_close(network(image), logits + network.head.bias[:, None, None], atol=1e-5, rtol=1e-4)


def test_one_level_is_refused() -> None:
    with pytest.raises(ValueError, match=r"channels must be of at least 2 levels, got \[8\]"):
        ClassicUNet(3, 1, channels=[8])

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from common.losses import discriminator_loss, entropy_map
from common.networks import PatchDiscriminator


def test_parameters_and_patches_are_those_of_the_paper() -> None:
    discriminator = PatchDiscriminator(5)
    channels = [5, 64, 128, 256, 512, 1]
    weights = sum(16 * a * b for a, b in pairwise(channels))
    norms_and_biases = 2 * (128 + 256 + 512) + 64 + 1
    assert sum(weight.numel() for weight in discriminator.parameters()) == weights + norms_and_biases
    for size, patches in ((256, 30), (128, 14), (32, 2)):
        assert discriminator(torch.rand(1, 5, size, size)).shape == (1, 1, patches, patches)


def test_a_patch_sees_70_pixels() -> None:
    discriminator = PatchDiscriminator(1, width=0.125).eval()
    maps = torch.rand(1, 1, 160, 160, requires_grad=True)
    discriminator(maps)[0, 0, 8, 8].backward()
    rows = maps.grad[0, 0].any(dim=1).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == 70


@pytest.mark.parametrize("norm", ["BATCH", "INSTANCE"])
def test_it_learns_to_tell_sure_from_unsure(norm: str) -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(3, width=0.125, norm=norm)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    logits = torch.randn(4, 3, 32, 32)
    source, target = entropy_map(8 * logits), entropy_map(0.5 * logits)
    losses = []
    for _ in range(25):
        loss = discriminator_loss(discriminator(source), discriminator(target))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_state_dict_round_trip() -> None:
    first, second = PatchDiscriminator(3, width=0.25).eval(), PatchDiscriminator(3, width=0.25).eval()
    second.load_state_dict(first.state_dict(), strict=True)
    maps = torch.rand(1, 3, 64, 32)
    assert_close(first(maps), second(maps), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 2, 64, 64), (3, 64, 64), (1, 3, 64, 16)])
def test_wrong_maps_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"maps must be \(B, 3, H, W\) with sides of at least 32, got"):
        PatchDiscriminator(3, width=0.125)(torch.zeros(shape))


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="in_channels must be at least 1, got 0"):
        PatchDiscriminator(0)

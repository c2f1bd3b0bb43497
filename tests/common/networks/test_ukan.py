"""U-KAN beyond the contract of all networks, and the counts of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from common.layers import KANLinear
from common.networks import (
    UKAN,
    ParameterCounts,
    UKANDecoder,
    UKANEncoder,
    count_parameters,
    ukan_channels,
)


@pytest.mark.parametrize(
    ("options", "millions", "counts"),
    [
        ({}, 25.36, ParameterCounts(25_359_265, 9_384_865)),
        ({"width": 0.5}, 6.36, ParameterCounts(6_356_689, 2_363_089)),
        ({"channels": (128, 160, 256)}, 6.36, ParameterCounts(6_356_689, 2_363_089)),
    ],
)
def test_published_sizes(options: dict, millions: float, counts: ParameterCounts) -> None:
    found = count_parameters(UKAN(**options))
    assert found == counts
    assert found.true / 1e6 == pytest.approx(millions, rel=0.005)
    kan = sum(10 * count**2 * 3 for count in ukan_channels(**options)[2:4])
    kan += sum(10 * count**2 * 3 for count in ukan_channels(**options)[3:])
    assert found.true - found.thop_equivalent == kan


def test_count_leaves_out_frozen_and_counts_shared_once() -> None:
    shared = nn.Linear(3, 4)
    frozen = nn.Linear(9, 9).requires_grad_(False)
    network = nn.Sequential(shared, nn.ModuleList([shared, frozen]), KANLinear(2, 3))
    assert count_parameters(network) == ParameterCounts(true=16 + 60, thop_equivalent=16)


def test_encoder_levels_halve() -> None:
    channels = ukan_channels(width=0.25)
    assert channels == (8, 16, 64, 80, 128)
    features = UKANEncoder(channels)(torch.randn(2, 3, 64, 96))
    assert [tuple(level.shape) for level in features] == [
        (2, count, 64 >> number, 96 >> number) for number, count in enumerate(channels, start=1)
    ]
    assert UKANDecoder(channels)(features).shape == (2, 8, 64, 96)


@pytest.mark.parametrize("kan_levels", range(6))
def test_levels_with_kan_blocks_are_the_last_ones(kan_levels: int) -> None:
    encoder = UKANEncoder((8, 8, 16, 16, 16), kan_levels=kan_levels).eval()
    has = [any(isinstance(part, KANLinear) for part in level.modules()) for level in encoder.levels]
    assert has == [False] * (5 - kan_levels) + [True] * kan_levels
    assert encoder(torch.randn(1, 3, 64, 64))[-1].shape == (1, 16, 2, 2)


def test_skips_are_added() -> None:
    channels = ukan_channels(width=0.125)
    decoder = UKANDecoder(channels).eval()
    features = [torch.randn(1, count, 32 >> number, 32 >> number) for number, count in enumerate(channels)]
    result = decoder(features)
    for number in range(5):
        changed = list(features)
        changed[number] = changed[number] + torch.randn_like(changed[number])
        assert (decoder(changed) - result).abs().max() > 1e-5


def test_one_small_image_can_be_trained_on() -> None:
    network = UKAN(width=0.125)
    assert network(torch.randn(1, 3, 32, 32))["logits"].shape == (1, 1, 32, 32)


@pytest.mark.slow
def test_compiled_without_a_graph_break() -> None:
    torch.manual_seed(0)
    network, image = UKAN(width=0.125).eval(), torch.randn(1, 3, 64, 64)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    assert_close(compiled(image), network(image), atol=1e-4, rtol=1e-4)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"channels must be three numbers, got \(256, 320\)"):
        UKAN(channels=(256, 320))
    with pytest.raises(ValueError, match="channels must be five numbers"):
        UKANEncoder((8, 8, 8))
    with pytest.raises(ValueError, match="kan_levels must be in 0 to 5, got 6"):
        UKANEncoder((8, 8, 8, 8, 8), kan_levels=6)

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from common.layers import GuideDecoderBlock, sinusoidal_positions


def make(**arguments: float) -> GuideDecoderBlock:
    torch.manual_seed(0)
    return GuideDecoderBlock(16, 8, text_channels=12, in_tokens=6, out_tokens=4, **arguments).eval()


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (7, 7), (4, 2)])
def test_doubles_any_size(size: tuple[int, int]) -> None:
    rows, columns = size
    result = make()(
        torch.randn(2, 16, rows, columns), torch.randn(2, 8, 2 * rows, 2 * columns), torch.randn(2, 6, 12)
    )
    assert result.shape == (2, 8, 2 * rows, 2 * columns)


def test_residual_scale_starts_at_the_paper_value_and_weighs_the_text() -> None:
    features, skip = torch.randn(1, 16, 3, 3), torch.randn(1, 8, 6, 6)
    first, second = torch.randn(1, 6, 12), torch.randn(1, 6, 12)
    block = make()
    assert block.residual_scale.item() == pytest.approx(1.421)
    assert not torch.allclose(block(features, skip, first), block(features, skip, second), atol=1e-4)
    silent = make(residual_scale=0.0)
    assert_close(silent(features, skip, first), silent(features, skip, second))


def test_order_of_pixels_matters_through_the_positions() -> None:
    block, pixels = make(), torch.randn(1, 9, 16)
    there = block._attend_to_pixels(pixels)
    back = block._attend_to_pixels(pixels.flip(1)).flip(1)
    assert not torch.allclose(there, back, atol=1e-4)


def test_positions_equal_the_closed_form() -> None:
    positions = sinusoidal_positions(5, 6)
    for n in range(5):
        for k in range(3):
            angle = n / 10000 ** (2 * k / 6)
            assert float(positions[n, 2 * k]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(positions[n, 2 * k + 1]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_positions_need_even_channels() -> None:
    with pytest.raises(ValueError, match="channels must be even, got 5"):
        sinusoidal_positions(3, 5)

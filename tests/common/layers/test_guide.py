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


@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_guided_tokens_and_attention_have_the_shapes_of_the_scale(size: tuple[int, int]) -> None:
    rows, columns = size
    output = make().guide(torch.randn(2, 16, rows, columns), torch.randn(2, 6, 12), return_attention=True)
    assert output.features.shape == (2, 16, rows, columns)
    assert_close(output.image_tokens, output.features.flatten(2).transpose(1, 2))
    assert output.text_tokens.shape == (2, 4, 16)
    assert output.text_attention.shape == (2, 4, 4, rows, columns)
    assert_close(output.text_attention.sum(dim=(3, 4)), torch.ones(2, 4, 4))


def test_text_attention_equals_a_naive_loop_over_the_pixels() -> None:
    block = make().double().requires_grad_(False)
    features, text = torch.randn(1, 16, 2, 3).double(), torch.randn(1, 6, 12).double()
    output = block.guide(features, text, return_attention=True)
    pixels = block._attend_to_pixels(features.flatten(2).transpose(1, 2))
    layer = block.cross_attention
    query = layer.query(block.cross_norm_in(pixels) + sinusoidal_positions(6, 16))[0]
    key = layer.key(output.text_tokens + sinusoidal_positions(4, 16))[0]
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        for token in range(4):
            scores = [math.exp(float(key[token, part] @ query[n, part]) / 2) for n in range(6)]
            expected = torch.tensor(scores).double().reshape(2, 3) / sum(scores)
            assert_close(output.text_attention[0, head, token], expected, atol=1e-6, rtol=1e-6)


def test_attention_changes_nothing_else_and_is_left_out_unless_asked_for() -> None:
    block, features, text = make(), torch.randn(2, 16, 3, 3), torch.randn(2, 6, 12)
    plain, looking = block.guide(features, text), block.guide(features, text, return_attention=True)
    assert plain.text_attention is None
    assert all(torch.equal(a, b) for a, b in zip(plain[:3], looking[:3], strict=True))
    skip = torch.randn(2, 8, 6, 6)
    assert torch.equal(block(features, skip, text), block.upsample(plain.features, skip))


def test_text_passes_into_the_image_tokens_only_through_the_cross_attention() -> None:
    features, first, second = torch.randn(1, 16, 3, 3), torch.randn(1, 6, 12), torch.randn(1, 6, 12)
    block, silent = make(), make(residual_scale=0.0)
    assert not torch.allclose(
        block.guide(features, first).image_tokens, block.guide(features, second).image_tokens, atol=1e-4
    )
    pixels = features.flatten(2).transpose(1, 2)
    assert_close(silent.guide(features, first).image_tokens, silent._attend_to_pixels(pixels))

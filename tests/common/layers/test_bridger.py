from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from common.layers import Bridger

MASK = torch.tensor([[True, True, True, False], [True, False, False, False]])


def make(channels: int = 16, text_channels: int = 24) -> Bridger:
    torch.manual_seed(0)
    return Bridger(channels, text_channels, heads=4, ffn_channels=8).eval()


@pytest.mark.parametrize(
    ("size", "coarse"),
    [
        ((7, 7), (3, 3)),
        ((1, 1), (1, 1)),
        ((1, 3), (1, 1)),
        ((2, 3), (1, 1)),
        ((8, 4), (4, 2)),
        ((5, 1), (2, 1)),
    ],
)
def test_shapes_at_any_stage_size(size: tuple[int, int], coarse: tuple[int, int]) -> None:
    output = make()(torch.randn(2, 16, *size), torch.randn(2, 4, 24), return_attention=True)
    assert output.image.shape == (2, 16, *size)
    assert output.text.shape == (2, 4, 24)
    assert output.image_tokens.shape == (2, coarse[0] * coarse[1], 16)
    assert output.text_tokens.shape == (2, 4, 16)
    assert output.text_attention.shape == (2, 4, 4, *coarse)
    assert_close(output.text_attention.sum(dim=(3, 4)), torch.ones(2, 4, 4))


def test_equals_a_naive_reference() -> None:
    layer = make()
    image, text = torch.randn(2, 16, 4, 6), torch.randn(2, 4, 24)
    pooled = torch.zeros(2, 6, 16)
    for row in range(2):
        for column in range(3):
            patch = image[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            pooled[:, row * 3 + column] = torch.einsum("bcij,ocij->bo", patch, layer.image_in.weight)
    vision, words = layer.image_norm(pooled), layer.text_norm(layer.text_in(text))
    new_vision, _ = layer.image_interactor(vision, words)
    new_words, _ = layer.text_interactor(words, vision)
    expected = image.clone()
    for row in range(2):
        for column in range(3):
            patch = torch.einsum("bc,coij->boij", new_vision[:, row * 3 + column], layer.image_out.weight)
            expected[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += patch
    output = layer(image, text)
    assert_close(output.image, expected, atol=1e-5, rtol=1e-5)
    assert_close(output.text, text + layer.text_out(new_words), atol=1e-5, rtol=1e-5)
    assert output.text_attention is None


def test_last_row_of_an_odd_side_passes_unchanged() -> None:
    image = torch.randn(2, 16, 7, 7)
    output = make()(image, torch.randn(2, 4, 24))
    assert_close(output.image[:, :, 6], image[:, :, 6])
    assert_close(output.image[:, :, :, 6], image[:, :, :, 6])
    assert not torch.equal(output.image[:, :, :6, :6], image[:, :, :6, :6])


def test_masked_text_changes_nothing_and_unmasked_does() -> None:
    layer = make()
    image, text = torch.randn(2, 16, 6, 6), torch.randn(2, 4, 24)
    other = text.clone()
    other[~MASK] += 5.0
    masked, changed = layer(image, text, text_mask=MASK), layer(image, other, text_mask=MASK)
    assert_close(masked.image, changed.image)
    assert_close(masked.text[MASK], changed.text[MASK])
    assert not torch.allclose(layer(image, text).image, layer(image, other).image, atol=1e-4)


def test_image_and_text_change_each_other() -> None:
    layer = make()
    image, text = torch.randn(1, 16, 4, 4, requires_grad=True), torch.randn(1, 4, 24, requires_grad=True)
    output = layer(image, text)
    from_text = torch.autograd.grad(output.image.square().sum(), text, retain_graph=True)[0]
    from_image = torch.autograd.grad(output.text.square().sum(), image)[0]
    assert from_text.abs().sum() > 0
    assert from_image.abs().sum() > 0


@pytest.mark.parametrize("mask", [None, MASK])
def test_attention_changes_nothing_else_in_training(mask: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    layer = Bridger(16, 24, heads=4, ffn_channels=8, dropout=0.0).train()
    image, text = torch.randn(2, 16, 6, 6), torch.randn(2, 4, 24)
    plain = layer(image, text, text_mask=mask)
    looking = layer(image, text, text_mask=mask, return_attention=True)
    for one, other in zip(plain[:4], looking[:4], strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_attention_that_is_returned_has_no_dropout() -> None:
    torch.manual_seed(0)
    layer = Bridger(16, 24, heads=4, ffn_channels=8, dropout=0.5).train()
    output = layer(torch.randn(2, 16, 6, 6), torch.randn(2, 4, 24), return_attention=True)
    assert (output.text_attention > 0).all()
    assert_close(output.text_attention.sum(dim=(3, 4)), torch.ones(2, 4, 4))

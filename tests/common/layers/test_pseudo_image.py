"""Pseudo images: drawn of a vector, refined by an image, read back, and what they are to look like."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from common.layers import (
    ConsistencyProjection,
    PseudoImageGenerator,
    PseudoImageReader,
    TextRefinement,
    masked_image,
)


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def transposed_convolution(maps: Tensor, layer: torch.nn.ConvTranspose2d) -> Tensor:
    """Stride 2, padding 1, kernel 4: every input pixel stamps its kernel onto the output."""
    batch, _, rows, columns = maps.shape
    canvas = torch.zeros(batch, layer.out_channels, 2 * rows + 2, 2 * columns + 2)
    for row in range(rows):
        for column in range(columns):
            stamp = torch.einsum("bc,cdij->bdij", maps[:, :, row, column], layer.weight)
            canvas[:, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += stamp
    return canvas[:, :, 1:-1, 1:-1] + layer.bias[:, None, None]


def pixel_mean_of_two_convolutions(layers: torch.nn.Sequential, image: Tensor) -> Tensor:
    maps = F.conv2d(image, layers[0].weight, layers[0].bias, padding=1).clamp(min=0)
    return F.conv2d(maps, layers[2].weight, layers[2].bias, padding=1).clamp(min=0).flatten(2).mean(2)


def test_the_sizes_of_the_parts() -> None:
    assert count(PseudoImageGenerator()) == 2715
    assert count(PseudoImageReader()) == 70_352
    assert count(TextRefinement()) == 149_504 + 1_433_152
    assert count(ConsistencyProjection(64)) == 17_152


def test_the_generator_written_out() -> None:
    torch.manual_seed(0)
    generator, vector = PseudoImageGenerator(9), torch.randn(2, 9)
    first, second, third = (
        layer for layer in generator.layers if isinstance(layer, torch.nn.ConvTranspose2d)
    )
    maps = transposed_convolution(vector.reshape(2, 1, 3, 3), first).clamp(min=0)
    maps = transposed_convolution(maps, second).clamp(min=0)
    expected = 1 / (1 + (-transposed_convolution(maps, third)).exp())
    pseudo = generator(vector)
    assert pseudo.shape == (2, 3, 24, 24)
    assert_close(pseudo, expected, atol=1e-6, rtol=1e-5)


def test_the_paper_draws_224_pixels() -> None:
    pseudo = PseudoImageGenerator()(10 * torch.randn(1, 784))
    assert pseudo.shape == (1, 3, 224, 224)
    assert 0 <= float(pseudo.detach().min()) <= float(pseudo.detach().max()) <= 1


@pytest.mark.parametrize("channels", [768, 0, -4])
def test_a_vector_that_is_no_square_is_refused(channels: int) -> None:
    with pytest.raises(
        ValueError, match=f"vector_channels must be a square number such as 784, got {channels}"
    ):
        PseudoImageGenerator(channels)


def test_the_reader_written_out() -> None:
    torch.manual_seed(0)
    reader, pseudo = PseudoImageReader(9), torch.rand(2, 3, 24, 24)
    expected = F.linear(pixel_mean_of_two_convolutions(reader.layers, pseudo), *reader.project.parameters())
    assert_close(reader(pseudo), expected, atol=1e-6, rtol=1e-5)


def test_the_refinement_is_equation_1() -> None:
    torch.manual_seed(0)
    refinement = TextRefinement(9, image_channels=(4, 6))
    vector, image = torch.randn(2, 9), torch.rand(2, 3, 8, 8)
    first, norm, _, second = refinement.layers
    joint = torch.cat([vector, pixel_mean_of_two_convolutions(refinement.image_layers, image)], dim=1)
    hidden = F.linear(joint, first.weight, first.bias)
    hidden = (hidden - hidden.mean(1, keepdim=True)) / (
        hidden.var(1, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    hidden = hidden * norm.weight + norm.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    assert_close(refinement(vector, image), vector + F.linear(hidden, second.weight, second.bias))


def test_the_projection_is_of_norm_one_per_channel() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 8, 4, 4)
    projection = ConsistencyProjection(8, 16)
    linear = projection.layers[0]
    expected = F.layer_norm(F.linear(features.flatten(2).mean(2), linear.weight, linear.bias), (16,))
    assert_close(projection(features), expected)


def test_the_masked_image_is_0_outside_of_the_mask() -> None:
    image = torch.rand(3, 3, 4, 5, requires_grad=True)
    label = (torch.rand(3, 2, 4, 5) > 0.7).float()
    masked = masked_image(image, label)
    for case in range(3):
        for row in range(4):
            for column in range(5):
                inside = bool(label[case, :, row, column].max() > 0.5)
                expected = image[case, :, row, column] if inside else torch.zeros(3)
                assert torch.equal(masked[case, :, row, column], expected)
    assert not masked.requires_grad
    assert masked.any()


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (3, 1, 4, 5), (3, 1, 8, 4), (3, 4, 4)])
def test_a_label_of_another_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"label must be \(B, K, H, W\) of the image's size, got"):
        masked_image(torch.rand(3, 3, 4, 4), torch.zeros(shape))

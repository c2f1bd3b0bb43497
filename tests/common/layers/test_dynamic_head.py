"""The dynamic head: a convolution of each image's own, and what it depends on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from common.layers import DynamicHead, attention_weights, dynamic_pointwise


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make() -> DynamicHead:
    torch.manual_seed(0)
    return DynamicHead(5, 24, 64, embedding_size=12, width=0.125).eval()


def test_each_image_has_a_convolution_of_its_own() -> None:
    features, parameters = draw(3, 4, 5, 6), draw(3, 7 * 5, seed=1)
    found = dynamic_pointwise(features, parameters)
    for case in range(3):
        weight, bias = parameters[case, :28].view(7, 4, 1, 1), parameters[case, 28:]
        assert_close(found[case : case + 1], F.conv2d(features[case : case + 1], weight, bias))


def test_shapes_and_gradients() -> None:
    head = make()
    features, deep, words = (
        x.requires_grad_() for x in (draw(2, 24, 5, 7), draw(2, 64, 5, 7), draw(2, 5, 12))
    )
    logits = head(features, deep, words)
    assert logits.shape == (2, 5, 5, 7)
    logits.square().mean().backward()
    assert all(x.grad.any() for x in (features, deep, words))
    assert [name for name, weight in head.named_parameters() if not weight.grad.any()] == []


def test_logits_depend_on_words_and_on_the_images_own_summary() -> None:
    head, features, deep, words = make(), draw(2, 24, 4, 4), draw(2, 64, 4, 4), draw(2, 5, 12)
    logits = head(features, deep, words)
    assert (head(features, deep, words.flip(0)) - logits).abs().max() > 1e-4
    changed = head(
        features, deep + torch.tensor([0.0, 1.0])[:, None, None, None] * draw(64, 1, 1, seed=3), words
    )
    assert_close(changed[0], logits[0])
    assert (changed[1] - logits[1]).abs().max() > 1e-4


def test_the_mean_over_the_classes_does_not_see_their_order() -> None:
    head, deep, words = make(), draw(2, 64, 4, 4), draw(2, 5, 12)
    assert_close(head.context(deep, words[:, [3, 0, 4, 1, 2]]), head.context(deep, words))


def test_attention_to_a_single_key_is_its_value() -> None:
    """Why there are no projections of queries and keys: whatever they are, they change nothing."""
    query, key = draw(2, 3, 5, 8).requires_grad_(), draw(2, 3, 1, 8, seed=1).requires_grad_()
    weights = attention_weights(query, key)
    assert_close(weights, torch.ones(2, 3, 5, 1), rtol=0, atol=0)
    (weights @ draw(2, 3, 1, 8, seed=2)).sum().backward()
    assert not query.grad.any()
    assert not key.grad.any()


def test_parameters_of_the_paper_without_what_has_no_effect() -> None:
    with torch.device("meta"):
        head = DynamicHead(5, 256, 2048)
    count = sum(weight.numel() for weight in head.parameters())
    queries_and_keys = 2 * (256 * 768 + 768)
    assert (count + queries_and_keys) / 1e6 == pytest.approx(18.86, abs=0.005)
    assert head.controller[-1].out_features == 32896


@pytest.mark.parametrize("shape", [(2, 10), (3, 11)])
def test_wrong_parameters(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"parameters must be \(3, K \* 5\), .* got"):
        dynamic_pointwise(torch.zeros(3, 4, 2, 2), torch.zeros(shape))

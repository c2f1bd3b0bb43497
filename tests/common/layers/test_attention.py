from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from common.layers import Interactor, MultiHeadAttention, attention_weights, masked_mean, usable_keys


def copy_attention(source: MultiHeadAttention, target: nn.MultiheadAttention) -> None:
    with torch.no_grad():
        parts = (source.query, source.key, source.value)
        target.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        target.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        target.out_proj.weight.copy_(source.output.weight)
        target.out_proj.bias.copy_(source.output.bias)


def naive_weights(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    batch, heads, targets, size = query.shape
    result = torch.zeros(batch, heads, targets, key.shape[2], dtype=query.dtype)
    for b in range(batch):
        valid = [s for s in range(key.shape[2]) if mask[b, s]]
        for h in range(heads):
            for t in range(targets):
                scores = [math.exp(float(query[b, h, t] @ key[b, h, s]) / math.sqrt(size)) for s in valid]
                for s, score in zip(valid, scores, strict=True):
                    result[b, h, t, s] = score / sum(scores)
    return result


MASK = torch.tensor([[True, True, False, True, False], [True, False, False, False, False]])


def test_attention_weights_equal_a_naive_loop() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 4, 6).double(), torch.randn(2, 3, 5, 6).double()
    weights = attention_weights(query, key, MASK)
    assert_close(weights, naive_weights(query, key, MASK))
    assert_close(weights.sum(dim=-1), torch.ones(2, 3, 4).double())
    assert (weights.movedim(3, 1)[~MASK] == 0).all()


def test_a_row_without_valid_keys_attends_to_all() -> None:
    mask = torch.tensor([[False, False], [True, False]])
    assert usable_keys(mask).tolist() == [[True, True], [True, False]]
    weights = attention_weights(torch.zeros(2, 1, 1, 4), torch.randn(2, 1, 2, 4), mask)
    assert_close(weights[0], torch.full((1, 1, 2), 0.5))


def test_masked_mean_leaves_padding_out() -> None:
    tokens = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [6.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert_close(masked_mean(tokens, mask), torch.tensor([[2.0], [4.0]]))
    assert_close(masked_mean(tokens, None), tokens.mean(dim=1))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("return_weights", [False, True])
def test_multi_head_attention_equals_torch(masked: bool, return_weights: bool) -> None:
    torch.manual_seed(0)
    ours = MultiHeadAttention(16, 4)
    reference = nn.MultiheadAttention(16, 4, batch_first=True)
    copy_attention(ours, reference)
    query, key, value = torch.randn(2, 3, 16), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    mask = MASK if masked else None
    result, weights = ours(query, key, value, key_mask=mask, return_weights=return_weights)
    expected, expected_weights = reference(
        query, key, value, key_padding_mask=None if mask is None else ~mask, average_attn_weights=False
    )
    assert_close(result, expected, atol=1e-5, rtol=1e-5)
    if return_weights:
        assert_close(weights, expected_weights, atol=1e-5, rtol=1e-5)
    else:
        assert weights is None


def test_attention_dropout_acts_in_training_only() -> None:
    attention = MultiHeadAttention(8, 2, dropout=0.5)
    tokens = torch.randn(1, 6, 8)
    first, second = attention(tokens, tokens, tokens)[0], attention(tokens, tokens, tokens)[0]
    assert not torch.equal(first, second)
    attention.eval()
    assert_close(attention(tokens, tokens, tokens)[0], attention(tokens, tokens, tokens)[0])


def test_weights_over_queries_are_the_same_scores_normalised_the_other_way() -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(16, 4, dropout=0.5).double()
    query, key = torch.randn(2, 3, 16).double(), torch.randn(2, 5, 16).double()
    turned = attention.weights_over_queries(query, key)
    assert turned.shape == (2, 4, 5, 3)
    assert_close(turned.sum(dim=-1), torch.ones(2, 4, 5).double())
    # log w and log w' are the scores but for one constant per query, or per key
    _, weights = attention(query, key, key, return_weights=True)
    difference = weights.log() - turned.transpose(2, 3).log()
    difference = difference - difference[:, :, :1]
    assert_close(difference, difference[:, :, :, :1].expand_as(difference))


def test_channels_must_divide_among_heads() -> None:
    with pytest.raises(ValueError, match="channels must be a multiple of heads, got 10 channels and 4 heads"):
        MultiHeadAttention(10, 4)


def test_interactor_is_a_post_norm_decoder_layer() -> None:
    torch.manual_seed(0)
    ours = Interactor(16, heads=4, ffn_channels=24, dropout=0.1).eval()
    reference = nn.TransformerDecoderLayer(16, 4, 24, dropout=0.1, batch_first=True).eval()
    copy_attention(ours.self_attention, reference.self_attn)
    copy_attention(ours.cross_attention, reference.multihead_attn)
    reference.linear1.load_state_dict(ours.feed_forward[0].state_dict())
    reference.linear2.load_state_dict(ours.feed_forward[2].state_dict())
    target, memory = torch.randn(2, 7, 16), torch.randn(2, 5, 16)
    result, weights = ours(target, memory, memory_mask=MASK, return_attention=True)
    expected = reference(target, memory, memory_key_padding_mask=~MASK)
    assert_close(result, expected, atol=1e-5, rtol=1e-5)
    assert weights.shape == (2, 4, 7, 5)
    assert_close(weights.sum(dim=-1), torch.ones(2, 4, 7))


def test_interactor_ignores_masked_tokens_of_target_and_memory() -> None:
    torch.manual_seed(0)
    layer = Interactor(16, heads=4, ffn_channels=8).eval()
    target, memory = torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    before, _ = layer(target, memory, target_mask=MASK, memory_mask=MASK)
    target[~MASK] = 9.0
    memory[~MASK] = -9.0
    after, _ = layer(target, memory, target_mask=MASK, memory_mask=MASK)
    assert_close(before[MASK], after[MASK])

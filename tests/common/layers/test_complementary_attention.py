"""BCAM and DualA against loops over pixels, words and channels, without text, and their memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from common.layers import (
    BidirectionalComplementaryAttention,
    DualAttention,
    KANLinear,
    KGate,
    language_path,
    vision_path,
)

MASK = torch.tensor([[True, True, False, True, False], [True, False, False, False, False]])
FUSIONS = (BidirectionalComplementaryAttention, DualAttention)


class Curved(nn.Module):
    """A projection that is not linear, as a KAN layer is not."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(torch.nn.functional.silu(tokens))


def fusion(cls: type[nn.Module], channels: int = 8, **kwargs: object) -> nn.Module:
    torch.manual_seed(0)
    return cls(channels, projection=Curved, **{"gate": Curved, **kwargs}).double()


def inputs(size: int = 2, channels: int = 8, words: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(size, channels, 4, 3).double(), torch.randn(size, words, channels).double()


def naive_streams(layer: nn.Module, pixels: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 4 to 6 for one case, with all of P x N x C built."""
    tokens = tokens[mask]
    scores = layer.visual_key(pixels) @ layer.language_key(tokens).T / pixels.shape[1] ** 0.5  # (P, N)
    vision = (scores.softmax(dim=1)[:, :, None] * layer.language_value(tokens)[None]).sum(dim=1)
    weighted = scores.T.softmax(dim=1)[:, :, None] * layer.visual_value(pixels)[None]  # (N, P, C)
    factor = len(pixels) if layer.fl_rescale == "P" else 1
    return vision, factor * weighted.mean(dim=0)


def naive_gate(gate: nn.Module, features: Tensor) -> Tensor:
    return features * torch.tanh(gate.second(torch.relu(gate.first(features))))


@pytest.mark.parametrize("rescale", ["P", "none"])
@pytest.mark.parametrize("masked", [False, True])
def test_bcam_equals_the_naive_product_of_pixels_words_and_channels(rescale: str, masked: bool) -> None:
    layer = fusion(BidirectionalComplementaryAttention, fl_rescale=rescale)
    visual, tokens = inputs()
    result = layer(visual, tokens, MASK if masked else None)
    mask = MASK if masked else torch.ones_like(MASK)
    for case in range(2):
        pixels = visual[case].flatten(1).T
        streams = naive_streams(layer, pixels, tokens[case], mask[case])
        gated = [
            naive_gate(g, s) for g, s in zip((layer.first_gate, layer.second_gate), streams, strict=True)
        ]
        mixed = nn.functional.conv2d(
            torch.cat(gated, dim=1).T.reshape(1, 16, 4, 3), layer.mix.weight[:, :, None, None], layer.mix.bias
        )
        assert_close(result[case], visual[case] + mixed[0], rtol=0, atol=1e-5)
        assert_close(result[case], visual[case] + mixed[0], rtol=0, atol=1e-12)


def test_bcam_in_float32_equals_the_naive_product() -> None:
    """The same at the size of a scale of the network."""
    torch.manual_seed(0)
    pixels, words, channels = 784, 77, 32
    scores, value = torch.randn(1, pixels, words), torch.randn(1, pixels, channels)
    mask = torch.arange(words)[None] < 20
    weights = scores[0, :, :20].T.softmax(dim=1)  # (N, P)
    expected = (weights[:, :, None] * value).mean(dim=0) * pixels
    assert_close(language_path(scores, value, mask)[0], expected, rtol=0, atol=1e-5)
    tokens = torch.randn(1, words, channels)
    attended = scores[0, :, :20].softmax(dim=1) @ tokens[0, :20]
    assert_close(vision_path(scores, tokens, mask)[0], attended, rtol=0, atol=1e-5)


def test_words_that_look_everywhere_alike_leave_the_values() -> None:
    value = torch.randn(2, 6, 3)
    assert_close(language_path(torch.zeros(2, 6, 5), value, MASK), value)
    assert_close(language_path(torch.zeros(2, 6, 5), value, rescale="none"), value / 6)


def test_dual_attention_looks_at_the_words_before_and_after_they_saw_the_pixels() -> None:
    layer = fusion(DualAttention, gate=None)
    visual, tokens = inputs()
    result = layer(visual, tokens, MASK)
    for case in range(2):
        pixels, words = visual[case].flatten(1).T, tokens[case][MASK[case]]
        key, streams = layer.visual_key(pixels), []
        for _ in range(2):
            scores = key @ layer.language_key(words).T / 8**0.5
            streams.append(scores.softmax(dim=1) @ layer.language_value(words))
            words = words + scores.T.softmax(dim=1) @ layer.visual_value(pixels)
        expected = visual[case] + layer.mix(torch.cat(streams, dim=1)).T.reshape(8, 4, 3)
        assert_close(result[case], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cls", FUSIONS)
def test_padding_is_not_read(cls: type[nn.Module]) -> None:
    layer = fusion(cls)
    visual, tokens = inputs()
    before = layer(visual, tokens, MASK)
    tokens[~MASK] = 9.0
    assert_close(layer(visual, tokens, MASK), before, rtol=0, atol=0)


@pytest.mark.parametrize("cls", FUSIONS)
def test_without_text_the_feature_map_stays_as_it_is(cls: type[nn.Module]) -> None:
    layer = fusion(cls)
    visual, tokens = inputs()
    visual.requires_grad_()
    tokens.requires_grad_()
    mask = torch.stack([torch.zeros(5, dtype=torch.bool), MASK[0]])
    result = layer(visual, tokens, mask)
    assert_close(result[0], visual[0], rtol=0, atol=0)
    assert_close(result[1:], layer(visual[1:], tokens[1:], mask[1:]))
    result[0].sum().backward()
    assert_close(visual.grad[0], torch.ones_like(visual[0]))
    assert all(bool(torch.isfinite(p.grad).all()) for p in layer.parameters() if p.grad is not None)
    assert tokens.grad.count_nonzero() == 0


@pytest.mark.parametrize("cls", FUSIONS)
@pytest.mark.parametrize("gate", [Curved, nn.Linear, None])
def test_gradients_reach_every_parameter_and_both_inputs(
    cls: type[nn.Module], gate: Callable[[int, int], nn.Module] | None
) -> None:
    layer = fusion(cls, gate=gate)
    visual, tokens = (t.requires_grad_() for t in inputs())
    layer(visual, tokens, MASK).square().sum().backward()
    # the projections have no bias here: one added to every key alters no softmax over these keys
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name
    assert (tokens.grad[MASK] != 0).all()
    assert tokens.grad[~MASK].count_nonzero() == 0
    assert (visual.grad != 0).all()


def test_gradients_by_finite_differences() -> None:
    layer = fusion(BidirectionalComplementaryAttention, channels=2)
    torch.manual_seed(1)
    visual, tokens = torch.randn(1, 2, 2, 2).double(), torch.randn(1, 3, 2).double()
    mask = torch.tensor([[True, True, False]])
    arguments = visual.requires_grad_(), tokens.requires_grad_()
    assert torch.autograd.gradcheck(lambda v, t: layer(v, t, mask), arguments)


@pytest.mark.parametrize("cls", FUSIONS)
def test_cases_of_a_batch_do_not_mix(cls: type[nn.Module]) -> None:
    layer = fusion(cls)
    visual, tokens = inputs()
    both = layer(visual, tokens, MASK)
    for case in range(2):
        one = slice(case, case + 1)
        assert_close(both[one], layer(visual[one], tokens[one], MASK[one]))


def test_the_two_kinds_have_equally_many_parameters() -> None:
    counts = {sum(p.numel() for p in fusion(cls).parameters()) for cls in FUSIONS}
    # four projections and two gates of two layers, C x C each, and the 1 x 1 convolution
    assert counts == {8 * 8 * 8 + 2 * 8 * 8 + 8}
    without = sum(p.numel() for p in fusion(DualAttention, gate=None).parameters())
    assert without == 4 * 8 * 8 + 2 * 8 * 8 + 8


def test_the_gate_weighs_within_one_and_passes_zero() -> None:
    torch.manual_seed(0)
    gate = KGate(6, projection=nn.Linear)
    features = 100 * torch.randn(2, 9, 6)
    assert (gate(features).abs() <= features.abs()).all()
    assert gate(torch.zeros(1, 2, 6)).count_nonzero() == 0


@pytest.mark.parametrize("cls", FUSIONS)
def test_kan_layers_project_and_gate(cls: type[nn.Module]) -> None:
    torch.manual_seed(0)
    layer = cls(8, projection=KANLinear, gate=KANLinear)
    visual, tokens = (t.float().requires_grad_() for t in inputs())
    result = layer(visual, tokens, MASK)
    result.square().sum().backward()
    assert all(bool(p.grad.count_nonzero() > 0) for p in layer.parameters())
    assert torch.isfinite(result).all()
    assert not torch.equal(result, visual)
    # 10 parameters for each connection of four projections and of two gates of two layers
    assert sum(p.numel() for p in layer.parameters()) == 10 * 8 * 8 * 8 + 2 * 8 * 8 + 8
    tokens.data[~MASK] = 50.0
    assert_close(layer(visual, tokens, MASK), result, rtol=0, atol=0)


def test_maps_say_where_words_look() -> None:
    layer = fusion(BidirectionalComplementaryAttention)
    visual, tokens = inputs()
    maps = layer.text_attention(visual, tokens)
    assert maps.shape == (2, 5, 4, 3)
    assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 5).double())
    scores = layer.visual_key(visual[0].flatten(1).T) @ layer.language_key(tokens[0, 2]) / 8**0.5
    assert_close(maps[0, 2].flatten(), scores.softmax(dim=0))


@pytest.mark.parametrize("cls", FUSIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_and_near(cls: type[nn.Module], dtype: torch.dtype) -> None:
    layer = fusion(cls).float()
    torch.manual_seed(1)
    visual, tokens = torch.randn(2, 8, 64, 64), torch.randn(2, 5, 8)
    expected = layer(visual, tokens, MASK)
    result = layer.to(dtype)(visual.to(dtype), tokens.to(dtype), MASK)
    assert result.dtype == dtype
    assert_close(result.float(), expected, rtol=0.05, atol=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer.float()(visual, tokens, MASK)
    assert_close(mixed.float(), expected, rtol=0.05, atol=0.05)


def peak_bytes(run: Callable[[], object]) -> int:
    """Most memory that tensors take at once, beyond those that exist before."""
    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    most = current = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        current += event.nbytes()
        most = max(most, current)
    return most


def training_peak(side: int, words: int, channels: int) -> int:
    """Peak memory of the forward and backward pass of BCAM with linear projections, for one case."""
    layer = BidirectionalComplementaryAttention(channels, projection=nn.Linear, gate=nn.Linear)
    visual, tokens = torch.randn(1, channels, side, side), torch.randn(1, words, channels)
    mask = torch.arange(words)[None] < words // 2
    arguments = visual.requires_grad_(), tokens.requires_grad_()
    return peak_bytes(lambda: layer(*arguments, mask).sum().backward())


def test_memory_grows_as_pixels_by_words_plus_pixels_by_channels() -> None:
    pixels, words, channels = 112**2, 77, 32
    full = training_peak(112, words, channels)
    assert full < 8 * 4 * pixels * (words + channels)
    assert full < 0.4 * 4 * pixels * words * channels  # less than half of one tensor of P x N x C
    # in proportion to the pixels
    assert full / training_peak(56, words, channels) == pytest.approx(4, rel=0.05)
    # affine in words and channels: twice as many of both takes at most twice as much, not four times
    assert training_peak(112, 2 * words, 2 * channels) < 2.1 * full
    assert training_peak(112, 2 * words, channels) < 2.1 * full
    assert training_peak(112, words, 2 * channels) < 2.1 * full


def test_the_naive_product_would_take_more() -> None:
    """What the bounds above are told apart from."""
    weights, value = torch.rand(77, 784), torch.rand(784, 32)
    assert peak_bytes(lambda: (weights[:, :, None] * value).mean(dim=0)) > 4 * 77 * 784 * 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2, 7, 4, 3), (2, 5, 8), None), r"visual must be \(B, 8, H, W\), got \(2, 7, 4, 3\)"),
        (((2, 8, 12), (2, 5, 8), None), r"visual must be \(B, 8, H, W\), got \(2, 8, 12\)"),
        (((2, 8, 4, 3), (2, 5, 7), None), r"tokens must be \(2, N, 8\), got \(2, 5, 7\)"),
        (((2, 8, 4, 3), (1, 5, 8), None), r"tokens must be \(2, N, 8\), got \(1, 5, 8\)"),
        (
            ((2, 8, 4, 3), (2, 5, 8), MASK[:, :4]),
            r"token_mask must be bool \(2, 5\), got torch.bool \(2, 4\)",
        ),
        (
            ((2, 8, 4, 3), (2, 5, 8), MASK.long()),
            r"token_mask must be bool \(2, 5\), got torch.int64 \(2, 5\)",
        ),
    ],
)
def test_wrong_shapes(arguments: tuple, message: str) -> None:
    layer = BidirectionalComplementaryAttention(8, projection=nn.Linear)
    visual, tokens, mask = arguments
    with pytest.raises(ValueError, match=message):
        layer(torch.zeros(visual), torch.zeros(tokens), mask)


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        DualAttention(0, projection=nn.Linear)
    with pytest.raises(ValueError, match="fl_rescale must be one of none, P, got 'N'"):
        BidirectionalComplementaryAttention(8, projection=nn.Linear, fl_rescale="N")

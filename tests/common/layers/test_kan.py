"""KAN layer and KAN block."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from common.layers import KANBlock, KANLinear


def layer_of(inputs: int = 5, outputs: int = 3, **options: object) -> KANLinear:
    """A layer whose splines matter."""
    torch.manual_seed(0)
    layer = KANLinear(inputs, outputs, **options)
    nn.init.normal_(layer.spline_weight)
    return layer


def naive(layer: KANLinear, x: Tensor) -> Tensor:
    """The layer as a sum over scipy's splines, one for every pair of input and output."""
    step = (layer.high - layer.low) / layer.grid_size
    # scipy wants three more knots on either side to know the spline up to the ends of ours
    knots = layer.low + step * np.arange(-6, layer.grid_size + 7)
    result = F.silu(x.double()) @ layer.base_weight.detach().double().t()
    for o in range(layer.out_channels):
        for i in range(layer.in_channels):
            weights = np.pad(layer.spline_weight[o, :, i].detach().double().numpy(), 3)
            values = BSpline(knots, weights, 3, extrapolate=False)(x[:, i].double().numpy())
            result[:, o] += float(layer.spline_scale[o, i].detach()) * torch.from_numpy(np.nan_to_num(values))
    return result


@pytest.mark.parametrize("options", [{}, {"grid_size": 3, "grid_range": (-2.0, 0.5)}])
def test_layer_equals_a_sum_of_scipy_splines(options: dict) -> None:
    layer = layer_of(**options)
    x = torch.randn(200, 5) * 1.5
    assert_close(layer(x).double(), naive(layer, x), atol=1e-5, rtol=1e-5)


def test_ten_parameters_a_weight_and_no_bias() -> None:
    layer = KANLinear(64, 48)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 10 * 64 * 48
    assert not layer(torch.zeros(1, 64)).isnan().any()
    with torch.no_grad():
        layer.spline_weight.zero_()
    assert not layer(torch.zeros(1, 64)).any()


def test_start_is_nearly_linear_on_silu_and_reproducible() -> None:
    torch.manual_seed(0)
    layer = KANLinear(100, 50)
    for weight, bound in ((layer.base_weight, 0.1), (layer.spline_scale, 0.1), (layer.spline_weight, 0.01)):
        assert 0.95 * bound < weight.abs().max() <= bound
    x = torch.rand(64, 100) * 2 - 1
    base = F.silu(x) @ layer.base_weight.t()
    assert (layer(x) - base).std() < 0.05 * base.std()
    torch.manual_seed(0)
    assert_close(KANLinear(100, 50).state_dict(), layer.state_dict())


def test_gradients_equal_finite_differences() -> None:
    layer = layer_of(3, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    layer = layer_of(16, 8)
    x = torch.randn(300, 16, requires_grad=True)
    with torch.autocast("cpu", dtype=dtype):
        result = layer(x)
    assert result.dtype == dtype
    assert (result - layer(x)).abs().max() < 4 * torch.finfo(dtype).eps * 16
    result.float().square().mean().backward()
    grads = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("autocast", [False, True])
def test_compiled_without_a_graph_break(autocast: bool) -> None:
    layer = layer_of(6, 4)
    x = torch.randn(2, 7, 6, requires_grad=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    leaves = [x, *layer.parameters()]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        results = [compiled(x), layer(x)]
    tolerance = 0.1 if autocast else 1e-5
    assert results[0].dtype == results[1].dtype
    assert_close(*results, atol=tolerance, rtol=tolerance)
    found, wanted = (torch.autograd.grad(result.float().square().mean(), leaves) for result in results)
    assert_close(found, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_traced_layer_can_be_saved_and_takes_other_sizes() -> None:
    layer, file = layer_of(6, 4).eval(), io.BytesIO()
    torch.jit.save(torch.jit.trace(layer, torch.randn(2, 6)), file)
    file.seek(0)
    x = torch.randn(9, 6)
    assert_close(torch.jit.load(file)(x), layer(x), atol=1e-5, rtol=1e-5)


def test_exported_layer_takes_other_sizes() -> None:
    layer = layer_of(6, 4).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(layer, (torch.randn(2, 6),), dynamic_shapes=({0: batch},))
    x = torch.randn(9, 6)
    assert_close(program.module()(x), layer(x), atol=1e-5, rtol=1e-5)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(
        ValueError, match="must be at least 1, got in_channels 3, out_channels 0, grid_size 5"
    ):
        KANLinear(3, 0)
    with pytest.raises(ValueError, match=r"grid_range must be a lower and a higher end, got \(1.0, 1.0\)"):
        KANLinear(3, 3, grid_range=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"x must have 5 channels last, got shape \(2, 4\)"):
        KANLinear(5, 3)(torch.zeros(2, 4))
    assert "5, 3, grid_size=5" in repr(KANLinear(5, 3))


def test_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block = KANBlock(8).eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
    features = torch.randn(2, 8, 5, 7)
    tokens = F.layer_norm(features.movedim(1, 3), (8,), block.norm.weight, block.norm.bias)
    for mixer, (convolution, norm, _) in zip(block.mixers, block.convolutions, strict=True):
        maps = convolution(mixer(tokens.reshape(2, 35, 8)).reshape(2, 5, 7, 8).movedim(3, 1))
        tokens = F.relu(norm(maps)).movedim(1, 3)
    assert_close(block(features), features + tokens.movedim(3, 1), atol=1e-5, rtol=1e-5)
    # layers, LayerNorm, convolutions with bias, BatchNorm
    count = 3 * 10 * 8 * 8 + 2 * 8 + 3 * 10 * 8 + 3 * 2 * 8
    assert sum(parameter.numel() for parameter in block.parameters()) == count


def test_block_adds_nothing_when_its_last_norm_is_silent() -> None:
    block = KANBlock(4)
    nn.init.zeros_(block.convolutions[-1][1].weight)
    features = torch.randn(2, 4, 3, 3)
    assert_close(block(features), features)


def test_block_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    block, features = KANBlock(4, dropout=0.5), torch.randn(2, 4, 6, 6)
    added = block(features) - features
    assert (added == 0).float().mean() > (KANBlock(4)(features) - features == 0).float().mean() + 0.1
    block.eval()
    assert_close(block(features), block(features))

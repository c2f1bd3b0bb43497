"""Closed-form cubic B-splines and the product that keeps no basis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor
from torch.testing import assert_close

from common.layers import cubic_basis, spline_features, spline_linear, splines

GRIDS = [(5, -1.0, 1.0), (1, 0.0, 0.5), (3, -2.0, 1.0), (8, 10.0, 26.0)]


def scipy_basis(x: Tensor, grid_size: int, low: float, high: float) -> Tensor:
    """All bases by scipy's recursion, `(..., grid_size + 3, C)`."""
    knots = low + (high - low) / grid_size * np.arange(-3, grid_size + 4)
    pieces = [BSpline.basis_element(knots[k : k + 5], extrapolate=False) for k in range(grid_size + 3)]
    values = [np.nan_to_num(piece(x.double().numpy())) for piece in pieces]  # outside: NaN
    return torch.from_numpy(np.stack(values, axis=-2))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three rows of four inputs."""
    monkeypatch.setattr(splines, "CPU_BLOCK", 12)
    monkeypatch.setattr(splines, "CPU_ROWS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_basis_equals_the_recursion_of_scipy(
    grid: tuple[int, float, float], dtype: torch.dtype, tolerance: float
) -> None:
    size, low, high = grid
    reach = 4 * (high - low) / size
    x = torch.linspace(low - reach, high + reach, 997, dtype=dtype).reshape(-1, 1)
    basis = cubic_basis(x, grid_size=size, low=low, high=high)
    assert basis.shape == (997, size + 3, 1)
    assert_close(basis.double(), scipy_basis(x, *grid), atol=tolerance, rtol=0)


def test_bases_add_up_to_one_on_the_grid_and_at_most_four_are_positive() -> None:
    x = torch.linspace(-1, 1, 401, dtype=torch.float64)[:, None]
    basis = cubic_basis(x)
    assert_close(basis.sum(dim=1), torch.ones_like(x), atol=1e-12, rtol=0)
    assert basis.min() >= 0
    assert int((basis > 1e-12).sum(dim=1).max()) == 4
    assert not cubic_basis(torch.tensor([-2.2, 2.2, 1e30, -float("inf")])).any()


def test_values_at_the_knots() -> None:
    # a cubic B-spline is 1/6, 2/3, 1/6 at its inner knots
    expected = torch.tensor([1 / 6, 2 / 3, 1 / 6, 0, 0, 0, 0, 0])
    assert_close(cubic_basis(torch.tensor([-1.0]))[:, 0], expected, atol=1e-6, rtol=0)


def test_features_are_the_bases_and_silu() -> None:
    x = torch.randn(2, 3, 4)
    features = spline_features(x).unflatten(-1, (9, 4))
    assert_close(features[..., :8, :], cubic_basis(x))
    assert_close(features[..., 8, :], x * torch.sigmoid(x))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.usefixtures("small_blocks")
def test_product_of_blocks_equals_the_product_of_all(grid: tuple[int, float, float]) -> None:
    torch.manual_seed(0)
    size, low, high = grid
    options = {"grid_size": size, "low": low, "high": high}
    x = (low + (high - low) * (torch.rand(2, 4, 4, dtype=torch.float64) * 2 - 0.5)).requires_grad_()
    weight = torch.randn(5, (size + 4) * 4, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(2, 4, 5, dtype=torch.float64)
    result = spline_linear(x, weight, **options)
    expected = spline_features(x, **options) @ weight.t()
    assert_close(result, expected, atol=1e-12, rtol=1e-12)
    found, wanted = (torch.autograd.grad(value, [x, weight], grad) for value in (result, expected))
    assert_close(found, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.usefixtures("small_blocks")
def test_gradients_equal_finite_differences() -> None:
    torch.manual_seed(0)
    x = (torch.randn(7, 4, dtype=torch.float64) * 1.2).requires_grad_()
    weight = torch.randn(3, 36, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(spline_linear, (x, weight), check_undefined_grad=False)
    assert torch.autograd.gradcheck(spline_linear, (x.detach(), weight))
    assert torch.autograd.gradcheck(spline_linear, (x, weight.detach()))


def test_float32_gradients_of_many_blocks() -> None:
    torch.manual_seed(0)
    x = (torch.randn(3000, 64) * 0.7).requires_grad_()
    weight = torch.randn(16, 9 * 64, requires_grad=True)
    grad = torch.randn(3000, 16)
    exact = [part.detach().double().requires_grad_() for part in (x, weight)]
    wanted = torch.autograd.grad(spline_features(exact[0]) @ exact[1].t(), exact, grad.double())
    for found, other in zip(
        torch.autograd.grad(spline_linear(x, weight), [x, weight], grad), wanted, strict=True
    ):
        assert (found - other).abs().max() < 1e-5 * other.abs().max()


def test_nothing_of_the_size_of_the_bases_is_kept_for_the_backward_pass() -> None:
    x, weight = torch.randn(500, 8, requires_grad=True), torch.randn(2, 72, requires_grad=True)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        spline_linear(x, weight)
    assert sum(tensor.numel() for tensor in kept) == x.numel() + weight.numel()


def test_gradient_of_a_sum_and_of_views() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(4, 6, 5, requires_grad=True), torch.randn(2, 36, requires_grad=True)
    turned = x.permute(2, 1, 0)  # (5, 6, 4), not contiguous
    found = torch.autograd.grad(spline_linear(turned, weight).sum(), [x, weight])
    wanted = torch.autograd.grad((spline_features(turned) @ weight.t()).sum(), [x, weight])
    assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4), (4,)])
def test_no_rows_and_one_vector(shape: tuple[int, ...]) -> None:
    x, weight = torch.zeros(shape, requires_grad=True), torch.ones(3, 36, requires_grad=True)
    result = spline_linear(x, weight)
    assert result.shape == (*shape[:-1], 3)
    result.sum().backward()
    assert x.grad.shape == shape
    assert weight.grad.any() == (x.numel() > 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_finite_and_close(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(600, 16)
    x[0, :4] = torch.tensor([6e4, -6e4, 2.2, -2.2])  # near the end of float16, and of the splines
    x, weight = x.to(dtype).requires_grad_(), (torch.randn(8, 144) / 12).to(dtype).requires_grad_()
    result = spline_linear(x, weight)
    grads = torch.autograd.grad(result[1:].float().square().mean(), [x, weight])
    assert result.dtype == dtype
    assert [grad.dtype for grad in grads] == [dtype, dtype]
    assert all(part.isfinite().all() for part in (result[1:], *grads))
    exact = spline_features(x.double()) @ weight.double().t()
    assert (result[1:] - exact[1:]).abs().max() < 8 * torch.finfo(dtype).eps * exact[1:].abs().max()


def test_gradients_of_gradients_are_refused() -> None:
    x, weight = torch.randn(2, 3, requires_grad=True), torch.randn(2, 27, requires_grad=True)
    (first,) = torch.autograd.grad(spline_linear(x, weight).square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()

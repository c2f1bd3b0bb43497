"""Cubic B-splines on a uniform grid: their closed form, and a product with weights that keeps no basis.

On a uniform grid every cubic basis function is the same bump, moved. At a distance of r grid steps from its
centre it is ``(relu(2 - r)^3 - 4 relu(1 - r)^3) / 6``: no recursion over the order, no search for the interval,
and a derivative made of the same two terms.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

ORDER = 3
CPU_BLOCK = 32_768
"""Inputs that a thread takes at a time: their bases stay in its cache from one pass to the next."""
CPU_ROWS = 256
"""Rows of a block at least, so that the matrix products stay efficient when the inputs are many."""
GPU_BLOCK = 1_048_576
ROOT = 6 ** (-1 / 3)
"""Factor on lengths, so that the cubes come out divided by six."""

Grid = tuple[int, float, float]
"""Intervals, left end, right end."""


def cubic_basis(x: Tensor, *, grid_size: int = 5, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Values of all cubic B-splines of a uniform grid that goes on for three steps beyond either end.

    Args:
        x: `(..., C)`; beyond three steps outside of [low, high] every value is 0.
        grid_size: intervals between `low` and `high`, at least 1.
        low: left end of the grid.
        high: right end, above `low`.

    Returns:
        `(..., grid_size + 3, C)`, in the dtype of `x`, at least float32.
    """
    position = ((_at_least_float32(x) - low) * (grid_size / (high - low))).unsqueeze(-2)
    centers = torch.arange(-1, grid_size + 2, dtype=position.dtype, device=x.device).unsqueeze(-1)
    outer = F.relu(2 - (position - centers).abs())
    inner = F.relu(outer - 1)
    return (outer * outer * outer - 4 * (inner * inner * inner)) / 6


def spline_features(x: Tensor, *, grid_size: int = 5, low: float = -1.0, high: float = 1.0) -> Tensor:
    """All that a KAN layer multiplies by weights: the bases of `cubic_basis`, then SiLU(x).

    Args:
        x: `(..., C)`.
        grid_size: see `cubic_basis`.
        low: see `cubic_basis`.
        high: see `cubic_basis`.

    Returns:
        `(..., (grid_size + 4) * C)`, in the dtype of `x`, at least float32.
    """
    basis = cubic_basis(x, grid_size=grid_size, low=low, high=high)
    return torch.cat([basis, F.silu(_at_least_float32(x)).unsqueeze(-2)], dim=-2).flatten(-2)


def spline_linear(
    x: Tensor, weight: Tensor, *, grid_size: int = 5, low: float = -1.0, high: float = 1.0
) -> Tensor:
    """Multiply `spline_features(x)` by weights, the features of a block of rows at a time.

    Only `x` is kept for the backward pass, which makes the features again: in blocks that stay in the cache that
    costs less than to write all of them to memory and to read them back. It can be differentiated once. While a
    graph is recorded (compiled, traced or exported) it is the plain formula, which a compiler fuses by itself.

    Args:
        x: `(..., in)`.
        weight: `(out, (grid_size + 4) * in)`. Its dtype is that of the products and of the result; the features
            are computed in float32 at least and then rounded to it.
        grid_size: see `cubic_basis`.
        low: see `cubic_basis`.
        high: see `cubic_basis`.

    Returns:
        `(..., out)`.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        features = spline_features(x, grid_size=grid_size, low=low, high=high)
        return F.linear(features.to(weight.dtype), weight)
    rows: Tensor = _SplineLinear.apply(x.reshape(-1, x.shape[-1]), weight, (grid_size, low, high))
    return rows.view(*x.shape[:-1], weight.shape[0])


class _SplineLinear(torch.autograd.Function):
    """`spline_linear` of rows `(N, in)`."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, grid: Grid) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.grid = grid
        result = x.new_empty(x.shape[0], weight.shape[0], dtype=weight.dtype)
        blocks = _Blocks(x, weight, grid)
        for rows in blocks.slices():
            torch.mm(blocks.features(x[rows]), weight.t(), out=result[rows])
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight = ctx.needs_input_grad[:2]
        grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device) if for_x else None
        total = weight.new_zeros(weight.shape, dtype=_at_least_float32(weight[:0]).dtype)
        blocks = _Blocks(x, weight, ctx.grid, backward=True)
        for rows in blocks.slices():
            features = blocks.features(x[rows])
            if for_weight:
                _add_product(total, grad[rows].t(), features)
            if grad_x is not None:
                grad_x[rows] = blocks.input_gradient(x[rows], grad[rows])
        return grad_x, total.to(weight.dtype) if for_weight else None, None


class _Blocks:
    """Features and their derivative for one block of rows after the other, always in the same memory.

    Args:
        x: rows `(N, in)`.
        weight: `(out, (grid_size + 4) * in)`.
        grid: of the splines.
        backward: whether `input_gradient` will be asked for.
    """

    def __init__(self, x: Tensor, weight: Tensor, grid: Grid, *, backward: bool = False) -> None:
        grid_size, low, high = grid
        self.weight = weight
        self.count, channels = x.shape
        self.size = min(_rows_per_block(x), max(self.count, 1))
        dtype = _at_least_float32(x[:0]).dtype
        self.scale = ROOT * grid_size / (high - low)
        centers = torch.arange(-1, grid_size + 2, dtype=dtype, device=x.device) * ROOT
        self.centers = (centers + low * self.scale).unsqueeze(-1)
        self.reach = torch.tensor(2 * ROOT, dtype=dtype)
        shape = (self.size, grid_size + ORDER, channels)
        self.outer, self.inner = (x.new_empty(shape, dtype=dtype) for _ in range(2))
        self.values = x.new_empty(self.size, shape[1] + 1, channels, dtype=dtype)
        # without a backward pass nothing is read twice, and a step may overwrite what it reads
        self.offset = torch.empty_like(self.outer) if backward else self.outer
        self.gradient = torch.empty_like(self.values) if backward else self.inner
        self.scratch = self.gradient[:, : shape[1]]

    def slices(self) -> list[slice]:
        """The rows of every block."""
        starts = range(0, self.count, self.size)
        return [slice(start, min(start + self.size, self.count)) for start in starts]

    def features(self, x: Tensor) -> Tensor:
        """`spline_features` of the rows `(n, in)` in the dtype of the weights; valid until the next call."""
        parts = (self.offset, self.outer, self.inner, self.scratch, self.values)
        offset, outer, inner, scratch, values = (part[: x.shape[0]] for part in parts)
        x = x.to(values.dtype)
        # (n, 1, in) - (bases, 1) -> (n, bases, in)
        torch.sub((x * self.scale).unsqueeze(1), self.centers, out=offset)
        torch.abs(offset, out=outer)
        torch.sub(self.reach, outer, out=outer).clamp_(min=0)
        torch.sub(outer, ROOT, out=inner).clamp_(min=0)
        torch.pow(outer, 3, out=values[:, :-1])
        torch.pow(inner, 3, out=scratch)
        values[:, :-1].sub_(scratch, alpha=4)
        values[:, -1] = F.silu(x)
        return values.flatten(1).to(self.weight.dtype)

    def input_gradient(self, x: Tensor, grad: Tensor) -> Tensor:
        """Gradient `(n, in)` by the rows whose `features` were asked for last, from that by the result."""
        parts = (self.offset, self.outer, self.inner, self.gradient)
        offset, outer, inner, gradient = (part[: x.shape[0]] for part in parts)
        if self.weight.dtype == gradient.dtype:
            torch.mm(grad, self.weight, out=gradient.view(x.shape[0], -1))
        else:
            gradient.view(x.shape[0], -1).copy_(grad @ self.weight)
        slope = outer.mul_(outer).sub_(inner.mul_(inner), alpha=4).mul_(offset.sign_())
        through_basis = slope.mul_(gradient[:, :-1]).sum(dim=1).mul_(-3 * self.scale)
        return through_basis + torch.ops.aten.silu_backward(gradient[:, -1], x.to(gradient.dtype))


def _rows_per_block(x: Tensor) -> int:
    channels = x.shape[1]
    if x.device.type == "cpu":
        return max(CPU_BLOCK // channels, CPU_ROWS) * torch.get_num_threads()
    return max(GPU_BLOCK // channels, 1)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == right.dtype:
        total.addmm_(left, right)
    else:  # the blocks add up in float32 when their products are of half precision
        total += left @ right


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

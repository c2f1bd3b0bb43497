"""Sinkhorn's iterations for a batch: plain scaling by matrix products, and logarithms where that is unsafe."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# exp(±88) is about what float32 holds. A centred kernel within exp(±40) neither overflows nor loses an entry.
_WIDEST_KERNEL = 80.0
_LARGEST_LOG_FACTOR = 80.0


class Schedule(NamedTuple):
    """How long to iterate.

    Args:
        max_iterations: of every item, >= 1.
        tolerance: an item stops where the mean change of its rows' log factors is below it, >= 0.
        check_every: iterations between two checks, >= 1.
    """

    max_iterations: int
    tolerance: float
    check_every: int


class _Side(NamedTuple):
    """The rows or the columns of every item, each `(B, 1, N)`."""

    mask: Tensor  # bool, true where valid
    share: Tensor  # the marginal, 0 where padded

    @classmethod
    def uniform(cls, mask: Tensor, dtype: torch.dtype) -> _Side:
        """Equal shares of the valid ones, from a mask `(B, N)`."""
        mask = mask[:, None, :]
        return cls(mask, mask.to(dtype) / mask.sum(dim=2, keepdim=True))

    def of(self, items: Tensor) -> _Side:
        """The same of some items alone."""
        return _Side(self.mask[items], self.share[items])

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the valid ones, `(B, 1, N)` -> `(B,)`."""
        return (values.masked_fill(~self.mask, 0) * self.share).sum(dim=(1, 2))

    def all_below(self, values: Tensor, limit: float) -> Tensor:
        """Whether every valid value is below the limit, `(B,)`; false where one is not a number."""
        return ((values < limit) | ~self.mask).all(dim=2).squeeze(1)


_Factors = tuple[Tensor, Tensor]
_Advance = Callable[[Tensor, _Factors, _Side, _Side, int], tuple[_Factors, Tensor]]


def balanced_plan(
    cost: Tensor, row_mask: Tensor, column_mask: Tensor, *, entropy: float, schedule: Schedule
) -> Tensor:
    r"""Scale :math:`\exp(-M/\epsilon)` until all valid rows, and all valid columns, have the same sum.

    Plain scaling by matrix products is exact as long as floating point holds the kernel and the factors. That is
    checked for every item; one that fails is computed again with logarithms, which is slower.

    Args:
        cost: `(B, N, M)`, float32 or float64, finite also where padded.
        row_mask: bool `(B, N)`, true where valid, at least once in every item.
        column_mask: bool `(B, M)`, likewise.
        entropy: > 0, in units of the cost.
        schedule: when to stop.

    Returns:
        `(B, N, M)`, which adds up to 1 in every item; 0 where padded.
    """
    rows, columns = _Side.uniform(row_mask, cost.dtype), _Side.uniform(column_mask, cost.dtype)
    highest, lowest = cost.flatten(1).amax(dim=1), cost.flatten(1).amin(dim=1)
    # in place from here on: at this size, fresh memory costs more than arithmetic
    kernel = torch.add((highest + lowest)[:, None, None] / (2 * entropy), cost, alpha=-1 / entropy).exp_()
    start = torch.ones_like(rows.share), column_mask[:, None, :].to(cost.dtype)
    row_factor, column_factor = _until_still(_scale, kernel, start, (rows, columns), schedule)
    safe = highest - lowest < _WIDEST_KERNEL * entropy
    for side, factor in ((rows, row_factor), (columns, column_factor)):
        safe &= side.all_below(factor.log().abs(), _LARGEST_LOG_FACTOR)
    plan = kernel.mul_(row_factor.mT).mul_(column_factor)
    if not safe.all():
        unsafe = (~safe).nonzero().squeeze(1)
        scores = cost[unsafe] / -entropy
        plan[unsafe] = _plan_from_logarithms(scores, rows.of(unsafe), columns.of(unsafe), schedule)
    return plan


def _plan_from_logarithms(scores: Tensor, rows: _Side, columns: _Side, schedule: Schedule) -> Tensor:
    start = torch.zeros_like(rows.share), columns.mask.to(scores.dtype).log()
    row_factor, _ = _until_still(_scale_logarithms, scores, start, (rows, columns), schedule)
    # the column factors once more, without the rounding of large logarithms
    return (scores + row_factor.mT).softmax(dim=1) * columns.share


def _until_still(
    advance: _Advance, matrix: Tensor, factors: _Factors, sides: tuple[_Side, _Side], schedule: Schedule
) -> _Factors:
    """Advance the factors of rows and columns; leave out the items that converged at a check."""
    final, moving, done = factors, torch.arange(len(matrix), device=matrix.device), 0
    while done < schedule.max_iterations:
        iterations = min(schedule.check_every, schedule.max_iterations - done)
        done += iterations
        factors, change = advance(matrix, factors, *sides, iterations)
        final = _written(final, moving, factors)
        # a change that is not a number is not below the tolerance
        kept = (~(change < schedule.tolerance)).nonzero().squeeze(1)
        if len(kept) == 0:
            break
        if len(kept) < len(moving):
            moving, matrix, factors = moving[kept], matrix[kept], (factors[0][kept], factors[1][kept])
            sides = sides[0].of(kept), sides[1].of(kept)
    return final


def _written(final: _Factors, items: Tensor, factors: _Factors) -> _Factors:
    if len(items) == len(final[0]):
        return factors
    return final[0].index_copy(0, items, factors[0]), final[1].index_copy(0, items, factors[1])


def _scale(
    kernel: Tensor, factors: _Factors, rows: _Side, columns: _Side, iterations: int
) -> tuple[_Factors, Tensor]:
    """Iterate the factors themselves, which are 0 where padded."""
    row_factor, column_factor = factors[0].clone(), factors[1].clone()
    transposed, previous = kernel.mT, row_factor
    for step in range(iterations):
        if step == iterations - 1:
            previous = row_factor.clone()
        # (B, 1, M) @ (B, M, N) -> (B, 1, N)
        torch.div(rows.share, torch.bmm(column_factor, transposed, out=row_factor), out=row_factor)
        torch.div(columns.share, torch.bmm(row_factor, kernel, out=column_factor), out=column_factor)
    return (row_factor, column_factor), rows.mean((row_factor / previous).log_().abs_())


def _scale_logarithms(
    scores: Tensor, factors: _Factors, rows: _Side, columns: _Side, iterations: int
) -> tuple[_Factors, Tensor]:
    """Iterate the logarithms of the factors, which are minus infinity where padded."""
    row_factor, column_factor = factors
    previous = row_factor
    for _ in range(iterations):
        previous = row_factor
        row_factor = rows.share.log() - (scores + column_factor).logsumexp(dim=2)[:, None, :]
        column_factor = columns.share.log() - (scores + row_factor.mT).logsumexp(dim=1, keepdim=True)
    return (row_factor, column_factor), rows.mean((row_factor - previous).abs())

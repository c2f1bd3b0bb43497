"""Rows of all processes of a distributed training, with the gradient that belongs to them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def gather_rows(rows: Tensor) -> Tensor:
    r"""Stack the rows of all processes, by rank; with one process, return them as they are.

    The gradient of a row is the sum of what every process sends back to it. Where all processes compute the same
    loss :math:`L` of the gathered rows, each therefore gets :math:`W \, \partial L / \partial \text{rows}` for its
    own, and the mean over the :math:`W` processes that `DistributedDataParallel` takes of the parameters'
    gradients is that of one process with the global batch. Both directions are collective: every process must
    call this function, and its backward pass when the rows need a gradient, equally often.

    Args:
        rows: `(B, ...)`, floating point; B may differ between processes and may be 0, the rest may not.

    Returns:
        `(sum of all B, ...)`.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    gathered: Tensor = _GatherRows.apply(rows)
    return gathered


class _GatherRows(Function):
    """All-gather whose backward pass adds up the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        counts = _counts(rows)
        rank = dist.get_rank()
        ctx.start, ctx.count = sum(counts[:rank]), counts[rank]
        # a collective needs one shape everywhere: fill up to the most rows, then cut the filling off
        filled = rows.new_zeros(max(counts), *rows.shape[1:])
        filled[: len(rows)] = rows
        parts = [torch.empty_like(filled) for _ in counts]
        dist.all_gather(parts, filled)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.count]


def _counts(rows: Tensor) -> list[int]:
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    return torch.cat(counts).tolist()

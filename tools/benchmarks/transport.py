"""Time of the transport plans of a batch beside POT's: a loop of ``ot.sinkhorn``, and ``ot.batch.solve_batch``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from torch import Tensor

from common.losses.optimal_transport import cosine_cost, sinkhorn_plan
from tools.benchmarks.timing import comparison, interleaved_medians

ENTROPY = 3e-2
MAX_ITERATIONS = 100
TOLERANCE = 1e-2
ROUNDING = 1e-6  # of the marginals of a float32 plan

KINDS = {"independent": 0.0, "clustered": 1.0}
"""Name to the weight of directions that tokens share: without any, all costs are nearly 1."""

_WIDTH = 256
_CLUSTERS = 6

Solve = Callable[[Tensor], Tensor]


def transport_benchmarks(
    *,
    repeats: int = 15,
    batch_size: int = 32,
    image_tokens: int = 49,
    text_tokens: int = 24,
    threads: int | None = 1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure the plans of a batch of cosine costs: ours beside POT's two ways, on the CPU and the GPU if any.

    All have the same tensors, entropy, most iterations and tolerance. What the tolerance bounds is each one's
    own: POT, in every tenth iteration, the norm of a marginal's error, over the whole batch in `solve_batch`.
    Therefore the marginals' errors stand beside the times, and ours must not be the larger. `solve_batch` runs
    its default method for a positive entropy, which works with logarithms.

    Matrices this small gain nothing from several threads, and where other processes keep the processor busy,
    threads that wait for one another measure those.

    Args:
        repeats: Rounds of each; medians are reported.
        batch_size: Items.
        image_tokens: Rows of an item's cost.
        text_tokens: Columns of an item's cost.
        threads: Of the CPU, for all alike; torch's own number where it is None.
        seed: Of the tokens.

    Returns:
        A row for each device, kind of tokens and reference, with ``marginal_error`` and
        ``reference_marginal_error``: both marginals' absolute errors added up, of the worst item.

    Raises:
        ArithmeticError: If our marginal error is larger than the reference's.
        ModuleNotFoundError: If POT is not installed.
    """
    references = {"loop": _loop_of_pot(), "batch": _batch_of_pot()}
    devices = [torch.device("cpu")] + [torch.device("cuda")] * torch.cuda.is_available()
    sizes = {
        "batch": batch_size,
        "image_tokens": image_tokens,
        "text_tokens": text_tokens,
        "repeats": repeats,
    }
    rows = []
    with _threads(threads):
        for device, (kind, weight) in product(devices, KINDS.items()):
            cost = _random_cost(batch_size, image_tokens, text_tokens, weight=weight, seed=seed).to(device)
            for word, reference in references.items():
                name = f"transport_{word}_{kind}_{device.type}"
                errors = _checked_errors(name, _ours(cost), reference(cost))
                rows.append(_timed(name, cost, reference, sizes) | errors)
    return rows


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _timed(name: str, cost: Tensor, reference: Solve, sizes: dict[str, Any]) -> dict[str, Any]:
    seconds = interleaved_medians(
        lambda: _ours(cost), lambda: reference(cost), repeats=sizes["repeats"], warm_up=3
    )
    return comparison(name, seconds, sizes=sizes, device=cost.device, unit="ms per batch", scale=1e3)


def _ours(cost: Tensor) -> Tensor:
    return sinkhorn_plan(cost, entropy=ENTROPY, max_iterations=MAX_ITERATIONS, tolerance=TOLERANCE)


def _loop_of_pot() -> Solve:
    ot = _import_pot()

    def solve(cost: Tensor) -> Tensor:
        rows = cost.new_full((cost.shape[1],), 1 / cost.shape[1])
        columns = cost.new_full((cost.shape[2],), 1 / cost.shape[2])
        settings = {"numItermax": MAX_ITERATIONS, "stopThr": TOLERANCE, "warn": False}
        return torch.stack([ot.sinkhorn(rows, columns, item, ENTROPY, **settings) for item in cost])

    return solve


def _batch_of_pot() -> Solve:
    ot = _import_pot()

    def solve(cost: Tensor) -> Tensor:
        plan: Tensor = ot.batch.solve_batch(
            cost, ENTROPY, max_iter=MAX_ITERATIONS, tol=TOLERANCE, grad="detach"
        ).plan
        return plan

    return solve


def _import_pot() -> Any:
    try:
        import ot
        import ot.batch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the transport benchmark must have POT: pip install '.[test]'") from error
    return ot


def _random_cost(batch: int, image_tokens: int, text_tokens: int, *, weight: float, seed: int) -> Tensor:
    """Cosine distances of random tokens, which lean on a few directions that image and text share."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(_CLUSTERS, _WIDTH, generator=generator) / _CLUSTERS**0.5
    image, text = (
        weight * torch.randn(batch, count, _CLUSTERS, generator=generator) @ shared
        + torch.randn(batch, count, _WIDTH, generator=generator)
        for count in (image_tokens, text_tokens)
    )
    return cosine_cost(image, text)


def marginal_error(plan: Tensor) -> float:
    """Distance of a batch of plans from uniform marginals.

    Args:
        plan: `(B, N, M)`.

    Returns:
        The absolute errors of both marginals, added up, of the worst item.
    """
    plan = plan.double()
    rows = (plan.sum(dim=2) - 1 / plan.shape[1]).abs().sum(dim=1)
    columns = (plan.sum(dim=1) - 1 / plan.shape[2]).abs().sum(dim=1)
    return float((rows + columns).max())


def _checked_errors(name: str, plan: Tensor, reference: Tensor) -> dict[str, float]:
    ours, theirs = marginal_error(plan), marginal_error(reference)
    # written so that an error that is not a number is refused as well
    if not ours <= theirs + ROUNDING:
        raise ArithmeticError(
            f"{name}: the marginal error must not be larger than the reference's {theirs:.3g}, got {ours:.3g}"
        )
    return {"marginal_error": ours, "reference_marginal_error": theirs}

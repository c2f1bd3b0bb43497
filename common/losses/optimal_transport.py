"""Entropic optimal transport between two sets of tokens: transport plans of a batch, and the alignment loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import at_least_float32
from .sinkhorn import Schedule, balanced_plan

MARGINALS = ("balanced", "semi_relaxed")


def cosine_cost(image: Tensor, text: Tensor) -> Tensor:
    r"""Cosine distance of every pair of tokens.

    .. math:: M_{ij} = 1 - \cos(f_{\mathrm{img},i}, f_{\mathrm{txt},j})

    Args:
        image: `(B, N, C)`, any real numbers.
        text: `(B, L, C)`, any real numbers.

    Returns:
        `(B, N, L)` in [0, 2], in float32 (float64 stays float64), also under autocast. A token of zeros has the
        distance 1 to every other.

    Raises:
        ValueError: if the shapes do not fit.

    Reference:
        SSA, equation 1.
    """
    if image.ndim != 3 or text.ndim != 3 or image.shape[::2] != text.shape[::2]:
        raise ValueError(
            "image and text must have shapes (B, N, C) and (B, L, C) with the same B and C, got "
            f"{tuple(image.shape)} and {tuple(text.shape)}; project both to one width."
        )
    image = at_least_float32(image)
    text = at_least_float32(text).to(image.dtype)
    with torch.autocast(device_type=image.device.type, enabled=False):
        return 1 - F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).mT


def transport_alignment_loss(
    image: Tensor,
    text: Tensor,
    *,
    image_mask: Tensor | None = None,
    text_mask: Tensor | None = None,
    mode: str = "balanced",
    entropy: float = 3e-2,
    max_iterations: int = 100,
    tolerance: float = 1e-2,
) -> Tensor:
    r"""Mean cost of transporting image tokens to text tokens and text tokens to image tokens.

    With the cosine distance :math:`M` and the plans of both directions, for every item,

    .. math:: \tfrac12 \left(\langle T_{i \to t}, M \rangle + \langle T_{t \to i}, M^\top \rangle\right)

    averaged over the items with a valid token on both sides; without any, the loss is 0. The plans are constants:
    gradients reach the tokens through :math:`M` alone.

    ``balanced`` constrains both marginals, and then both directions are one plan: entropic transport minimises a
    strictly convex function, so it has a single minimiser, and exchanging the sides transposes the cost and
    swaps the two constraints, so its minimiser is the transpose. It is computed once. ``semi_relaxed``
    constrains only the side that asks (`semi_relaxed_plan`); there the two directions do differ.

    Args:
        image: `(B, N, C)`, any real numbers; what stands in padded places is not read.
        text: `(B, L, C)`, likewise.
        image_mask: bool `(B, N)`, true where a token is valid; all of them without it.
        text_mask: bool `(B, L)`, likewise.
        mode: ``"balanced"`` or ``"semi_relaxed"``.
        entropy: weight of the entropy, > 0, in units of the cost.
        max_iterations: of Sinkhorn, >= 1.
        tolerance: where Sinkhorn stops, >= 0; see `sinkhorn_plan`.

    Returns:
        A scalar tensor in [0, 2], in float32 (float64 stays float64), also under autocast.

    Raises:
        ValueError: if shapes do not fit, a mask is not bool, or a setting is out of its range.

    Reference:
        SSA, section II-A, the local term of equation 2; the plan as a constant is FOA-Attack's.

    Differences from the paper:
        The paper speaks of transport in both directions and does not say which constraints make them differ;
        ``balanced`` is its plain reading, in which they do not.
    """
    image, text = _zero_padded(image, image_mask), _zero_padded(text, text_mask)
    cost = cosine_cost(image, text)
    rows, columns = _valid_sides(cost, image_mask, text_mask)
    if mode == "semi_relaxed":
        forth = semi_relaxed_plan(cost, row_mask=rows, column_mask=columns, entropy=entropy)
        back = semi_relaxed_plan(cost.mT, row_mask=columns, column_mask=rows, entropy=entropy)
        plan = (forth + back.mT) / 2
    else:
        plan = sinkhorn_plan(
            cost,
            row_mask=rows,
            column_mask=columns,
            entropy=entropy,
            max_iterations=max_iterations,
            tolerance=tolerance,
            marginals=mode,
        )
    return (plan * cost).sum() / rows.any(dim=1).sum().clamp(min=1)


@torch.no_grad()
def sinkhorn_plan(
    cost: Tensor,
    *,
    row_mask: Tensor | None = None,
    column_mask: Tensor | None = None,
    entropy: float = 3e-2,
    max_iterations: int = 100,
    tolerance: float = 1e-2,
    check_every: int = 12,
    marginals: str = "balanced",
) -> Tensor:
    r"""Entropic optimal transport plans of a batch of cost matrices, with uniform marginals.

    Over the `n` valid rows and `m` valid columns of each item,

    .. math::
        T = \arg\min_{T \geq 0} \langle T, M \rangle + \epsilon \sum_{ij} T_{ij} (\log T_{ij} - 1)
        \quad\text{s.t.}\quad T 1 = 1/n,\; T^\top 1 = 1/m

    by Sinkhorn's iterations, each of which normalises the rows and then the columns: by matrix products, and with
    logarithms for the items whose scaling factors floating point could not hold.

    An item stops, whatever the others in its batch do, at the first check at which its row factors changed on
    average by less than the tolerance in the last iteration, in proportion:

    .. math:: \tfrac1n \sum_i |\log r_i - \log r_i^{\mathrm{prev}}| < \mathrm{tolerance}

    This is, to first order, what the rows' sums were still off by before that iteration, all absolute errors added
    up; neither a constant added to the cost nor the number of tokens matters. Columns are exact when an item
    stops. Of the worst of 32 items of 49 × 24 random tokens, the rows were off by 6e-5 with independent tokens
    and by 9e-3 with clustered ones, at the defaults. With the tolerance 0, all iterations run.

    Args:
        cost: `(B, N, M)`, finite where valid; padded entries are not read.
        row_mask: bool `(B, N)`, true where a row is valid; all of them without it.
        column_mask: bool `(B, M)`, likewise.
        entropy: :math:`\epsilon` > 0, in units of the cost.
        max_iterations: >= 1.
        tolerance: >= 0.
        check_every: iterations between two checks, >= 1.
        marginals: ``"balanced"``, or ``"semi_relaxed"`` for `semi_relaxed_plan`.

    Returns:
        `(B, N, M)` without gradient, >= 0, in float32 (float64 stays float64), also under autocast. Padded entries
        are exactly 0, and so is the whole plan of an item without a valid row or without a valid column.

    Raises:
        ValueError: if shapes do not fit, a mask is not bool, or a setting is out of its range.

    Reference:
        Cuturi, Sinkhorn Distances, NeurIPS 2013, algorithm 1. SSA, section III-A: entropy, iterations and
        tolerance.

    Differences from the paper:
        SSA names no quantity for its threshold. FOA-Attack, whose form of the loss this is, compares the mean of
        :math:`|r - r^{\mathrm{prev}}|` over the whole batch in every iteration; :math:`r` there has the scale
        of :math:`\exp(M/\epsilon)`. Here the change is relative, per item, and looked at every `check_every`.
    """
    _check_settings(entropy, max_iterations, tolerance, check_every, marginals)
    if marginals == "semi_relaxed":
        return semi_relaxed_plan(cost, row_mask=row_mask, column_mask=column_mask, entropy=entropy)
    cost = at_least_float32(cost)
    rows, columns = _valid_sides(cost, row_mask, column_mask)
    padded = None
    if row_mask is not None or column_mask is not None:
        padded = ~(rows[:, :, None] & columns[:, None, :])
        cost = cost.masked_fill(padded, 0)
        # an item with nothing to transport is solved as if all of it were valid, and cleared below
        empty = ~rows.any(dim=1, keepdim=True)
        rows, columns = rows | empty, columns | empty
    with torch.autocast(device_type=cost.device.type, enabled=False):
        schedule = Schedule(max_iterations, tolerance, check_every)
        plan = balanced_plan(cost, rows, columns, entropy=entropy, schedule=schedule)
    return plan if padded is None else plan.masked_fill_(padded, 0)


@torch.no_grad()
def semi_relaxed_plan(
    cost: Tensor,
    *,
    row_mask: Tensor | None = None,
    column_mask: Tensor | None = None,
    entropy: float = 3e-2,
) -> Tensor:
    r"""Entropic transport plans that constrain the rows' marginal alone.

    Without a constraint on the columns the rows are independent, and each spreads its mass in closed form:

    .. math:: T_{ij} = \frac1n \frac{\exp(-M_{ij} / \epsilon)}{\sum_k \exp(-M_{ik} / \epsilon)}

    The other direction is the plan of the transposed cost, a different one.

    Args:
        cost: `(B, N, M)`, finite where valid; padded entries are not read. Rows are the side that asks.
        row_mask: bool `(B, N)`, true where a row is valid; all of them without it.
        column_mask: bool `(B, M)`, likewise.
        entropy: :math:`\epsilon` > 0, in units of the cost.

    Returns:
        As of `sinkhorn_plan`.

    Raises:
        ValueError: if shapes do not fit, a mask is not bool, or the entropy is not positive.
    """
    _check_entropy(entropy)
    cost = at_least_float32(cost)
    row_mask, column_mask = _valid_sides(cost, row_mask, column_mask)
    valid = row_mask[:, :, None] & column_mask[:, None, :]
    with torch.autocast(device_type=cost.device.type, enabled=False):
        shares = (-cost / entropy).masked_fill(~valid, -torch.inf).softmax(dim=2)
        count = row_mask.sum(dim=1).clamp(min=1)[:, None, None]
        # a padded row is all -inf, and its softmax not a number
        return (shares / count).masked_fill(~valid, 0)


def _zero_padded(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Clear padded tokens, so that nothing in them reaches the loss or its gradient."""
    if mask is None:
        return tokens
    if mask.dtype != torch.bool or mask.shape != tokens.shape[:2]:
        raise ValueError(
            f"the mask of tokens {tuple(tokens.shape)} must be bool {tuple(tokens.shape[:2])}, got {mask.dtype} "
            f"{tuple(mask.shape)}; true is valid."
        )
    return tokens.masked_fill(~mask[:, :, None], 0)


def _valid_sides(cost: Tensor, row_mask: Tensor | None, column_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Masks `(B, N)` and `(B, M)`, false throughout for an item that lacks a valid row or column."""
    if cost.ndim != 3 or 0 in cost.shape[1:]:
        raise ValueError(f"cost must have shape (B, N, M) with N and M at least 1, got {tuple(cost.shape)}.")
    sides = []
    for name, mask, size in (
        ("row_mask", row_mask, cost.shape[1]),
        ("column_mask", column_mask, cost.shape[2]),
    ):
        shape = (cost.shape[0], size)
        if mask is None:
            mask = torch.ones(shape, dtype=torch.bool, device=cost.device)
        if mask.dtype != torch.bool or mask.shape != shape:
            raise ValueError(
                f"{name} must be bool {shape}, got {mask.dtype} {tuple(mask.shape)}; true is valid."
            )
        sides.append(mask)
    both = sides[0].any(dim=1) & sides[1].any(dim=1)
    return sides[0] & both[:, None], sides[1] & both[:, None]


def _check_entropy(entropy: float) -> None:
    if not 0 < entropy < math.inf:
        raise ValueError(f"entropy must be positive and finite, got {entropy}; 3e-2 suits cosine distances.")


def _check_settings(
    entropy: float, max_iterations: int, tolerance: float, check_every: int, marginals: str
) -> None:
    _check_entropy(entropy)
    if marginals not in MARGINALS:
        raise ValueError(f"marginals must be one of {', '.join(MARGINALS)}, got {marginals!r}.")
    for name, count in (("max_iterations", max_iterations), ("check_every", check_every)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}; 0 runs every iteration.")

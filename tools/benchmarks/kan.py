"""Time and memory of a KAN layer's forward and backward pass beside the textbook's, eager and compiled.

The textbook builds all bases by the recursion of Cox and de Boor, ``(N, in, 8)``, flattens them and multiplies them by
the weights once; base branch and scaler are the same. It is what the published formula says, one operation per sign.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.layers import KANLinear
from tools.benchmarks.memory import peak_bytes
from tools.benchmarks.timing import describe_device

SIZES = ((25_088, 64, 64), (6_272, 320, 320))
"""Rows, inputs, outputs: 8 images of 56 x 56, and 32 of 14 x 14."""
TOLERANCE = 1e-4
MIB = 2**20

Step = Callable[[], None]


class TextbookKANLinear(nn.Module):
    """The layer by its formula, with the weights of ours.

    Args:
        layer: Whose parameters it shares.
    """

    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        self.layer = layer
        step = (layer.high - layer.low) / layer.grid_size
        knots = torch.arange(-3, layer.grid_size + 4) * step + layer.low
        self.register_buffer("knots", knots)

    def forward(self, x: Tensor) -> Tensor:
        """Turn `(N, in)` into `(N, out)`."""
        spline = (self.layer.spline_weight * self.layer.spline_scale[:, None]).transpose(1, 2)
        basis = cox_de_boor(x, self.knots)
        return F.linear(F.silu(x), self.layer.base_weight) + F.linear(basis.flatten(1), spline.flatten(1))


def cox_de_boor(x: Tensor, knots: Tensor, *, order: int = 3) -> Tensor:
    """Values of all B-splines of an order by their recursion.

    Args:
        x: `(N, in)`.
        knots: Ascending, `(K,)`.
        order: Degree of the pieces.

    Returns:
        `(N, in, K - order - 1)`.
    """
    x = x.unsqueeze(-1)
    basis = ((x >= knots[:-1]) & (x < knots[1:])).to(x.dtype)
    for degree in range(1, order + 1):
        start, end = knots[: -degree - 1], knots[degree + 1 :]
        rising = (x - start) / (knots[degree:-1] - start)
        falling = (end - x) / (end - knots[1:-degree])
        basis = rising * basis[..., :-1] + falling * basis[..., 1:]
    return basis


def kan_benchmarks(
    *, repeats: int = 9, sizes: Sequence[tuple[int, int, int]] = SIZES, compiled: bool = True
) -> list[dict[str, Any]]:
    """Measure forward and backward passes in turns, and the peak memory of one.

    Args:
        repeats: Rounds, at least 2; medians are reported, and the quartiles of the rounds' ratios.
        sizes: Rows, inputs and outputs of each layer.
        compiled: Also measure both under `torch.compile`, where this machine has what that needs.

    Returns:
        For every size a row of the time and of the memory (MiB): ours and the textbook eager; with `compiled`, ours
        compiled beside the textbook eager (`compiled`), and both compiled (`both_compiled`). Beyond the usual
        columns, `quartiles` holds those of the ratios.

    Raises:
        ValueError: If there are fewer than two rounds.
        ArithmeticError: If the two disagree.
    """
    if repeats < 2:
        raise ValueError(f"repeats must be at least 2, got {repeats}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for size in sizes:
        steps = _steps(size, device, compiled=compiled and _can_compile(device))
        seconds = _in_turns(steps, repeats)
        memory = {name: peak_bytes(step, device) / MIB for name, step in steps.items()}
        for suffix, ours, reference in _pairs(steps):
            name = f"kan_{size[1]}_{suffix}"
            shape = {"rows": size[0], "in": size[1], "out": size[2], "repeats": repeats}
            ratios = [b / a for a, b in zip(seconds[ours], seconds[reference], strict=True)]
            times = [median(seconds[key]) * 1e3 for key in (ours, reference)]
            row = _row(name, times, shape, device, "ms forward + backward")
            rows.append({**row, "quartiles": quantiles(ratios, n=4)})
            held = [memory[ours], memory[reference]]
            rows.append(_row(f"{name}_memory", held, shape, device, "MiB at the peak"))
    return rows


def _row(
    name: str, values: Sequence[float], sizes: dict[str, Any], device: torch.device, unit: str
) -> dict[str, Any]:
    ours, reference = values
    measured = {"name": name, "ours": ours, "reference": reference, "ratio": reference / ours}
    return {**measured, "sizes": sizes, "device": describe_device(device), "unit": unit}


def _can_compile(device: torch.device) -> bool:
    """Whether this machine has what `torch.compile` needs: Triton on a GPU, a C++ compiler on a CPU."""
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))


def _pairs(steps: dict[str, Step]) -> list[tuple[str, str, str]]:
    """Suffix of the row, whose step is ours, and whose the reference."""
    pairs = [("eager", "ours", "textbook")]
    if "ours_compiled" in steps:
        pairs += [
            ("compiled", "ours_compiled", "textbook"),
            ("both_compiled", "ours_compiled", "textbook_compiled"),
        ]
    return pairs


def _steps(size: tuple[int, int, int], device: torch.device, *, compiled: bool) -> dict[str, Step]:
    """Functions that run one forward and backward pass, after a check that both layers agree."""
    count, inputs, outputs = size
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = KANLinear(inputs, outputs).to(device)
        nn.init.normal_(ours.spline_weight)  # untrained splines are near 0: nothing to compare
        x = (torch.randn(count, inputs) * 0.7).to(device).requires_grad_()
        grad = torch.randn(count, outputs).to(device)
    layers: dict[str, Callable[[Tensor], Tensor]] = {
        "ours": ours,
        "textbook": TextbookKANLinear(ours).to(device),
    }
    if compiled:
        layers |= {f"{name}_compiled": torch.compile(layer) for name, layer in tuple(layers.items())}
    leaves = [x, *ours.parameters()]
    _check_agreement([_gradients(layer, leaves, grad) for layer in layers.values()])
    return {name: _step(layer, leaves, grad) for name, layer in layers.items()}


def _gradients(layer: Callable[[Tensor], Tensor], leaves: list[Tensor], grad: Tensor) -> list[Tensor]:
    result = layer(leaves[0])
    return [result.detach(), *torch.autograd.grad(result, leaves, grad)]


def _check_agreement(found: list[list[Tensor]]) -> None:
    for others in found[1:]:
        for first, other in zip(found[0], others, strict=True):
            difference = float((first - other).abs().max() / first.abs().max())
            if not difference <= TOLERANCE:
                raise ArithmeticError(
                    f"both KAN layers must agree, got a relative difference of {difference}"
                )


def _step(layer: Callable[[Tensor], Tensor], leaves: list[Tensor], grad: Tensor) -> Step:
    def step() -> None:
        torch.autograd.grad(layer(leaves[0]), leaves, grad)

    return step


def _in_turns(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Seconds of every step in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds

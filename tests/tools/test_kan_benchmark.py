"""The benchmark of the KAN layer: what it compares with, its rows, its memory meter."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from common.layers import KANLinear, cubic_basis
from tools.benchmarks import kan
from tools.benchmarks.kan import TextbookKANLinear, cox_de_boor, kan_benchmarks
from tools.benchmarks.memory import peak_bytes
from tools.benchmarks.registry import COLUMNS

CPU = torch.device("cpu")


def test_recursion_gives_the_same_bases_as_the_closed_form() -> None:
    x = torch.linspace(-1.9, 1.9, 60, dtype=torch.float64).reshape(12, 5)
    basis = cox_de_boor(x, torch.arange(-3, 9, dtype=torch.float64) * 0.4 - 1)
    assert_close(basis.transpose(1, 2), cubic_basis(x), atol=1e-12, rtol=0)


def test_textbook_layer_shares_the_parameters_of_ours() -> None:
    torch.manual_seed(0)
    layer = KANLinear(5, 3)
    nn.init.normal_(layer.spline_weight)
    x = torch.randn(20, 5)
    assert_close(TextbookKANLinear(layer)(x), layer(x), atol=1e-5, rtol=1e-5)


def test_rows() -> None:
    rows = kan_benchmarks(repeats=2, sizes=[(300, 8, 4)], compiled=False)
    assert [row["name"] for row in rows] == ["kan_8_eager", "kan_8_eager_memory"]
    for row in rows:
        assert set(COLUMNS) <= set(row)
        assert row["ratio"] == pytest.approx(row["reference"] / row["ours"])
        assert row["sizes"]["rows"] == 300
    assert rows[0]["quartiles"] == sorted(rows[0]["quartiles"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_rows() -> None:
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler")
    rows = kan_benchmarks(repeats=2, sizes=[(300, 8, 4)])
    assert [row["name"] for row in rows if row["name"].endswith("compiled")] == [
        "kan_8_compiled",
        "kan_8_both_compiled",
    ]


def test_no_compiler_no_compiled_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    rows = kan_benchmarks(repeats=2, sizes=[(30, 8, 4)])
    assert len(rows) == 2


def test_ours_holds_less_than_half_the_memory_of_the_textbook() -> None:
    layer = KANLinear(64, 64)
    x = torch.randn(2_000, 64, requires_grad=True)
    held = [
        peak_bytes(lambda layer=layer: layer(x).sum().backward(), CPU)
        for layer in (layer, TextbookKANLinear(layer))
    ]
    assert 2 * held[0] < held[1]


@pytest.mark.gpu
def test_peak_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda")
    assert peak_bytes(lambda: torch.empty(2**20, device=device), device) == 2**22


def test_peak_counts_what_is_held_at_the_same_time() -> None:
    def run() -> None:
        first = torch.empty(1000, dtype=torch.uint8)
        second = torch.empty(500, dtype=torch.uint8)
        del first, second
        torch.empty(1200, dtype=torch.uint8)

    assert peak_bytes(run, CPU) == 1500


def test_a_wrong_layer_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(x: Tensor, knots: Tensor) -> Tensor:
        return cox_de_boor(x, knots) * 1.01

    monkeypatch.setattr(kan, "cox_de_boor", wrong)
    with pytest.raises(ArithmeticError, match="both KAN layers must agree, got a relative difference of"):
        kan_benchmarks(repeats=2, sizes=[(10, 8, 4)], compiled=False)
    with pytest.raises(ValueError, match="repeats must be at least 2, got 1"):
        kan_benchmarks(repeats=1)

"""The benchmark command: names, table, file, timing."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from tools.benchmark import app
from tools.benchmarks import BENCHMARKS, registry, run_benchmark
from tools.benchmarks.registry import COLUMNS
from tools.benchmarks.sentences import batches, captions
from tools.benchmarks.timing import comparison, describe_device, interleaved_medians

ROW = {
    "name": "quick_thing",
    "ours": 1.5,
    "reference": 3.0,
    "ratio": 2.0,
    "sizes": {"batch": 2, "image": [4, 5]},
    "device": "cpu, 1 threads",
    "unit": "ms",
}


def quick():
    """A benchmark of one row."""
    return [dict(ROW)]


def broken():
    """A benchmark whose row lacks a column."""
    return [{"name": "x"}]


@pytest.fixture
def fake_benchmarks(monkeypatch):
    """Quick benchmarks in place of the real ones."""
    monkeypatch.setattr(registry, "import_module", lambda name: SimpleNamespace(f=quick, g=broken))
    monkeypatch.setitem(BENCHMARKS, "text", "anywhere:f")
    monkeypatch.setitem(BENCHMARKS, "step", "anywhere:f")
    monkeypatch.setitem(BENCHMARKS, "metrics", "anywhere:g")


@pytest.mark.usefixtures("fake_benchmarks")
def test_table_and_file(tmp_path):
    file = tmp_path / "rows.json"
    result = CliRunner().invoke(app, ["text", "step", "text", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert result.output.count("quick_thing") == 2
    assert "batch 2, image 4×5" in result.output
    assert json.loads(file.read_text()) == [ROW, ROW]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["stop"], "did you mean 'step'"), (["text", "--json", "/nowhere/rows.json"], "folder must exist")],
)
@pytest.mark.usefixtures("fake_benchmarks")
def test_wrong_arguments_are_named(arguments, message):
    result = CliRunner().invoke(app, arguments, terminal_width=200)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.usefixtures("fake_benchmarks")
def test_row_without_a_column_is_refused():
    with pytest.raises(ValueError, match="rows of benchmark 'metrics' must hold name, ours"):
        run_benchmark("metrics")


def test_every_name_leads_to_a_function():
    from importlib import import_module

    for target in BENCHMARKS.values():
        module, function = target.split(":")
        assert callable(getattr(import_module(module), function))


def test_functions_take_turns():
    calls = []
    seconds = interleaved_medians(lambda: calls.append("a"), lambda: calls.append("b"), repeats=3, warm_up=1)
    assert calls == ["a", "b"] * 4
    assert all(second >= 0 for second in seconds)
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        interleaved_medians(list, list, repeats=0)


def test_row_has_every_column():
    row = comparison("x", (0.5, 2.0), sizes={}, device=torch.device("cpu"), unit="ms", scale=1e3)
    assert set(COLUMNS) == set(row)
    assert (row["ours"], row["reference"], row["ratio"]) == (500, 2000, 4)
    assert describe_device(torch.device("cpu")).startswith("cpu, ")


def test_sentences_are_distinct_and_seeded():
    assert len(set(captions(36))) == 36
    with pytest.raises(ValueError, match="count must be in 1 to 36, got 37"):
        captions(37)
    texts = torch.arange(10).reshape(5, 2, 1)
    first, again = (batches(texts, size=3, count=2, seed=1) for _ in range(2))
    assert [batch.shape for batch in first] == [(3, 2, 1)] * 2
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.slow
def test_sentence_cache_is_faster():
    (row,) = run_benchmark("step")
    assert row["ratio"] >= 1.3


def test_transport_rows_hold_times_and_marginal_errors():
    from tools.benchmarks.transport import transport_benchmarks

    threads = torch.get_num_threads()
    rows = transport_benchmarks(repeats=1, batch_size=3, image_tokens=9, text_tokens=5)
    assert torch.get_num_threads() == threads
    for word in ("loop", "batch"):
        assert sum(f"transport_{word}_" in row["name"] for row in rows) >= 2
    for row in rows:
        assert set(COLUMNS) <= set(row)
        assert row["sizes"] == {"batch": 3, "image_tokens": 9, "text_tokens": 5, "repeats": 1}
        assert 0 <= row["marginal_error"] <= row["reference_marginal_error"] + 1e-6


def test_larger_marginal_error_than_the_reference_is_refused(monkeypatch):
    from tools.benchmarks import transport

    uniform = torch.full((2, 4, 3), 1 / 12)
    assert transport.marginal_error(uniform) < 1e-6
    lopsided = uniform.clone()
    lopsided[1, 0, 0] += 0.1
    assert transport.marginal_error(lopsided) == pytest.approx(0.2)
    for wrong in (2 * uniform, uniform * float("nan")):
        monkeypatch.setattr(transport, "sinkhorn_plan", lambda *_, wrong=wrong, **__: wrong)
        with pytest.raises(
            ArithmeticError, match="transport_loop_independent_cpu: the marginal error must not"
        ):
            transport.transport_benchmarks(repeats=1, batch_size=2, image_tokens=4, text_tokens=3)


def test_missing_pot_is_named(monkeypatch):
    from tools.benchmarks.transport import transport_benchmarks

    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ModuleNotFoundError, match="transport benchmark must have POT"):
        transport_benchmarks(repeats=1)


@pytest.mark.slow
def test_plans_of_a_batch_are_faster_than_those_of_pot():
    for row in run_benchmark("transport"):
        assert row["ratio"] >= (15 if "loop" in row["name"] else 2), row

"""The benchmark command: names, table, file, timing."""

from __future__ import annotations

import json
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

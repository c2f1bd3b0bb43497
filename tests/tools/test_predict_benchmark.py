"""The benchmark of tools.predict: its rows, on few pictures."""

from __future__ import annotations

import pytest
import torch

from tools.benchmarks.prediction import Setting, prediction_benchmarks
from tools.benchmarks.registry import COLUMNS


@pytest.mark.slow
def test_rows_compare_with_network_and_bundle_run() -> None:
    threads = torch.get_num_threads()
    setting = Setting("tiny", ("zone_unet", "light"), cases=24, size=64)
    network, runner = prediction_benchmarks(settings=(setting,), repeats=1)
    assert torch.get_num_threads() == threads
    assert (network["name"], runner["name"]) == (
        "predict_tiny_beside_network",
        "predict_tiny_beside_bundle_run",
    )
    for row in (network, runner):
        assert set(COLUMNS) <= set(row)
        assert row["ratio"] == pytest.approx(row["reference"] / row["ours"])
    assert network["ours"] == runner["ours"] > 0
    assert runner["ratio"] > 1  # a margin for busy machines; alone it is about 2

"""The benchmark of the semi-supervised step: its rows, and that each run is a step of what it says."""

from __future__ import annotations

import pytest
import torch

from tools.benchmarks import semi_supervised
from tools.benchmarks.registry import COLUMNS

TINY = {"repeats": 1, "batch_size": 2, "image_size": 64, "width": 0.125, "backbones": ("mmi_unet",)}


def test_every_row_measures_steps_with_all_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    trainers = []
    plain = semi_supervised._one_more_step
    monkeypatch.setattr(
        semi_supervised, "_one_more_step", lambda trainer: trainers.append(trainer) or plain(trainer)
    )
    rows = semi_supervised.semi_supervised_benchmarks(**TINY)
    assert [row["name"] for row in rows] == ["semi_mmi_unet_batch", "semi_mmi_unet_cases"]
    for row in rows:
        assert set(COLUMNS) <= set(row)
        assert row["cost"] == pytest.approx(1 / row["ratio"])
        assert row["sizes"] == {"batch": 2, "image": [64, 64], "width": 0.125, "repeats": 1}
    ours, batch, cases = trainers
    # two rows, each with two rounds to warm up and one that counts
    assert [trainer.state.iteration for trainer in trainers] == [6, 3, 3]
    assert ours.teacher.steps == 6
    assert set(ours.state.output[0]["pred"]) == {"labelled", "strong", "weak"}
    assert {"contrast", "unlabelled_contrast"} <= set(ours.state.output[0]["terms"])
    assert batch.state.output[0]["pred"]["logits"].shape == (2, 1, 64, 64)
    assert cases.state.output[0]["pred"]["logits"].shape == (4, 1, 64, 64)
    assert all(torch.isfinite(trainer.state.output[0]["loss"]) for trainer in trainers)


@pytest.mark.slow
def test_a_semi_supervised_step_costs_little_more_than_a_supervised_one_of_as_many_cases() -> None:
    rows = semi_supervised.semi_supervised_benchmarks(repeats=3, width=0.5, backbones=("mmi_unet",))
    assert rows[1]["cost"] <= 2.6

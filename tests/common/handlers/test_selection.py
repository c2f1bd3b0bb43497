"""Who chooses weights, and what an oracle may do."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from torch import nn

from common.checks import read_tensors
from common.handlers import MeanClassDiceMetric, ReportOracle, chosen_validator
from common.handlers.training import write_tensors


class Target:
    """Hands out given scores, one an epoch."""

    domain = "target"

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores
        self.state = SimpleNamespace(key_metric_name="dice", metrics={})

    def run(self, epoch: int) -> None:
        self.state.metrics = {"dice": torch.tensor(self.scores[epoch - 1])}


def run(oracle: ReportOracle, epochs: int, *, first: int = 0, rank: int = 0) -> None:
    engine = Engine(lambda engine, batch: None)
    oracle.attach(engine)
    engine.state.rank = rank
    engine.load_state_dict({"epoch": first, "max_epochs": epochs, "epoch_length": 1})
    engine.run([0])


@pytest.mark.parametrize(("selection", "chosen"), [("source_validation", True), ("last", False)])
def test_the_source_chooses_or_the_last_epoch_is_kept(selection: str, chosen: bool) -> None:
    validator: Any = SimpleNamespace(domain="source")
    assert chosen_validator(selection, validator) is (validator if chosen else None)


@pytest.mark.parametrize("selection", ["oracle", "target", ""])
def test_the_target_chooses_nothing(selection: str) -> None:
    with pytest.raises(ValueError, match="the target's labels choose nothing"):
        chosen_validator(selection, SimpleNamespace(domain="source"))
    with pytest.raises(ValueError, match="validator must see source cases, got one of the target"):
        chosen_validator("source_validation", Target([]))


def test_an_oracle_writes_what_it_would_have_chosen(tmp_path: Path) -> None:
    oracle = ReportOracle(
        evaluator=Target([0.1, 0.5, 0.9, 0.4]), path=tmp_path / "out" / "oracle.json", interval=2
    )
    run(oracle, 4)
    report = json.loads((tmp_path / "out" / "oracle.json").read_text())
    assert report.pop("note").startswith("an oracle")
    assert report == {
        "metric": "dice",
        "best_epoch": 2,
        "best": pytest.approx(0.5),
        "last": pytest.approx(0.4),
        "epochs": {"2": pytest.approx(0.5), "4": pytest.approx(0.4)},
    }


def test_a_resumed_one_reports_all_epochs(tmp_path: Path) -> None:
    def oracle(name: str) -> ReportOracle:
        return ReportOracle(evaluator=Target([0.3, 0.2, 0.1]), path=tmp_path / name, interval=1)

    whole, before, after = oracle("whole.json"), oracle("parts.json"), oracle("parts.json")
    run(whole, 3)
    run(before, 2)
    write_tensors(before.state_dict(), tmp_path / "state.pt")
    after.load_state_dict(read_tensors(tmp_path / "state.pt"))
    run(after, 3, first=2)
    assert (tmp_path / "parts.json").read_text() == (tmp_path / "whole.json").read_text()


def test_off_it_measures_nothing_and_only_rank_0_writes(tmp_path: Path) -> None:
    oracle = ReportOracle(evaluator=Target([]), path=tmp_path / "oracle.json")
    run(oracle, 2)
    assert oracle.scores == {}
    run(ReportOracle(evaluator=Target([0.1]), path=tmp_path / "oracle.json", interval=1), 1, rank=1)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="interval must be 0"):
        ReportOracle(evaluator=Target([]), path=tmp_path / "oracle.json", interval=-1)


def test_the_metric_is_one_of_an_engine() -> None:
    label = torch.tensor([0.0, 1.0, 2.0, 2.0]).reshape(1, 1, 2, 2)
    image = torch.nn.functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1).float()
    engine = SupervisedEvaluator(
        device="cpu",
        val_data_loader=[{"image": image, "label": label}],
        network=nn.Identity(),
        key_val_metric={"dice": MeanClassDiceMetric(3)},
    )
    engine.run()
    assert engine.state.metrics["dice"] == pytest.approx(1.0)
    assert engine.state.best_metric_epoch == 1

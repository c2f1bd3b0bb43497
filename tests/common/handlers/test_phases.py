"""Weights that go from one phase of a training to the next."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from common.handlers import StartFromPhase


def start(paths: Any, size: int = 2) -> nn.Module:
    network, engine = nn.Linear(size, size), Engine(lambda engine, batch: None)
    StartFromPhase(network=network, paths=paths, name="student").attach(engine)
    engine.run([0], max_epochs=2)
    return network


def saved(path: Path, value: float) -> Path:
    network = nn.Linear(2, 2)
    nn.init.constant_(network.weight, value)
    torch.save(network.state_dict(), path)
    return path


def test_the_first_that_is_there_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    last, first = saved(tmp_path / "warmup.pt", 2.0), saved(tmp_path / "pretrain.pt", 1.0)
    with caplog.at_level(logging.INFO):
        assert bool((start([last, first]).weight == 2).all())
    assert "student: starts from warmup.pt" in caplog.text
    assert str(tmp_path) not in caplog.text
    last.unlink()
    assert bool((start([last, first]).weight == 1).all())
    assert bool((start(str(first)).weight == 1).all())


@pytest.mark.parametrize("paths", [[], "", [""]])
def test_nothing_is_asked_for(paths: Any, caplog: pytest.LogCaptureFixture) -> None:
    start(paths)
    assert caplog.text == ""


def test_missing_files_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    start([tmp_path / "warmup.pt", tmp_path / "pretrain.pt"])
    assert "student: no warmup.pt or pretrain.pt, starts without the phases before" in caplog.text


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "warmup.pt", 1.0)
    with pytest.raises(ValueError, match=r"must be \(3, 3\), got \(2, 2\)"):
        start(path, size=3)

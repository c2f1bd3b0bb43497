"""Weights that go from one stage of a training to the next."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from common.handlers import StartFromStageOne, StartFromWeights


class Recorder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[Path] = []

    def load_pretrained(self, name: Path) -> None:
        self.loaded.append(name)


def start(path: Path | str | None) -> list[Path]:
    network, engine = Recorder(), Engine(lambda engine, batch: None)
    StartFromStageOne(network=network, path=path).attach(engine)
    engine.run([0], max_epochs=2)
    return network.loaded


def test_a_file_is_loaded_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pretrained.pt"
    path.write_bytes(b"")
    with caplog.at_level(logging.INFO):
        assert start(path) == [path]
    assert "starts from stage I: pretrained.pt" in caplog.text
    assert str(tmp_path) not in caplog.text


@pytest.mark.parametrize("path", ["", None])
def test_none_is_asked_for(path: str | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert start(path) == []
    assert "starts without stage I" in caplog.text


def test_a_missing_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert start(tmp_path / "pretrained.pt") == []
    assert "no pretrained.pt: the training starts without stage I" in caplog.text


def test_all_of_a_network_starts_from_weights_that_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained, network = nn.Linear(2, 1), nn.Linear(2, 1)
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    engine = Engine(lambda engine, batch: None)
    StartFromWeights(network=network, path=tmp_path / "model.pt").attach(engine)
    with caplog.at_level(logging.INFO):
        engine.run([0])
    assert torch.equal(network.weight, trained.weight)
    assert "starts from the weights in model.pt" in caplog.text
    assert str(tmp_path) not in caplog.text


@pytest.mark.parametrize("path", ["", None])
def test_no_weights_are_asked_for_unless_they_are_named(path: str | None) -> None:
    network, engine = nn.Linear(2, 1), Engine(lambda engine, batch: None)
    before = network.weight.clone()
    StartFromWeights(network=network, path=path).attach(engine)
    engine.run([0])
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize("other", [None, nn.Linear(3, 1)])
def test_missing_weights_and_those_of_another_network_are_refused(
    other: nn.Module | None, tmp_path: Path
) -> None:
    if other is not None:
        torch.save(other.state_dict(), tmp_path / "model.pt")
    engine = Engine(lambda engine, batch: None)
    StartFromWeights(network=nn.Linear(2, 1), path=tmp_path / "model.pt").attach(engine)
    with pytest.raises(ValueError, match=r"model\.pt"):
        engine.run([0])

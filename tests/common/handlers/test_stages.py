"""Weights that go from one stage of a training to the next."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from ignite.engine import Engine
from torch import nn

from common.handlers import StartFromStageOne


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

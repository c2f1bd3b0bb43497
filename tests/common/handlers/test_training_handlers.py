"""Seeds, resume, best weights and early stopping on a tiny training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines.workflow import Workflow
from torch import nn
from torch.utils.data import DataLoader

from common.checks import read_tensors
from common.engines import TextGuidedTrainer
from common.handlers import EpochSeeds, SaveBestWeights, StopEarly, TrainingState


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: torch.Tensor, text: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return {"logits": self.dropout(self.layer(image))}


class Validator(Workflow):
    """Hands out given metrics, one an epoch."""

    def __init__(self, values: list[float]) -> None:
        super().__init__(
            device="cpu", max_epochs=1, data_loader=[0], iteration_update=lambda engine, batch: {}
        )
        self.values = values

    def run(self, epoch: int) -> None:
        value = self.values[epoch - 1]
        if self.state.best_metric_epoch == -1 or value > self.state.best_metric:
            self.state.best_metric, self.state.best_metric_epoch = value, epoch


class HostCases(list):
    is_from_host = True


def training(
    folder: Path,
    epochs: int,
    *,
    values: list[float] | None = None,
    patience: int = 0,
    resume: bool = True,
    cases: type[list] = list,
    parts: dict[str, Any] | None = None,
) -> TextGuidedTrainer:
    torch.manual_seed(0)
    network = Noisy()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    validator = Validator(values or [0.1] * 10)
    data = [
        {"id": str(i), "image": torch.rand(2), "label": torch.rand(2), "text": torch.zeros(2, 1)}
        for i in range(6)
    ]
    engine = TextGuidedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(cases(data), batch_size=2, shuffle=True),
        network=network,
        optimizer=optimizer,
        objective=lambda outputs, batch, epoch: {"mse": ((outputs["logits"] - batch["label"]) ** 2).mean()},
        train_handlers=[EpochSeeds(7)],
    )
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: scheduler.step())
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: validator.run(e.state.epoch))
    SaveBestWeights(path=folder / "model.pt", network=network, validator=validator).attach(engine)
    StopEarly(patience=patience, validator=validator).attach(engine)
    TrainingState(
        path=folder / "last.pt",
        network=network,
        optimizer=optimizer,
        lr_scheduler=scheduler,
        validator=validator,
        resume=resume,
        parts=parts,
    ).attach(engine)
    return engine


def test_a_training_stopped_between_epochs_ends_as_if_never_stopped(tmp_path: Path) -> None:
    training(tmp_path / "whole", 5).run()
    training(tmp_path / "parts", 2).run()
    torch.rand(1000)
    training(tmp_path / "parts", 5).run()
    whole, parts = (read_tensors(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert whole["epoch"] == parts["epoch"] == 5
    assert whole["lr_scheduler"] == parts["lr_scheduler"]
    for name, tensor in whole["network"].items():
        assert torch.equal(tensor, parts["network"][name])


def test_a_finished_training_is_left_as_it_is(tmp_path: Path) -> None:
    training(tmp_path, 2).run()
    before = read_tensors(tmp_path / "last.pt")["network"]
    engine = training(tmp_path, 2)
    engine.run()
    assert engine.state.iteration == 6
    for name, tensor in engine.network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_resume_false_starts_anew(tmp_path: Path) -> None:
    training(tmp_path, 2).run()
    engine = training(tmp_path, 1, resume=False)
    engine.run()
    assert read_tensors(tmp_path / "last.pt")["epoch"] == 1


def test_a_training_that_a_host_asks_for_starts_anew(tmp_path: Path) -> None:
    training(tmp_path, 2).run()
    training(tmp_path, 1, cases=HostCases).run()
    assert read_tensors(tmp_path / "last.pt")["epoch"] == 1


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    kept: dict[int, torch.Tensor] = {}
    engine = training(tmp_path, 4, values=[0.1, 0.5, 0.4, 0.3])
    engine.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda e: kept.update({e.state.epoch: e.network.layer.weight.detach().clone()}),
    )
    engine.run()
    assert torch.equal(read_tensors(tmp_path / "model.pt")["layer.weight"], kept[2])


def test_training_stops_after_its_patience_also_when_resumed(tmp_path: Path) -> None:
    values = [0.1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1]
    engine = training(tmp_path, 8, values=values, patience=3)
    engine.run()
    assert engine.state.epoch == 5
    training(tmp_path / "parts", 3, values=values, patience=3).run()
    resumed = training(tmp_path / "parts", 8, values=values, patience=3)
    resumed.run()
    assert resumed.state.epoch == 5


def test_the_state_of_another_network_names_what_differs(tmp_path: Path) -> None:
    training(tmp_path, 1).run()
    state = read_tensors(tmp_path / "last.pt")
    state["network"]["layer.weight"] = torch.zeros(3, 2)
    torch.save(state, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"layer\.weight: must be \(2, 2\), got \(3, 2\)"):
        training(tmp_path, 2).run()


class Counter:
    """A part of a training that has a state of its own."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


def test_further_parts_are_saved_and_restored(tmp_path: Path) -> None:
    counter = Counter()
    engine = training(tmp_path, 2, parts={"counter": counter})
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: setattr(counter, "count", counter.count + 1))
    engine.run()
    assert read_tensors(tmp_path / "last.pt")["counter"] == {"count": 6}
    resumed = Counter()
    training(tmp_path, 2, parts={"counter": resumed}).run()
    assert resumed.count == 6


@pytest.mark.parametrize("saved", [True, False])
def test_the_state_of_a_training_with_other_parts_is_refused(tmp_path: Path, saved: bool) -> None:
    """Going on without a part that the epochs before had would be another training, silently."""
    parts = {"counter": Counter()}
    training(tmp_path, 1, parts=parts if saved else None).run()
    with pytest.raises(
        ValueError, match=r"last\.pt must hold the state of .*optimizer.*start anew with --resume"
    ):
        training(tmp_path, 2, parts=None if saved else parts).run()
    training(tmp_path, 1, parts=None if saved else parts, resume=False).run()


def test_a_part_cannot_have_the_name_of_another_entry(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="parts must have names of their own, got epoch, optimizer"):
        training(tmp_path, 1, parts={"optimizer": Counter(), "epoch": Counter()})


def test_epoch_seeds_depend_on_seed_and_epoch_alone() -> None:
    def draws(seed: int, start: int) -> torch.Tensor:
        engine = Engine(lambda e, b: None)
        engine.state.rank = 0
        EpochSeeds(seed).attach(engine)
        seen = []
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(torch.rand(2)))
        engine.state.epoch = start
        engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", start))
        engine.run([0], max_epochs=3)
        return torch.stack(seen)

    assert torch.equal(draws(1, 0)[2:], draws(1, 2))
    assert not torch.equal(draws(1, 0)[2:], draws(2, 2))

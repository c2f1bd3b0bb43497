"""Learning rates of the parts of a network, and their schedules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from common.engines import learning_rate_groups, one_cycle, polynomial


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(2, 3)
        self.head = nn.Linear(3, 1)
        self.frozen = nn.Linear(5, 5).requires_grad_(False)


def rates(path: Path | str | None) -> list[float]:
    groups = learning_rate_groups(Small(), learning_rate=0.01, encoder_rate=0.1, pretrained=path)
    return [group["lr"] for group in groups]


def test_every_trained_parameter_is_in_one_group() -> None:
    network = Small()
    encoder, rest = learning_rate_groups(network, learning_rate=0.01)
    assert [id(p) for p in encoder["params"]] == [id(p) for p in network.encoder.parameters()]
    assert [id(p) for p in rest["params"]] == [id(p) for p in network.head.parameters()]


def test_the_encoder_is_slow_only_where_it_was_pretrained(tmp_path: Path) -> None:
    path = tmp_path / "pretrained.pt"
    assert rates(path) == rates("") == rates(None) == [0.01, 0.01]
    path.write_bytes(b"")
    assert rates(path) == pytest.approx([0.001, 0.01])


def test_a_text_encoder_has_a_rate_of_its_own_where_it_is_trained() -> None:
    network = Small()
    network.text_encoder = nn.Linear(4, 4)
    groups = learning_rate_groups(network, learning_rate=0.01, text_rate=0.1)
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.001, 0.01])
    assert [id(p) for p in groups[1]["params"]] == [id(p) for p in network.text_encoder.parameters()]
    network.text_encoder.requires_grad_(False)
    assert len(learning_rate_groups(network, learning_rate=0.01, text_rate=0.1)) == 2


def test_a_text_encoder_is_found_in_a_part_and_an_encoder_need_not_be_there() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.ModuleDict({"text_encoder": nn.Linear(4, 4), "head": nn.Linear(4, 1)})

        def encoder(self) -> None:
            """A method of this name is no encoder."""

    network = Wrapper()
    text, rest = learning_rate_groups(network, learning_rate=0.01, text_rate=0.1)
    assert (text["lr"], rest["lr"]) == (pytest.approx(0.001), 0.01)
    assert [id(p) for p in text["params"]] == [id(p) for p in network.network["text_encoder"].parameters()]
    assert [id(p) for p in rest["params"]] == [id(p) for p in network.network["head"].parameters()]


WRONG = [{"learning_rate": 0.0}, {"learning_rate": 0.1, "encoder_rate": -1.0}]


@pytest.mark.parametrize("wrong", [*WRONG, {"learning_rate": 0.1, "text_rate": 0.0}])
def test_rates_must_be_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="learning_rate, encoder_rate and text_rate must be positive, got"):
        learning_rate_groups(Small(), **wrong)


def test_one_cycle_peaks_at_the_rate_of_each_group(tmp_path: Path) -> None:
    path = tmp_path / "pretrained.pt"
    path.write_bytes(b"")
    optimizer = torch.optim.Adam(
        learning_rate_groups(Small(), learning_rate=0.01, encoder_rate=0.1, pretrained=path)
    )
    schedule = one_cycle(optimizer, total_steps=20)
    seen = []
    for _ in range(19):
        optimizer.step()
        schedule.step()
        seen.append(schedule.get_last_lr())
    assert [max(values) for values in zip(*seen, strict=True)] == pytest.approx([0.001, 0.01], rel=0.01)


def test_a_polynomial_schedule_is_its_formula_also_when_resumed() -> None:
    def made() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        network = Small()
        groups = [
            {"params": network.encoder.parameters()},
            {"params": network.head.parameters(), "lr": 0.002},
        ]
        optimizer = torch.optim.SGD(groups, lr=0.01)
        return optimizer, polynomial(optimizer, total_steps=10, power=0.9)

    optimizer, schedule = made()
    for step in range(11):
        share = (1 - step / 10) ** 0.9
        assert schedule.get_last_lr() == pytest.approx([0.01 * share, 0.002 * share])
        optimizer.step()
        schedule.step()
        if step == 4:
            states = optimizer.state_dict(), schedule.state_dict()
            optimizer, schedule = made()
            optimizer.load_state_dict(states[0])
            schedule.load_state_dict(states[1])


@pytest.mark.parametrize("wrong", [{"total_steps": 0}, {"total_steps": 3, "power": 0.0}])
def test_a_schedule_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="total_steps must be at least 1 and power positive, got"):
        polynomial(torch.optim.SGD(Small().parameters(), lr=0.1), **wrong)

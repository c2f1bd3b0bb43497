"""Loading weights: what is refused, and how."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from common.checks import differences, file_sha256, load_weights, read_tensors


class Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.path,))


def test_weights_come_back(tmp_path: Path) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save(source.state_dict(), tmp_path / "model.pt")
    load_weights(target, tmp_path / "model.pt")
    assert torch.equal(source.weight, target.weight)


def test_another_network_is_named_by_its_first_differing_keys(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 4).state_dict() | {"extra": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="3 entries differ") as error:
        load_weights(nn.Linear(2, 3), tmp_path / "model.pt")
    for line in ("weight: must be (3, 2), got (4, 2)", "bias: must be (3,), got (4,)", "extra: unknown"):
        assert line in str(error.value)


def test_a_failed_load_changes_nothing(tmp_path: Path) -> None:
    target = nn.Linear(2, 3)
    before = target.weight.clone()
    torch.save({"weight": torch.ones(3, 2)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="bias: missing"):
        load_weights(target, tmp_path / "model.pt")
    assert torch.equal(target.weight, before)


def test_a_pickled_object_is_refused_and_never_run(tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    torch.save({"weight": Touch(victim)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="pickled Python objects"):
        read_tensors(tmp_path / "model.pt")
    assert not victim.exists()


def test_a_whole_network_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"save network\.state_dict"):
        read_tensors(tmp_path / "model.pt")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello", encoding="utf-8")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps([1, 2]))
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    for name in ("text.pt", "empty.pt", "raw.pt", "list.pt"):
        with pytest.raises(ValueError, match=name):
            read_tensors(tmp_path / name)
    with pytest.raises(ValueError, match="does not exist"):
        read_tensors(tmp_path / "absent.pt")


def test_differences_of_equal_states_are_none() -> None:
    state = nn.Linear(2, 3).state_dict()
    assert differences(state, state) == []


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 10**6)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 10**6).hexdigest()

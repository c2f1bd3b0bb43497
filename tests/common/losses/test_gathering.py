"""The gathered global batch: on one process, and on two against one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.testing import assert_close

from common.losses import ClusterContrastiveObjective, gather_rows

# Rank r has the first 5 or the last 3 of 8 cases; its network is that of every rank.
PROCESS = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from common.losses import ClusterContrastiveObjective

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt", weights_only=True)
network = torch.nn.Linear(6, 5, dtype=torch.float64)
network.load_state_dict(given["network"])
own = slice(0, 5) if rank == 0 else slice(5, 8)
distributed = DistributedDataParallel(network)
outputs = {"image_vector": distributed(given["image"][own]), "sentence_vector": given["text"][own]}
loss = ClusterContrastiveObjective()(outputs, {"sentence": given["sentence"][own]})["contrast"]
loss.backward()
torch.save({"loss": loss.detach(), "weight": network.weight.grad, "bias": network.bias.grad}, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_without_processes_the_rows_are_the_own() -> None:
    rows = torch.rand(3, 2)
    assert gather_rows(rows) is rows


@pytest.mark.usefixtures("one_process")
def test_a_group_of_one_process_changes_nothing() -> None:
    rows = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    gathered = gather_rows(rows)
    assert_close(gathered, rows, rtol=0, atol=0)
    (gathered * torch.arange(6).view(3, 2)).sum().backward()
    assert_close(rows.grad, torch.arange(6).view(3, 2).double(), rtol=0, atol=0)
    assert torch.autograd.gradcheck(gather_rows, rows)


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradients_of_one_with_the_global_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Linear(6, 5, dtype=torch.float64)
    text = torch.randn(4, 5, dtype=torch.float64)[[0, 1, 0, 2, 3, 0, 1, 2]]
    given = {
        "network": network.state_dict(),
        "image": torch.randn(8, 6, dtype=torch.float64),
        "text": text,
        "sentence": ["a", "b", "a", "c", "", "a", "b", "c"],
    }
    torch.save(given, tmp_path / "given.pt")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), str(rank)], env=environment)
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]

    outputs = {"image_vector": network(given["image"]), "sentence_vector": text}
    loss = ClusterContrastiveObjective()(outputs, {"sentence": given["sentence"]})["contrast"]
    loss.backward()
    for rank in range(2):
        result = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_close(result["loss"], loss.detach(), rtol=0, atol=1e-12)
        assert_close(result["weight"], network.weight.grad, rtol=0, atol=1e-12)
        assert_close(result["bias"], network.bias.grad, rtol=0, atol=1e-12)

"""Class means and their bank against naive loops, and on two processes against one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.testing import assert_close

from common.losses import (
    ClassBank,
    PrototypeAlignment,
    VisionLanguageCovariance,
    class_means,
    confident_labels,
)
from common.losses.class_means import IGNORED

# Rank r has the first 2 or the last 1 of 3 cases; its network is that of every rank.
PROCESS = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from common.losses import PrototypeAlignment, VisionLanguageCovariance

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt", weights_only=True)
network = torch.nn.Conv2d(3, 4, 1, dtype=torch.float64)
network.load_state_dict(given["network"])
own = slice(0, 2) if rank == 0 else slice(2, 3)
distributed = DistributedDataParallel(network)
covariance, alignment = VisionLanguageCovariance(4, 4), PrototypeAlignment(4, 4)
both = distributed(torch.cat([given["source"][own], given["target"][own]]))
source, target = both.split(len(both) // 2)
loss = covariance(source, given["label"][own], given["text"])
loss = loss + alignment(source, given["label"][own], target, given["probability"][own])
loss.backward()
state = {**covariance.state_dict(), **alignment.state_dict()}
torch.save({"loss": loss.detach(), "weight": network.weight.grad, "state": state}, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(*shape: int, high: int = 4, seed: int = 0) -> Tensor:
    return torch.randint(IGNORED, high, shape, generator=torch.Generator().manual_seed(seed))


def naive_means(features: Tensor, classes: Tensor, count: int) -> tuple[list[list[float]], list[int]]:
    sums, counts = [[0.0] * features.shape[1] for _ in range(count)], [0] * count
    for case in range(len(features)):
        for row in range(features.shape[2]):
            for column in range(features.shape[3]):
                label = int(classes[case, row, column])
                if label >= 0:
                    counts[label] += 1
                    for channel in range(features.shape[1]):
                        sums[label][channel] += float(features[case, channel, row, column])
    means = [[value / max(counts[c], 1) for value in sums[c]] for c in range(count)]
    return means, counts


def test_equals_a_naive_loop() -> None:
    features, classes = draw(2, 3, 4, 5), labels(2, 4, 5)
    means, counts = class_means(features, classes, 5)
    expected, numbers = naive_means(features, classes, 5)
    assert numbers[4] == 0  # no pixel of the last class: zeros, not a division by 0
    assert_close(means, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    assert_close(counts, torch.tensor(numbers, dtype=torch.float64), rtol=0, atol=0)


def test_the_gradient_of_a_mean_is_shared_by_its_pixels() -> None:
    features, classes = draw(1, 2, 3, 3).requires_grad_(), labels(1, 3, 3)
    means, counts = class_means(features, classes, 4)
    means[1, 0].backward()
    assert_close(features.grad[0, 0], (classes[0] == 1).double() / counts[1])
    assert not features.grad[0, 1].any()
    assert torch.autograd.gradcheck(lambda x: class_means(x, classes, 4)[0], features)


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.float32])
def test_labels_of_an_image_are_resized_and_of_any_type(kind: torch.dtype) -> None:
    """Every pixel of the features has 4 x 4 of the label, all of one class."""
    features, coarse = draw(2, 3, 4, 4), labels(2, 4, 4).clamp(min=0)
    fine = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].to(kind)
    assert_close(class_means(features, MetaTensor(fine), 4), class_means(features, coarse, 4))


def test_the_nearest_pixel_is_that_in_the_middle() -> None:
    label = torch.zeros(1, 1, 9, 9, dtype=torch.long)
    label[0, 0, 4, 4] = 1
    _, counts = class_means(draw(1, 2, 3, 3), label, 2)
    assert counts.tolist() == [8, 1]


def test_every_negative_label_is_ignored_even_if_all_are() -> None:
    features = draw(1, 2, 3, 3).requires_grad_()
    means, counts = class_means(features, torch.full((1, 3, 3), -100), 3)
    means.sum().backward()
    assert not counts.any()
    assert not features.grad.any()


def test_precision() -> None:
    features, classes = draw(2, 3, 4, 4), labels(2, 4, 4)
    means, _ = class_means(features.to(torch.bfloat16), classes, 4)
    assert means.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = class_means(features.float(), classes, 4)
    assert_close(inside, class_means(features.float(), classes, 4)[0], rtol=0, atol=0)


def test_confident_labels_are_the_probable_ones() -> None:
    probability = torch.tensor([[0.9, 0.4, 0.5], [0.1, 0.6, 0.5]])[None, :, :, None].requires_grad_()
    everywhere = confident_labels(probability)
    assert everywhere.flatten().tolist() == [0, 1, 0]
    assert not everywhere.requires_grad
    assert confident_labels(probability, confidence=0.6).flatten().tolist() == [0, 1, IGNORED]
    assert confident_labels(MetaTensor(probability), confidence=0.61).flatten().tolist() == [
        0,
        IGNORED,
        IGNORED,
    ]


def test_the_bank_is_a_naive_running_mean() -> None:
    bank, remembered = ClassBank(5, 3, momentum=0.3), {}
    for step in range(6):
        features, classes = draw(1, 3, 3, 3, seed=step), labels(1, 3, 3, high=step % 4 + 1, seed=step)
        expected, counts = naive_means(features, classes, 5)
        for number in range(5):
            if counts[number]:
                new = torch.tensor(expected[number], dtype=torch.float64)
                old = remembered.get(number, new)
                remembered[number] = 0.3 * old + 0.7 * new
        means, seen = bank(features, classes)
        assert seen.tolist() == [number in remembered for number in range(5)]
        for number, row in remembered.items():
            assert_close(means[number], row, rtol=0, atol=1e-6)  # the bank itself is float32
        assert_close(bank.means.double(), means, rtol=0, atol=1e-6)
    assert not means[4].any()


def test_the_gradient_reaches_the_batch_and_what_it_lacks_has_none() -> None:
    bank = ClassBank(3, 2, momentum=0.25)
    bank(draw(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
    features = draw(1, 2, 1, 1, seed=1).requires_grad_()
    means, seen = bank(features, torch.tensor([[[1]]]))
    assert seen.tolist() == [True, True, False]
    means.sum().backward()
    assert_close(features.grad, torch.full_like(features, 0.75))  # 1 - momentum
    assert not bank.means.requires_grad


def test_a_bank_that_is_not_trained_stays() -> None:
    bank = ClassBank(3, 2, momentum=0.5)
    bank(draw(1, 2, 2, 2), torch.zeros(1, 2, 2))
    before = {name: value.clone() for name, value in bank.state_dict().items()}
    means, _ = bank.eval()(draw(1, 2, 2, 2, seed=1), torch.ones(1, 2, 2))
    assert means[1].any()
    assert_close(bank.state_dict(), before, rtol=0, atol=0)


def test_a_resumed_bank_goes_on_as_one_never_stopped() -> None:
    never, first = ClassBank(4, 3, momentum=0.9), ClassBank(4, 3, momentum=0.9)
    for step in range(3):
        for bank in (never, first):
            bank(draw(1, 3, 4, 4, seed=step), labels(1, 4, 4, seed=step))
    second = ClassBank(4, 3, momentum=0.9)
    second.load_state_dict(first.state_dict(), strict=True)
    again = draw(1, 3, 4, 4, seed=9), labels(1, 4, 4, seed=9)
    assert_close(second(*again), never(*again), rtol=0, atol=0)


def test_two_calls_before_a_backward_pass() -> None:
    bank, features = ClassBank(4, 3, momentum=0.5), draw(1, 3, 4, 4).requires_grad_()
    total = sum(bank(features, labels(1, 4, 4, seed=seed))[0].square().sum() for seed in range(3))
    total.backward()
    assert features.grad.isfinite().all()


def test_the_bank_says_its_settings() -> None:
    assert repr(ClassBank(4, 3, momentum=0.5)) == "ClassBank(num_classes=4, channels=3, momentum=0.5)"


@pytest.mark.slow
def test_two_processes_are_one_with_the_global_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 4, 1, dtype=torch.float64)
    given = {
        "network": {name: value.clone() for name, value in network.state_dict().items()},
        "source": draw(3, 3, 4, 4, seed=1),
        "target": draw(3, 3, 4, 4, seed=2),
        "label": torch.cat([labels(2, 4, 4, high=2), labels(1, 4, 4, high=4)]),  # one rank lacks classes
        "probability": draw(3, 4, 4, 4, seed=3).softmax(1),
        "text": draw(4, 6, seed=4),
    }
    torch.save(given, tmp_path / "given.pt")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    running = [
        subprocess.Popen([*command, str(rank)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    covariance, alignment = VisionLanguageCovariance(4, 4), PrototypeAlignment(4, 4)
    source, target = network(torch.cat([given["source"], given["target"]])).split(3)
    loss = covariance(source, given["label"], given["text"])
    loss = loss + alignment(source, given["label"], target, given["probability"])
    loss.backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_close(found["loss"], loss.detach())
        assert_close(found["weight"], network.weight.grad)
        assert_close(found["state"], {**covariance.state_dict(), **alignment.state_dict()})


@pytest.mark.parametrize(
    ("features", "given", "message"),
    [
        ((2, 3, 4), (2, 4, 4), r"features must be \(B, D, h, w\), got \(2, 3, 4\)"),
        ((2, 3, 4, 4), (1, 4, 4), r"labels must be \(2, H, W\) or .* got \(1, 1, 4, 4\)"),
        ((2, 3, 4, 4), (2, 5, 4, 4), r"labels must be .* got \(2, 5, 4, 4\)"),
    ],
)
def test_wrong_shapes(features: tuple, given: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_means(torch.zeros(features), torch.zeros(given), 3)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="labels must be below 3, the number of classes, got 3"):
        class_means(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2), 3), 3)
    with pytest.raises(ValueError, match=r"probability must be \(B, C, H, W\), got \(2, 3\)"):
        confident_labels(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"confidence must be None .* or in \[0, 1\], got 1.5"):
        confident_labels(torch.zeros(1, 2, 2, 2), confidence=1.5)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got 1"):
        ClassBank(3, 2, momentum=1)
    with pytest.raises(
        ValueError, match="at least 2 classes, the background one of them, and 1 channel, got 1"
    ):
        ClassBank(1, 2, momentum=0.5)
    with pytest.raises(ValueError, match=r"features must have the 2 channels .* got 3"):
        ClassBank(3, 2, momentum=0.5)(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2))

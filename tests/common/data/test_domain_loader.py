"""The loader of two domains: passes, epochs, repeats, processes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.distributed as dist
from monai.transforms import Compose, MapTransform, RandomizableTransform
from torch.utils.data import Dataset

from common.data import CaseDataset, DomainLoader


class Plain(Dataset[Any]):
    """A data set without anything but items."""

    def __init__(self, prefix: str, count: int) -> None:
        self.prefix, self.count = prefix, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"id": f"{self.prefix}{index}", "image": torch.full((1, 2, 2), float(index))}


class Shift(RandomizableTransform, MapTransform):
    """Adds one random number to the image."""

    def __init__(self) -> None:
        RandomizableTransform.__init__(self, 1.0)
        MapTransform.__init__(self, "image")

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "image": data["image"] + self.R.rand()}


def epoch(loader: DomainLoader, number: int) -> list[dict[str, Any]]:
    loader.set_epoch(number)
    return list(loader)


def names(steps: list[dict[str, Any]], domain: str) -> list[str]:
    return [name for step in steps for name in step[domain]["id"]]


def test_an_epoch_is_one_pass_over_the_larger_domain() -> None:
    loader = DomainLoader(Plain("s", 4), Plain("t", 10), batch_size=2, seed=1)
    steps = epoch(loader, 1)
    assert len(loader) == len(steps) == 5
    assert Counter(names(steps, "target")) == Counter({f"t{index}": 1 for index in range(10)})
    assert sorted(Counter(names(steps, "source")).values()) == [2, 2, 3, 3]
    assert steps[0]["source"]["image"].shape == (2, 1, 2, 2)


def test_passes_go_on_over_epochs_of_any_length() -> None:
    loader = DomainLoader(Plain("s", 7), Plain("t", 11), batch_size=2, target_batch_size=3, steps=2, seed=3)
    seen = {
        domain: [names(epoch(loader, number), domain) for number in range(1, 9)]
        for domain in ("source", "target")
    }
    flat = [name for part in seen["source"] for name in part]
    for first in range(0, 28, 7):
        assert len(set(flat[first : first + 7])) == 7
    counts = Counter(name for part in seen["target"] for name in part)
    assert set(counts.values()) <= {4, 5}  # 48 draws of 11
    assert flat[:7] != flat[7:14]
    # an epoch is what it is, whatever was drawn before it
    assert names(epoch(loader, 5), "source") == seen["source"][4]
    fresh = DomainLoader(Plain("s", 7), Plain("t", 11), batch_size=2, target_batch_size=3, steps=2, seed=3)
    assert names(epoch(fresh, 5), "target") == seen["target"][4]


def test_the_seed_changes_the_order_and_domains_have_orders_of_their_own() -> None:
    one, other = (DomainLoader(Plain("", 20), Plain("", 20), batch_size=4, seed=seed) for seed in (1, 2))
    assert names(epoch(one, 1), "source") != names(epoch(other, 1), "source")
    assert names(epoch(one, 1), "source") != names(epoch(one, 1), "target")


@pytest.mark.parametrize("target", [None, Plain("t", 0)])
def test_without_target_there_is_the_source_alone(target: Plain | None) -> None:
    steps = epoch(DomainLoader(Plain("s", 5), target, batch_size=2), 1)
    assert [set(step) for step in steps] == [{"source"}] * 3
    assert set(names(steps, "source")) == {f"s{index}" for index in range(5)}


def test_a_case_that_comes_again_is_augmented_anew_and_the_same_in_every_run() -> None:
    def loader(workers: int = 0) -> DomainLoader:
        cases = [{"id": "one", "image": torch.zeros(1, 2, 2)}]
        dataset = CaseDataset(cases, Compose([Shift()]), seed=4, progress=False)
        return DomainLoader(dataset, batch_size=3, steps=2, num_workers=workers)

    def values(steps: list[dict[str, Any]]) -> list[float]:
        return [float(image[0, 0, 0]) for step in steps for image in step["source"]["image"]]

    first = values(epoch(loader(), 2))
    assert len(set(first)) == 6
    assert values(epoch(loader(), 2)) == first
    assert values(epoch(loader(1), 2)) == first
    assert not set(values(epoch(loader(), 3))) & set(first)


def test_ranks_share_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def sees(rank: int, ranks: int, size: int) -> list[list[str]]:
        monkeypatch.setattr(dist, "is_initialized", lambda: ranks > 1)
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: ranks)
        loader = DomainLoader(Plain("s", 6), Plain("t", 9), batch_size=size, steps=3, seed=2)
        return [step["target"]["id"] for step in epoch(loader, 2)]

    alone = sees(0, 1, 4)
    one, other = (sees(rank, 2, 2) for rank in (0, 1))
    for step, left, right in zip(alone, one, other, strict=True):
        assert sorted([*left, *right]) == sorted(step)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": Plain("s", 0)}, "source must hold at least one case, got none"),
        ({"batch_size": 0}, "batch_size and target_batch_size must be at least 1, got 0 and 0"),
        ({"target_batch_size": -1}, "must be at least 1, got 4 and -1"),
        ({"steps": -1}, "steps must be at least 1, or 0 for a pass over the larger domain, got -1"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DomainLoader(**({"source": Plain("s", 3)} | arguments))

"""A loader that draws from two domains at once: cases with labels, and cases of another kind without."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from .dataset import collate_cases

_SOURCE, _TARGET = 0, 1


class DomainLoader:
    """Yield ``{"source": batch, "target": batch}``; an epoch is one pass over the larger domain, or `steps`.

    Each domain is gone through in passes, every one in an order of its own; where an epoch ends within a pass, the
    next epoch goes on from there, so that no case is drawn more than once more often than another, however long the
    epochs are. What an epoch draws depends on (seed, epoch) alone, not on the epochs before it. A case that an epoch
    draws again is augmented anew if its data set has ``drawn(index, repeat)``, see `CaseDataset`.

    With `torch.distributed` initialised every rank gets its share of each batch.

    Args:
        source: cases with labels, of any map-style data set.
        target: cases without; None or empty: there is no ``"target"``, the training is one on the source alone.
        batch_size: source cases per step and process, >= 1.
        target_batch_size: target cases, >= 1; None: as many.
        steps: of an epoch, >= 1; None or 0: as many as one pass over the larger domain needs.
        seed: of the order.
        num_workers: processes that load, for each of the two; 0 loads in this one.

    Attributes:
        dataset: `source`.

    Raises:
        ValueError: if there is no source case, or a number is out of its range.

    Reference:
        TCSA-UDA; the code of its kind (AdaptSegNet) draws 4 + 4 slices a step and counts its training in steps.
    """

    def __init__(
        self,
        source: Dataset[Any],
        target: Dataset[Any] | None = None,
        *,
        batch_size: int = 4,
        target_batch_size: int | None = None,
        steps: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        self.dataset = source
        self.target = target if target is not None and _size(target) else None
        self.batch_size = batch_size
        self.target_batch_size = batch_size if target_batch_size is None else target_batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.epoch = 1
        self._check(steps)
        distributed = dist.is_available() and dist.is_initialized()
        self._rank, self._ranks = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
        self._steps = steps or self._steps_of_a_pass()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 1, of the order and of the data sets' augmentation."""
        self.epoch = epoch
        for dataset in (self.dataset, self.target):
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)

    def __len__(self) -> int:
        """Steps of an epoch, the same in all of them."""
        return self._steps

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the steps of the epoch that `set_epoch` named."""
        source = self._loader(self.dataset, self.batch_size, _SOURCE)
        if self.target is None:
            yield from ({"source": batch} for batch in source)
            return
        target = self._loader(self.target, self.target_batch_size, _TARGET)
        for labelled, unlabelled in zip(source, target, strict=True):
            yield {"source": labelled, "target": unlabelled}

    def _loader(self, dataset: Dataset[Any], batch_size: int, stream: int) -> DataLoader[Any]:
        pairs = self._draw(_size(dataset), self._steps * batch_size * self._ranks, stream)
        return DataLoader(
            _Draws(dataset),
            batch_size=batch_size,
            sampler=pairs[self._rank :: self._ranks],
            collate_fn=collate_cases,
            num_workers=self.num_workers,
        )

    def _draw(self, cases: int, count: int, stream: int) -> list[tuple[int, int]]:
        """Draw `count` cases for all ranks: indices, and how often the epoch drew each before."""
        seen = [0] * cases
        pairs = []
        order: np.ndarray | None = None
        first = (self.epoch - 1) * count
        for place in range(first, first + count):
            number, within = divmod(place, cases)
            if order is None or within == 0:
                entropy = np.random.SeedSequence((self.seed, number, stream))
                order = np.random.default_rng(entropy).permutation(cases)
            index = int(order[within])
            pairs.append((index, seen[index]))
            seen[index] += 1
        return pairs

    def _steps_of_a_pass(self) -> int:
        sizes = [(_size(self.dataset), self.batch_size)]
        if self.target is not None:
            sizes.append((_size(self.target), self.target_batch_size))
        return max(math.ceil(cases / (batch_size * self._ranks)) for cases, batch_size in sizes)

    def _check(self, steps: int | None) -> None:
        if not _size(self.dataset):
            raise ValueError("source must hold at least one case, got none")
        if min(self.batch_size, self.target_batch_size) < 1:
            raise ValueError(
                "batch_size and target_batch_size must be at least 1, got "
                f"{self.batch_size} and {self.target_batch_size}"
            )
        if steps is not None and steps < 0:
            raise ValueError(f"steps must be at least 1, or 0 for a pass over the larger domain, got {steps}")


class _Draws(Dataset[Any]):
    """A data set whose index is a pair of the case and how often the epoch drew it before."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, pair: tuple[int, int]) -> Any:
        index, repeat = pair
        drawn = getattr(self.dataset, "drawn", None)
        return self.dataset[index] if drawn is None else drawn(index, repeat)


def _size(dataset: Dataset[Any] | Sized) -> int:
    return len(dataset)

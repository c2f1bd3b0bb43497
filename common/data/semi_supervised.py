"""Cases with and without labels, and a loader that draws from both."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, Sampler

from ..checks import file_sha256
from .datalist import load_datalist, load_labelled_split, read_datalist
from .dataset import CaseDataset, collate_cases
from .named_case import single_case

logger = logging.getLogger(__name__)


def labelled_cases(path: str | Path, *, fraction: float, seed: int = 42) -> list[dict[str, Any]]:
    """Return the training cases whose labels a semi-supervised training may see.

    Args:
        path: a ``dataset.json``, or the folder that holds one.
        fraction: share of the training cases that have a label, in (0, 1], drawn by the data set's own low-data rule.
        seed: of the draw.

    Raises:
        ValueError: if no training case has a label, or as `load_labelled_split`.
        FileNotFoundError: as `load_labelled_split`.

    Reference:
        Semi-MedRef, low-data lists of QaTa-COV19: 57, 114, 286 and 857 of 5716 cases at 1, 2, 5 and 15 %.
    """
    labelled, unlabelled = load_labelled_split(path, fraction=fraction, seed=seed)
    if not labelled:
        raise ValueError(
            f"training in {Path(path).name} must hold at least one case with a label, got {len(unlabelled)} without: "
            "draw the lesion in a few images first"
        )
    return labelled


def unlabelled_cases(
    path: str | Path, *, fraction: float, seed: int = 42, images: str | Path | None = None
) -> list[dict[str, Any]]:
    """Return the training cases without a label, and those whose label is withheld, none of them with a label.

    Args:
        path: a ``dataset.json``, or the folder that holds one. Under a host, which brings the labelled cases itself,
            there need not be one.
        fraction: as for `labelled_cases`; with 1 only cases that have no label are left.
        seed: as for `labelled_cases`.
        images: a folder of further images without labels; their sentences lie beside them and are read by
            `CaseDataset` with `sidecar_text`. None or "": there is none.

    Raises:
        ValueError: if an image of the folder is also one of validation or test, or as `load_labelled_split`.
    """
    known = Path(path).exists()
    unlabelled = load_labelled_split(path, fraction=fraction, seed=seed)[1] if known else []
    if not known:
        logger.info("no %s: its cases without labels are left out", Path(path).name)
    if not images:
        return unlabelled
    found = [{"id": case["id"], "image": case["image"]} for case in single_case(images, None)]
    if known:
        _refuse_evaluated(found, path)
    logger.info("%d further images without labels", len(found))
    return unlabelled + found


class SemiSupervisedLoader:
    """Yield ``{"labelled": batch, "unlabelled": batch}``; an epoch is one pass over the unlabelled cases.

    The labelled cases are drawn with replacement, however few they are, and a case that is drawn again within an
    epoch is augmented anew. What is drawn depends on (seed, epoch) alone. With `torch.distributed` initialised every
    rank gets its share of each batch, as of a `CaseLoader`; the unlabelled cases are repeated so that every rank has
    equally many.

    Without unlabelled cases there is no ``"unlabelled"``, and an epoch is one pass over the labelled ones, each once,
    unless `epoch_cases` says how many cases it is: then labelled cases are drawn with replacement as if these were
    there, so that a supervised training has the steps of a semi-supervised one.

    Args:
        labelled: cases with labels.
        unlabelled: cases without; None or empty: there are none.
        batch_size: labelled cases per step and process, >= 1.
        unlabelled_batch_size: unlabelled ones, >= 1; None: as many.
        seed: of the order.
        num_workers: processes that load, for each of the two; 0 loads in this one.
        burn_in: number of epochs at the start in which no unlabelled case is loaded; their length is that of the
            others.
        epoch_cases: see above; None or 0: not used. Not together with `unlabelled`.

    Attributes:
        dataset: `labelled`.

    Raises:
        ValueError: if there is no labelled case, a number is out of its range, or `epoch_cases` contradicts
            `unlabelled`.

    Reference:
        Semi-MedRef, section 3.1, and its code: batches of 32 + 32, ceil(N_u / 32) steps an epoch.
    """

    def __init__(
        self,
        labelled: CaseDataset,
        unlabelled: CaseDataset | None = None,
        *,
        batch_size: int = 32,
        unlabelled_batch_size: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        burn_in: int = 0,
        epoch_cases: int | None = None,
    ) -> None:
        self.dataset = labelled
        self.unlabelled = unlabelled if unlabelled is not None and len(unlabelled) else None
        self.batch_size = batch_size
        self.unlabelled_batch_size = batch_size if unlabelled_batch_size is None else unlabelled_batch_size
        self.seed = seed
        self.burn_in = burn_in
        self.epoch_cases = len(self.unlabelled) if self.unlabelled is not None else epoch_cases or 0
        self._check(epoch_cases)
        self.epoch = 1
        distributed = dist.is_available() and dist.is_initialized()
        self._rank, self._ranks = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
        self._labelled_order = _Order()
        self._unlabelled_order = _Order()
        options = {"collate_fn": collate_cases, "num_workers": num_workers}
        self._labelled = DataLoader(
            _Draws(labelled), batch_size=batch_size, sampler=self._labelled_order, **options
        )
        self._unlabelled: DataLoader[Any] | None = None
        if self.unlabelled is not None:
            draws = _Draws(self.unlabelled)
            self._unlabelled = DataLoader(
                draws, batch_size=self.unlabelled_batch_size, sampler=self._unlabelled_order, **options
            )

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 1, of the order and of the data sets' augmentation."""
        self.epoch = epoch
        for dataset in (self.dataset, self.unlabelled):
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)

    def __len__(self) -> int:
        """Steps of an epoch, the same in all of them."""
        size = self.unlabelled_batch_size if self.epoch_cases else self.batch_size
        return math.ceil((self.epoch_cases or len(self.dataset)) / (size * self._ranks))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the steps of the epoch that `set_epoch` named."""
        self._labelled_order.pairs = self._share(self._draw_labelled())
        if self._unlabelled is None or self.epoch <= self.burn_in:
            yield from ({"labelled": batch} for batch in self._labelled)
            return
        order = self._generator(1).permutation(len(self.unlabelled))
        self._unlabelled_order.pairs = self._share([(int(index), 0) for index in order])
        for labelled, unlabelled in zip(self._labelled, self._unlabelled, strict=True):
            yield {"labelled": labelled, "unlabelled": unlabelled}

    def _draw_labelled(self) -> list[tuple[int, int]]:
        """Draw the labelled cases of all ranks: indices, and how often each was drawn before."""
        count, generator = len(self.dataset), self._generator(0)
        if not self.epoch_cases:
            return [(int(index), 0) for index in generator.permutation(count)]
        seen = [0] * count
        pairs = []
        for index in generator.integers(count, size=len(self) * self.batch_size * self._ranks):
            pairs.append((int(index), seen[index]))
            seen[index] += 1
        return pairs

    def _share(self, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return this rank's pairs; the first ones are repeated until every rank has as many."""
        missing = -len(pairs) % self._ranks
        return [*pairs, *(pairs * missing)[:missing]][self._rank :: self._ranks]

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((self.seed, self.epoch, stream)))

    def _check(self, epoch_cases: int | None) -> None:
        if not len(self.dataset):
            raise ValueError("labelled must hold at least one case, got none")
        if min(self.batch_size, self.unlabelled_batch_size) < 1:
            raise ValueError(
                "batch_size and unlabelled_batch_size must be at least 1, got "
                f"{self.batch_size} and {self.unlabelled_batch_size}"
            )
        if self.burn_in < 0 or self.epoch_cases < 0:
            raise ValueError(
                f"burn_in and epoch_cases must be 0 or more, got {self.burn_in} and {self.epoch_cases}"
            )
        if epoch_cases and self.unlabelled is not None:
            raise ValueError(
                f"epoch_cases must be None where there are unlabelled cases, got {epoch_cases}: they make the epoch"
            )


class _Order(Sampler[tuple[int, int]]):
    """Pairs of an index and how often it was drawn before, which the loader sets for every epoch."""

    def __init__(self) -> None:
        self.pairs: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


class _Draws(Dataset[Any]):
    """A data set whose index is a pair of `_Order`."""

    def __init__(self, dataset: CaseDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, pair: tuple[int, int]) -> Any:
        return self.dataset.drawn(*pair)


def _refuse_evaluated(found: list[dict[str, str]], path: str | Path) -> None:
    """Refuse images that are also in validation or test, under whatever name."""
    evaluated: dict[int, list[Path]] = {}
    for section in {"validation", "test"} & read_datalist(path)[1].keys():
        for case in load_datalist(path, section):
            file = Path(case["image"])
            evaluated.setdefault(file.stat().st_size, []).append(file)
    for case in found:
        same_size = evaluated.get(Path(case["image"]).stat().st_size, [])
        if same_size and file_sha256(case["image"]) in {file_sha256(file) for file in same_size}:
            raise ValueError(
                f"images must hold no image of validation or test, got {case['image']}: take it out of the folder"
            )

"""A cached data set and a loader whose order and augmentation depend on the seed alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from monai.data import CacheDataset, DataLoader, DistributedSampler, list_data_collate
from monai.transforms import Compose
from torch.utils.data import IterableDataset

from ..text.perturbation import perturb_cases
from ..text.sidecar import read_sidecar, sidecar_of
from .datalist import load_datalist

logger = logging.getLogger(__name__)


def load_cases(
    path: str | Path,
    section: str,
    *,
    fraction: float = 1.0,
    seed: int = 42,
    text_perturbation: str = "none",
) -> list[dict[str, Any]]:
    """Return the cases of a section, with their sentences perturbed when asked.

    Args:
        path: a ``dataset.json``.
        section: ``training``, ``validation`` or ``test``.
        fraction: share of the section to keep, in (0, 1].
        seed: of the share and of the perturbation.
        text_perturbation: one of `common.text.perturbation`'s kinds; ``none`` leaves the sentences.
    """
    cases = load_datalist(path, section, fraction=fraction, seed=seed)
    return perturb_cases(cases, text_perturbation, seed=seed)


class CaseDataset(CacheDataset):
    """Cases whose deterministic transforms run once and whose random ones depend on (seed, epoch, case).

    Since the random state of a case is set from these three numbers, the augmentation of a case does not
    change with the number of workers, of processes, or with a resumed training.

    A host names no more than images and labels; such cases are called after their images, and may find their
    sentences in sidecars.

    Args:
        data: cases, as `load_datalist` returns them, or a host's list of "image" and "label".
        transform: applied in order; nested compositions are flattened, and everything in front of the first
            random transform is cached.
        seed: of the random transforms.
        cache_rate: share of the cases to keep in memory, in [0, 1].
        num_workers: threads that fill the cache.
        progress: show a progress bar while the cache is filled.
        sidecar_text: read the sentence of a case that has no "text" at all from the file beside its image, see
            `common.text.sidecar_of`. A case whose "text" is empty keeps it.

    Attributes:
        is_from_host: whether a host gave the cases; then each run is a training of its own, never resumed.

    Raises:
        ValueError: when a sidecar cannot be read, or a case cannot be; the file is named.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Compose,
        *,
        seed: int = 0,
        cache_rate: float = 1.0,
        num_workers: int | None = 2,
        progress: bool = True,
        sidecar_text: bool = False,
    ) -> None:
        self.seed = seed
        self.epoch = 0
        self.is_from_host = any("id" not in case for case in data)
        cases = [named_case(case, sidecar_text=sidecar_text) for case in data]
        found = sum("text" in new and "text" not in old for new, old in zip(cases, data, strict=True))
        if found:
            logger.info("read the sentences of %d of %d cases from sidecars", found, len(cases))
        if not isinstance(transform, Compose):
            transform = Compose(transform)
        super().__init__(
            data=cases,
            transform=transform.flatten(),
            cache_rate=cache_rate,
            num_workers=num_workers,
            progress=progress and len(data) > 1,
        )

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the random transforms of the next pass belong to."""
        self.epoch = epoch

    def drawn(self, index: int, repeat: int) -> Any:
        """Return a case that an epoch has drawn before, with random transforms of its own.

        Args:
            index: of the case.
            repeat: how often the epoch has drawn it before; 0: as ``self[index]``.
        """
        return self._transform(index, repeat)

    def _transform(self, index: int, repeat: int = 0) -> Any:
        place = (self.seed, self.epoch, index, repeat) if repeat else (self.seed, self.epoch, index)
        state = np.random.SeedSequence(place).generate_state(1)[0]
        self.transform.set_random_state(seed=int(state))
        return super()._transform(index)

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except RuntimeError as error:
            raise case_error(self.data[idx], error) from error


def named_case(case: Mapping[str, Any], *, sidecar_text: bool = False) -> dict[str, Any]:
    """Return a case with an "id", that of its image if it has none, and perhaps with its sidecar's sentence.

    Args:
        case: with the path of an "image"; without one it stays as it is.
        sidecar_text: see `CaseDataset`.
    """
    image = case.get("image")
    if not isinstance(image, (str, Path)):
        return dict(case)
    named = {"id": Path(image).name.split(".")[0], **case}
    sidecar = sidecar_of(image) if sidecar_text and "text" not in case else None
    return named if sidecar is None else {**named, **read_sidecar(sidecar)}


def case_error(case: Mapping[str, Any], error: BaseException) -> ValueError:
    """Return an error that names the case and the first cause, without the chain of transforms around it."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return ValueError(f"case {case.get('id', '?')}: {cause}")


class TolerantDataset(IterableDataset):
    """Cases one by one; one that cannot be read is recorded in `failures` and passed over.

    A single case is no batch: its error is raised. Memory does not grow with the number of cases.

    Args:
        data: cases.
        transform: applied to each case.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], transform: Compose) -> None:
        super().__init__()
        self.data = list(data)
        self.transform = transform
        self.failures: list[dict[str, str]] = []

    def __iter__(self) -> Iterator[Any]:
        """Yield the transformed cases that could be read."""
        if not self.data:
            raise ValueError("there is nothing to segment: name an image or a folder with --image")
        for case in self.data:
            try:
                item = self.transform(dict(case))
            except (RuntimeError, ValueError, OSError) as error:
                failure = case_error(case, error)
                if len(self.data) == 1:
                    raise failure from error
                self.failures.append(
                    {"id": str(case["id"]), "image": str(case["image"]), "error": str(failure)}
                )
                logger.warning("passed over %s", failure)
                continue
            yield item


def collate_cases(cases: Sequence[Mapping[str, Any]]) -> Any:
    """Collate cases into a batch of the entries that all of them have.

    Raises:
        ValueError: when some cases have a label and others have none.
    """
    shared = [key for key in cases[0] if all(key in case for case in cases)]
    if "label" not in shared:
        unlabelled = [str(case.get("id")) for case in cases if "label" not in case]
        if len(unlabelled) < len(cases):
            raise ValueError(f"every case of a batch must have a label, got none for {', '.join(unlabelled)}")
    return list_data_collate([{key: case[key] for key in shared} for case in cases])


class CaseLoader(DataLoader):
    """A loader whose order depends on (seed, epoch) alone, on one process or on several.

    With `torch.distributed` initialised every rank gets its share of each batch: two processes with a batch
    size of 8 see, step by step, the cases that one process sees with 16.

    Args:
        dataset: the cases.
        batch_size: per process.
        shuffle: permute the cases anew every epoch.
        seed: of the order.
        num_workers: processes that load; 0 loads in this one.
        even: repeat cases so that every rank has equally many (training); without it some ranks may have one
            case fewer, and every case is seen once (evaluation).

    Raises:
        ValueError: if a rank would have no case to evaluate.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        batch_size: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        num_workers: int = 0,
        even: bool | None = None,
        **kwargs: Any,
    ) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        ranks = dist.get_world_size() if distributed else 1
        even = shuffle if even is None else even
        if 0 < len(dataset) < ranks and not even:
            raise ValueError(
                f"every process must have a case to evaluate, got {len(dataset)} cases for {ranks} processes: "
                "start fewer processes"
            )
        sampler = None
        if len(dataset) and (shuffle or distributed):
            sampler = DistributedSampler(
                dataset,
                even_divisible=even,
                num_replicas=ranks,
                rank=dist.get_rank() if distributed else 0,
                shuffle=shuffle,
                seed=seed,
            )
        kwargs.setdefault("collate_fn", collate_cases)
        super().__init__(
            dataset, batch_size=batch_size, sampler=sampler, num_workers=num_workers, shuffle=False, **kwargs
        )

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the order and of the data set's augmentation."""
        if isinstance(self.sampler, DistributedSampler):
            self.sampler.set_epoch(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

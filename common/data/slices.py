"""Slices of volumes as the cases of a training: the files are the volumes' own, read once and kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from .dataset import case_error, named_case

KEPT = ("all", "labelled")


class SliceDataset(Dataset[dict[str, Any]]):
    """Slices of volumes, in the order of the volumes, whose augmentation depends on (seed, epoch, slice) alone.

    Every volume is read and preprocessed once, when the data set is made, which also finds bad files before a
    training starts; nothing is written to the disk. An item has the "id" of its volume and slice (``case:017``),
    "case", "slice" (its number), "image" `(channels, H, W)` float32, "label" `(1, H, W)` float32 of classes where the
    volume has one, and the volume's "modality" and "domain".

    Args:
        data: cases with the paths of volumes, as `load_domain_cases` returns them, or a host's list of "image" and
            "label".
        transform: deterministic preprocessing of whole volumes, such as `volume_preprocessing`.
        augmentation: random transforms of a slice, in order; None for none.
        seed: of the augmentation.
        keep: "all" slices, or of volumes with a label only the "labelled" ones, which show a class.
        channels: of an image; gray is repeated.
        cache_volumes: how many preprocessed volumes each process keeps, the last used ones; None keeps all. With
            fewer than there are, a shuffled order reads volumes again and again.
        num_workers: threads that read the volumes at the start; None or 0: one.
        progress: show a progress bar meanwhile.

    Attributes:
        is_from_host: whether a host gave the cases; then each run is a training of its own, never resumed.

    Raises:
        ValueError: when a volume cannot be read, naming its case; when an argument is out of range, or no slice is
            left.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[..., Any],
        *,
        augmentation: Any = None,
        seed: int = 0,
        keep: str = "all",
        channels: int = 3,
        cache_volumes: int | None = None,
        num_workers: int | None = 2,
        progress: bool = True,
    ) -> None:
        if keep not in KEPT:
            raise ValueError(f"keep must be 'all' or 'labelled', got {keep!r}")
        if channels < 1 or (cache_volumes is not None and cache_volumes < 1):
            raise ValueError(
                f"channels and cache_volumes must be at least 1, got {channels} and {cache_volumes}"
            )
        self.is_from_host = any("id" not in case for case in data)
        self.data = [named_case(case) for case in data]
        self.transform, self.augmentation = transform, _composed(augmentation)
        self.seed, self.epoch, self.keep, self.channels = seed, 0, keep, channels
        self.cache_volumes = cache_volumes
        self._cache: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self.places = self._read_all(num_workers or 1, progress=progress and len(data) > 1)
        if self.data and not self.places:
            raise ValueError(
                f"at least one of {len(self.data)} volumes must have a slice that shows a class, got none: check the "
                "labels, or use keep='all'"
            )

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a slice with the random transforms of the epoch."""
        return self.drawn(index, 0)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the random transforms of the next pass belong to."""
        self.epoch = epoch

    def drawn(self, index: int, repeat: int) -> dict[str, Any]:
        """Return a slice that an epoch has drawn before, with random transforms of its own.

        Args:
            index: of the slice.
            repeat: how often the epoch has drawn it before; 0: as ``self[index]``.
        """
        volume, number = self.places[index]
        item = self._slice(self._volume(volume), number)
        if self.augmentation is None:
            return item
        place = (self.seed, self.epoch, index, repeat) if repeat else (self.seed, self.epoch, index)
        state = np.random.SeedSequence(place).generate_state(1)[0]
        self.augmentation.set_random_state(seed=int(state))
        augmented: dict[str, Any] = self.augmentation(item)
        return augmented

    def _slice(self, case: Mapping[str, Any], number: int) -> dict[str, Any]:
        image = case["image"][..., number]
        item: dict[str, Any] = {
            "id": f"{case['id']}:{number:03d}",
            "case": case["id"],
            "slice": number,
            "image": image.expand(self.channels, -1, -1) if image.shape[0] == 1 else image,
        }
        if "label" in case:
            item["label"] = case["label"][..., number].to(torch.float32)
        return {**item, **{key: case[key] for key in ("modality", "domain") if key in case}}

    def _read_all(self, threads: int, *, progress: bool) -> list[tuple[int, int]]:
        """Read every volume once, keep as many as may be kept, and list the slices as (volume, number)."""
        places: list[tuple[int, int]] = []
        bar = tqdm(total=len(self.data), desc="volumes", unit="volume", disable=None if progress else True)
        with bar, ThreadPoolExecutor(threads) as pool:
            # a few at a time, so that volumes which are not kept do not pile up
            for start in range(0, len(self.data), threads):
                numbers = range(start, min(start + threads, len(self.data)))
                for number, case in zip(numbers, pool.map(self._read, numbers), strict=True):
                    self._keep(number, case)
                    places += [(number, each) for each in self._chosen(case)]
                    bar.update()
        return places

    def _chosen(self, case: Mapping[str, Any]) -> list[int]:
        if self.keep == "labelled" and "label" in case:
            shown = case["label"].flatten(0, 2).amax(dim=0) > 0
            return [int(number) for number in torch.nonzero(shown).flatten()]
        return list(range(case["image"].shape[-1]))

    def _volume(self, number: int) -> dict[str, Any]:
        if number not in self._cache:
            self._keep(number, self._read(number))
        self._cache.move_to_end(number)
        return self._cache[number]

    def _keep(self, number: int, case: dict[str, Any]) -> None:
        self._cache[number] = case
        while self.cache_volumes is not None and len(self._cache) > self.cache_volumes:
            self._cache.popitem(last=False)

    def _read(self, number: int) -> dict[str, Any]:
        try:
            case = self.transform(dict(self.data[number]))
        except (RuntimeError, ValueError, OSError) as error:
            raise case_error(self.data[number], error) from error
        kept = {key: case[key] for key in ("id", "modality", "domain") if key in case}
        kept["image"] = _plain(case["image"])
        if "label" in case:
            kept["label"] = _plain(case["label"])
            if kept["label"].shape[1:] != kept["image"].shape[1:]:
                raise ValueError(
                    f"case {kept.get('id')}: label must lie on the grid of the network input, "
                    f"{tuple(kept['image'].shape[1:])}, got {tuple(kept['label'].shape[1:])}: preprocess both alike"
                )
        return kept


def _plain(values: Any) -> Tensor:
    tensor = values.as_tensor() if isinstance(values, MetaTensor) else torch.as_tensor(values)
    return tensor.contiguous()


def _composed(augmentation: Any) -> Compose | None:
    if augmentation is None or isinstance(augmentation, Compose):
        return None if augmentation is None else augmentation.flatten()
    return Compose(augmentation).flatten()

"""A frozen text model that runs once per distinct sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_Row = tuple[Tensor, ...]


class FrozenBackbone:
    """Keep a model out of a network's parameters, state and modes, and its outputs per sentence.

    It is no `nn.Module`, so that the network that holds it neither saves, trains, moves nor copies it: the
    model is always in evaluation mode, needs no gradient, follows the device of what it is given, and is
    shared by copies of the network. The features of a sentence (of its ids and mask) are kept in main
    memory and taken from there the next time; the distinct sentences of a batch that are not there yet
    are encoded in one call. While a network is traced or compiled nothing is kept or taken.

    Args:
        backbone: The model: ids `(B, L)` and mask `(B, L)` to tensors whose first dimension is B.
        half_precision: Whether the model computes in float16 on a GPU, and features are kept as float16.
        cache_size: The most sentences kept; the one unused for longest leaves first. 0: none.

    Raises:
        ValueError: If `cache_size` is negative.
    """

    def __init__(self, backbone: nn.Module, *, half_precision: bool = False, cache_size: int = 1024) -> None:
        if cache_size < 0:
            raise ValueError(f"cache_size must be at least 0, got {cache_size}")
        self.backbone = backbone.eval().requires_grad_(False)
        self.hidden_size: int = backbone.hidden_size
        self.vocab_size: int = backbone.vocab_size
        self.half_precision = half_precision
        self.cache_size = cache_size
        self._rows: dict[bytes, _Row] = {}

    def __call__(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """The backbone's outputs for a batch, float32, on the device of `ids`, without gradient."""
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return self._encode(ids, mask)
        keys = [row.tobytes() for row in torch.cat([ids, mask.to(ids.dtype)], dim=1).cpu().numpy()]
        places = {key: place for place, key in reversed(list(enumerate(keys)))}  # each key's first row
        distinct = list(places)
        rows = {key: row for key in distinct if (row := self._rows.get(key)) is not None}
        missing = [key for key in distinct if key not in rows]
        if missing:
            chosen = torch.tensor([places[key] for key in missing], device=ids.device)
            rows |= zip(missing, self._split(self._encode(ids[chosen], mask[chosen])), strict=True)
        self._keep(rows)
        numbers = {key: number for number, key in enumerate(distinct)}
        order = torch.tensor([numbers[key] for key in keys], device=ids.device)
        columns = zip(*(rows[key] for key in distinct), strict=True)
        return tuple(torch.stack(column).to(ids.device).float()[order] for column in columns)

    def __len__(self) -> int:
        """How many sentences are kept."""
        return len(self._rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenBackbone:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": {}}

    @torch.no_grad()
    def _encode(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        half = self.half_precision and ids.device.type == "cuda"
        backbone = self.backbone.to(device=ids.device, dtype=torch.float16 if half else torch.float32)
        with torch.autocast(ids.device.type, enabled=False):
            return tuple(output.float() for output in backbone(ids, mask))

    def _split(self, outputs: tuple[Tensor, ...]) -> Iterable[_Row]:
        kept = torch.float16 if self.half_precision else torch.float32
        columns = [output.to("cpu", kept) for output in outputs]
        return [tuple(column[row].clone() for column in columns) for row in range(len(columns[0]))]

    def _keep(self, rows: dict[bytes, _Row]) -> None:
        for key, row in rows.items():
            self._rows.pop(key, None)  # to the end: used last
            self._rows[key] = row
        for key in list(self._rows)[: max(0, len(self._rows) - self.cache_size)]:
            self._rows.pop(key, None)

"""The cases of a section: read and resized once, then corrupted and given other sentences for every cell."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai.transforms import Compose
from torch import Tensor

from common.data import load_cases
from common.data.dataset import case_error
from common.inference import Segmenter
from common.text.perturbation import perturb_cases

from .request import Cell, RobustnessError, RobustnessRequest

KEPT_BYTES = 2 * 2**30
TEXT_SEED, IMAGE_SEED = 42, 0  # what the bundles' evaluation draws with


class Cases:
    """Cases of a section under the conditions of a cell, prepared by a bundle's own preprocessing.

    Images are read and resized once and kept as long as they fit into 2 GiB; others are read again for each cell.

    Args:
        request: the options.
        segmenter: the bundle.

    Raises:
        RobustnessError: when the section is empty, or a packed bundle's code is older than the corruptions.
        ValueError: when the data set is not valid or the preprocessing normalises nothing.
        FileNotFoundError: when it has not been prepared.
    """

    def __init__(self, request: RobustnessRequest, segmenter: Segmenter) -> None:
        found = load_cases(request.dataset_dir / "dataset.json", request.section)
        self.cases = found[: request.limit]
        if not self.cases:
            raise RobustnessError(f"{request.section} must hold cases, got none: choose another --section")
        self.transforms = _transforms_of(segmenter.prepare.steps)
        self.before, self.after = self.transforms.split_at_corruption(Compose(segmenter.prepare.steps))
        self._kept: dict[str, dict[str, Any]] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self.cases)

    def of(self, cell: Cell) -> Iterator[tuple[dict[str, Any], Tensor | None]]:
        """Yield every case as `Segmenter.infer` takes it, and its label `(1, rows, columns[, slices])` or None.

        Raises:
            ValueError: when a case cannot be read, which is named; when "other" finds no other zones.
        """
        corrupt = self.transforms.CorruptImaged("image", corruption=cell.corruption, seed=IMAGE_SEED)
        for case in perturb_cases(self.cases, cell.perturbation, seed=TEXT_SEED):
            try:
                data: Any = self.after(corrupt({**self._read(case), "text": case.get("text")}))
            except (RuntimeError, OSError) as error:
                raise case_error(case, error) from error
            yield _prepared(case, data), data.get("label")

    def _read(self, case: Mapping[str, Any]) -> dict[str, Any]:
        name = str(case["id"])
        if name in self._kept:
            return self._kept[name]
        data = dict(self.before({key: value for key, value in case.items() if key != "text"}))
        size = sum(value.nbytes for value in data.values() if isinstance(value, Tensor))
        if size <= self._room:
            self._room -= size
            self._kept[name] = data
        return data


def _transforms_of(steps: Sequence[Any]) -> Any:
    """The package that a preprocessing is made of: a packed bundle brings its own."""
    packed = any(type(step).__module__.startswith("scripts.") for step in steps)
    package = importlib.import_module("scripts.common.transforms" if packed else "common.transforms")
    if not hasattr(package, "split_at_corruption"):
        raise RobustnessError(
            "bundle must bring code that can corrupt images, got a packed bundle of an earlier release: pack it again"
        )
    return package


def _prepared(case: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(case["id"]),
        "files": (str(case["image"]),),
        "image": data["image"],
        "text": data["text"],
        "sentence": data["sentence"],
        "given": str(case.get("text") or ""),
        "given_laterality": str(case.get("laterality") or data["laterality"]),
        "text_source": "given",
        "warnings": (),
    }

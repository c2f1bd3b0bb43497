"""Inputs of bundles of volumes. Imports nothing of the project, for the probes load it by its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

NAMES = {"abdomen": "spleen", "heart": "myocardium"}  # a class that one anatomy alone has


def write_volumes(write: Callable[..., Any], folder: Path, config: Mapping[str, Any]) -> None:
    """Write a data set that has the classes and modalities of a bundle.

    Args:
        write: `common.data.phantom_volume.write_volume_phantom_dataset` of the bundle's code.
        folder: to make.
        config: content of ``train.json``.
    """
    names = list(config["labels"].values())
    anatomy = next((anatomy for anatomy, name in NAMES.items() if name in names), "abdomen")
    write(folder, anatomy=anatomy, count=5, size=32, slices=4, seed=1)
    path = folder / "dataset.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    called = dict(zip(("mr", "ct"), str(config["direction"]).split("_to_"), strict=True))
    for section in ("training", "validation", "test"):
        for case in document[section]:
            case["modality"] = called[case["modality"]]
            _keep_classes(folder / case["label"], len(names))
    document["labels"] = dict(config["labels"])
    path.write_text(json.dumps(document), encoding="utf-8")


def slices_of(volume: Any) -> tuple[Any, Any]:
    """Return two slices of a preprocessed volume as a network's `(2, 3, H, W)` input, and a text that it ignores."""
    import torch

    plain = volume.as_tensor() if hasattr(volume, "as_tensor") else volume
    image = plain[..., :2].movedim(-1, 0).expand(-1, 3, -1, -1)
    return image, torch.zeros(2, 2, 1, dtype=torch.int64)


def _keep_classes(path: Path, classes: int) -> None:
    """Make every class that is beyond a bundle's the last one of it."""
    import nibabel
    import numpy as np

    image = nibabel.load(path)
    values = np.minimum(np.asarray(image.dataobj), classes - 1).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, None, image.header), path)

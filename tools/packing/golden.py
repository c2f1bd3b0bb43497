"""The golden output of a bundle, as far as it is that of the packed one, too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .configs import strings
from .sources import BundleSource, read_object

GOLDEN = "models/golden.json"
OUTPUT_COMES_FROM = ("network_def", "network", "preprocessing", "inferer")
REFERENCE = re.compile(r"@(\w+)")


def golden_of(source: BundleSource, weights: Path | None, inference: Mapping[str, Any]) -> Path | None:
    """Return the bundle's ``models/golden.json`` when the packed bundle gives the same output; else None.

    Args:
        source: the bundle in the repository.
        weights: that are packed.
        inference: content of the packed ``inference.json``, targets as in the repository.
    """
    from common.checks import file_sha256  # imported here: `--help` should not load PyTorch

    path = source.folder / GOLDEN
    if weights is None or not path.is_file():
        return None
    if read_object(path).get("weights") != file_sha256(weights):
        return None
    original = read_object(source.folder / "configs" / "inference.json")
    return path if what_decides_output(original) == what_decides_output(inference) else None


def what_decides_output(inference: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``inference.json`` that network, preprocessing and inferer are built from."""
    found: dict[str, Any] = {}
    waiting = [name for name in OUTPUT_COMES_FROM if name in inference]
    while waiting:
        name = waiting.pop()
        if name in found or name not in inference:
            continue
        found[name] = inference[name]
        value = found[name]
        waiting += [key for text in strings([value]) for key in REFERENCE.findall(text)]
    found.pop("device", None)
    return found

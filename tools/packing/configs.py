"""The configurations of a packed bundle: overlays merged, targets moved, and nothing that would not stand alone."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .layout import relaid
from .merging import check_known, merged, merged_into_evaluate
from .sources import BundleSource, Overlay, PackError, read_object

LATERALITIES = ("image", "patient")
METADATA = "configs/metadata.json"
MOVED = ("common.", "scripts.common.")
NAMES_COMMON = re.compile(r"\bcommon\b")


def packed_configs(
    source: BundleSource, overlays: Sequence[Overlay], *, laterality: str | None = None
) -> dict[str, str]:
    """Return the texts of the packed configurations by their path in the bundle.

    The overlays are merged into ``train.json`` and ``inference.json`` and leave ``configs/overlays``; the others stay.
    Tables of experiments are left out: they belong to the repository's tools.

    Args:
        source: the bundle.
        overlays: merged in this order.
        laterality: set after the overlays; None: as they say.

    Raises:
        PackError: when an overlay cannot be merged, or a configuration could not stand alone.
    """
    contents = merged_configs(source, overlays, laterality=laterality)
    names = {overlay.name for overlay in overlays}
    for name, path in source.overlays().items():
        if name not in names:
            contents[f"configs/overlays/{path.name}"] = read_object(path)
    texts = {}
    for path, content in contents.items():
        moved = with_moved_targets(content)
        check_plain(moved, where=path)
        original = (source.folder / path).read_text(encoding="utf-8")
        texts[path] = relaid(original, moved)
    return texts


def merged_configs(
    source: BundleSource, overlays: Sequence[Overlay], *, laterality: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return every JSON file directly in ``configs`` with the overlays merged and targets as they are in the source.

    Raises:
        PackError: when an overlay cannot be merged, `laterality` is unknown or cannot be set, or train and inference
            disagree on it.
    """
    contents = {f"configs/{path.name}": read_object(path) for path in source.folder.glob("configs/*.json")}
    train, inference, evaluate = (f"configs/{name}.json" for name in ("train", "inference", "evaluate"))
    layers = [*overlays, *_laterality_layer(contents[inference], laterality)]
    check_known(layers, contents[train], contents[inference])
    for layer in layers:
        for path in (train, inference):
            contents[path] = merged(contents[path], layer, where=path)
        contents[evaluate] = merged_into_evaluate(contents[evaluate], layer)
    sides = [contents[path].get("laterality") for path in (train, inference)]
    if sides[0] != sides[1]:
        raise PackError(
            f"train.json and inference.json must agree on laterality, got {sides[0]} and {sides[1]}"
        )
    labels = contents[inference].get("labels")
    if labels:
        contents[METADATA] = with_classes(contents[METADATA], labels)
    return dict(sorted(contents.items()))


def with_classes(metadata: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """Return ``metadata.json`` with the classes that ``inference.json`` names: hosts show those of the metadata."""
    result: dict[str, Any] = copy.deepcopy(dict(metadata))
    prediction = result["network_data_format"]["outputs"]["pred"]
    prediction |= {"num_channels": len(labels), "channel_def": dict(labels)}
    result["label_classes"] = ", ".join(f"{number} {name}" for number, name in labels.items())
    return result


def _laterality_layer(inference: Mapping[str, Any], laterality: str | None) -> list[Overlay]:
    if laterality is None:
        return []
    if laterality not in LATERALITIES:
        raise PackError(f"laterality must be image or patient, got {laterality!r} (--laterality)")
    if "laterality" not in inference:
        raise PackError("--laterality needs a bundle whose inference.json has the key laterality")
    return [Overlay(name="--laterality", values={"laterality": laterality})]


def with_moved_targets(value: Any) -> Any:
    """Return a configuration whose strings say ``scripts.common.`` where they began with ``common.``."""
    if isinstance(value, dict):
        return {with_moved_targets(key): with_moved_targets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_moved_targets(item) for item in value]
    return MOVED[1] + value.removeprefix(MOVED[0]) if _begins_with_common(value) else value


def check_plain(config: Mapping[str, Any], *, where: str) -> None:
    """Refuse what works in the repository alone, or in MONAI's runner alone.

    Raises:
        PackError: at a ``%`` reference to another file, a reference to the metadata, or an expression that names
            ``common``.
    """
    for text in strings(config):
        if text.startswith("%"):
            problem = "refers to another file, which hosts resolve from elsewhere: write the value itself"
        elif "@_meta_" in text:
            problem = "refers to the metadata, which some hosts do not read: write the value itself"
        elif text.startswith("$") and NAMES_COMMON.search(text):
            problem = "names common in an expression, which is not moved: use a _target_"
        else:
            continue
        raise PackError(f"{where}: {json.dumps(text)} {problem}")


def strings(value: Any) -> Iterator[str]:
    """Yield every key and every string of a configuration."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def _begins_with_common(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(MOVED[0])

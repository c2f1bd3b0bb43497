"""Checks of ``configs/metadata.json``: what the schema asks for, and what the model zoo's programs ask for besides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.packing import PackError

from .checking import Result, Skipped, Status, check
from .opened import OpenedBundle

METADATA = "configs/metadata.json"
TYPES: dict[str, type] = {
    **dict.fromkeys(("schema", "version", "monai_version", "pytorch_version", "numpy_version"), str),
    **dict.fromkeys(("task", "description", "authors", "copyright"), str),
    **dict.fromkeys(("required_packages_version", "network_data_format", "changelog"), dict),
}
OPTIONAL_TYPES: dict[str, type] = {
    **dict.fromkeys(("eval_metrics", "supported_apps"), dict),
    **dict.fromkeys(("data_source", "data_type", "image_classes", "label_classes", "pred_classes"), str),
    **dict.fromkeys(("intended_use", "name"), str),
    "references": list,
}
TENSOR = ("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "channel_def")
PINS = ("monai_version", "pytorch_version", "numpy_version")
PIN = re.compile(r"\d+(\.\d+){0,3}((a|b|rc|\.post)\d+)?")
SIZE = re.compile(r"[\s\d*+pn()]+")
SHIPPED_SCHEMA = "eval/schema.json"


@check("metadata", fix="write the key into configs/metadata.json with a value of the named type")
def structure(bundle: OpenedBundle) -> Iterator[str]:
    """Keys and types that the schema requires."""
    metadata = bundle.read(METADATA)
    for key, kind in {**OPTIONAL_TYPES, **TYPES}.items():
        if key not in metadata:
            if key in TYPES:
                yield f"{key} is missing"
        elif not isinstance(metadata[key], kind):
            yield f"{key} must be of type {kind.__name__}, got {type(metadata[key]).__name__}"


@check("version in changelog", fix="describe this version under changelog in configs/metadata.json")
def version_in_changelog(bundle: OpenedBundle) -> Iterator[str]:
    """The model zoo refuses a version without an entry."""
    metadata = bundle.read(METADATA)
    version = metadata.get("version")
    if version not in metadata.get("changelog", {}):
        yield f"changelog must have an entry for the version {version}"


@check("pins", fix="write one exact version, such as 1.6.1; for MONAI none whose last number ends in 9")
def pins(bundle: OpenedBundle) -> Iterator[str]:
    """Versions that the model zoo's programs can install."""
    metadata = bundle.read(METADATA)
    packages = metadata.get("required_packages_version", {})
    if not isinstance(packages, dict):
        return
    for key, value in {**{key: metadata.get(key) for key in PINS}, **packages}.items():
        if not isinstance(value, str) or not PIN.fullmatch(value):
            yield f"{key} must be one version, got {value!r}"
    monai = str(metadata.get("monai_version"))
    if monai.endswith("9"):
        yield f"monai_version must not end in 9, got {monai}: the model zoo makes an impossible range of it"


@check("network inputs", fix="let image be the only input: sentences go into text_encoder_data_format")
def inputs(bundle: OpenedBundle) -> Iterator[str]:
    """The image alone: MONAI Deploy breaks on every other input."""
    given = _side(bundle, "inputs")
    if list(given) != ["image"]:
        yield f"network_data_format.inputs must be image alone, got {', '.join(given) or 'nothing'}"
    if "image" in given:
        yield from _tensor_problems(given["image"], where="inputs.image")


@check("network outputs", fix="describe pred with num_channels and a name for each of its channels")
def outputs(bundle: OpenedBundle) -> Iterator[str]:
    """The prediction, whose channels MONAI Label shows as labels."""
    given = _side(bundle, "outputs")
    if next(iter(given), None) != "pred":
        yield f"network_data_format.outputs must begin with pred, got {', '.join(given) or 'nothing'}"
    else:
        yield from _tensor_problems(given["pred"], where="outputs.pred")
    if isinstance(given.get("pred"), dict):
        yield from _unnamed_channels(given["pred"], where="outputs.pred")


def schema_result(bundle: OpenedBundle, schema: Path | None) -> Result:
    """Return whether the metadata are valid against MONAI's schema.

    Args:
        bundle: whose metadata are read.
        schema: a copy of it; None: ``eval/schema.json`` of the bundle, or the check is skipped.

    Raises:
        PackError: when `schema` is named and cannot be read.
    """
    from jsonschema.validators import validator_for

    name, fix = "metadata schema", "change configs/metadata.json at the named place"
    shipped = bundle.folder / SHIPPED_SCHEMA
    path = schema if schema is not None or not shipped.is_file() else shipped
    if path is None:
        return Result(name=name, status=Status.SKIPPED, detail="no copy of the schema is at hand: --schema")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PackError(f"the schema must be a file of JSON, got {path}: {error}") from error
    try:
        metadata = bundle.read(METADATA)
    except PackError as error:
        return Result(name=name, status=Status.SKIPPED, detail=f"could not be read: {error}")
    errors = validator_for(content)(content).iter_errors(metadata)
    return Result.of(name, [f"{error.json_path}: {error.message[:150]}" for error in errors], fix=fix)


def _side(bundle: OpenedBundle, side: str) -> Mapping[str, Any]:
    data_format = bundle.read(METADATA).get("network_data_format")
    given = data_format.get(side) if isinstance(data_format, dict) else None
    if not isinstance(given, dict):
        raise Skipped(f"there is no network_data_format.{side}")
    return given


def _tensor_problems(tensor: Any, *, where: str) -> Iterator[str]:
    if not isinstance(tensor, dict):
        yield f"{where} must be an object, got {type(tensor).__name__}"
        return
    yield from (f"{where} must have {key}" for key in TENSOR if key not in tensor)
    for size in tensor.get("spatial_shape", []):
        if isinstance(size, str) and not SIZE.fullmatch(size):
            yield f"{where}: spatial_shape may use *, p and n alone, got {size!r}"


def _unnamed_channels(tensor: Mapping[str, Any], *, where: str) -> Iterator[str]:
    channels, names = tensor.get("num_channels"), tensor.get("channel_def")
    if not isinstance(channels, int) or not isinstance(names, dict):
        yield f"{where} must have a whole number num_channels and an object channel_def"
        return
    # one channel of logits makes a mask of two values, which MONAI Label shows as labels
    allowed = {channels, 2} if channels == 1 else {channels}
    if not any(sorted(names) == sorted(map(str, range(count))) for count in allowed):
        yield f"{where}: channel_def must name the channels 0 to {channels - 1}, got {', '.join(names)}"

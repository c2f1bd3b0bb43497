"""`run.json`: what a folder of results was made with, so that nothing else is mixed into it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.checks import file_sha256
from tools.experiments.provenance import versions

from .journal import FOLDER as JOURNAL
from .journal import locked
from .request import PredictError, PredictRequest

RECORD = "run.json"
TOOL = "tools.predict"
PREDICTIONS, PREVIEWS = "predictions", "previews"
CASES_CSV, CASES_JSONL, FAILURES, REPORT = "cases.csv", "cases.jsonl", "failures.csv", "report.html"
FOLDERS = (PREDICTIONS, PREVIEWS, JOURNAL)
FILES = (CASES_CSV, CASES_JSONL, FAILURES, REPORT, RECORD)
_SHOWN = 60  # characters of a value in a message


def fingerprint(request: PredictRequest, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides what a mask looks like, apart from the image.

    Args:
        request: the options.
        info: of the bundle, see `engine.describe`.
    """
    return {
        "bundle": info["name"],
        "version": info["version"],
        "configuration": _configuration_sha256(request.bundle),
        "overlays": [_overlay(name) for name in request.overlays],
        "weights": info["weights_sha256"],
        "text": request.text,
        "texts": None if request.texts is None else file_sha256(request.texts),
        "text_from": request.text_from,
        "laterality": request.laterality,
        "modality": request.modality,
        "force_modality": request.force_modality,
    }


def _configuration_sha256(bundle: Path) -> str | None:
    for name in ("manifest.json", "configs/inference.json"):
        if (bundle / name).is_file():
            return file_sha256(bundle / name)
    return None


def _overlay(name: str) -> str:
    path = Path(name)
    return f"{path.name} {file_sha256(path)}" if path.is_file() else name


def open_record(request: PredictRequest, info: Mapping[str, Any]) -> dict[str, Any]:
    """Make the folder of the results, or check that what it holds was made in the same way.

    Args:
        request: the options.
        info: of the bundle.

    Returns:
        The content of `run.json`.

    Raises:
        PredictError: when the folder holds other things, or results of another bundle, weights, sentences or options.
    """
    record = {
        "tool": TOOL,
        "fingerprint": fingerprint(request, info),
        "bundle": dict(info),
        "arguments": _arguments(request),
        "versions": versions(),
    }
    if request.overwrite:
        _clear(request.output)
    if not (request.output / RECORD).exists():
        _check_free(request.output)
        request.output.mkdir(parents=True, exist_ok=True)
        _create(request.output / RECORD, record)
    elif not request.resume:
        raise PredictError(
            f"{request.output} must be a new folder with --no-resume, got one with results: choose another --output"
        )
    before = read_record(request.output)
    _check_same(before["fingerprint"], record["fingerprint"], request.output)
    return before


def read_record(folder: Path) -> dict[str, Any]:
    """Read `run.json`.

    Raises:
        PredictError: when there is none of this tool.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PredictError(
            f"{path} must be what an earlier call wrote, got {type(error).__name__}"
        ) from error
    if not isinstance(content, dict) or content.get("tool") != TOOL or "fingerprint" not in content:
        raise PredictError(f"{path} must be of {TOOL}, got that of something else: choose another --output")
    return content


def _arguments(request: PredictRequest) -> dict[str, Any]:
    """The options in JSON, without the folders of one machine."""
    values = {
        "bundle": shown_path(request.bundle),
        "inputs": [shown_path(path) for path in request.inputs],
        "weights": None if request.weights is None else shown_path(request.weights),
        "texts": None if request.texts is None else shown_path(request.texts),
        "overlays": [shown_path(Path(name)) for name in request.overlays],
    }
    same = (
        "text",
        "text_from",
        "laterality",
        "batch",
        "previews",
        "device",
        "allow_random",
        "modality",
        "force_modality",
    )
    return values | {name: getattr(request, name) for name in same}


def shown_path(path: Path) -> str:
    """Return a path as it may be written down: an absolute one without its folders."""
    return f"…/{path.name}" if path.is_absolute() else path.as_posix()


def _create(path: Path, record: Mapping[str, Any]) -> None:
    """Write a file that appears whole; the first of several processes wins."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _check_free(folder: Path) -> None:
    taken = [name for name in (*FOLDERS, *FILES) if (folder / name).exists()]
    if taken:
        raise PredictError(
            f"{folder} must be a new folder or one of this tool, got one with {', '.join(taken)} but no {RECORD}: "
            "choose another --output"
        )


def _clear(folder: Path) -> None:
    """Remove what an earlier call wrote, and nothing else."""
    if not (folder / RECORD).exists():
        return
    read_record(folder)
    for lock in (folder / JOURNAL).glob("*.lock"):
        locked(lock).close()
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    changed = [
        f"{name} was {_short(before.get(name))}, now {_short(value)}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if changed:
        raise PredictError(
            f"{folder} holds results of another run ({'; '.join(changed)}): choose another --output, or replace them "
            "with --overwrite"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

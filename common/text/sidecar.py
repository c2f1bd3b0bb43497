"""The sentence that lies beside an image, in a file of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

SIDECAR_SUFFIXES = (".txt", ".json")
SIDECAR_KEYS = ("text", "sentence", "report", "impression", "findings", "Description")
MAX_SIDECAR_BYTES = 1_000_000


def sidecar_of(image: str | Path) -> Path | None:
    """Return the sidecar of an image, or None when it has none.

    Args:
        image: path of an image; `scan.nii.gz` has `scan.nii.gz.txt`, `scan.nii.gz.json`, `scan.txt` or `scan.json`,
            the first of these that exists. A path that ends like a sidecar stands for itself.
    """
    path = Path(image)
    if path.suffix.lower() in SIDECAR_SUFFIXES:
        return path
    bare = re.sub(r"\.gz$", "", path.name, flags=re.IGNORECASE)
    stems = dict.fromkeys((path.name, path.with_suffix("").name, Path(bare).stem))
    beside = [path.with_name(stem + suffix) for stem in stems for suffix in SIDECAR_SUFFIXES]
    return next((candidate for candidate in beside if candidate.is_file()), None)


def read_sidecar(path: str | Path) -> dict[str, str]:
    """Read a sidecar: a text file with the sentence, or JSON.

    JSON is a string, or an object with the sentence under one of `SIDECAR_KEYS` and, where the sentence may mean
    another left than the bundle, "laterality".

    Args:
        path: a `.txt` or `.json` file in UTF-8 of at most `MAX_SIDECAR_BYTES`.

    Returns:
        "text", on one line, and "laterality" when the file has one.

    Raises:
        ValueError: when the file is too large, no UTF-8, no JSON, or its sentence or laterality is no string.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MAX_SIDECAR_BYTES:
            raise ValueError(
                f"{file} must be a sentence of at most {MAX_SIDECAR_BYTES} bytes, got a larger file"
            )
        content: Any = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} must be a readable text file in UTF-8, got {type(error).__name__}"
        ) from error
    if file.suffix.lower() == ".json":
        content = _json(content, file)
    if isinstance(content, str):
        return {"text": _tidy(content)}
    return _entries(content, file)


def _json(text: str, file: Path) -> Any:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{file} must be valid JSON, got another text") from None
    if not isinstance(content, (str, dict)):
        raise ValueError(f"{file} must be a JSON object or string, got {type(content).__name__}")
    return content


def _entries(content: dict[str, Any], file: Path) -> dict[str, str]:
    sentence = next((content[key] for key in SIDECAR_KEYS if content.get(key)), "")
    if not isinstance(sentence, str):
        raise ValueError(f"{file} must hold its sentence as a string under one of {SIDECAR_KEYS}")
    laterality = content.get("laterality") or ""
    if not isinstance(laterality, str):
        raise ValueError(f"{file} must hold its laterality as a string, got {type(laterality).__name__}")
    return {"text": _tidy(sentence), **({"laterality": laterality} if laterality else {})}


def _tidy(text: str) -> str:
    return " ".join(text.split())

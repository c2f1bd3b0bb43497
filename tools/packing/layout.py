"""JSON written in the layout of another JSON text, so that a packed configuration reads like its source."""

from __future__ import annotations

import json
import re
from typing import Any

INDENT = 4
LINE = 110
ONE_LINE = 200  # what stood on one line stays on one line up to here

DECODER = json.JSONDecoder()
GAP = re.compile(r"[\s,]*")
COLON = re.compile(r"\s*:\s*")


def relaid(text: str, value: Any) -> str:
    """Return `value` as JSON that differs from `text` only where the values do.

    Args:
        text: JSON; its line breaks, spaces and spelling of numbers are kept.
        value: what the result holds. Where its keys or lengths are others than those of `text`, that part is written
            anew with an indentation of 4.

    Returns:
        JSON with one newline at its end.
    """
    text = text.strip()
    return _patched(text, json.loads(text), value, indent=0) + "\n"


def _patched(text: str, old: Any, new: Any, *, indent: int) -> str:
    if json.dumps(old) == json.dumps(new):
        return text
    pairs = _pairs(old, new)
    spans = _spans(text) if pairs else []
    if not pairs or len(spans) != len(pairs):
        return _written(new, indent=indent, limit=LINE if "\n" in text else ONE_LINE)
    parts, last = [], 0
    for (start, end), (before, after) in zip(spans, pairs, strict=True):
        inner = _indent(text, start, outer=indent)
        parts += [text[last:start], _patched(text[start:end], before, after, indent=inner)]
        last = end
    return "".join([*parts, text[last:]])


def _pairs(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """The values of two objects with the same keys, or of two arrays of one length, side by side; else none."""
    if isinstance(old, dict) and isinstance(new, dict) and list(old) == list(new):
        return [(old[key], new[key]) for key in old]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return list(zip(old, new, strict=True))
    return []


def _spans(text: str) -> list[tuple[int, int]]:
    """Where the values of the object, or the elements of the array, that `text` is begin and end."""
    spans = []
    position = 1
    while True:
        match = GAP.match(text, position)
        position = match.end() if match else position
        if text[position] in "]}":
            return spans
        if text[0] == "{":
            _, position = DECODER.raw_decode(text, position)
            match = COLON.match(text, position)
            position = match.end() if match else position
        start = position
        _, position = DECODER.raw_decode(text, start)
        spans.append((start, position))


def _indent(text: str, position: int, *, outer: int) -> int:
    """The indentation of the line of `position`; `outer` when that line begins in front of `text`."""
    newline = text.rfind("\n", 0, position)
    if newline < 0:
        return outer
    line = text[newline + 1 :]
    return len(line) - len(line.lstrip(" "))


def _written(value: Any, *, indent: int, limit: int = LINE) -> str:
    inline = json.dumps(value, ensure_ascii=False)
    if not value or not isinstance(value, (dict, list)) or indent + len(inline) <= limit:
        return inline
    inner = indent + INDENT
    if isinstance(value, dict):
        named = ((f"{json.dumps(str(key), ensure_ascii=False)}: ", item) for key, item in value.items())
        parts = [" " * inner + name + _written(item, indent=inner) for name, item in named]
    else:
        parts = [" " * inner + _written(item, indent=inner) for item in value]
    brackets = "{}" if isinstance(value, dict) else "[]"
    return brackets[0] + "\n" + ",\n".join(parts) + "\n" + " " * indent + brackets[1]

"""The golden output: what the shipped weights make of a fixed picture and a fixed sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.packing import PackError

from .checking import Result, Status
from .opened import OpenedBundle
from .probes import DECIMALS
from .rules import GOLDEN, WEIGHTS

NAME = "golden output"
TOLERANCE = 2 * 10**-DECIMALS  # a value at the edge of rounding may fall to either side on another machine
FIX = "restore the weights, or accept the new output with --write-golden"


def golden_result(bundle: OpenedBundle, output: Mapping[str, Any]) -> Result:
    """Compare the output of the weights with what ``models/golden.json`` says.

    Args:
        bundle: whose weights were run.
        output: as `tools.verification.probes.golden_output` returns it.
    """
    if not (bundle.folder / GOLDEN).is_file():
        return Result(name=NAME, status=Status.SKIPPED, detail=f"there is no {GOLDEN}: --write-golden")
    expected = bundle.read(GOLDEN)
    if expected.get("sha256") == output["sha256"]:
        return Result(name=NAME, status=Status.PASS, detail=f"SHA-256 {output['sha256'][:12]}…")
    problem = _difference(expected, output)
    if problem and expected.get("weights") != _sha256(bundle.folder / WEIGHTS):
        problem += "; the weights are others, too"
    seen = "within the rounding of another machine"
    return Result.of(NAME, [problem] if problem else [], fix=FIX, seen=seen)


def check_may_have_golden(bundle: OpenedBundle) -> None:
    """Refuse to write a golden output where there can be none.

    Raises:
        PackError: when the bundle is packed, or has no weights.
    """
    if bundle.packed:
        raise PackError(
            "a packed bundle is never changed: write it in the repository, then pack (--write-golden)"
        )
    if not (bundle.folder / WEIGHTS).is_file():
        raise PackError(
            f"the golden output is that of the weights, but there is no {WEIGHTS} (--write-golden)"
        )


def write_golden(bundle: OpenedBundle, output: Mapping[str, Any]) -> None:
    """Write ``models/golden.json`` of a bundle of the repository.

    Raises:
        PackError: as `check_may_have_golden`.
    """
    check_may_have_golden(bundle)
    content = {**output, "weights": _sha256(bundle.folder / WEIGHTS)}
    lines = [f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (bundle.folder / GOLDEN).write_text(text, encoding="utf-8", newline="\n")


def _difference(expected: Mapping[str, Any], output: Mapping[str, Any]) -> str:
    values = expected.get("values")
    same_kind = all(expected.get(key) == output[key] for key in ("sentence", "shape"))
    if not same_kind or not isinstance(values, list) or len(values) != len(output["values"]):
        return f"{GOLDEN} must describe the same picture, sentence and shape {output['shape']}"
    largest = max(abs(a - b) for a, b in zip(values, output["values"], strict=True))
    if largest <= TOLERANCE:
        return ""
    return f"the output differs from {GOLDEN} by up to {largest:.3f}"


def _sha256(path: Path) -> str:
    from common.checks import file_sha256  # imported here: `--help` should not load PyTorch

    return file_sha256(path)

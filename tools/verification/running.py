"""Results of what was seen while a bundle ran."""

from __future__ import annotations

from typing import Any

from .checking import Result, Status
from .golden import golden_result
from .opened import OpenedBundle
from .process import Observed

FIXES = {
    "components": "correct the name of the class, function or reference in the named configuration",
    "network in and out": "let num_channels and dtype in configs/metadata.json say what network_def gives",
    "network run": "ship the weights that belong to inference.json with the overlays of their training",
    "TorchScript": "keep Python that depends on tensors' values out of forward, as the error names it",
    "properties of train": "give train.json the named key: see monai/bundle/properties.py",
    "properties of evaluate": "give train.json or evaluate.json the named key: see monai/bundle/properties.py",
    "inference elsewhere": "derive every path from @bundle_root, and write below @output_dir alone",
    "code of the bundle": "pack the bundle with tools.pack_bundle",
}
TEXT_FIX = "let the network read its text, and inferer and preprocessing pass it on"
WRITING_FIX = "write below @output_dir or @model_dir, which a host sets to a folder that it may write to"
RENAMED = {"network run": "weights fit the network"}


def running_results(bundle: OpenedBundle, observed: Observed) -> list[Result]:
    """Turn what was seen into results, in the order of the probes."""
    names = [name for name in FIXES if name != "code of the bundle" or bundle.packed]
    results = [_result(name, observed) for name in names]
    run = observed.facts.get("network run", {}).get("seen")
    results += _network_results(bundle, run)
    results.append(
        Result.of(
            "read-only copy",
            [f"{name} was written" for name in observed.written],
            fix=WRITING_FIX,
            seen="nothing of the bundle was written",
        )
    )
    return results


def _result(name: str, observed: Observed) -> Result:
    shown = RENAMED.get(name, name)
    fact = observed.facts.get(name)
    if fact is None:
        return Result(
            name=shown, status=Status.FAIL, detail=f"it did not run: {observed.end}", fix=FIXES[name]
        )
    if "problem" in fact:
        return Result(name=shown, status=Status.FAIL, detail=fact["problem"], fix=FIXES[name])
    if isinstance(fact["seen"], dict) and "skipped" in fact["seen"]:
        return Result(name=shown, status=Status.SKIPPED, detail=fact["seen"]["skipped"])
    if name != "network run":
        return Result(name=shown, status=Status.PASS, detail=str(fact["seen"]))
    if fact["seen"]["weights"]:
        return Result(name=shown, status=Status.PASS, detail="loaded strictly")
    return Result(name=shown, status=Status.SKIPPED, detail="there are no weights; random ones ran")


def _network_results(bundle: OpenedBundle, run: Any) -> list[Result]:
    name = "the sentence changes the output"
    if run is None:
        reason = "the network did not run"
        return [Result(name=n, status=Status.SKIPPED, detail=reason) for n in (name, "golden output")]
    if run["text_changes_output"] is None:
        with_text = Result(name=name, status=Status.SKIPPED, detail="it reads no sentence")
    else:
        problems = (
            [] if run["text_changes_output"] else ["the output is the same with a sentence and without"]
        )
        with_text = Result.of(name, problems, fix=TEXT_FIX)
    if not run["weights"]:
        golden = Result(name="golden output", status=Status.SKIPPED, detail="there are no weights")
        return [with_text, golden]
    return [with_text, golden_result(bundle, run["golden"])]

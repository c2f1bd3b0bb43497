"""The markdown page of a table: ours beside published, one table for each way of measuring."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FAMILIES = (
    ("Over all pixels of the set", ("dice_micro", "iou_micro")),
    (
        "Mean over images, two empty masks score 0",
        ("dice_image", "iou_image"),
    ),
    (
        "Mean over images, two empty masks score 1",
        ("dice_image_empty_one", "iou_image_empty_one"),
    ),
    ("Surface distances", ("hd95", "assd")),
    (
        "Agreement of mask and sentence; truth is the ceiling",
        (
            "side_prediction",
            "side_truth",
            "zones_prediction",
            "zones_truth",
            "count_prediction",
            "count_truth",
        ),
    ),
)
MISSING = "–"


def markdown(results: Mapping[str, Any]) -> str:
    """Return the page for the content of a results file."""
    parts = [f"# {results['title']}", _header(results)]
    for title, names in _families(results["metrics"]):
        table = _family(results, names)
        if table:
            parts += [f"## {title}", table]
    parts += ["## Runs", _runs(results)]
    failures = _failures(results)
    if failures:
        parts += ["## Failed", failures]
    parts += ["## Commands", _commands(results)]
    return "\n\n".join(parts) + "\n"


def _header(results: Mapping[str, Any]) -> str:
    data = results["data"]
    sizes = ", ".join(f"{count} {section}" for section, count in data["sizes"].items())
    split = data.get("split") or {}
    split_text = split.get("protocol", MISSING) if isinstance(split, Mapping) else str(split)
    facts = {
        "Paper": results["paper"],
        "Protocol": results["protocol"],
        "Data": f"{_data_name(data)} ({sizes}); split: {split_text}; captions: "
        f"{data.get('caption_version') or MISSING}; left is the {data.get('laterality') or '?'}'s left; "
        f"dataset.json SHA-256 {data['sha256'][:12]}",
        "Overlays of every row": ", ".join(results["overlays"]) or "none",
        "Seeds": ", ".join(map(str, results["seeds"])) + _spread_note(results["seeds"]),
        "Machine": _machine(results["machine"]),
        "Versions": _facts(results["versions"]),
        "Written": f"{results['written']}, commit {results['commit']}",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _data_name(data: Mapping[str, Any]) -> str:
    """The data set's own name, and the table's when that is another one."""
    if data["dataset"] in (None, data["name"]):
        return data["name"]
    return f"{data['dataset']}, where the table is of {data['name']}"


def _spread_note(seeds: Sequence[int]) -> str:
    return "; mean ± sample standard deviation" if len(seeds) > 1 else ""


def _facts(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _machine(facts: Mapping[str, Any]) -> str:
    units = {"cores": " cores", "memory_gib": " GiB"}
    return ", ".join(f"{value}{units.get(name, '')}" for name, value in facts.items())


def _families(metrics: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The table's metrics in their families; metrics of no family come last, together."""
    known = {name for _, names in FAMILIES for name in names}
    families = [(title, tuple(name for name in names if name in metrics)) for title, names in FAMILIES]
    families.append(("Other", tuple(name for name in metrics if name not in known)))
    return [(title, names) for title, names in families if names]


def _family(results: Mapping[str, Any], names: Sequence[str]) -> str:
    """One table; a metric has a second column when a paper published it, and it is left out where nothing is known."""
    entries = [(row, evaluation) for row in results["rows"] for evaluation in row["evaluations"]]
    measured = [
        name for name in names if any(name in e["metrics"] or name in e["published"] for _, e in entries)
    ]
    if not measured:
        return ""
    published = {name for name in measured if any(name in e["published"] for _, e in entries)}
    header = ["row", "evaluation", "cases"]
    for name in measured:
        header += [f"{name} (ours)", f"{name} (published)"] if name in published else [name]
    lines = []
    for row, evaluation in entries:
        cells = [row["name"], _evaluation_name(evaluation), _count(evaluation["count"])]
        for name in measured:
            cells.append(_ours(row, evaluation, name))
            if name in published:
                cells.append(_number(evaluation["published"].get(name)))
        lines.append(cells)
    return _table(header, lines)


def _evaluation_name(evaluation: Mapping[str, Any]) -> str:
    return evaluation["name"] + (f" ({evaluation['subset']})" if evaluation["subset"] else "")


def _count(count: int | None) -> str:
    return MISSING if count is None else str(count)


def _ours(row: Mapping[str, Any], evaluation: Mapping[str, Any], name: str) -> str:
    """Mean and spread; a seed without a figure is named, so that a mean over fewer seeds never looks whole."""
    missing = [run for run in row["runs"] if run["seed"] not in evaluation["seeds"]]
    states = {state: [run["seed"] for run in missing if run["status"] == state] for state in ("failed",)}
    failed = f"failed (seed {', '.join(map(str, states['failed']))})" if states["failed"] else ""
    rest = "" if failed or not missing else "not run" if len(missing) == len(row["runs"]) else "seeds missing"
    value = evaluation["metrics"].get(name)
    if value is None:
        return failed or rest or MISSING
    spread = "" if value["sd"] is None else f" ± {_number(value['sd'])}"
    note = failed or rest
    return _number(value["mean"]) + spread + (f"; {note}" if note else "")


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4f}" if abs(value) < 2 else f"{value:.2f}"


def _runs(results: Mapping[str, Any]) -> str:
    header = [
        "row",
        "seed",
        "state",
        "training, minutes",
        "ended",
        "commit",
        "source of the published figures",
    ]
    lines = [
        [
            row["name"],
            str(run["seed"]),
            run["status"],
            f"{run['training_seconds'] / 60:.1f}" if run["training_seconds"] else MISSING,
            run["ended"] or MISSING,
            run["commit"] or MISSING,
            row["source"] or MISSING,
        ]
        for row in results["rows"]
        for run in row["runs"]
    ]
    return _table(header, lines)


def _failures(results: Mapping[str, Any]) -> str:
    failures = [failure for row in results["rows"] for run in row["runs"] for failure in run["failures"]]
    return "\n".join(f"- {failure['job']}: `{failure['error']}`" for failure in failures)


def _commands(results: Mapping[str, Any]) -> str:
    """The command of the whole table, then those of each row's first seed."""
    blocks = ["All of it:", _block([results["command"]])]
    for row in results["rows"]:
        if row["runs"]:
            blocks += [f"{row['name']}, seed {row['runs'][0]['seed']}:", _block(row["runs"][0]["commands"])]
    return "\n\n".join(blocks)


def _block(commands: Iterable[Sequence[str]]) -> str:
    return "```bash\n" + "\n".join(" ".join(map(quoted, command)) for command in commands) + "\n```"


def quoted(part: str) -> str:
    """Return an argument as a shell takes it, in double quotes where that is enough."""
    plain = shlex.quote(part)
    return plain if plain == part or set(part) & set('"$`\\!') else f'"{part}"'


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)

"""The page of a run, or of several beside each other: HTML by itself, or markdown with a picture."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.metrics import METRIC_DEFINITIONS

from .picture import Results, corruptions_of, draw, perturbations_of
from .run import read_results

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
COLUMNS = {
    "dice_micro": "Dice, all pixels",
    "dice_image": "Dice, mean of images",
    "dice_image_empty_one": "the same, empty = 1",
    "side_prediction": "Side",
    "zones_prediction": "Zones",
    "count_prediction": "Count",
    "ece": "ECE",
    "ece_foreground": "ECE, predicted foreground",
    "brier": "Brier",
}
DEFINITIONS = {
    **{name: METRIC_DEFINITIONS[name] for name in COLUMNS if name in METRIC_DEFINITIONS},
    "ece": "mean distance of probability and share of foreground over 20 bins of all pixels",
    "ece_foreground": "the same over the bins from 0.5 on",
    "brier": "mean squared distance of probability and truth over all pixels",
}
MISSING = "–"


def write_page(folders: Sequence[Path], output: Path) -> tuple[Path, ...]:
    """Write the page of one run or several.

    Args:
        folders: of the runs; the first one's conditions come first.
        output: ``.html`` for one self-contained page, ``.md`` for markdown with a picture of the same name.

    Returns:
        What was written.

    Raises:
        ValueError: when a folder holds no run or the ending is another.
    """
    from tools.latent import write_together

    if output.suffix not in (".html", ".md"):
        raise ValueError(f"output must end in .html or .md, got {output.name}")
    found = [read_results(folder) for folder in folders]
    runs = list(zip(run_names(found), found, strict=True))
    picture = draw(runs)
    if output.suffix == ".html":
        files = {output: _html(runs, picture).encode()}
    else:
        image = output.with_suffix(".png")
        files = {output: _markdown(runs, image.name).encode(), image: picture}
    write_together(files)
    return tuple(files)


def run_names(results: Sequence[Results]) -> list[str]:
    """Name runs by bundle and network, where those are the same by overlays of their own, or by their weights."""
    names = [f"{str(each['bundle']).removesuffix('_segmentation')} {each['network']}" for each in results]
    for name in {name for name in names if names.count(name) > 1}:
        places = [place for place, other in enumerate(names) if other == name]
        shared = set.intersection(*(set(results[place]["overlays"]) for place in places))
        for place in places:
            own = [overlay for overlay in results[place]["overlays"] if overlay not in shared]
            names[place] = " ".join([name, *own])
    return [
        name if names.count(name) == 1 else f"{name} {(each['weights']['sha256'] or 'untrained')[:9]}"
        for name, each in zip(names, results, strict=True)
    ]


def tables(runs: Sequence[tuple[str, Results]]) -> list[dict[str, Any]]:
    """Return what both kinds of page show as tables: title, head and rows of words.

    Args:
        runs: name and results of each.
    """
    conditions = [(name, "none") for name in ("none", *corruptions_of(runs))]
    grid = [
        ("Images, sentences as they are", conditions),
        ("Sentences, images as they are", [("none", name) for name in perturbations_of(runs)]),
        ("Both", _both(runs)),
    ]
    made = [
        {"title": title, "head": ["", "run", "cases", *COLUMNS.values()], "rows": rows}
        for title, named in grid
        if (rows := [row for condition in named for row in _rows(runs, condition, title)])
    ]
    if areas := [_area(run, roc) for run, results in runs for roc in results["roc"]]:
        head = ["images", "run", "cases", "area [95 % interval]", "mirrored found", "true left alone"]
        made.append(
            {
                "title": "Contradiction score, one-sided sentences",
                "head": head,
                "rows": areas,
            }
        )
    if points := [_point(run, point) for run, results in runs for point in results["curve"]]:
        made.append(
            {"title": "Few labels", "head": ["share", "run", "cases", *COLUMNS.values()], "rows": points}
        )
    return made


def _both(runs: Sequence[tuple[str, Results]]) -> list[tuple[str, str]]:
    pairs = ((cell["corruption"], cell["perturbation"]) for _, results in runs for cell in results["cells"])
    return list(dict.fromkeys(pair for pair in pairs if "none" not in pair))


def _rows(runs: Sequence[tuple[str, Results]], condition: tuple[str, str], title: str) -> list[list[str]]:
    rows = []
    for run, results in runs:
        for cell in results["cells"]:
            if (cell["corruption"], cell["perturbation"]) == condition:
                words = " × ".join(condition) if title == "Both" else condition[title.startswith("Sentences")]
                rows.append([words, run, str(cell["metrics"]["count"]), *_numbers(cell["metrics"])])
    return rows


def _point(run: str, point: Mapping[str, Any]) -> list[str]:
    return [f"{point['fraction']:g}", run, str(point["metrics"]["count"]), *_numbers(point["metrics"])]


def _area(run: str, roc: Mapping[str, Any]) -> list[str]:
    area = f"{roc['auc']:.3f} [{roc['low']:.3f}, {roc['high']:.3f}]"
    shares = [f"{roc[name]:.3f}" for name in ("sensitivity", "specificity")]
    return [str(roc["corruption"]), run, str(roc["cases"]), area, *shares]


def _numbers(metrics: Mapping[str, Any]) -> list[str]:
    values = (metrics.get(name) for name in COLUMNS)
    return [MISSING if value is None else f"{value:.4f}" for value in values]


def _title(runs: Sequence[tuple[str, Results]]) -> str:
    first = runs[0][1]
    if len(runs) == 1:
        return str(first["title"])
    return (
        f"Robustness of {', '.join(run for run, _ in runs)}: {first['data']['dataset']}, {first['section']}"
    )


def _facts(run: str, results: Results) -> list[str]:
    weights, data = results["weights"], results["data"]
    return [
        run,
        f"{results['bundle']} {' '.join(results['overlays'])}".strip(),
        str(weights["sha256"] or "untrained")[:12],
        f"{data['dataset']} {str(data['sha256'])[:12]}, {results['section']}, {results['cases']} cases",
        f"{results['commit']}, {results['written']}",
    ]


def _markdown(runs: Sequence[tuple[str, Results]], picture: str) -> str:
    head = ["run", "bundle and overlays", "weights", "data", "commit, written"]
    parts = [f"# {_title(runs)}", _grid(head, [_facts(*run) for run in runs])]
    parts.append(f"![Dice by corruption and by sentence, reliability, ROC]({picture})")
    for table in tables(runs):
        parts += [f"## {table['title']}", _grid(table["head"], table["rows"])]
    parts.append("## Definitions")
    parts.append("\n".join(f"- {COLUMNS[name]}: {words}." for name, words in DEFINITIONS.items()))
    return "\n\n".join(parts) + "\n"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _html(runs: Sequence[tuple[str, Results]], picture: bytes) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("robustness.html.j2").render(
        title=_title(runs),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        picture=f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}",
        facts=[_facts(*run) for run in runs],
        tables=tables(runs),
        definitions=[(COLUMNS[name], words) for name, words in DEFINITIONS.items()],
    )

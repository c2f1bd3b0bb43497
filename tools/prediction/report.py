"""The page about a folder of results: summary, flagged cases, previews, failures; of bounded size."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from .journal import DONE, FAILED, Entry, read_lines
from .record import CASES_CSV, FAILURES, REPORT
from .results import Totals, replaced

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
FLAGGED_CARDS, OTHER_CARDS = 60, 60  # cases with a picture
ROWS, FAILURE_ROWS = 500, 200  # of the tables; the csv files have all
PICTURE_SIZE = 256  # pixels
COLUMNS = (
    ("side", "Side", "where the mask lies"),
    ("zones", "Zones", "those that the mask occupies"),
    ("count", "Findings", "separate parts of the mask"),
    ("area_mm2", "Area mm²", "of a picture with a pixel spacing"),
    ("volume_ml", "Volume ml", "of a volume"),
    ("share", "Share", "part of all pixels"),
    ("mean_probability", "Probability", "mean inside the mask"),
)
TILES = (
    ("side_agreement", "Side agrees", "share of cases whose mask lies on exactly the named sides"),
    ("zones_agreement", "Zones agree", "mean Jaccard index of the named and the occupied zones"),
    ("count_agreement", "Count agrees", "share of cases with as many findings as named"),
)
SHOWN_WARNINGS = 12


def write_report(folder: Path, entries: Sequence[Entry], record: Mapping[str, Any], totals: Totals) -> Path:
    """Write `report.html`, which needs no network and no other file.

    Args:
        folder: of the results.
        entries: all cases in order; read one at a time, never all of them.
        record: content of `run.json`.
        totals: of `write_tables`.

    Returns:
        The path of the page.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    warnings = sorted(totals.warnings.items(), key=lambda pair: -pair[1])
    page = environment.get_template("prediction.html.j2").stream(
        style=Markup((TEMPLATES / "prediction.css").read_text(encoding="utf-8")),
        title=f"Predictions of {record['bundle']['title']}",
        totals=totals,
        facts=_facts(record),
        convention=_convention(record),
        tiles=_tiles(totals),
        warnings=warnings[:SHOWN_WARNINGS],
        more_warnings=max(0, len(warnings) - SHOWN_WARNINGS),
        failures=list(_failures(entries)),
        cards=list(_cards(folder, entries)),
        columns=_columns(record),
        rows=_rows(entries, _columns(record)),
        shown_rows=min(ROWS, totals.done),
        cases_csv=CASES_CSV,
        failures_csv=FAILURES,
    )
    with replaced(folder / REPORT) as file:
        page.dump(file)
    return folder / REPORT


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    bundle, arguments = record["bundle"], record["arguments"]
    weights = bundle["weights_sha256"]
    sentence = arguments["text"]
    if bundle.get("labels"):
        sentence = "none: the bundle reads none"
    elif sentence is None:
        sentence = f"table {arguments['texts']}" if arguments["texts"] else f"from {arguments['text_from']}"
    return [
        ("Bundle", f"{bundle['name']} {bundle['version']}"),
        ("Network", f"{bundle['network']}, {bundle['image_size'][0]} × {bundle['image_size'][1]}"),
        ("Weights, SHA-256", weights or "none: the network is untrained"),
        ("Overlays", ", ".join(arguments["overlays"]) or "none"),
        ("Sentences", sentence or "none"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in record["versions"].items())),
    ]


def _convention(record: Mapping[str, Any]) -> str:
    from common.inference import CONVENTIONS

    return CONVENTIONS[record["bundle"]["laterality"]]


def _tiles(totals: Totals) -> list[dict[str, str]]:
    found = []
    for name, label, meaning in TILES:
        total, count = totals.sums.get(name, (0.0, 0))
        if count:
            found.append(
                {
                    "label": label,
                    "value": f"{total / count:.3f}",
                    "note": f"{count} cases",
                    "meaning": meaning,
                }
            )
    return found


def _failures(entries: Sequence[Entry]) -> Iterator[dict[str, str]]:
    failed = [entry for entry in entries if entry.status == FAILED][:FAILURE_ROWS]
    for line in read_lines(failed):
        yield {"id": line["id"], "place": line["place"], "error": line["error"]}


def _cards(folder: Path, entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """Yield the pictured cases, flagged ones first."""
    flagged: list[Mapping[str, Any]] = []
    others: list[Mapping[str, Any]] = []
    for line in read_lines([entry for entry in entries if entry.status == DONE]):
        chosen, most = (flagged, FLAGGED_CARDS) if line["flagged"] else (others, OTHER_CARDS)
        if len(chosen) < most and "preview" in line["files"]:
            chosen.append(line)
        if len(flagged) == FLAGGED_CARDS and len(others) == OTHER_CARDS:
            break
    for line in (*flagged, *others):
        picture = _picture(folder / line["files"]["preview"])
        if picture:
            yield {"id": line["id"], "flagged": line["flagged"], "row": line["row"], "picture": picture}


def _picture(path: Path) -> str:
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except OSError:
        return ""  # removed by hand
    picture.thumbnail((PICTURE_SIZE, PICTURE_SIZE))
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _columns(record: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Return name, heading and meaning of the measures of the table: of classes their volumes."""
    from common.metrics.volumes import column_name  # here: MONAI comes with it

    labels = record["bundle"].get("labels")
    if not labels:
        return COLUMNS
    names = [labels[number] for number in sorted(labels, key=int)][1:]
    return tuple((f"ml_{column_name(name)}", f"{name} ml", f"volume of the class {name}") for name in names)


def _rows(entries: Sequence[Entry], columns: Sequence[tuple[str, str, str]]) -> Iterator[dict[str, Any]]:
    done = [entry for entry in entries if entry.status == DONE][:ROWS]
    for line in read_lines(done):
        row = line["row"]
        cells = [cell(row.get(name)) for name, _, _ in columns]
        yield {"id": line["id"], "cells": cells, "text": row.get("text") or "", "flagged": line["flagged"]}


def cell(value: Any) -> str:
    """Return a value of a table as text: numbers with four significant digits, an empty one for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""Fill the report's page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .cards import Card
from .charts import Histogram, bin_counts, dice_histogram
from .evaluation import Case, Evaluation
from .guidance import KINDS, heat_scale
from .sentence import LONGEST_TEXT, read_sentence
from .wording import (
    COLUMNS,
    COMPARED,
    CONSISTENCY,
    LATERALITY,
    MISSING,
    OVERLAP,
    Measure,
    difference,
    facts,
    failure_reason,
    number,
)

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


def render_page(evaluations: Sequence[Evaluation], cards: Sequence[Card], *, title: str, order: str) -> str:
    """Write the whole page.

    Args:
        evaluations: the first is shown in full, the others beside it.
        cards: its pictured cases.
        title: heading of the page.
        order: how the cards are sorted: "worst", "best" or "list".

    Returns:
        HTML with its style, script and pictures inside; every string from the data is escaped, and a content
        security policy allows no other script and no request.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    main = evaluations[0]
    return environment.get_template("report.html.j2").render(
        title=title,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=digest,
        main=main,
        evaluations=evaluations,
        facts=facts(main.summary, cases=len(main.cases)),
        both_empty=sum(case.both_empty for case in main.cases),
        laterality=LATERALITY.get(main.laterality, main.laterality),
        mixed_laterality=len({evaluation.laterality for evaluation in evaluations}) > 1,
        tiles=_tiles(main.metrics),
        consistency=_consistency(main.metrics),
        comparison=_comparison(evaluations),
        subsets=_subsets(main.summary),
        histograms=_histograms(evaluations),
        columns=_columns(main),
        others=[evaluation.name for evaluation in evaluations[1:]],
        rows=_rows(evaluations, cards),
        cards=cards,
        heat=_heat(cards),
        definitions=_definitions(evaluations),
        failure_reason=failure_reason,
        order=order,
        missing=MISSING,
    )


def _heat(cards: Sequence[Card]) -> dict[str, Any] | None:
    """What to say of the method's maps; None when no pictured case has any."""
    count = sum(bool(card.heats) for card in cards)
    return {"count": count, "kinds": KINDS, "scale": ", ".join(heat_scale())} if count else None


def _tiles(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "label": measure.label,
            "value": number(metrics[measure.key], measure.digits),
            "note": _behind(metrics, measure),
            "definition": measure.definition,
        }
        for measure in OVERLAP
        if _known(metrics.get(measure.key))
    ]


def _behind(metrics: Mapping[str, Any], measure: Measure) -> str:
    """How many cases stand behind a metric that leaves some out."""
    count, total = metrics.get(f"n_{measure.key}"), metrics.get("n_overlap")
    return f"{count} of {total} cases" if isinstance(count, int) and isinstance(total, int) else ""


def _consistency(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    bars = []
    for measure, ceiling in CONSISTENCY:
        value, top = metrics.get(measure.key), metrics.get(ceiling)
        if _known(value):
            bars.append(
                {
                    "label": measure.label,
                    "definition": measure.definition,
                    "value": number(value),
                    "share": round(100 * float(value), 2),
                    "ceiling": number(top),
                    "ceiling_share": round(100 * float(top), 2) if _known(top) else None,
                }
            )
    return bars


def _comparison(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Rows of metric × evaluation with differences to the first; empty for a single evaluation."""
    if len(evaluations) < 2:
        return []
    rows = []
    for measure in COMPARED:
        values = [evaluation.metrics.get(measure.key) for evaluation in evaluations]
        if any(_known(value) for value in values):
            cells = [
                {
                    "value": number(value, measure.digits),
                    "difference": difference(value, values[0], measure.digits) if position else "",
                }
                for position, value in enumerate(values)
            ]
            rows.append({"label": measure.label, "definition": measure.definition, "cells": cells})
    return rows


def _definitions(evaluations: Sequence[Evaluation]) -> list[tuple[str, str]]:
    shown = {key for evaluation in evaluations for key, value in evaluation.metrics.items() if _known(value)}
    return [(measure.label, measure.definition) for measure in COMPARED if measure.key in shown]


def _subsets(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    subsets = summary.get("subsets")
    found = []
    for name, subset in (subsets if isinstance(subsets, Mapping) else {}).items():
        metrics = subset.get("metrics", subset) if isinstance(subset, Mapping) else {}
        known = [measure for measure in COMPARED if _known(metrics.get(measure.key))]
        if known:
            values = [(measure.label, number(metrics[measure.key], measure.digits)) for measure in known]
            found.append(
                {"name": str(name).replace("_", "-"), "count": subset.get("count"), "values": values}
            )
    return found


def _histograms(evaluations: Sequence[Evaluation]) -> list[tuple[str, Histogram]]:
    dice = [[case.rank for case in evaluation.cases] for evaluation in evaluations]
    tops = [bin_counts(np.array([v for v in values if v is not None])).max() for values in dice]
    highest = max(int(top) for top in tops)
    charts = ((e.name, dice_histogram(v, highest=highest)) for e, v in zip(evaluations, dice, strict=True))
    return [(name, chart) for name, chart in charts if chart is not None]


def _columns(evaluation: Evaluation) -> list[Measure]:
    """The measures that any case has."""
    return [
        measure
        for measure in COLUMNS
        if any(case.values[measure.key] is not None for case in evaluation.cases)
    ]


def _rows(evaluations: Sequence[Evaluation], cards: Sequence[Card]) -> list[dict[str, Any]]:
    anchors = {card.case.id: card.anchor for card in cards}
    columns = _columns(evaluations[0])
    others = [{case.id: case.dice for case in other.cases} for other in evaluations[1:]]
    return [
        {
            "id": case.id,
            "anchor": anchors.get(case.id),
            "text": _short(case.text),
            "flags": _flags(case),
            "cells": [_cell(case.values[column.key], column.digits) for column in columns]
            + [_cell(other.get(case.id), 3) for other in others],
        }
        for case in evaluations[0].cases
    ]


def _cell(value: float | None, digits: int) -> dict[str, str]:
    return {"sort": "" if value is None else f"{value:.6f}", "text": number(value, digits)}


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} … ({len(text)} characters)"


def _flags(case: Case) -> str:
    reading = read_sentence(case.text)
    flags = [f"contradiction: {words}" for words in reading.contradictions]
    flags += [f"not read: {word}" for word in reading.unknown_words]
    flags += ["prediction and truth empty"] if case.both_empty else []
    return "; ".join(flags)


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

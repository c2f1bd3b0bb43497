"""What a network does under the conditions of one cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from common.inference import Segmenter, contradiction_scores
from common.metrics import CASE_COLUMNS, Reliability, case_metrics, reliability, summarise

from .cases import Cases
from .request import Cell

COLUMNS = (*(name for name in CASE_COLUMNS if name not in ("image", "label", "prediction")), "contradiction")
_Pair = tuple[dict[str, Any], Tensor | None]


@dataclass(frozen=True)
class Measured:
    """A cell's numbers.

    Attributes:
        rows: one a case, with `COLUMNS`.
        summary: what `summarise` says of them.
        calibration: what `calibration_facts` says of their probabilities; None without labels.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    calibration: dict[str, Any] | None


def measure_cell(
    segmenter: Segmenter,
    cases: Cases,
    cell: Cell,
    *,
    scored: bool,
    batch: int,
    on_case: Callable[[int], object],
) -> Measured:
    """Segment and measure every case under the conditions of a cell.

    Args:
        segmenter: the bundle.
        cases: of the section.
        cell: the conditions.
        scored: whether cases get contradiction scores, which cost six calls of the network.
        batch: pictures that the network sees at a time.
        on_case: called with the number of cases that were finished.
    """
    rows: list[dict[str, Any]] = []
    counts: list[Reliability] = []
    for pairs in _batches(cases.of(cell), batch):
        prepared = [case for case, _ in pairs]
        scores: Sequence[float | None] = [None] * len(pairs)
        if scored:
            scores = contradiction_scores(segmenter, prepared, batch=batch)
        for result, (_, label), score in zip(segmenter.infer(prepared), pairs, scores, strict=True):
            metrics = case_metrics(
                result.mask[None],
                label,
                sentence=result.sentence,
                laterality=result.laterality,
                surface=False,
            )
            rows.append({**metrics, "id": result.id, "contradiction": score})
            if label is not None:
                counts.append(reliability(result.probability[None], label))
        on_case(len(pairs))
    return Measured(rows, summarise(rows), calibration_facts(counts) if counts else None)


def calibration_facts(counts: Sequence[Reliability]) -> dict[str, Any]:
    """Return the calibration of cases together, as JSON holds it.

    Args:
        counts: of each case, at least one.
    """
    total = sum(counts[1:], counts[0])
    return {
        "ece": total.ece(),
        "ece_foreground": total.ece(above=0.5),
        "brier": total.brier,
        "pixels": total.pixels.tolist(),
        "confidence": _known(total.confidence),
        "frequency": _known(total.frequency),
    }


def _known(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _batches(pairs: Iterator[_Pair], size: int) -> Iterator[list[_Pair]]:
    batch: list[_Pair] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def metrics_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a stored cell in one flat dictionary: overlap, consistency, calibration, area.

    Args:
        content: of its file; see `Store`.
    """
    calibration = content.get("calibration") or {}
    flat = {**content["summary"]["metrics"]}
    return flat | {name: calibration.get(name) for name in ("ece", "ece_foreground", "brier")}

"""Whether the contradiction score finds sentences whose sides were exchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.metrics import named_sides, paired_auc_interval, roc_auc, roc_curve
from common.metrics.text_mask_consistency import findings_of

LEVEL, DRAWS = 0.95, 1000
LEAST_CASES = 2


def mirrored_roc(
    true: Sequence[Mapping[str, Any]], mirrored: Sequence[Mapping[str, Any]], *, seed: int = 0
) -> dict[str, Any] | None:
    """Tell how well the scores of true and of mirrored one-sided sentences lie apart.

    Every case whose true sentence names the left or the right alone is a negative with its true sentence and a
    positive with its mirrored one.

    Args:
        true: rows of the cell with true sentences: ``id``, ``text``, ``contradiction``.
        mirrored: rows of the same cases with mirrored sentences.
        seed: of the bootstrap over cases.

    Returns:
        ``cases``, ``auc``, its interval ``low`` and ``high``, ``sensitivity`` and ``specificity`` of scores above 0.5,
        and the points of the curve; None with fewer than two such cases.
    """
    others = {row["id"]: row for row in mirrored}
    pairs = [
        (float(others[row["id"]]["contradiction"]), float(row["contradiction"]))
        for row in true
        if _one_sided(row["text"]) and _scored(row) and _scored(others.get(row["id"], {}))
    ]
    if len(pairs) < LEAST_CASES:
        return None
    positive, negative = np.array(pairs).T
    curve = roc_curve(positive, negative)
    low, high = paired_auc_interval(positive, negative, seed=seed, level=LEVEL, draws=DRAWS)
    return {
        "cases": len(pairs),
        "auc": roc_auc(positive, negative),
        "low": low,
        "high": high,
        "sensitivity": float((positive > 0.5).mean()),
        "specificity": float((negative <= 0.5).mean()),
        "false_positive": curve.false_positive.tolist(),
        "true_positive": curve.true_positive.tolist(),
        "threshold": [None, *curve.threshold[1:].tolist()],
    }


def _one_sided(text: str) -> bool:
    findings = findings_of(text)
    return findings is not None and named_sides(findings) in ({"left"}, {"right"})


def _scored(row: Mapping[str, Any]) -> bool:
    return row.get("contradiction") not in (None, "")

"""How often true masks of real data are said to contradict their sentences: the rule must leave them alone."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.inference.measuring import contradictions
from common.metrics.text_mask_consistency import MIN_SHARE, findings_of, zone_shares

SECTIONS = (("Train", "train"), ("Test", "test"))


def true_pairs(folder: Path) -> list[tuple[np.ndarray, str]]:
    pairs = []
    for section, table in SECTIONS:
        with (folder / "prompt" / f"{table}.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            with Image.open(folder / section / "GTs" / row["Image"]) as picture:
                pairs.append((np.asarray(picture.convert("L")) > 127, row["Description"]))
    return pairs


@pytest.mark.slow
def test_less_than_one_in_a_hundred_true_masks_is_flagged(real_data: Path) -> None:
    pairs = true_pairs(real_data / "qata_cov19")
    flagged = by_side = 0
    for mask, sentence in pairs:
        findings = findings_of(sentence)
        shares = zone_shares(mask, anatomy="lung", laterality="image")
        occupied = tuple(zone for zone, share in shares.items() if share > 0 and share >= MIN_SHARE)
        reasons = [
            reason
            for reason in contradictions(mask, findings, occupied)
            if "contradicts itself" not in reason
        ]
        flagged += bool(reasons)
        mirrored = tuple(("right" if side == "left" else "left", level) for side, level in occupied)
        if findings is not None and findings.side in ("left", "right") and len({s for s, _ in occupied}) == 1:
            by_side += bool(contradictions(mask, findings, mirrored)) and not reasons
    assert len(pairs) == 2100
    assert 0 < flagged < 0.01 * len(pairs)
    assert by_side > 100  # and one-sided masks on the other side are

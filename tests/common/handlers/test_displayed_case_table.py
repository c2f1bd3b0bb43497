"""The table of an inference measures the displayed mask, whatever axes the host's mask has."""

from __future__ import annotations

import torch

from common.handlers.evaluation import DisplayedCaseTable


def test_sides_are_those_of_the_displayed_mask() -> None:
    displayed = torch.zeros(1, 16, 24, dtype=torch.uint8)
    displayed[:, 4:12, 2:9] = 1
    case = {"id": "a", "sentence": "opacity in the left lung", "pred_displayed": displayed}
    table = DisplayedCaseTable(laterality="image")
    table.update([case | {"pred": displayed[0].T}, {**case, "id": "b", "pred": displayed}])
    del case["pred_displayed"]
    table.update([case | {"id": "c", "pred": displayed}])
    first, second, third = ({key: row[key] for key in row if key != "id"} for row in table.rows)
    assert first == second == third
    assert 1.0 in first.values()

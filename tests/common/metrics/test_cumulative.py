"""The metrics of the engines, alone and inside MONAI's evaluator."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.transforms import AsDiscreted

from common.metrics import (
    CASE_COLUMNS,
    CaseTable,
    MicroDice,
    MicroIoU,
    dice_micro,
    hd95,
    iou_micro,
    overlap_counts,
    summarise,
)


def masks(count: int = 5, seed: int = 0, sizes: bool = True) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, 8 + 3 * k * sizes, 10 + k * sizes) for k in range(count)]
    return [tuple((torch.rand(2, *shape, generator=generator) > 0.5).float()) for shape in shapes]


@pytest.mark.parametrize(("metric", "expected"), [(MicroDice, dice_micro), (MicroIoU, iou_micro)])
def test_micro_metrics_over_lists_of_masks_of_different_sizes(metric, expected) -> None:
    pairs = masks()
    cumulative = metric()
    cumulative([p for p, _ in pairs[:2]], [y for _, y in pairs[:2]])
    cumulative([MetaTensor(p) for p, _ in pairs[2:]], [MetaTensor(y) for _, y in pairs[2:]])
    counts = [overlap_counts(p, y) for p, y in pairs]
    assert cumulative.aggregate().item() == pytest.approx(expected(counts), abs=1e-12)
    assert cumulative.get_buffer().tolist() == [list(pair) for pair in counts]
    cumulative.reset()
    with pytest.raises(ValueError, match="at least one case"):
        cumulative.aggregate()


def test_micro_metrics_over_a_batch_add_channels() -> None:
    prediction, label = (torch.rand(2, 3, 2, 5, 6) > 0.5).float()
    cumulative = MicroDice()
    cumulative(prediction, label)
    assert cumulative.get_buffer().shape == (3, 3)
    assert cumulative.aggregate().item() == pytest.approx(dice_micro([overlap_counts(prediction, label)]))


@pytest.mark.parametrize(("empty", "expected"), [("zero", 0.0), ("one", 1.0), ("skip", float("nan"))])
@pytest.mark.parametrize("metric", [MicroDice, MicroIoU])
def test_micro_of_a_set_without_foreground(metric, empty: str, expected: float) -> None:
    cumulative = metric(empty=empty)
    cumulative([torch.zeros(1, 4, 4)] * 2, [torch.zeros(1, 4, 4)] * 2)
    assert cumulative.aggregate().item() == pytest.approx(expected, nan_ok=True)


def test_micro_counts_stay_exact_beyond_float32() -> None:
    cumulative = MicroDice()
    cumulative.extend(torch.tensor([[2**24 + 1, 0, 0], [2**24, 1, 2]]))
    assert cumulative.aggregate().item() == pytest.approx(2 * (2**25 + 1) / (2 * (2**25 + 1) + 3), abs=1e-15)


def test_micro_errors() -> None:
    with pytest.raises(
        ValueError, match=r"same shape \(C, \*spatial\), got \(\(1, 1, 4, 4\), \(1, 1, 4, 5\)\)"
    ):
        MicroDice()([torch.zeros(1, 4, 4)], [torch.zeros(1, 4, 5)])
    with pytest.raises(ValueError, match="prediction must hold only 0 and 1"):
        MicroDice()([torch.full((1, 4, 4), 0.3)], [torch.zeros(1, 4, 4)])
    with pytest.raises(ValueError, match="empty must be one of"):
        MicroIoU(empty="nan")


class Identity(torch.nn.Module):
    """The "network" whose logits are the image itself."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


def evaluator(table: CaseTable, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> SupervisedEvaluator:
    sentences = ["Unilateral pulmonary infection, one infected area, lower left lung."] * 2 + [""] * 3
    cases = [
        {"image": p, "label": y, "id": f"case{k}", "sentence": s, "image_path": f"images/{k}.png"}
        for k, ((p, y), s) in enumerate(zip(pairs, sentences, strict=True))
    ]
    micro = IgniteMetricHandler(metric_fn=MicroDice(), output_transform=from_engine(["pred", "label"]))
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(cases), batch_size=2),
        network=Identity(),
        postprocessing=AsDiscreted(keys="pred", threshold=0.5),
        key_val_metric={"val_dice_micro": micro},
        additional_metrics={"cases": table},
    )


def test_inside_an_evaluator_every_case_has_a_row_and_every_metric_a_value() -> None:
    table, pairs = CaseTable(), masks(sizes=False)
    engine = evaluator(table, pairs)
    engine.run()
    expected = dice_micro([overlap_counts(p, y) for p, y in pairs])
    assert engine.state.metrics["val_dice_micro"] == pytest.approx(expected)
    assert engine.state.metrics["dice_micro"] == pytest.approx(expected)
    assert engine.state.best_metric == pytest.approx(expected)
    assert all(isinstance(value, (int, float)) for value in engine.state.metrics.values())
    assert [row["id"] for row in table.rows] == [f"case{k}" for k in range(5)]
    assert tuple(table.rows[0]) == CASE_COLUMNS
    assert table.rows[3]["image"] == "images/3.png"
    assert table.rows[1]["hd95"] == pytest.approx(hd95(pairs[1][0][0], pairs[1][1][0]))
    assert table.rows[0]["side_truth"] in (0.0, 1.0)
    assert table.rows[4]["side_truth"] is None
    assert table.summary == summarise(table.rows)
    engine.run()
    assert len(table.rows) == 5


def test_case_table_reads_bare_cases_and_keeps_a_repeated_one_once() -> None:
    table, ((first, label), (other, other_label)) = CaseTable(surface=False), masks(2)
    table.update([{"id": "a", "pred": first, "label": label}, {"id": "a", "pred": first, "label": label}])
    table.update([{"pred": other, "label": other_label}, {"pred": other, "label": other_label}])
    assert [row["id"] for row in table.rows] == ["a", "", ""]
    assert table.rows[0]["hd95"] is None
    table.reset()
    assert table.rows == []
    assert table.compute() == dict.fromkeys(table.compute(), 0)


def test_case_table_measures_in_mm_from_the_affine() -> None:
    prediction, label = np.zeros((2, 1, 20, 20), np.float32)
    prediction[0, 5, 5] = label[0, 8, 9] = 1
    case = {"id": "x", "pred": torch.tensor(prediction)}
    case["label"] = MetaTensor(torch.tensor(label), affine=torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0])))
    table = CaseTable(unit="mm")
    table.update([case])
    assert table.rows[0]["hd95"] == pytest.approx(np.hypot(3 * 0.5, 4 * 2.0))
    pixels = CaseTable()
    pixels.update([case])
    assert pixels.rows[0]["hd95"] == pytest.approx(5)
    with pytest.raises(ValueError, match=r"case 'x': unit 'mm' needs a label or pred with an affine"):
        table.update([{"id": "x", "pred": case["pred"], "label": torch.tensor(label)}])


def test_case_table_errors_name_the_case() -> None:
    with pytest.raises(ValueError, match="unit must be one of"):
        CaseTable(unit="cm")
    with pytest.raises(ValueError, match=r"case 'b': prediction must hold only 0 and 1"):
        CaseTable().update([{"id": "b", "pred": torch.full((1, 4, 4), 0.5), "label": torch.zeros(1, 4, 4)}])
    engine = Engine(lambda _, batch: {"pred": batch})
    CaseTable().attach(engine, "cases")
    with warnings.catch_warnings(), pytest.raises(TypeError, match="decollate=True"):
        engine.run([torch.zeros(1, 1, 4, 4)])

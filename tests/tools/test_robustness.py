"""tools.robustness on phantoms and a small network: what it measures, keeps, shows and refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from typer.testing import CliRunner

from common.data import load_cases
from common.data.phantom_chest import write_phantom_dataset
from common.inference import Segmenter, contradiction_scores, load_bundle
from common.metrics import case_metrics, dice_micro, reliability, roc_auc, summarise
from common.metrics.cases import CASE_COLUMNS
from common.text import mirror_sentence
from common.text.perturbation import PERTURBATIONS
from common.transforms import CORRUPTIONS, with_corruption
from tools.report import app as report
from tools.resilience import (
    Cell,
    RobustnessError,
    RobustnessRequest,
    cells,
    mirrored_roc,
    named_corruptions,
    read_curve,
    read_results,
    robustness,
    write_page,
)
from tools.resilience import (
    cases as cases_module,
)
from tools.resilience import (
    run as run_module,
)
from tools.resilience.page import run_names
from tools.robustness import app

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "baseline_segmentation"
LEFT = "Unilateral pulmonary infection, one infected area, lower left lung."
RIGHT = "Unilateral pulmonary infection, one infected area, upper right lung."
BOTH = "Bilateral pulmonary infection, two infected areas, all left lung and middle right lung."
TEST = [LEFT, RIGHT, BOTH, RIGHT, LEFT, ""]
CORRUPTED = ("low_dose/110", "rotation/10")
PERTURBED = ("none", "mirror", "blank")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    path = write_phantom_dataset(folder, count=30, size=64, seed=1)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert len(document["test"]) == len(TEST)
    for case, sentence in zip(document["test"], TEST, strict=True):
        case["text"] = sentence
    path.write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("overlay") / "small.json"
    path.write_text(json.dumps({"width": 0.125, "image_size": 64}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def weights(small: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, but such that a mask covers some of a phantom."""
    with pytest.warns(UserWarning, match="untrained"):
        segmenter = load_bundle(
            BUNDLE, overlays=[str(small)], device="cpu", weights="none.pt", allow_random=True
        )
    generator = torch.Generator().manual_seed(5)
    state = segmenter.network.state_dict()
    for values in state.values():
        if values.is_floating_point() and values.ndim > 1:
            values.copy_(torch.randn(values.shape, generator=generator) / values[0].numel() ** 0.5)
    case = load_cases(phantoms / "dataset.json", "test")[0]
    median = float(segmenter.logits([segmenter.prepare({"image": case["image"]})])[0].median())
    last = [name for name, value in state.items() if name.endswith("bias") and value.numel() == 1][-1]
    state[last] = state[last] - median
    path = tmp_path_factory.mktemp("trained") / "model.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def segmenter(small: Path, weights: Path) -> Segmenter:
    return load_bundle(BUNDLE, overlays=[str(small)], weights=weights, device="cpu")


@pytest.fixture(scope="module")
def request_(
    phantoms: Path, small: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> RobustnessRequest:
    return RobustnessRequest(
        bundle=BUNDLE,
        dataset_dir=phantoms,
        output=tmp_path_factory.mktemp("results") / "run",
        weights=weights,
        overlays=(str(small),),
        corruptions=CORRUPTED,
        perturbations=PERTURBED,
        curve=((0.5, weights),),
        batch=4,
        device="cpu",
    )


class Watch:
    """Counts the cases that a run segments."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.done = 0

    @contextmanager
    def __call__(self, total: int) -> Any:
        self.totals.append(total)
        yield self.add

    def add(self, count: int) -> None:
        self.done += count


@pytest.fixture(scope="module")
def results(request_: RobustnessRequest) -> dict[str, Any]:
    watch = Watch()
    found = robustness(request_, watch=watch)
    assert watch.totals == [5 * 6, 6]
    assert watch.done == 36
    return found


def cell_of(results: dict[str, Any], corruption: str = "none", perturbation: str = "none") -> dict[str, Any]:
    (cell,) = [
        c for c in results["cells"] if (c["corruption"], c["perturbation"]) == (corruption, perturbation)
    ]
    return cell


def rows_of(folder: Path, cell: Cell) -> list[dict[str, str]]:
    with (folder / "cells" / f"{cell.slug}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_hand(segmenter: Segmenter, phantoms: Path, cell: Cell) -> tuple[list[dict[str, Any]], float]:
    """Rows and calibration error, each case through the preprocessing that the bundle's evaluation has."""
    preprocessing = with_corruption(Compose(segmenter.prepare.steps), cell.corruption)
    rows, counts = [], []
    cases = load_cases(phantoms / "dataset.json", "test", text_perturbation=cell.perturbation)
    for case in cases:
        data = preprocessing(case)
        facts = {"id": case["id"], "files": (case["image"],), "given": "", "given_laterality": "image"}
        prepared = {**data, **facts, "text_source": "given", "warnings": ()}
        (found,) = segmenter.infer([prepared])
        row = dict.fromkeys(CASE_COLUMNS, "")
        measured = case_metrics(
            found.mask[None], data["label"], sentence=data["sentence"], laterality="image", surface=False
        )
        rows.append({**row, **measured})
        counts.append(reliability(found.probability[None], data["label"]))
    return rows, sum(counts[1:], counts[0]).ece()


class TestNumbers:
    @pytest.mark.parametrize(
        "cell",
        [
            Cell(),
            Cell("low_dose/110"),
            Cell("rotation/10"),
            Cell(perturbation="mirror"),
            Cell(perturbation="blank"),
        ],
        ids=lambda cell: cell.slug,
    )
    def test_are_those_of_the_evaluations_own_preprocessing(
        self, results: dict[str, Any], segmenter: Segmenter, phantoms: Path, cell: Cell
    ) -> None:
        rows, ece = by_hand(segmenter, phantoms, cell)
        found = cell_of(results, cell.corruption, cell.perturbation)["metrics"]
        expected = summarise(rows)["metrics"]
        assert 0 < expected["dice_micro"] < 1
        for name, value in expected.items():
            assert found[name] == (None if value is None else pytest.approx(value, abs=1e-3)), name
        assert found["ece"] == pytest.approx(ece, abs=1e-4)

    def test_conditions_change_them(self, results: dict[str, Any]) -> None:
        dices = [cell["metrics"]["dice_micro"] for cell in results["cells"]]
        assert len(dices) == len(set(dices)) == 5

    def test_every_case_has_a_row_and_its_sentence(
        self, results: dict[str, Any], request_: RobustnessRequest, phantoms: Path
    ) -> None:
        cases = load_cases(phantoms / "dataset.json", "test")
        rows = rows_of(request_.output, Cell(perturbation="mirror"))
        assert [row["id"] for row in rows] == [case["id"] for case in cases]
        assert [row["text"] for row in rows] == [mirror_sentence(case["text"]) for case in cases]
        counts = [tuple(int(row[name]) for name in ("tp", "fp", "fn")) for row in rows]
        assert dice_micro(counts) == cell_of(results, perturbation="mirror")["metrics"]["dice_micro"]

    def test_scores_are_those_of_the_library(
        self, results: dict[str, Any], request_: RobustnessRequest, segmenter: Segmenter, phantoms: Path
    ) -> None:
        cases = load_cases(phantoms / "dataset.json", "test")
        prepared = [segmenter.prepare({"image": c["image"], "text": c["text"]}) for c in cases]
        expected = contradiction_scores(segmenter, prepared)
        written = [row["contradiction"] for row in rows_of(request_.output, Cell())]
        assert written[-1] == ""
        assert expected[-1] is None
        assert [float(each) for each in written[:-1]] == pytest.approx(expected[:-1], abs=1e-4)
        assert all(row["contradiction"] == "" for row in rows_of(request_.output, Cell("low_dose/110")))

    def test_the_curve_measures_its_weights_with_true_sentences(self, results: dict[str, Any]) -> None:
        (point,) = results["curve"]
        assert point["fraction"] == 0.5
        assert point["metrics"] == cell_of(results)["metrics"]

    def test_images_that_are_not_kept_are_read_again(
        self,
        results: dict[str, Any],
        request_: RobustnessRequest,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(cases_module, "KEPT_BYTES", 0)
        less = replace(
            request_,
            output=tmp_path,
            corruptions=("low_dose/110",),
            perturbations=("none",),
            curve=(),
            scored="off",
        )
        found = robustness(less, watch=Watch())
        for cell in found["cells"]:
            assert cell["metrics"] == cell_of(results, cell["corruption"])["metrics"]
        assert found["roc"] == []


class TestPackedBundles:
    @pytest.fixture
    def packed(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        """The code of a packed bundle, which is called `scripts.common` whatever the bundle."""
        names = ("scripts", "scripts.common", "scripts.common.transforms")
        for name in names:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        return sys.modules[names[-1]]

    def test_are_corrupted_by_their_own_code(self, packed: ModuleType, request_: RobustnessRequest) -> None:
        step = type("Step", (), {"__module__": "scripts.common.transforms.preprocessing"})
        own = SimpleNamespace(prepare=SimpleNamespace(steps=[step()]))
        packed.split_at_corruption = lambda preprocessing: ("before", preprocessing)
        found = cases_module.Cases(request_, own)
        assert found.before == "before"
        assert found.transforms is packed

    def test_that_are_too_old_are_refused(self, packed: ModuleType, request_: RobustnessRequest) -> None:
        step = type("Step", (), {"__module__": "scripts.common.transforms.preprocessing"})
        own = SimpleNamespace(prepare=SimpleNamespace(steps=[step()]))
        with pytest.raises(RobustnessError, match="earlier release: pack it again"):
            cases_module.Cases(request_, own)


class TestRoc:
    def test_is_that_of_the_written_scores(
        self, results: dict[str, Any], request_: RobustnessRequest
    ) -> None:
        true, mirrored = (rows_of(request_.output, cell) for cell in (Cell(), Cell(perturbation="mirror")))
        chosen = [k for k, text in enumerate(TEST) if text in (LEFT, RIGHT)]
        scores = [[float(rows[k]["contradiction"]) for k in chosen] for rows in (mirrored, true)]
        (roc,) = results["roc"]
        assert roc["cases"] == 4
        assert roc["corruption"] == "none"
        assert roc["auc"] == pytest.approx(roc_auc(*scores), abs=1e-12)
        assert roc["low"] <= roc["auc"] <= roc["high"]
        assert roc["sensitivity"] == np.mean(np.array(scores[0]) > 0.5)

    def test_needs_two_one_sided_cases_with_both_scores(self) -> None:
        rows = [
            {"id": "a", "text": LEFT, "contradiction": "0.2"},
            {"id": "b", "text": BOTH, "contradiction": "0.1"},
            {"id": "c", "text": RIGHT, "contradiction": ""},
            {"id": "d", "text": RIGHT, "contradiction": "0.3"},
        ]
        others = [{"id": "a", "contradiction": "0.9"}, {"id": "b", "contradiction": "0.9"}]
        assert mirrored_roc(rows, others) is None
        roc = mirrored_roc(rows, [*others, {"id": "d", "contradiction": "0.7"}])
        assert (roc["cases"], roc["auc"], roc["low"], roc["high"]) == (2, 1, 1, 1)
        assert roc["threshold"][0] is None


class TestResume:
    @pytest.fixture
    def copied(
        self, results: dict[str, Any], request_: RobustnessRequest, tmp_path: Path
    ) -> RobustnessRequest:
        shutil.copytree(request_.output, tmp_path / "run")
        return replace(request_, output=tmp_path / "run")

    def test_finished_cells_are_not_measured_again(
        self, copied: RobustnessRequest, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError

        monkeypatch.setattr(run_module, "measure_cell", refuse)
        again = robustness(copied, watch=Watch())
        assert {**again, "written": ""} == {**results, "written": ""}

    @pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text('{"identity": ')])
    def test_only_what_is_missing_or_cut_short_is(
        self, copied: RobustnessRequest, results: dict[str, Any], spoil: Callable[[Path], Any]
    ) -> None:
        spoil(copied.output / "cells" / f"{Cell('low_dose/110').slug}.json")
        watch = Watch()
        again = robustness(replace(copied, perturbations=("none",), curve=()), watch=watch)
        assert watch.totals == [6]
        assert cell_of(again, "low_dose/110") == cell_of(results, "low_dose/110")
        assert [cell["corruption"] for cell in again["cells"]] == ["none", *CORRUPTED]

    def test_more_cells_and_scores_are_added(self, copied: RobustnessRequest) -> None:
        watch = Watch()
        more = replace(
            copied,
            corruptions=("low_dose/110",),
            perturbations=("none", "mirror"),
            full=True,
            scored="all",
            curve=(),
        )
        found = robustness(more, watch=watch)
        assert watch.totals == [2 * 6]  # low dose: true sentences for want of scores, mirrored ones anew
        assert [roc["corruption"] for roc in found["roc"]] == ["none", "low_dose/110"]

    def test_another_run_is_not_mixed_in(self, copied: RobustnessRequest) -> None:
        fewer = replace(copied, limit=5, corruptions=(), perturbations=("none",), curve=(), scored="off")
        with pytest.raises(RobustnessError, match=r"differs in cases.*--overwrite"):
            robustness(fewer, watch=Watch())
        found = robustness(replace(fewer, overwrite=True), watch=Watch())
        assert cell_of(found)["metrics"]["count"] == 5
        assert sorted(file.name for file in (copied.output / "cells").iterdir()) == [
            "none--none.csv",
            "none--none.json",
        ]


class TestRequest:
    def test_each_condition_alone_or_all_together(self, request_: RobustnessRequest) -> None:
        alone = cells(request_)
        assert alone[0] == Cell()
        assert alone == [
            Cell(),
            Cell(perturbation="mirror"),
            Cell(perturbation="blank"),
            *map(Cell, CORRUPTED),
        ]
        together = cells(replace(request_, full=True))
        assert len(together) == len(set(together)) == 3 * 3
        assert len({cell.slug for cell in together}) == 9

    def test_everything_is_measured_by_default(self, request_: RobustnessRequest) -> None:
        usual = RobustnessRequest(bundle=BUNDLE, dataset_dir=request_.dataset_dir, output=request_.output)
        assert len(cells(usual)) == len(PERTURBATIONS) + sum(map(len, CORRUPTIONS.values()))
        usual.check()

    def test_kinds_stand_for_their_levels(self) -> None:
        assert named_corruptions(["none", "low_dose", "jpeg/30", "low_dose/110"]) == [
            "low_dose/140",
            "low_dose/120",
            "low_dose/110",
            "jpeg/30",
        ]
        assert read_curve(["1=b.pt", "0.25=c=d.pt"]) == ((0.25, Path("c=d.pt")), (1.0, Path("b.pt")))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"corruptions": ("fog",)}, "image corruption must be"),
            ({"corruptions": ("jpeg/900",)}, "level of jpeg"),
            ({"perturbations": ("mirror", "shout")}, "perturbations must be of .* got 'shout'"),
            ({"section": "trial"}, "section must be one of"),
            ({"scored": "some"}, "scores must be one of clean, all, off, got 'some'"),
            ({"batch": 0}, "batch must be at least 1, got 0"),
            ({"limit": 0}, "limit must be at least 1, got 0"),
            (
                {"curve": ((0.1, Path("nothing.pt")),)},
                r"curve must name weights that exist, got 0.1=nothing.pt",
            ),
        ],
    )
    def test_impossible_options_are_refused(
        self, request_: RobustnessRequest, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(RobustnessError, match=message):
            robustness(replace(request_, **changes), watch=Watch())

    @pytest.mark.parametrize("text", ["0.5", "0=a.pt", "2=a.pt", "half=a.pt", "0.5="])
    def test_what_is_no_point_of_a_curve_is_refused(self, text: str) -> None:
        with pytest.raises(RobustnessError, match="curve must be FRACTION=WEIGHTS"):
            read_curve([text])
        with pytest.raises(RobustnessError, match=r"each fraction once, got 0\.5 twice"):
            read_curve(["0.5=a.pt", "0.50=b.pt"])


class TestPages:
    def test_html_holds_everything_and_loads_nothing(
        self, results: dict[str, Any], request_: RobustnessRequest, tmp_path: Path
    ) -> None:
        content = {**results, "title": "<script>alert(1)</script>"}
        (tmp_path / "robustness.json").write_text(json.dumps(content), encoding="utf-8")
        (path,) = write_page([tmp_path], tmp_path / "page.html")
        page = path.read_text(encoding="utf-8")
        assert "default-src 'none'" in page
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert not re.search(r"(src|href)=\"(?!data:image/png;base64)", page)
        for cell in results["cells"]:
            assert f"<td>{cell['metrics']['dice_micro']:.4f}</td>" in page
        assert f"{results['roc'][0]['auc']:.3f}" in page

    def test_markdown_of_two_runs_has_a_picture_beside_it(
        self, results: dict[str, Any], request_: RobustnessRequest, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        other.mkdir()
        changed = {
            **results,
            "bundle": "other_segmentation",
            "roc": [],
            "curve": [],
            "cells": results["cells"][:2],
        }
        (other / "robustness.json").write_text(json.dumps(changed), encoding="utf-8")
        target = tmp_path / "new" / "robustness.md"
        called = CliRunner().invoke(report, [str(request_.output), str(other), "--output", str(target)])
        assert called.exit_code == 0, called.output
        text = target.read_text(encoding="utf-8")
        assert target.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert "(robustness.png)" in text
        for name in ("baseline MMIUNet", "other MMIUNet"):
            assert f"| none | {name} | 6 |" in text
        assert str(request_.output) not in text

    def test_other_endings_and_folders_are_refused(self, request_: RobustnessRequest, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"must end in \.html or \.md, got page\.pdf"):
            write_page([request_.output], tmp_path / "page.pdf")
        with pytest.raises(RobustnessError, match=r"must be what tools\.robustness wrote"):
            read_results(tmp_path)


class TestCommand:
    def test_writes_tables_and_page_and_names_no_folder(
        self, phantoms: Path, small: Path, weights: Path, tmp_path: Path
    ) -> None:
        options = {"overlay": small, "dataset-dir": phantoms, "weights": weights, "output": tmp_path / "out"}
        named = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        chosen = ["--corruptions", "jpeg/30", "motion_blur/7", "--perturbations", "none", "--limit", "2"]
        called = CliRunner().invoke(app, [str(BUNDLE), *named, *chosen, "--scores", "off", "--device", "cpu"])
        assert called.exit_code == 0, called.output
        files = sorted(file.name for file in (tmp_path / "out").iterdir())
        assert files == ["cells", "report.html", "robustness.csv", "robustness.json", "run.json"]
        with (tmp_path / "out" / "robustness.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["corruption"] for row in rows] == ["none", "jpeg/30", "motion_blur/7"]
        assert all(row["count"] == "2" for row in rows)
        assert str(phantoms) not in (tmp_path / "out" / "robustness.json").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--corruptions", "fog"], "image corruption must be"),
            (["--weights", "nothing.pt"], "weights must be a file"),
            (["--curve", "half"], "curve must be FRACTION=WEIGHTS"),
        ],
    )
    def test_what_cannot_be_is_said_in_one_line(
        self, phantoms: Path, small: Path, tmp_path: Path, more: list[str], message: str
    ) -> None:
        options = ["--overlay", str(small), "--dataset-dir", str(phantoms), "--output", str(tmp_path / "out")]
        called = CliRunner().invoke(app, [str(BUNDLE), *options, *more])
        assert called.exit_code == 1
        assert message in called.output
        assert "Traceback" not in called.output


def test_runs_are_named_by_what_tells_them_apart() -> None:
    def run(network: str, sha256: str | None, *overlays: str) -> dict[str, Any]:
        return {
            "bundle": "x_segmentation",
            "network": network,
            "overlays": overlays,
            "weights": {"sha256": sha256},
        }

    assert run_names([run("A", "1" * 64, "light"), run("B", "2" * 64)]) == ["x A", "x B"]
    assert run_names([run("A", "1" * 64, "light", "bare"), run("A", "2" * 64, "light")]) == [
        "x A bare",
        "x A",
    ]
    assert run_names([run("A", "1" * 64, "light"), run("A", None, "light")]) == [
        "x A 111111111",
        "x A untrained",
    ]

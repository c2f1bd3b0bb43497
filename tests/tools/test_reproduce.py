"""tools.reproduce on a bundle whose runner is played by a function, and once for real."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tools.experiments import (
    ExperimentError,
    RowPlanner,
    collect_results,
    find_bundle,
    markdown,
    read_table,
    run_command,
    run_job,
)
from tools.experiments.jobs import bundle_command, option_text, slug
from tools.experiments.report import quoted
from tools.experiments.results import aggregate
from tools.reproduce import Reproduction, app, shown
from tools.terminal import repeat_options

TABLE = {
    "title": "Two networks",
    "paper": "A paper, Table I",
    "protocol": "official lists",
    "data": "phantom",
    "rows": [
        {
            "name": "Net A",
            "overlays": ["a"],
            "overrides": {"learning_rate": 0.001},
            "published": {"dice_micro": 0.9, "iou_micro": 0.82, "source": "Table I, row 1"},
            "evaluations": [
                {"name": "true sentence"},
                {"name": "mirrored", "overrides": {"text_perturbation": "mirror"}, "subset": "one_sided"},
            ],
        },
        {"name": "Net B", "overlays": ["b"]},
    ],
}
DATASET = {
    "name": "phantom",
    "laterality": "image",
    "split": {"protocol": "70/10/20"},
    "training": [{}, {}, {}],
    "validation": [{}],
    "test": [{}, {}],
}


class FakeRunner:
    """Writes what the bundle's runner would write; Dice is 0.80 plus a hundredth of (seed - 42)."""

    def __init__(self, *, failing: str = "") -> None:
        self.failing = failing
        self.commands: list[list[str]] = []

    def __call__(self, command: Any, log: Path, on_line: Any) -> int:
        command = list(command)
        self.commands.append(command)
        on_line("Epoch 1/1")
        log.write_text("Epoch 1/1\nValueError: width must be positive, got 0\n", encoding="utf-8")
        if self.failing and any(self.failing in part for part in command):
            return 1
        if "evaluate.json" in " ".join(command):
            self._evaluate(command)
        else:
            models = Path(option(command, "model_dir"))
            models.mkdir(parents=True, exist_ok=True)
            (models / "model.pt").write_bytes(b"weights")
        return 0

    @staticmethod
    def _evaluate(command: list[str]) -> None:
        dice = 0.8 + (int(option(command, "seed")) - 42) / 100
        metrics = {"dice_micro": dice, "iou_micro": dice / (2 - dice), "hd95": 12.5, "assd": None}
        summary = {
            "count": 2,
            "section": "test",
            "network": "Net",
            "metrics": metrics,
            "subsets": {"one_sided": {"count": 1, "metrics": {**metrics, "dice_micro": 0.25}}},
            "checkpoint_sha256": "0" * 64,
        }
        folder = Path(option(command, "output_dir"))
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def option(command: list[str], name: str) -> str:
    return command[command.index(f"--{name}") + 1]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    root = tmp_path / "bundles" / "toy_segmentation"
    files = {
        "configs/train.json": {"width": 1.0},
        "configs/evaluate.json": {"section": "test"},
        "configs/overlays/a.json": {"network": "A"},
        "configs/overlays/b.json": {"network": "B"},
        "configs/overlays/light.json": {"width": 0.5},
        "configs/experiments/networks.json": TABLE,
        "data/dataset.json": DATASET,
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return root


def reproduction(
    bundle: Path, runner: Any, *, seeds: tuple[int, ...] = (42,), overlays: tuple[str, ...] = ()
) -> Reproduction:
    table = read_table(bundle, "networks")
    work = bundle.parents[1] / "work"
    planner = RowPlanner(table=table, overlays=overlays, dataset_dir=bundle / "data", work=work)
    plans = [planner.plan(row, seed=seed) for row in table.rows for seed in seeds]
    console = Console(file=io.StringIO(), width=200)
    return Reproduction(
        planner,
        plans,
        output=bundle.parents[1] / "results",
        arguments=["toy"],
        runner=runner,
        console=console,
    )


def results_of(bundle: Path) -> dict[str, Any]:
    path = bundle.parents[1] / "results" / "toy_segmentation_networks.json"
    return json.loads(path.read_text(encoding="utf-8"))


def page_of(bundle: Path) -> str:
    return (bundle.parents[1] / "results" / "toy_segmentation_networks.md").read_text(encoding="utf-8")


class TestTables:
    def test_reads_rows_evaluations_and_defaults(self, bundle: Path) -> None:
        table = read_table(bundle, "networks")
        first, second = table.rows
        assert first.overlays == ("a",)
        assert first.published == {"dice_micro": 0.9, "iou_micro": 0.82}
        assert first.source == "Table I, row 1"
        assert first.evaluations[1].subset == "one_sided"
        assert [evaluation.name for evaluation in second.evaluations] == ["true sentence"]
        assert table.seeds == (42,)
        assert table.run_ids == ("run",)

    def test_table_may_be_a_path(self, bundle: Path) -> None:
        assert read_table(bundle, str(bundle / "configs/experiments/networks.json")).name == "networks"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"titel": "x"}, r"key must be one of .* got 'titel': did you mean title"),
            ({"title": 3}, r"title must be a text, got 3"),
            ({"rows": "all"}, r"rows must be a list"),
            ({"rows": [{"overlays": ["a"]}]}, r"row 1: name must be a text, got nothing"),
            (
                {"rows": [{"name": "x", "overlays": ["aa"]}]},
                r"overlay must be one of .* got 'aa': did you mean a\?",
            ),
            ({"rows": [{"name": "x"}, {"name": "x"}]}, r"names of rows must differ, got 'x' twice"),
            (
                {"rows": [{"name": "x", "published": {"dice_micro": 90.88}}]},
                r"must be a fraction .* got 90\.88",
            ),
            (
                {"rows": [{"name": "x", "published": {"hd95": "12"}}]},
                r"published hd95 must be a number, got '12'",
            ),
            (
                {"rows": [{"name": "x", "evaluations": [3]}]},
                r"row 1, evaluation 1 must be an object, got int",
            ),
            ({"seeds": ["42"]}, r"seeds must be a list of int, got '42' in it"),
        ],
    )
    def test_wrong_entries_are_named(self, bundle: Path, change: dict[str, Any], message: str) -> None:
        path = bundle / "configs/experiments/networks.json"
        path.write_text(json.dumps(TABLE | change), encoding="utf-8")
        with pytest.raises(ExperimentError, match=message):
            read_table(bundle, "networks")

    def test_broken_json_is_named(self, bundle: Path) -> None:
        (bundle / "configs/experiments/networks.json").write_text("{", encoding="utf-8")
        with pytest.raises(ExperimentError, match=r"networks\.json must be JSON"):
            read_table(bundle, "networks")

    def test_unknown_names_offer_the_nearest(self, bundle: Path) -> None:
        with pytest.raises(ExperimentError, match="did you mean networks"):
            read_table(bundle, "network")
        with pytest.raises(ExperimentError, match="did you mean toy_segmentation"):
            find_bundle("toy_segmentatoin", folder=bundle.parent)
        with pytest.raises(ExperimentError, match="did you mean Net B or Net A"):
            read_table(bundle, "networks").select(["NetB"])
        with pytest.raises(ExperimentError, match="did you mean light"):
            read_table(bundle, "networks").overlay_path("lihgt")
        with pytest.raises(ExperimentError, match="there are a, b, light"):
            read_table(bundle, "networks").overlay_path("zzz")

    def test_bundle_by_name_and_by_path(self, bundle: Path, tmp_path: Path) -> None:
        assert find_bundle("toy_segmentation", folder=bundle.parent) == bundle
        assert find_bundle(str(bundle), folder=tmp_path / "elsewhere") == bundle


class TestJobs:
    def test_commands_merge_row_overlays_then_those_of_the_call(self, bundle: Path) -> None:
        plan = reproduction(bundle, FakeRunner(), overlays=("light",)).plans[0]
        names = [
            Path(path).name
            for path in json.loads(option(list(plan.jobs[0].command), "config_file").replace("'", '"'))
        ]
        assert names == ["train.json", "a.json", "light.json"]
        evaluate = list(plan.evaluations[1][1].command)
        names = [Path(path).name for path in json.loads(option(evaluate, "config_file").replace("'", '"'))]
        assert names == ["train.json", "evaluate.json", "a.json", "light.json"]
        assert option(evaluate, "text_perturbation") == "mirror"
        assert option(evaluate, "learning_rate") == "0.001"
        assert option(evaluate, "model_dir") == option(list(plan.jobs[0].command), "model_dir")
        assert evaluate[1:4] == ["-m", "monai.bundle", "run"]

    def test_evaluations_that_differ_in_the_subset_alone_run_once(self, bundle: Path) -> None:
        evaluations = [{"name": "all"}, {"name": "some", "subset": "one_sided"}]
        evaluations.append({"name": "blank", "overrides": {"text_perturbation": "blank"}})
        table = {**TABLE, "rows": [{"name": "A", "overlays": ["a"], "evaluations": evaluations}]}
        (bundle / "configs/experiments/networks.json").write_text(json.dumps(table), encoding="utf-8")
        planner = RowPlanner(
            table=read_table(bundle, "networks"),
            overlays=(),
            dataset_dir=bundle / "data",
            work=bundle / "work",
        )
        plan = planner.plan(planner.table.rows[0], seed=42)
        everything, some, blank = (job for _, job in plan.evaluations)
        assert everything == some != blank
        assert everything.folder.name == "all"
        assert plan.jobs == (*plan.trainings, everything, blank)

    def test_phases_run_in_order_by_their_ids(self, bundle: Path) -> None:
        path = bundle / "configs/experiments/networks.json"
        path.write_text(json.dumps(TABLE | {"run_ids": ["pretrain", "run"]}), encoding="utf-8")
        plan = reproduction(bundle, FakeRunner()).plans[0]
        assert [job.name for job in plan.trainings] == ["pretrain", "run"]
        assert plan.trainings[0].command[3:5] == ("run", "pretrain")
        assert plan.trainings[1].command[3:5] == ("run", "--config_file")
        assert [job.result is None for job in plan.trainings] == [True, False]

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (42, "42"),
            ("42", "'42'"),
            ("none", "none"),
            ("None", "'None'"),
            (None, "None"),
            (True, "True"),
            ([1, "a"], "[1, 'a']"),
            (1e-05, "1e-05"),
            ("true sentence", "true sentence"),
            (Path("a/b"), "a/b"),
        ],
    )
    def test_option_text_reads_back_as_the_same_value(self, value: Any, text: str) -> None:
        fire = pytest.importorskip("fire")
        assert option_text(value) == text
        read = fire.parser.DefaultParseValue(text)
        assert read == (str(value) if isinstance(value, Path) else value)
        assert type(read) is (str if isinstance(value, Path) else type(value))

    def test_a_negative_number_is_not_taken_for_an_option(self) -> None:
        assert bundle_command("run", [Path("configs/train.json")], {"shift": -1})[-1] == "--shift=-1"

    def test_slug(self) -> None:
        assert slug("MMI-UNet, 5 % / 2") == "MMI-UNet_5_2"
        assert slug("../..") == "row"

    @pytest.mark.parametrize("change", ["config", "override", "data", "seed"])
    def test_a_change_moves_the_training_to_another_folder(self, bundle: Path, change: str) -> None:
        before = reproduction(bundle, FakeRunner()).plans[0].trainings[0]
        seeds = (43,) if change == "seed" else (42,)
        if change == "config":
            (bundle / "configs/train.json").write_text('{"width": 2.0}', encoding="utf-8")
        if change == "data":
            (bundle / "data/dataset.json").write_text(
                json.dumps(DATASET | {"name": "other"}), encoding="utf-8"
            )
        if change == "override":
            rows = [TABLE["rows"][0] | {"overrides": {"learning_rate": 0.002}}]
            (bundle / "configs/experiments/networks.json").write_text(json.dumps(TABLE | {"rows": rows}))
        after = reproduction(bundle, FakeRunner(), seeds=seeds).plans[0].trainings[0]
        assert after.fingerprint != before.fingerprint
        assert after.folder != before.folder

    def test_layout_of_json_does_not_count_as_a_change(self, bundle: Path) -> None:
        before = reproduction(bundle, FakeRunner()).plans[0].trainings[0].fingerprint
        (bundle / "configs/train.json").write_text('{\n    "width": 1.0\n}\n', encoding="utf-8")
        assert reproduction(bundle, FakeRunner()).plans[0].trainings[0].fingerprint == before

    def test_missing_data_says_how_to_make_it(self, bundle: Path) -> None:
        (bundle / "data/dataset.json").unlink()
        with pytest.raises(
            ExperimentError, match=r"must be prepared, got .*tools\.prepare_data.*--dataset-dir"
        ):
            reproduction(bundle, FakeRunner())


class TestRunning:
    def test_every_row_is_trained_and_evaluated(self, bundle: Path) -> None:
        runner = FakeRunner()
        task = reproduction(bundle, runner)
        assert task.run(task.plans)
        assert len(runner.commands) == 5  # A: training and two evaluations; B: training and one
        results = results_of(bundle)
        first, mirrored = results["rows"][0]["evaluations"]
        assert first["metrics"]["dice_micro"] == {"mean": 0.8, "sd": None, "values": [0.8]}
        assert first["published"] == {"dice_micro": 0.9, "iou_micro": 0.82}
        assert "assd" not in first["metrics"]
        assert mirrored["metrics"]["dice_micro"]["mean"] == 0.25
        assert mirrored["count"] == 1
        assert results["data"]["sizes"] == {"training": 3, "validation": 1, "test": 2}
        assert [run["status"] for row in results["rows"] for run in row["runs"]] == ["finished", "finished"]

    def test_finished_jobs_are_kept(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner())
        task.run(task.plans)
        again = FakeRunner()
        task = reproduction(bundle, again)
        assert task.run(task.plans)
        assert again.commands == []

    def test_a_changed_evaluation_leaves_the_training(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner())
        task.run(task.plans)
        (bundle / "configs/evaluate.json").write_text('{"section": "validation"}', encoding="utf-8")
        again = FakeRunner()
        task = reproduction(bundle, again)
        task.run(task.plans)
        assert len(again.commands) == 3
        assert all("evaluate.json" in " ".join(command) for command in again.commands)

    def test_lost_weights_are_trained_again(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner())
        task.run(task.plans)
        task.plans[1].trainings[-1].result.unlink()
        again = FakeRunner()
        task = reproduction(bundle, again)
        task.run(task.plans)
        assert len(again.commands) == 1

    def test_a_training_that_goes_on_keeps_its_weights(self, bundle: Path) -> None:
        job = reproduction(bundle, FakeRunner()).plans[0].trainings[0]
        job.result.parent.mkdir(parents=True)
        job.result.write_bytes(b"best so far")
        seen = []

        def look(command: Any, log: Path, on_line: Any) -> int:
            seen.append(job.result.read_bytes())
            return 0

        run_job(job, runner=look, on_line=lambda line: None)
        assert seen == [b"best so far"]

    def test_an_old_summary_is_never_taken_for_a_new_one(self, bundle: Path) -> None:
        job = reproduction(bundle, FakeRunner()).plans[0].evaluations[0][1]
        job.folder.mkdir(parents=True)
        job.result.write_text("{}", encoding="utf-8")
        outcome = run_job(job, runner=lambda command, log, on_line: 0, on_line=lambda line: None)
        assert outcome.status == "failed"
        assert outcome.error == "summary.json was not written"

    def test_a_failed_row_is_named_and_the_others_run(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner(failing="overlays/a.json"))
        assert not task.run(task.plans)
        results = results_of(bundle)
        assert [row["runs"][0]["status"] for row in results["rows"]] == ["failed", "finished"]
        failure = results["rows"][0]["runs"][0]["failures"][0]
        assert failure["error"] == "exit status 1: ValueError: width must be positive, got 0"
        page = page_of(bundle)
        assert "failed (seed 42)" in page
        assert "## Failed" in page
        assert "Net A, seed 42: training: `exit status 1: ValueError: width must be positive, got 0`" in page

    def test_a_failed_row_is_tried_again(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner(failing="overlays/a.json"))
        task.run(task.plans)
        task = reproduction(bundle, FakeRunner())
        assert task.run(task.plans)
        assert "## Failed" not in page_of(bundle)

    def test_a_failed_evaluation_leaves_the_other_ones(self, bundle: Path) -> None:
        runner = FakeRunner(failing="mirror")
        task = reproduction(bundle, runner)
        assert not task.run(task.plans)
        evaluations = results_of(bundle)["rows"][0]["evaluations"]
        assert "dice_micro" in evaluations[0]["metrics"]
        assert evaluations[1]["metrics"] == {}

    def test_results_are_written_when_the_run_is_interrupted(self, bundle: Path) -> None:
        fake = FakeRunner()

        def interrupted(command: Any, log: Path, on_line: Any) -> int:
            if len(fake.commands) == 3:
                raise KeyboardInterrupt
            return fake(command, log, on_line)

        task = reproduction(bundle, interrupted)
        with pytest.raises(KeyboardInterrupt):
            task.run(task.plans)
        states = [row["runs"][0]["status"] for row in results_of(bundle)["rows"]]
        assert states == ["finished", "not run"]
        assert "not run" in page_of(bundle)

    def test_rows_run_at_other_times_stand_in_one_table(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner())
        task.run(task.plans[1:])
        task = reproduction(bundle, FakeRunner())
        task.run(task.plans[:1])
        assert [row["runs"][0]["status"] for row in results_of(bundle)["rows"]] == ["finished", "finished"]


class TestResults:
    def test_seeds_give_mean_and_sample_deviation(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner(), seeds=(42, 44))
        task.run(task.plans)
        dice = results_of(bundle)["rows"][1]["evaluations"][0]["metrics"]["dice_micro"]
        assert dice["mean"] == pytest.approx(0.81, abs=1e-12)
        assert dice["sd"] == pytest.approx(0.02 / 2**0.5, abs=1e-12)
        assert "0.8100 ± 0.0141" in page_of(bundle)

    def test_one_value_has_no_deviation(self) -> None:
        assert aggregate([0.5]) == {"mean": 0.5, "sd": None, "values": [0.5]}

    def test_a_seed_that_failed_is_named_beside_the_mean(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner(failing="seed43"), seeds=(42, 43))
        assert not task.run(task.plans)
        assert "0.8000; failed (seed 43)" in page_of(bundle)

    def test_ours_stands_beside_published_in_tables_by_way_of_measuring(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner())
        task.run(task.plans)
        page = page_of(bundle)
        micro = page.split("## Over all pixels of the set")[1].split("##")[0]
        assert (
            "| dice_micro (ours) | dice_micro (published) | iou_micro (ours) | iou_micro (published) |"
            in micro
        )
        assert "| Net A | true sentence | 2 | 0.8000 | 0.9000 | 0.6667 | 0.8200 |" in micro
        assert "| Net B | true sentence | 2 | 0.8000 | – | 0.6667 | – |" in micro
        assert "| Net A | mirrored (one_sided) | 1 | 0.2500 | – |" in micro
        surface = page.split("## Surface distances")[1].split("##")[0]
        assert "| row | evaluation | cases | hd95 |" in surface
        assert "12.50" in surface
        assert "Mean over images" not in page
        for fact in (
            "A paper, Table I",
            "official lists",
            "3 training, 1 validation, 2 test",
            "70/10/20",
            "cores",
        ):
            assert fact in page

    def test_no_folder_of_this_machine_is_written(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner())
        task.run(task.plans)
        command = shown(task.plans[0].jobs[0].command, task.planner)
        assert command[0] == "python"
        assert "DATASET_DIR" in command
        assert any(part.startswith("WORK/") for part in command)
        page = page_of(bundle)
        assert str(sys.executable) not in page
        assert str(bundle / "data") not in page
        assert '--config_file "[' in page
        assert shown(["a/b", "/some/where/data.json"], task.planner) == ["a/b", "…/data.json"]

    @pytest.mark.parametrize(
        ("part", "text"),
        [("a/b", "a/b"), ("['a', 'b']", "\"['a', 'b']\""), ("$HOME", "'$HOME'"), ('"', "'\"'")],
    )
    def test_arguments_are_quoted_for_a_shell(self, part: str, text: str) -> None:
        assert quoted(part) == text
        assert shlex.split(quoted(part)) == [part]

    def test_other_data_than_the_paper_are_named(self, bundle: Path) -> None:
        (bundle / "data/dataset.json").write_text(json.dumps(DATASET | {"name": "mine"}), encoding="utf-8")
        task = reproduction(bundle, FakeRunner())
        task.write()
        assert "- Data: mine, where the table is of phantom (3 training" in page_of(bundle)

    def test_nothing_run_yet_is_said(self, bundle: Path) -> None:
        task = reproduction(bundle, FakeRunner())
        facts = {"command": ["x"], "overlays": [], "machine": {}, "versions": {}, "commit": "unknown"}
        results = collect_results(task.table, task.plans, dataset_dir=bundle / "data", facts=facts)
        assert "| Net A | true sentence | – | not run | 0.9000 |" in markdown(results)


class TestCommandLine:
    def test_several_values_after_one_option(self) -> None:
        args = ["b", "t", "--seeds", "42", "43", "--only", "Net A", "Net B", "--dry-run", "--seeds=44"]
        expected = ["b", "t", "--seeds", "42", "--seeds", "43", "--only", "Net A", "--only", "Net B"]
        assert repeat_options(args, ("--seeds", "--only")) == [*expected, "--dry-run", "--seeds=44"]

    def test_dry_run_shows_the_commands(self, bundle: Path) -> None:
        args = ["toy_segmentation", "networks", "--bundles", str(bundle.parent), "--dry-run"]
        result = CliRunner().invoke(
            app, [*args, "--overlay", "light", "--seeds", "1", "2", "--only", "Net B"]
        )
        assert result.exit_code == 0, result.output
        lines = result.output.strip().splitlines()
        assert len(lines) == 4
        assert all(line.startswith("python -m monai.bundle run") and "light.json" in line for line in lines)
        assert not (bundle.parents[1] / "work").exists()

    def test_errors_are_one_line(self, bundle: Path) -> None:
        result = CliRunner().invoke(app, ["toy_segmentatio", "networks", "--bundles", str(bundle.parent)])
        assert result.exit_code == 2
        assert "did you mean toy_segmentation" in result.output
        assert "Traceback" not in result.output


class TestProcesses:
    def test_the_cause_of_a_failure_is_named_not_what_it_led_to(self, tmp_path: Path, bundle: Path) -> None:
        code = """
def build(width):
    if width < 1:
        raise ValueError("width must be at least 1, got 0")
try:
    build(0)
except ValueError as error:
    raise RuntimeError("Failed to instantiate component") from error
"""
        job = reproduction(bundle, FakeRunner()).plans[0].trainings[0]
        failing = dataclasses.replace(job, command=(sys.executable, "-c", code))
        for _ in range(2):
            outcome = run_job(failing, runner=run_command, on_line=lambda line: None)
            assert outcome.error == "exit status 1: ValueError: width must be at least 1, got 0"
        assert job.log.read_text(encoding="utf-8").count("RuntimeError: Failed") == 2
        assert '\n  File "<string>"' in job.log.read_text(encoding="utf-8")

    def test_output_is_followed_and_logged_without_progress_bars(self, tmp_path: Path) -> None:
        code = r"import sys; sys.stdout.write('10%\r20%\rdone\n'); sys.stderr.write('\x1b[31mé\x1b[0m\n'); sys.exit(3)"
        lines: list[str] = []
        log = tmp_path / "deep" / "run.log"
        assert run_command([sys.executable, "-c", code], log, lines.append) == 3
        assert {"10%", "20%", "done", "é"} == set(lines)
        assert set(log.read_text(encoding="utf-8").splitlines()) == {"done", "é"}

    def test_an_interrupt_ends_the_process(self, tmp_path: Path) -> None:
        code = "import time; print('started', flush=True); time.sleep(60)"

        def interrupt(line: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_command([sys.executable, "-c", code], tmp_path / "run.log", interrupt)


@pytest.mark.slow
def test_a_real_bundle_is_trained_evaluated_and_kept(tmp_path: Path, repository: Path) -> None:
    from common.data.phantom_chest import write_phantom_dataset

    write_phantom_dataset(tmp_path / "data", count=20, size=64, seed=42)
    table = {
        **{key: TABLE[key] for key in ("title", "paper", "protocol", "data")},
        "rows": [
            {
                "name": "U-Net",
                "overlays": ["unet"],
                "overrides": {"max_epochs": 1, "image_size": 64, "width": 0.25, "batch_size": 4},
                "published": {"dice_micro": 0.5},
                "evaluations": [{"name": "blank", "overrides": {"text_perturbation": "blank"}}],
            }
        ],
    }
    (tmp_path / "tiny.json").write_text(json.dumps(table), encoding="utf-8")
    folders = [
        "--dataset-dir",
        "data",
        "--work",
        "work",
        "--output",
        "results",
        "--bundles",
        str(repository / "bundles"),
    ]
    command = [
        sys.executable,
        "-m",
        "tools.reproduce",
        "baseline_segmentation",
        "tiny.json",
        "--overlay",
        "light",
    ]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    for expected in ("finished", "kept"):
        run = subprocess.run(
            [*command, *folders], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.count(f": {expected},") == 2
    results = json.loads(
        (tmp_path / "results" / "baseline_segmentation_tiny.json").read_text(encoding="utf-8")
    )
    evaluation = results["rows"][0]["evaluations"][0]
    assert 0 <= evaluation["metrics"]["dice_micro"]["mean"] <= 1
    assert evaluation["count"] == results["data"]["sizes"]["test"]

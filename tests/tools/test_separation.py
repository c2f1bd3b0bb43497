"""tools.separation on phantoms and a small network: what it measures, draws, writes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from torch import Tensor
from torch.testing import assert_close
from typer.testing import CliRunner

from common.checks import file_sha256, load_weights
from common.data.phantom_chest import write_phantom_dataset
from common.metrics import silhouette, silhouette_samples
from tools.latent import (
    SeparationRequest,
    choose_cases,
    compare_groups,
    group_names,
    principal_components,
    read_stage_one,
    shortened,
    write_together,
)
from tools.separation import app

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "c2seg_segmentation"
LEFT = "Unilateral pulmonary infection, one infected area, lower left lung."
TWO_LEFT = "Unilateral pulmonary infection, two infected areas, lower left lung."
RIGHT = "Unilateral pulmonary infection, one infected area, upper right lung."
BOTH = "Bilateral pulmonary infection, two infected areas, all left lung and middle right lung."
# 12 test cases: LEFT 3, RIGHT 4, BOTH 2, TWO_LEFT once, one of no sentence, one of no zone
TEST = [LEFT, RIGHT, BOTH, LEFT, RIGHT, BOTH, LEFT, RIGHT, RIGHT, TWO_LEFT, "", "Something is there."]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    path = write_phantom_dataset(folder, count=60, size=64, seed=1)
    document = json.loads(path.read_text(encoding="utf-8"))
    for case, sentence in zip(document["test"], TEST, strict=True):
        case["text"] = sentence
    path.write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("overlay") / "small.json"
    values = {
        "width": 0.125,
        "image_size": 64,
        "device": "cpu",
        "pretrain_epochs": 1,
        "pretrain_batch_size": 8,
    }
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def weights(phantoms: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the bundle's own stage I writes."""
    folder = tmp_path_factory.mktemp("trained")
    parser = configuration(small, phantoms, model_dir=str(folder), output_dir=str(folder / "out"))
    with torch.random.fork_rng(devices=[]):
        parser.get_parsed_content("initialize")
        parser.get_parsed_content("pretrain")
    return folder / "pretrained.pt"


@pytest.fixture(scope="module")
def written(phantoms: Path, small: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the three files, without an ending."""
    output = tmp_path_factory.mktemp("results") / "new" / "phantoms"
    result = call(small, phantoms, weights, output, "--groups", "2")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
    return output


def configuration(small: Path, phantoms: Path, **places: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / "train.json", small])
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": str(phantoms), **places})
    return parser


def call(small: Path, phantoms: Path, weights: Path, output: Path, *more: str) -> Any:
    options = {"overlay": small, "dataset-dir": phantoms, "weights": weights, "output": output}
    named = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    return CliRunner().invoke(app, [str(BUNDLE), *named, *more])


def results_of(output: Path) -> dict[str, Any]:
    return json.loads(output.with_name(f"{output.name}.json").read_text(encoding="utf-8"))


def vectors_by_hand(small: Path, phantoms: Path, weights: Path | None) -> tuple[list[str], dict[str, Tensor]]:
    """Sentences and vectors of the test cases that have one, through the bundle's own loader and network."""
    parser = configuration(small, phantoms)
    parser["stage_one#validation_cases#section"] = "test"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(42)
        network = parser.get_parsed_content("stage_one#network").eval()
    if weights is not None:
        load_weights(network, weights)
    (batch,) = parser.get_parsed_content("stage_one#validation_loader")
    with torch.inference_mode():
        projected = network(batch["image"].as_tensor(), batch["text"])["image_vector"]
        pooled = network.encoder(batch["image"].as_tensor())[-1].flatten(2).mean(dim=2)
    return batch["sentence"], {"pooled": pooled, "projected": projected}


def row_of(results: Mapping[str, Any], grouping: str, cases_of: str, vector: str) -> dict[str, Any]:
    wanted = (grouping, cases_of, vector)
    (row,) = [r for r in results["rows"] if (r["grouping"], r["cases_of"], r["vector"]) == wanted]
    return row


ZONES = {LEFT: "a", TWO_LEFT: "a", RIGHT: "b", BOTH: "c"}
CHOICES = {
    ("sentence", "repeated"): lambda text: text if text in (LEFT, RIGHT, BOTH) else None,
    ("sentence", "largest"): lambda text: text if text in (LEFT, RIGHT) else None,
    ("zones", "repeated"): ZONES.get,
    ("zones", "largest"): lambda text: ZONES.get(text) if text != BOTH else None,
}


class TestNumbers:
    @pytest.mark.parametrize("stage", ["before", "after"])
    def test_are_the_silhouettes_of_vectors_made_by_hand(
        self, written: Path, small: Path, phantoms: Path, weights: Path, stage: str
    ) -> None:
        results = results_of(written)
        sentences, vectors = vectors_by_hand(small, phantoms, weights if stage == "after" else None)
        assert len(sentences) == results["cases"] == 11
        assert len(results["rows"]) == 8
        for (grouping, cases_of), group in CHOICES.items():
            chosen = [place for place, text in enumerate(sentences) if group(text)]
            labels = [group(sentences[place]) for place in chosen]
            for name, values in vectors.items():
                row = row_of(results, grouping, cases_of, name)
                assert (row["cases"], row["groups"]) == (len(chosen), len(set(labels)))
                expected = silhouette(values[chosen], labels)
                assert row[stage]["silhouette"] == pytest.approx(expected, abs=2e-5), (
                    grouping,
                    cases_of,
                    name,
                )

    def test_intervals_hold_the_mean_and_the_change_is_the_difference(self, written: Path) -> None:
        for row in results_of(written)["rows"]:
            for name in ("before", "after", "change"):
                assert row[name]["low"] <= row[name]["silhouette"] <= row[name]["high"]
            difference = row["after"]["silhouette"] - row["before"]["silhouette"]
            assert row["change"]["silhouette"] == pytest.approx(difference, abs=1e-12)
            chance = row["after"]["chance"] - row["before"]["chance"]
            assert row["change"]["above_chance"] == pytest.approx(difference - chance, abs=1e-12)

    def test_weights_change_what_is_after_and_not_what_is_before(
        self, written: Path, small: Path, phantoms: Path, weights: Path, tmp_path: Path
    ) -> None:
        state = torch.load(weights, weights_only=True)
        other = {
            name: value.flip(0) if name.startswith("encoder") and value.ndim > 1 else value
            for name, value in state.items()
        }
        torch.save(other, tmp_path / "other.pt")
        assert call(small, phantoms, tmp_path / "other.pt", tmp_path / "x", "--groups", "2").exit_code == 0
        first, second = results_of(written), results_of(tmp_path / "x")
        assert first["weights"]["sha256"] != second["weights"]["sha256"]
        for one, two in zip(first["rows"], second["rows"], strict=True):
            assert one["before"] == two["before"]
            assert one["after"] != two["after"]

    def test_no_training_is_no_change(self, small: Path, phantoms: Path, tmp_path: Path) -> None:
        parser = configuration(small, phantoms)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(42)
            torch.save(parser.get_parsed_content("stage_one#network").state_dict(), tmp_path / "same.pt")
        result = call(small, phantoms, tmp_path / "same.pt", tmp_path / "x.json", "--groups", "2")
        assert result.exit_code == 0, result.output
        for row in results_of(tmp_path / "x")["rows"]:
            assert row["before"] == row["after"]
            assert row["change"] == {"silhouette": 0, "low": 0, "high": 0, "above_chance": 0}


class TestFiles:
    def test_say_what_was_measured(self, written: Path, small: Path, phantoms: Path, weights: Path) -> None:
        results = results_of(written)
        assert results["weights"] == {"file": "pretrained.pt", "sha256": file_sha256(weights)}
        assert results["data"]["sha256"] == file_sha256(phantoms / "dataset.json")
        assert results["overlays"] == [small.name]
        assert (results["seed"], results["section"], results["same_start"]) == (42, "test", True)
        assert {"torch", "monai"} <= set(results["versions"])
        assert results["protocol"]["draws"] == 1000
        assert results["pictured"] == [{"sentence": RIGHT, "cases": 4}, {"sentence": LEFT, "cases": 3}]

    def test_name_no_folder_of_this_machine(self, written: Path, phantoms: Path, small: Path) -> None:
        for suffix in (".json", ".md"):
            text = written.with_name(written.name + suffix).read_text(encoding="utf-8")
            for folder in (ROOT, phantoms, small.parent, written.parent):
                assert str(folder) not in text

    def test_page_has_a_line_a_row_and_the_picture(self, written: Path) -> None:
        page = written.with_name(f"{written.name}.md").read_text(encoding="utf-8")
        results = results_of(written)
        assert page.count("\n| sentence |") == page.count("\n| zones |") == 4
        change = results["rows"][0]["change"]
        assert f"{change['silhouette']:.3f} [{change['low']:.3f}, {change['high']:.3f}]" in page
        assert f"({written.name}.png)" in page
        assert RIGHT in page

    def test_picture_is_a_picture(self, written: Path) -> None:
        with Image.open(written.with_name(f"{written.name}.png")) as picture:
            assert min(picture.size) > 600
            assert len(picture.convert("RGB").getcolors(2**24)) > 50

    def test_nothing_else_is_left(self, written: Path) -> None:
        names = sorted(path.name for path in written.parent.iterdir())
        assert names == ["phantoms.json", "phantoms.md", "phantoms.png"]

    def test_same_call_same_numbers_and_picture(
        self, written: Path, small: Path, phantoms: Path, weights: Path, tmp_path: Path
    ) -> None:
        assert call(small, phantoms, weights, tmp_path / "phantoms", "--groups", "2").exit_code == 0
        assert results_of(tmp_path / "phantoms")["rows"] == results_of(written)["rows"]
        one, two = (folder / "phantoms.png" for folder in (written.parent, tmp_path))
        assert one.read_bytes() == two.read_bytes()

    def test_written_together_or_not_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("old")
        with pytest.raises(OSError, match="a"):
            write_together({tmp_path / "a": b"new", tmp_path / "a" / "b": b"its folder is a file"})
        assert (tmp_path / "a").read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


class TestRefusals:
    def test_missing_weights(self, small: Path, phantoms: Path, tmp_path: Path) -> None:
        result = call(small, phantoms, tmp_path / "pretrained.pt", tmp_path / "x")
        assert result.exit_code == 1
        assert "run 'pretrain' of the bundle first" in result.output
        assert list(tmp_path.iterdir()) == []

    def test_weights_of_another_width(
        self, small: Path, phantoms: Path, weights: Path, tmp_path: Path
    ) -> None:
        wider = tmp_path / "wider.json"
        wider.write_text(json.dumps({**json.loads(small.read_text()), "width": 0.25}))
        result = call(wider, phantoms, weights, tmp_path / "x")
        assert result.exit_code == 1
        assert "Use the overlays that the weights were trained with" in result.output

    def test_too_few_groups(self, small: Path, phantoms: Path, weights: Path, tmp_path: Path) -> None:
        result = call(small, phantoms, weights, tmp_path / "x", "--groups", "4")
        assert result.exit_code == 1
        assert "sentences that occur twice, got 4 where 11 cases have 3" in result.output
        assert list(tmp_path.iterdir()) == []

    def test_another_seed_is_told(self, small: Path, phantoms: Path, weights: Path, tmp_path: Path) -> None:
        result = call(small, phantoms, weights, tmp_path / "x", "--groups", "2", "--seed", "7")
        assert result.exit_code == 0
        assert "another initialisation" in result.output
        results = results_of(tmp_path / "x")
        assert (results["same_start"], results["seed"]) == (False, 7)

    @pytest.mark.parametrize(
        ("bundle", "more", "message"),
        [
            ("c2seg", [], "did you mean c2seg_segmentation"),
            (str(BUNDLE.with_name("ssa_segmentation")), [], "the bundle has no contrastive pretraining"),
            (str(BUNDLE), ["--section", "tset"], "nearest: test"),
            (str(BUNDLE), ["--overlay", "lihgt"], "overlays must be JSON files or names of"),
            (str(BUNDLE), ["--dataset-dir", "nowhere"], "no data list at"),
        ],
    )
    def test_wrong_names(
        self,
        phantoms: Path,
        weights: Path,
        bundle: str,
        more: Sequence[str],
        message: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(ROOT)
        options = ["--dataset-dir", str(phantoms), "--weights", str(weights), "--output", "not/written"]
        result = CliRunner().invoke(app, [bundle, *options, *more])
        assert result.exit_code == 1
        assert message in result.output

    def test_broken_image_is_named(self, small: Path, phantoms: Path, weights: Path, tmp_path: Path) -> None:
        document = json.loads((phantoms / "dataset.json").read_text(encoding="utf-8"))
        cases = [{**case, "image": f"{case['id']}.png", "label": None} for case in document["test"]]
        document.pop("sha256")
        content = {**document, "training": [], "validation": [], "test": cases}
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        for number, case in enumerate(cases):
            (tmp_path / case["image"]).write_bytes(b"no picture %d" % number)
        request = SeparationRequest(BUNDLE, weights, tmp_path, (str(small),), groups=2)
        with pytest.raises(ValueError, match=f"case {cases[0]['id']}"):
            read_stage_one(request).image_vectors()


class TestGroups:
    def test_zones_are_named_in_order(self) -> None:
        assert group_names([LEFT, TWO_LEFT, BOTH], "zones") == ["left lower"] * 2 + ["left all, right middle"]
        assert group_names(["No pulmonary infection.", "Something."], "zones") == ["no finding", None]
        assert group_names(["Polyp middle left."], "zones", anatomy="polyp") == ["left middle"]
        assert group_names([" a ", "a"], "sentence") == ["a", "a"]

    def test_choice(self) -> None:
        chosen = choose_cases(["a", "b", "a", None, "c", "b", "a", "d", "d"], groups=2, what="sentences")
        assert chosen == {"repeated": [0, 1, 2, 5, 6, 7, 8], "largest": [0, 1, 2, 5, 6]}

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="groups must be at least 2, got 1"):
            choose_cases(["a", "a"], groups=1, what="sentences")
        with pytest.raises(ValueError, match="sets of zones that occur twice, got 2 where 3 cases have 1"):
            choose_cases(["a", "a", None], groups=2, what="sets of zones")
        with pytest.raises(ValueError, match="grouping must be one of sentence, zones, got 'zone'"):
            group_names(["a"], "zone")


class TestIntervals:
    def test_are_quantiles_of_means_drawn_one_by_one(self) -> None:
        generator = torch.Generator().manual_seed(0)
        before, after = torch.randn(2, 30, 5, generator=generator)
        labels = [f"{number % 3}" for number in range(30)]
        result = compare_groups(before, after, labels, seed=3)
        drawn = np.random.default_rng(3).integers(30, size=(1000, 30))
        samples = [silhouette_samples(vectors, labels).numpy() for vectors in (before, after)]
        for name, values in {
            "before": samples[0],
            "after": samples[1],
            "change": samples[1] - samples[0],
        }.items():
            means = [np.mean([values[place] for place in draw]) for draw in drawn]
            assert result[name]["low"] == pytest.approx(np.quantile(means, 0.025), abs=1e-12)
            assert result[name]["high"] == pytest.approx(np.quantile(means, 0.975), abs=1e-12)
            assert result[name]["silhouette"] == pytest.approx(values.mean(), abs=1e-12)

    def test_chance_is_that_of_vectors_that_know_nothing(self) -> None:
        generator = torch.Generator().manual_seed(1)
        centres = torch.eye(8)
        labels = [f"{number % 8}" for number in range(400)]
        told = centres[torch.arange(400) % 8] + 0.1 * torch.randn(400, 8, generator=generator)
        nothing = torch.randn(400, 8, generator=generator)
        result = compare_groups(nothing, told, labels, seed=0)
        assert result["before"]["silhouette"] == pytest.approx(result["before"]["chance"], abs=0.01)
        assert result["before"]["chance"] < 0
        assert result["after"]["silhouette"] > 0.7 > 0 > result["after"]["chance"]
        assert result["change"]["low"] > 0.5


class TestProjection:
    def test_keeps_distances_of_what_lies_in_a_plane(self) -> None:
        generator = torch.Generator().manual_seed(2)
        angles = torch.rand(20, generator=generator, dtype=torch.float64)
        basis = torch.linalg.qr(torch.randn(6, 2, generator=generator, dtype=torch.float64)).Q
        vectors = torch.stack([angles.cos(), angles.sin()], dim=1) @ basis.T
        points, shares = principal_components(vectors * torch.rand(20, 1, generator=generator).add(0.5))
        assert_close(torch.cdist(points, points), torch.cdist(vectors, vectors), atol=1e-9, rtol=0)
        assert sum(shares) == pytest.approx(1, abs=1e-9)
        assert shares[0] >= shares[1]

    def test_equal_vectors_have_no_variance(self) -> None:
        points, shares = principal_components(torch.ones(4, 3))
        assert_close(points, torch.zeros(4, 2, dtype=torch.float64), atol=1e-9, rtol=0)
        assert shares == pytest.approx([0, 0], abs=1e-9)

    @pytest.mark.parametrize("shape", [(1, 3), (3, 1), (3,)])
    def test_refuses_what_has_no_plane(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"vectors must be \(n, D\)"):
            principal_components(torch.ones(shape))

    def test_shortened_keeps_both_ends(self) -> None:
        assert shortened("short  one") == "short one"
        long = " ".join(f"word{number}" for number in range(60))
        assert len(shortened(long)) <= 110
        assert shortened(long).startswith("word0 ")
        assert shortened(long).endswith("word59")


def test_help_loads_neither_torch_nor_monai() -> None:
    code = "import sys, tools.separation; sys.exit(any(name in sys.modules for name in ('torch', 'monai')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0

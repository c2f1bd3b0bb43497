"""The report: one page that holds all it needs, shows nothing it should not, and fails with one clear error."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from common.data.phantom_chest import phantom_case
from common.handlers.maps import write_map
from common.metrics import case_metrics, summarise
from common.metrics.cases import CASE_COLUMNS
from common.transforms.saving import safe_name
from tools.report import app, write_report
from tools.reporting.cards import pick_cases
from tools.reporting.charts import dice_histogram
from tools.reporting.evaluation import Case, load_evaluation, load_evaluations
from tools.reporting.guidance import case_maps, heat_scale, heat_uri, strongest_words
from tools.reporting.pictures import outline_path, png_uri
from tools.reporting.sentence import occupied, read_sentence, zone_map
from tools.reporting.wording import base_name, difference, facts, number, without_folders

ATTACK = '<script>alert("x")</script> & <img src=x onerror=alert(1)> consolidation in the LLL.'
ZONE_SETS = ([("left", "upper")], [("right", "lower")], [("left", "lower"), ("right", "middle")], [])

Change = Callable[[list[dict]], None]


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            attrs
            for name, attrs in self.tags
            if name == tag and all(attrs.get(key.strip("_")) == value for key, value in wanted.items())
        ]


def write_evaluation(
    folder: Path, *, kind: str = "none", change: Change | None = None, labels: bool = True
) -> Path:
    """Four small phantoms with good, shifted, missing and (rightly) empty predictions."""
    (folder / "predictions").mkdir(parents=True)
    rows = []
    for index, zones in enumerate(ZONE_SETS):
        case = phantom_case(index, 64, zones=zones)
        predicted = (case.mask, np.roll(case.mask, 4, 1), np.zeros_like(case.mask), case.mask)[index]
        names = {key: folder / f"{key}_{index}.png" for key in ("image", "label")}
        Image.fromarray(case.image).save(names["image"])
        Image.fromarray(case.mask.astype(np.uint8) * 255).save(names["label"])
        Image.fromarray(predicted.astype(np.uint8) * 255).save(folder / f"predictions/case_{index}.png")
        row = dict.fromkeys(CASE_COLUMNS, "") | {
            "id": f"case_{index}",
            "image": str(names["image"]),
            "label": names["label"].name if labels else "",
            "prediction": f"predictions/case_{index}.png",
        }
        rows.append(row | case_metrics(predicted, case.mask if labels else None, sentence=case.sentence))
    if change:
        change(rows)
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CASE_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    summary = summarise(rows) | {
        "bundle": "/srv/secret/bundles/baseline_segmentation",
        "dataset": "phantom_chest",
        "section": "test",
        "laterality": "image",
        "text_perturbation": kind,
        "checkpoint": "/srv/secret/model.pt",
        "checkpoint_sha256": "ab" * 32,
        "versions": {"monai": "1.6.1"},
        "commands": ["python /srv/secret/run.py"],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_maps(folder: Path, name: str, *, side: int = 32) -> None:
    """Attention on the right, a prior above, and their product."""
    ramp = torch.linspace(0, 1, side)
    maps = {"attention": ramp.expand(side, side), "prior": 1 - ramp[:, None].expand(side, side)}
    maps["guide"] = maps["attention"] * maps["prior"]
    for kind, values in maps.items():
        write_map(values, folder / "maps" / f"{safe_name(name)}.{kind}.png")


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    return write_evaluation(tmp_path / "evaluation")


def test_the_page_needs_nothing_but_itself(evaluation: Path) -> None:
    path = write_report(evaluation)
    page = Page(path)
    assert path == evaluation / "report.html"
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "data", "poster"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#")), (tag, value)
    text = path.read_text()
    assert not re.search(r"https?://|@import|url\(", text)
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in str(policy["content"])
    assert len(page.all("script")) == 1


def test_the_policy_admits_the_script_that_is_in_the_page(evaluation: Path) -> None:
    text = write_report(evaluation).read_text()
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in text or f"script-src 'sha256-{digest}'" in text


def test_the_header_says_what_was_evaluated_and_for_what_it_may_be_used(evaluation: Path) -> None:
    words = Page(write_report(evaluation, title="Test set")).text
    assert "Research use only; not a medical device." in words
    assert "“left” is the left half of the picture" in words
    for fact in (
        "baseline_segmentation",
        "phantom_chest",
        "True sentence",
        "model.pt",
        "ab" * 32,
        "monai 1.6.1",
    ):
        assert fact in words
    assert "Test set" in words


def test_figures_of_summary_and_ceiling_are_shown(evaluation: Path) -> None:
    summary = json.loads((evaluation / "summary.json").read_text())
    words = Page(write_report(evaluation)).text
    for name in ("dice_micro", "iou_micro", "dice_image", "side_prediction", "zones_prediction"):
        assert f"{summary['metrics'][name]:.3f}" in words
    assert f"/ {summary['metrics']['zones_truth']:.3f}" in words
    assert "one-sided" in words


def test_every_case_is_in_the_table_and_the_worst_are_pictured_first(evaluation: Path) -> None:
    page = Page(write_report(evaluation, pictures=2))
    assert [attrs["data-find"].split()[0] for attrs in page.all("article")] == ["case_2", "case_1"]
    for index in range(4):
        assert f"case_{index}" in page.text
    assert [head.get("data-kind") for head in page.all("th", scope="col")].count("number") == 7
    assert page.all("a", href="#case-1")


def test_two_empty_masks_are_right_and_not_among_the_worst(evaluation: Path) -> None:
    page = Page(write_report(evaluation))
    assert page.all("article")[-1]["data-find"].startswith("case_3")
    assert "both empty" in page.text
    assert "In 1 of 4 cases prediction and truth are both empty" in page.text


def test_outlines_of_truth_and_prediction_lie_over_the_picture(evaluation: Path) -> None:
    page = Page(write_report(evaluation))
    assert len(page.all("path", class_="truth")) == 3
    assert len(page.all("path", class_="prediction")) == 2
    assert all(attrs["viewbox"] == "0 0 64 64" for attrs in page.all("svg", class_="overlay"))


def test_a_sentence_with_markup_is_inert(tmp_path: Path) -> None:
    def attack(rows: list[dict]) -> None:
        rows[0]["text"] = ATTACK
        rows[1]["id"] = '"><script>alert(2)</script>'

    path = write_report(write_evaluation(tmp_path / "evaluation", change=attack), title="<i>title</i>")
    page = Page(path)
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not page.all("i", style=None) or all(set(attrs) <= {"class"} for attrs in page.all("i"))
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert ATTACK in page.text
    assert "<i>title</i>" in page.text


def test_folders_of_this_machine_are_not_in_the_page(evaluation: Path) -> None:
    (evaluation / "image_1.png").unlink()
    text = write_report(evaluation).read_text()
    assert str(evaluation.parent) not in text
    assert "/srv/secret" not in text
    assert "No picture" in text
    assert "image_1.png" in text


def test_several_evaluations_are_compared(tmp_path: Path) -> None:
    def blanked(rows: list[dict]) -> None:
        for row in rows:
            row["text"] = ""

    true = write_evaluation(tmp_path / "a")
    blank = write_evaluation(tmp_path / "b", kind="blank", change=blanked)
    page = Page(write_report([true, blank], tmp_path / "page.html"))
    assert "Blank sentence" in page.text
    assert "Comparison" in page.text
    assert "+0.000" in page.text
    assert len(page.all("use")) == 4
    assert page.text.count("Dice, blank sentence") == 1


def test_evaluations_of_one_kind_are_named_by_their_folders(tmp_path: Path) -> None:
    folders = [write_evaluation(tmp_path / name) for name in ("first", "second")]
    assert [evaluation.name for evaluation in load_evaluations(folders)] == ["first", "second"]
    nested = [write_evaluation(tmp_path / name / "test") for name in ("x", "y")]
    assert [evaluation.name for evaluation in load_evaluations(nested)] == ["test (1)", "test (2)"]


def test_different_lateralities_are_pointed_out(tmp_path: Path) -> None:
    folders = [write_evaluation(tmp_path / name) for name in ("a", "b")]
    summary = json.loads((folders[1] / "summary.json").read_text())
    (folders[1] / "summary.json").write_text(json.dumps(summary | {"laterality": "patient"}))
    assert "differ in laterality" in Page(write_report(folders)).text
    assert "patient's left, drawn on the right" in Page(write_report(folders[1])).text


def test_an_inference_without_labels_is_shown_without_scores(tmp_path: Path) -> None:
    page = Page(write_report(write_evaluation(tmp_path / "evaluation", labels=False)))
    assert "No case has a true mask" in page.text
    assert "Dice of the cases" not in page.text
    assert not page.all("path", class_="truth")
    assert len(page.all("path", class_="prediction")) == 2
    assert [attrs["data-find"].split()[0] for attrs in page.all("article")] == [f"case_{i}" for i in range(4)]


def test_findings_contradictions_and_unknown_words_are_shown(tmp_path: Path) -> None:
    def confuse(rows: list[dict]) -> None:
        rows[0]["text"] = (
            "Unilateral pulmonary infection, two infected areas, upper left lung and lower right lung."
        )
        rows[1]["text"] = "Qwzxvk pulmonary infection, lower left lung."

    folder = write_evaluation(tmp_path / "evaluation", change=confuse)
    words = Page(write_report(folder)).text
    assert "Contradiction:" in words
    assert re.search(r"Not read: .*qwzxvk", words, re.IGNORECASE)
    assert "left upper, right lower" in words


def test_failed_cases_are_listed_without_their_folders(evaluation: Path) -> None:
    (evaluation / "failures.csv").write_text("id,error\nbroken,/home/me/data/broken.png must be readable\n")
    page = Page(write_report(evaluation))
    assert "1 case could not be evaluated" in page.text
    assert "broken.png must be readable" in page.text
    assert "/home/me" not in page.text


def test_the_longest_sentences_are_shortened(tmp_path: Path) -> None:
    def lengthen(rows: list[dict]) -> None:
        rows[0]["text"] = "left lung " * 30_000

    path = write_report(write_evaluation(tmp_path / "evaluation", change=lengthen))
    assert "(300000 characters)" in Page(path).text
    assert path.stat().st_size < 300_000


def test_volumes_show_the_slice_with_most_of_the_mask(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "evaluation")
    volume = np.zeros((20, 30, 6), np.float32)
    mask = np.zeros_like(volume, dtype=np.uint8)
    mask[4:9, 5:15, 3] = 1
    for name, values in (("volume", volume + mask * 50), ("mask", mask)):
        nibabel.save(nibabel.Nifti1Image(values, np.diag([-1, -1, 1, 1])), folder / f"{name}.nii.gz")
    rows = list(csv.DictReader((folder / "cases.csv").read_text(encoding="utf-8").splitlines()))
    rows[0] |= {"image": "volume.nii.gz", "label": "mask.nii.gz", "prediction": "mask.nii.gz"}
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CASE_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    page = Page(write_report(folder))
    assert "slice 3" in page.text
    assert page.all("svg", viewbox="0 0 20 30")


def test_maps_of_the_method_are_drawn_beside_the_prediction(evaluation: Path) -> None:
    write_maps(evaluation, "case_1")
    path = write_report(evaluation)
    page = Page(path)
    heats = [
        attrs for attrs in page.all("svg") if str(attrs.get("aria-label")).startswith("Heat map of case_1")
    ]
    assert [str(attrs["aria-label"]).split(", ", 1)[1] for attrs in heats] == [
        "text attention: strongest in the upper right, middle right and lower right of the picture",
        "prior from the sentence: strongest in the upper left, upper centre and upper right of the picture",
        "guide = attention × prior: strongest in the upper right of the picture",
    ]
    assert all(attrs["viewbox"] == "0 0 64 64" for attrs in heats)
    assert len(page.all("path", class_="truth")) == 3 + 3
    assert len(page.all("path", class_="prediction")) == 2
    (number_,) = (k for k, a in enumerate(page.all("article"), 1) if str(a["data-find"]).startswith("case_1"))
    assert len(page.all("use", href=f"#case-{number_}-image")) == 3
    for words in ("Heat maps of the method, for 1 of the 4 pictured cases", "where the sentence points"):
        assert words in page.text
    assert all(str(attrs["href"]).startswith("data:image/png;base64,") for attrs in page.all("image"))
    assert not re.search(r"https?://|@import|url\(", path.read_text(encoding="utf-8"))


def test_without_maps_the_page_says_nothing_of_them(evaluation: Path) -> None:
    before = write_report(evaluation).read_bytes()
    body = before.partition(b"</style>")[2]
    assert b"heat" not in body.lower()
    assert b"attention" not in body.lower()
    (evaluation / "maps").mkdir()
    write_maps(evaluation, "of another evaluation")
    assert write_report(evaluation).read_bytes() == before


def test_maps_are_found_for_every_kind_of_id(tmp_path: Path) -> None:
    ids = ["Köln/Fall 1", "../../secret", "x" * 220, "y/" * 300]

    def rename(rows: list[dict]) -> None:
        for row, name in zip(rows, ids, strict=True):
            row["id"] = name

    folder = write_evaluation(tmp_path / "evaluation", change=rename)
    for name in ids[:3]:
        write_maps(folder, name)
    page = Page(write_report(folder))
    labels = [str(attrs.get("aria-label")) for attrs in page.all("svg")]
    for name in ids[:3]:
        assert sum(label.startswith(f"Heat map of {name}, ") for label in labels) == 3
    assert sum(label.startswith("Heat map") for label in labels) == 9
    assert case_maps(folder, "...", size=64) == ()


def test_a_map_that_shows_nothing_is_said_on_the_card(evaluation: Path) -> None:
    write_maps(evaluation, "case_0")
    (evaluation / "maps/case_0.attention.png").write_bytes(b"no picture")
    (evaluation / "maps/case_0.prior.png").unlink()
    write_map(torch.zeros(8, 8), evaluation / "maps/case_0.guide.png")
    write_maps(evaluation, "case_1")
    broken = evaluation / "maps/case_1.guide.png"
    broken.write_bytes(broken.read_bytes()[:60])
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(evaluation / "maps/case_1.prior.png")
    words = Page(write_report(evaluation)).text
    assert words.count("This map cannot be read.") == 2
    assert words.count("This map was not written.") == 1
    assert words.count("This map is 0 everywhere.") == 1
    assert words.count("This map must be an 8-bit grey picture.") == 1
    assert str(evaluation) not in words


def test_volumes_and_other_evaluations_show_no_maps(tmp_path: Path) -> None:
    folders = [write_evaluation(tmp_path / name) for name in ("a", "b")]
    write_maps(folders[1], "case_0")
    assert "Heat map" not in Page(write_report(folders)).text
    write_maps(folders[0], "case_0")
    volume = np.zeros((20, 30, 6), np.float32)
    volume[4:9, 5:15, 3] = 1
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1, -1, 1, 1])), folders[0] / "volume.nii.gz")
    rows = list(csv.DictReader((folders[0] / "cases.csv").read_text(encoding="utf-8").splitlines()))
    rows[0] |= {"image": "volume.nii.gz", "label": "volume.nii.gz", "prediction": "volume.nii.gz"}
    with (folders[0] / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CASE_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    page = Page(write_report(folders[0]))
    assert "slice 3" in page.text
    assert "Heat map" not in page.text


def test_heat_is_more_opaque_where_the_map_is_higher() -> None:
    values = np.repeat(np.linspace(0, 255, 100, dtype=np.float32)[None], 50, axis=0)
    picture = decode(heat_uri(values, size=40))
    assert (picture.mode, picture.size) == ("P", (40, 20))
    rgba = np.asarray(picture.convert("RGBA")).astype(int)[10]
    assert (np.diff(rgba[:, 3]) >= 0).all()
    assert rgba[0, 3] < 40
    assert rgba[-1, 3] == pytest.approx(0.8 * 255, abs=2)
    assert (np.diff(rgba[:, :3].sum(1)) >= 0).all()
    assert decode(heat_uri(values, size=400)).size == (100, 50)
    scale = heat_scale(3)
    assert (len(scale), scale[0], scale[-1]) == (3, "rgb(0 0 4 / 0.00)", "rgb(252 253 191 / 0.80)")


def test_the_strongest_places_are_named() -> None:
    values = np.zeros((9, 9))
    values[8, 0] = 100
    assert strongest_words(values) == "strongest in the lower left of the picture"
    values[4, 4] = 95
    assert strongest_words(values) == "strongest in the middle and lower left of the picture"
    assert strongest_words(np.ones((9, 9))) == "about as strong in many places"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", "{", "summary.json must be JSON"),
        ("summary.json", "[]", "summary.json must hold a JSON object, got list"),
        ("cases.csv", "", "cases.csv must hold at least one case"),
        ("cases.csv", "id,text\n", "cases.csv must hold at least one case"),
        ("cases.csv", "name,text\na,b\n", "cases.csv must have a column 'id', got name, text"),
        ("cases.csv", "id,text\na,\na,\n", "row 3: id must be given once, got 'a'"),
        ("cases.csv", "id,dice_image\na,good\n", "row 2: dice_image must be a number or empty, got 'good'"),
    ],
)
def test_malformed_files_are_one_clear_error(evaluation: Path, name: str, content: str, message: str) -> None:
    (evaluation / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(evaluation)
    assert not (evaluation / "report.html").exists()


@pytest.mark.parametrize("name", ["summary.json", "cases.csv"])
def test_a_missing_file_is_named(evaluation: Path, name: str) -> None:
    (evaluation / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} must exist: run the evaluation first"):
        write_report(evaluation)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": "random"}, "order must be one of worst, best, list, got 'random'"),
        ({"pictures": -1}, "pictures must be 0 or more, got -1"),
        ({"picture_size": 8}, "picture_size must be from 32 to 2048 pixels, got 8"),
    ],
)
def test_impossible_requests_are_refused(evaluation: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_report(evaluation, **arguments)


def test_no_folder_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one evaluation"):
        write_report([])


def test_the_command_writes_the_page_and_leaves_no_other_file(evaluation: Path, tmp_path: Path) -> None:
    target = tmp_path / "pages" / "report.html"
    result = CliRunner().invoke(app, [str(evaluation), "--output", str(target), "--pictures", "1"])
    assert result.exit_code == 0, result.output
    assert list(target.parent.iterdir()) == [target]


def test_the_command_reports_a_missing_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert "must be a folder with summary.json and cases.csv" in result.output


def test_an_outline_follows_the_borders_of_pixels() -> None:
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    numbers = [float(value) for value in re.findall(r"[\d.]+", outline_path(mask))]
    xs, ys = numbers[::2], numbers[1::2]
    assert (min(xs), max(xs)) == pytest.approx((3, 9), abs=0.51)
    assert (min(ys), max(ys)) == pytest.approx((2, 5), abs=0.51)
    assert outline_path(np.zeros((4, 4), bool)) == ""
    assert outline_path(np.ones((4, 4), bool)).count("Z") == 1


def test_pictures_are_downsized_keep_their_shape_and_colours() -> None:
    gray = np.linspace(-1000, 3000, 200 * 100, dtype=np.float32).reshape(1, 200, 100)
    small = decode(png_uri(gray, size=50))
    assert (small.size, small.mode) == ((25, 50), "L")
    assert small.getextrema() == pytest.approx((0, 255), abs=5)
    colour = np.zeros((3, 20, 20), np.float32)
    colour[0] = 200
    assert decode(png_uri(colour, size=50)).getpixel((3, 3)) == (200, 0, 0)
    assert decode(png_uri(np.full((1, 20, 20), 7.0), size=50)).getextrema() == (7, 7)


def test_the_histogram_counts_every_value() -> None:
    chart = dice_histogram([0.0, 0.02, 0.5, 1.0, None])
    assert chart is not None
    assert [(bar.x, bar.height) for bar in chart.bars] == [(1, 120), (161, 60), (305, 60)]
    assert (chart.highest, chart.median, chart.median_x, chart.count) == (2, 0.26, 83.2, 4)
    assert dice_histogram([None]) is None


def test_zone_maps_lie_as_in_the_picture() -> None:
    zones = {("left", "upper")}
    assert zone_map(zones, anatomy="lung", laterality="image")[0] == [True, False]
    assert zone_map(zones, anatomy="lung", laterality="patient")[0] == [False, True]
    assert zone_map({("center", "lower")}, anatomy="polyp", laterality="image")[2] == [False, True, False]
    mask = np.zeros((30, 30), bool)
    mask[2:6, 2:8] = True
    assert occupied(mask, anatomy="lung", laterality="image") == {("left", "upper")}
    assert occupied(mask, anatomy="lung", laterality="patient") == {("right", "upper")}
    assert occupied(np.zeros((30, 30), bool), anatomy="lung", laterality="image") == frozenset()


def test_a_missing_sentence_has_no_findings() -> None:
    assert read_sentence("  ").findings is None
    assert read_sentence("No pulmonary infection.").negated


def test_cases_are_picked_best_first_or_in_the_order_of_the_list(evaluation: Path) -> None:
    cases = load_evaluation(evaluation).cases
    assert [case.id for case in pick_cases(cases, order="best", limit=2)] == ["case_0", "case_1"]
    assert [case.id for case in pick_cases(cases, order="list", limit=9)] == [f"case_{i}" for i in range(4)]
    assert isinstance(cases[0], Case)


def test_numbers_and_facts_are_worded() -> None:
    assert (number(0.12345), number(None), number(3.456, 1), number(True)) == ("0.123", "–", "3.5", "–")
    assert (difference(0.5, 0.75), difference(1, None)) == ("\u22120.250", "")
    assert base_name("C:\\data\\set") == base_name("/data/set") == base_name("set") == "set"
    message = without_folders("cannot read '/a/b c/d.png', /e/f.png or C:\\x\\y.png")
    assert message == "cannot read 'd.png', f.png or y.png"
    lines = facts({"machine": {"cpu": "2 cores"}, "created": "2026-01-02T03:04:05+00:00"}, cases=3)
    assert lines == [("Cases", "3"), ("Machine", "cpu 2 cores"), ("Evaluated", "2026-01-02 03:04:05 UTC")]

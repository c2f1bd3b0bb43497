"""The report of volumes with several classes: scores of each class, slices with a colour for each, clear errors."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from typer.testing import CliRunner

from common.data.phantom_volume import phantom_volume, write_volume_phantom
from common.handlers import VolumeEvaluationTable
from common.transforms import save_labels
from common.transforms.volume_loading import load_volume
from tools.report import app, write_report
from tools.reporting.volume_pictures import SLICES, chosen_slices, colours, volume_slices
from tools.reporting.volumes import is_of_volumes, load_volume_evaluations, mean_dice

LABELS = {"0": "background", "1": "liver", "2": "right kidney", "3": "left kidney", "4": "spleen"}
ATTACK = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags with their attributes, and the words between them."""

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
        return " ".join(" ".join(self.words).split())


def evaluate(folder: Path, *, scored: bool = True, names: tuple[str, ...] = ("a", "b")) -> Path:
    """An evaluation of two phantoms: one predicted as it is, one without its liver."""
    engine = Engine(lambda engine, batch: batch)
    engine.state.rank = 0
    table = VolumeEvaluationTable(
        output_dir=folder, labels=LABELS, scored=scored, description={"bundle": "b"}
    )
    table.attach(engine)
    cases = []
    for seed, name in enumerate(names, start=3):
        stem = f"case{seed}"
        image, label = folder / "data" / f"{stem}.nii.gz", folder / "data" / f"{stem}_label.nii.gz"
        image.parent.mkdir(parents=True, exist_ok=True)
        write_volume_phantom(
            phantom_volume(seed, size=40, slices=6), image, label_path=label, axis_codes="PSR"
        )
        true = load_volume(label)
        predicted = true.to(torch.uint8)
        predicted = torch.where(predicted == 1, 0, predicted) if seed == 4 else predicted
        place = folder / "predictions" / f"{stem}.nii.gz"
        save_labels(predicted.as_tensor(), true.meta, place, labels=LABELS)
        case = {"id": name, "modality": "ct", "image_path": str(image), "pred_path": str(place)}
        extra = {"label": true, "label_path": str(label)} if scored else {}
        cases.append({**case, "pred": predicted, **extra})
    engine.run([[case] for case in cases])
    return folder


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(tmp_path_factory.mktemp("evaluation") / "first", names=("a", ATTACK))


def test_the_page_has_scores_and_slices_of_each_class(evaluation: Path, tmp_path: Path) -> None:
    page = Page(write_report(evaluation, tmp_path / "page.html", title="Mine"))
    metrics = json.loads((evaluation / "summary.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["dice_liver"] == pytest.approx(0.5)
    assert "liver 0.500 0.00 0.00 1" in page.text
    assert "right kidney 1.000 0.00 0.00 0" in page.text
    assert "mean of the classes 0.875 0.00 0.00 1" in page.text
    assert "worst mean Dice first, 2 of 2 volumes" in page.text
    assert page.text.index("mean Dice 0.750") < page.text.index("mean Dice 1.000")
    assert "Right and left in a class's name are the patient's" in page.text
    pictures = [attributes for tag, attributes in page.tags if tag == "image"]
    assert len(pictures) == 2 * SLICES
    fills = {attributes.get("fill") for tag, attributes in page.tags if tag == "path"}
    assert set(colours(4)) <= fills
    strokes = {attributes.get("stroke") for tag, attributes in page.tags if tag == "path"}
    assert set(colours(4)) <= strokes
    legend = {attributes["aria-label"] for tag, attributes in page.tags if "colour of" in str(attributes)}
    assert legend == {f"colour of {name}" for name in list(LABELS.values())[1:]}


def test_the_page_needs_nothing_and_runs_nothing(evaluation: Path, tmp_path: Path) -> None:
    path = write_report(evaluation, tmp_path / "page.html")
    page = Page(path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert ATTACK not in path.read_text(encoding="utf-8")
    assert ATTACK in page.text
    links = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(str(link).startswith("data:image/png;base64,") for link in links)
    assert str(evaluation) not in path.read_text(encoding="utf-8")


def test_without_labels_there_are_volumes_alone(tmp_path: Path) -> None:
    page = Page(write_report(evaluate(tmp_path / "plain", scored=False), order="list"))
    assert (tmp_path / "plain" / "report.html").is_file()
    assert "No volume has a label: predictions are shown without scores." in page.text
    assert "spleen, ml" in page.text
    assert "Dice" not in page.text
    assert not [attributes for tag, attributes in page.tags if tag == "path" and "stroke" in attributes]


def test_several_evaluations_stand_beside_each_other(evaluation: Path, tmp_path: Path) -> None:
    page = Page(write_report([evaluation, evaluate(tmp_path / "second")], tmp_path / "page.html"))
    assert [word for word in ("first", "second") if word in page.words] == ["first", "second"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text("{}", encoding="utf-8")
    (tmp_path / "other" / "cases.csv").write_text("id,ml_heart\na,1\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"evaluations must have the same classes, got liver, .* and heart in"
    ):
        write_report([evaluation, tmp_path / "other"])
    (tmp_path / "other" / "cases.csv").write_text("id,dice_image\na,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="must hold an evaluation of volumes like the first folder"):
        write_report([evaluation, tmp_path / "other"])


def test_what_cannot_be_read_is_said(evaluation: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(evaluation, tmp_path / "copy")
    for path in (folder / "predictions").iterdir():
        path.unlink()
    page = Page(write_report(folder))
    assert "case3.nii.gz" in page.text
    assert str(folder) not in page.text
    table = (folder / "cases.csv").read_text(encoding="utf-8").replace("1.0", "much")
    (folder / "cases.csv").write_text(table, encoding="utf-8")
    result = CliRunner().invoke(app, [str(folder)])
    assert result.exit_code == 1
    assert "dice must be a number" in result.output
    with pytest.raises(ValueError, match="order must be one of worst, best, list, got 'any'"):
        write_report(evaluation, order="any")
    with pytest.raises(ValueError, match="pictures must be 0 or more, got -1"):
        write_report(evaluation, pictures=-1)


def test_predictions_have_a_page_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "report.html").write_text("mine", encoding="utf-8")
    (tmp_path / "cases.csv").write_text("id,ml_liver\na,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"got predictions of tools\.predict, which wrote their page"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "mine"


def test_slices_are_spread_over_the_classes() -> None:
    labels = np.zeros((4, 4, 9))
    assert chosen_slices(labels) == [1, 4, 7]
    labels[..., 5:8] = 1
    assert chosen_slices(labels) == [5, 6, 7]
    labels[...] = 0
    labels[0, 0, 2] = 3
    assert chosen_slices(labels) == [2]


def test_a_prediction_of_another_size_is_refused(evaluation: Path, tmp_path: Path) -> None:
    image = evaluation / "data" / "case3.nii.gz"
    other = write_volume_phantom(phantom_volume(1, size=48, slices=6), tmp_path / "other.nii.gz")
    with pytest.raises(ValueError, match="prediction must have the image's size"):
        volume_slices(image, other, label=None, classes=4, size=64)


def test_only_tables_of_classes_are_of_volumes(evaluation: Path, tmp_path: Path) -> None:
    assert is_of_volumes(evaluation)
    assert not is_of_volumes(tmp_path)
    (tmp_path / "cases.csv").write_text("id,dice_image\na,1\n", encoding="utf-8")
    assert not is_of_volumes(tmp_path)
    (found,) = load_volume_evaluations([evaluation])
    assert found.classes == ("liver", "right_kidney", "left_kidney", "spleen")
    assert [mean_dice(found, row) for row in found.rows] == [1.0, 0.75]
    assert mean_dice(found, {"id": "a"}) is None

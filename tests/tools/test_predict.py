"""tools.predict: a small bundle on pictures, NIfTI and DICOM through the command line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from tools.predict import app

ROOT = Path(__file__).resolve().parents[2]
SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."
OPENING_MARK = "journal/part-0-of-1.jsonl"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a bundle whose network is tiny and reads the zones of the sentence."""
    from common.inference import load_bundle

    folder = tmp_path_factory.mktemp("bundle")
    (folder / "tiny.json").write_text('{"image_size": 64, "width": 0.125}', encoding="utf-8")
    overlays = ["zone_unet", str(folder / "tiny.json")]
    with pytest.warns(UserWarning, match="runs untrained"):
        segmenter = load_bundle(
            ROOT / "bundles" / "baseline_segmentation", overlays=overlays, allow_random=True, device="cpu"
        )
    torch.save(segmenter.network.state_dict(), folder / "model.pt")
    weights = ["--weights", str(folder / "model.pt"), "--device", "cpu"]
    return [*weights, "--overlay", *overlays]


def draw(path: Path, *, seed: int = 0, shape: tuple[int, int] = (40, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    values = (rows * 3 + columns * 2 + 30 * seed) % 256
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for index in range(5):
        draw(folder / "ab"[index % 2] / f"x{index // 2}.png", seed=index)
    return folder


def call(bundle: list[str], *arguments: str | Path) -> Result:
    bundle_folder = ROOT / "bundles" / "baseline_segmentation"
    options = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, [str(bundle_folder), *options, *bundle])


def rows(folder: Path, name: str = "cases.csv") -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def journal(folder: Path) -> list[dict[str, Any]]:
    parts = sorted((folder / "journal").glob("part-*.jsonl"))
    return [json.loads(text) for part in parts for text in part.read_text("utf-8").splitlines()]


class TestPictures:
    def test_gives_every_result(self, bundle: list[str], pictures: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = call(bundle, pictures, "--text", SENTENCE, "--output", out, "--batch", "2")
        assert result.exit_code == 0, result.output
        assert "5 of 5 cases segmented" in result.output
        names = ["a_x0", "a_x1", "a_x2", "b_x0", "b_x1"]
        assert sorted(path.name for path in (out / "predictions").iterdir()) == [f"{n}.png" for n in names]
        assert len(list((out / "previews").iterdir())) == 5
        table = rows(out)
        assert [row["id"] for row in table] == names
        for row in table:
            with Image.open(out / row["mask"]) as mask:
                assert mask.size == (50, 40)
                share = (np.asarray(mask) > 0).mean()
            assert float(row["share"]) == pytest.approx(share, abs=1e-6)
            assert row["text"] == SENTENCE
            assert row["text_source"] == "argument"
        lines = [json.loads(text) for text in (out / "cases.jsonl").read_text("utf-8").splitlines()]
        assert [line["id"] for line in lines] == names
        assert rows(out, "failures.csv") == []
        record = json.loads((out / "run.json").read_text("utf-8"))
        assert record["bundle"]["laterality"] == "image"
        assert len(record["bundle"]["weights_sha256"]) == 64
        assert str(tmp_path) not in (out / "run.json").read_text("utf-8")
        assert "data:image/jpeg;base64," in (out / "report.html").read_text("utf-8")

    def test_gives_the_masks_of_the_python_interface(
        self, bundle: list[str], pictures: Path, tmp_path: Path
    ) -> None:
        from common.inference import load_bundle

        out = tmp_path / "out"
        call(bundle, pictures, "--text", SENTENCE, "--output", out, "--previews", "none")
        overlays = bundle[bundle.index("--overlay") + 1 :]
        segmenter = load_bundle(
            ROOT / "bundles" / "baseline_segmentation", overlays=overlays, weights=bundle[1]
        )
        expected = segmenter(pictures / "a" / "x1.png", SENTENCE).mask
        with Image.open(out / "predictions" / "a_x1.png") as mask:
            differing = (np.asarray(mask) > 0) != (expected > 0)
        assert differing.mean() < 0.005  # other batch, other order of sums
        assert not (out / "previews").exists()

    def test_takes_sentences_of_a_table(self, bundle: list[str], pictures: Path, tmp_path: Path) -> None:
        table = tmp_path / "texts.csv"
        content = (
            "image;text;laterality\na/x0.png;lower left lung;patient\nb/x0.png;upper right lung;\nc;no;\n"
        )
        table.write_text(content, encoding="utf-8-sig")
        result = call(bundle, pictures, "--texts", table, "--output", tmp_path / "out")
        assert result.exit_code == 0, result.output
        assert "3 images have no row in texts.csv" in result.output
        assert "1 rows of texts.csv fit no image: c" in result.output
        found = {row["id"]: row for row in rows(tmp_path / "out")}
        assert found["a_x0"]["sentence"] == "lower right lung"
        assert found["b_x0"]["sentence"] == "upper right lung"
        assert "the table has no sentence for this image" in found["a_x1"]["warnings"]

    def test_names_bad_files_and_goes_on(self, bundle: list[str], pictures: Path, tmp_path: Path) -> None:
        whole = (pictures / "a" / "x0.png").read_bytes()
        (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
        (pictures / "empty.png").write_bytes(b"")
        (pictures / "text.png").write_text("no image", encoding="utf-8")
        (pictures / "no.dcm").write_bytes(b"\0" * 200)
        out = tmp_path / "out"
        result = call(bundle, pictures, "--text", "", "--output", out)
        assert result.exit_code == 3
        assert "5 of 9 cases segmented, 4 failed" in result.output
        failures = rows(out, "failures.csv")
        assert {row["id"] for row in failures} == {"cut", "empty", "text", "no"}
        assert all("\n" not in row["error"] and row["id"] in row["error"] for row in failures)
        assert "Failures" in (out / "report.html").read_text("utf-8")
        shutil.copy(pictures / "a" / "x0.png", pictures / "cut.png")
        assert call(bundle, pictures, "--text", "", "--output", out).exit_code == 3
        assert len(journal(out)) == 9
        result = call(bundle, pictures, "--text", "", "--output", out, "--retry-failed")
        assert "6 of 9 cases segmented, 3 failed" in result.output
        assert len(rows(out)) == 6


class TestFormats:
    def test_nifti_keeps_its_grid(self, bundle: list[str], tmp_path: Path) -> None:
        import nibabel

        affine = np.diag([-2.0, 3.0, 4.0, 1.0])
        values = np.arange(20 * 24 * 6, dtype=np.float32).reshape(20, 24, 6) % 97
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "scan.nii.gz")
        out = tmp_path / "out"
        result = call(bundle, tmp_path / "scan.nii.gz", "--text", SENTENCE, "--output", out)
        assert result.exit_code == 0, result.output + str(rows(out, "failures.csv"))
        mask = nibabel.load(out / "predictions" / "scan.nii.gz")
        assert mask.shape == values.shape
        np.testing.assert_allclose(mask.affine, affine)
        (row,) = rows(out)
        voxels = int(np.asarray(mask.dataobj).sum())
        assert float(row["volume_ml"]) == pytest.approx(voxels * 24 / 1000, abs=1e-5)

    def test_dicom_gives_segmentation_and_report(
        self, bundle: list[str], tmp_path: Path, real_data: Path
    ) -> None:
        pydicom = pytest.importorskip("pydicom")
        pytest.importorskip("highdicom")
        source = real_data / "dicom" / "chest_cr_monochrome1_j2k.dcm"
        shutil.copy(source, tmp_path / "cr.dcm")
        (tmp_path / "cr.txt").write_text("Opacity in the lower left lung.", encoding="utf-8")
        out = tmp_path / "out"
        result = call(bundle, tmp_path / "cr.dcm", "--text-from", "dicom", "--output", out)
        assert result.exit_code == 0, result.output + str(rows(out, "failures.csv"))
        image = pydicom.dcmread(source)
        (row,) = rows(out)
        segmentation = pydicom.dcmread(out / row["mask"])
        assert (segmentation.Modality, segmentation.Rows, segmentation.Columns) == (
            "SEG",
            image.Rows,
            image.Columns,
        )
        assert pydicom.dcmread(out / row["report"]).Modality == "SR"
        assert row["text_source"] == "sidecar"
        assert row["sentence"] == "Opacity in the lower right lung."  # of the picture

    @pytest.mark.filterwarnings("ignore:the source has no StudyInstanceUID:UserWarning")
    def test_a_series_is_one_case(self, bundle: list[str], tmp_path: Path, real_data: Path) -> None:
        pytest.importorskip("highdicom")
        shutil.copytree(real_data / "dicom" / "ct_series", tmp_path / "in" / "ct")
        out = tmp_path / "out"
        result = call(bundle, tmp_path / "in", "--text", "", "--output", out)
        assert result.exit_code == 0, result.output + str(rows(out, "failures.csv"))
        assert [row["mask"] for row in rows(out)] == ["predictions/ct.seg.dcm"]

    def test_a_report_is_no_image(self, bundle: list[str], tmp_path: Path, real_data: Path) -> None:
        out = tmp_path / "out"
        result = call(bundle, real_data / "dicom" / "sr_document.dcm", "--text", "", "--output", out)
        assert result.exit_code == 3
        (failure,) = rows(out, "failures.csv")
        assert "must be" in failure["error"]


class TestResume:
    def test_does_only_what_is_missing(self, bundle: list[str], pictures: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        arguments = (pictures, "--text", SENTENCE, "--output", out)
        assert call(bundle, *arguments).exit_code == 0
        before = {path.name: path.stat().st_mtime_ns for path in (out / "predictions").iterdir()}
        part = out / OPENING_MARK
        lines = part.read_bytes().splitlines(keepends=True)
        part.write_bytes(b"".join(lines[:3]) + lines[3][:20])
        draw(pictures / "new.png")
        result = call(bundle, *arguments)
        assert "6 of 6 cases segmented" in result.output
        after = {path.name: path.stat().st_mtime_ns for path in (out / "predictions").iterdir()}
        kept = {f"{json.loads(line)['id']}.png" for line in lines[:3]}
        assert {name for name in before if before[name] == after[name]} == kept
        ids = [line["id"] for line in journal(out)]
        assert len(ids) == len(set(ids)) == 6

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (["--text", "another sentence"], "text was"),
            (["--laterality", "patient"], "laterality was"),
            (["--overlay", "radiographs.json"], "overlays was"),
        ],
    )
    def test_refuses_other_options(
        self, bundle: list[str], pictures: Path, tmp_path: Path, changed: list[str], message: str
    ) -> None:
        out = tmp_path / "out"
        assert call(bundle, pictures, "--text", "", "--output", out).exit_code == 0
        radiographs = tmp_path / "radiographs.json"
        radiographs.write_text('{"modalities": ["CR"]}', encoding="utf-8")
        arguments = [*bundle, str(radiographs)] if changed[0] == "--overlay" else bundle
        extra = [] if changed[0] == "--overlay" else changed
        text = [] if "--text" in extra else ["--text", ""]
        result = call(arguments, pictures, *text, "--output", out, *extra)
        assert result.exit_code == 1
        assert message in result.output

    def test_overwrites_when_told(self, bundle: list[str], pictures: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        assert call(bundle, pictures, "--text", "", "--output", out).exit_code == 0
        (out / "mine.txt").write_text("kept", encoding="utf-8")
        result = call(bundle, pictures / "a", "--text", "left", "--output", out, "--overwrite")
        assert result.exit_code == 0, result.output
        assert len(list((out / "predictions").iterdir())) == 3
        assert (out / "mine.txt").read_text(encoding="utf-8") == "kept"
        result = call(bundle, pictures / "a", "--text", "left", "--output", out, "--no-resume")
        assert (result.exit_code, "must be a new folder" in result.output) == (1, True)

    def test_refuses_a_folder_of_something_else(
        self, bundle: list[str], pictures: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out" / "predictions").mkdir(parents=True)
        result = call(bundle, pictures, "--text", "", "--output", tmp_path / "out")
        assert result.exit_code == 1
        assert "must be a new folder or one of this tool" in result.output

    def test_refuses_another_file_under_the_same_name(
        self, bundle: list[str], pictures: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        assert call(bundle, pictures / "a", "--text", "", "--output", out).exit_code == 0
        result = call(bundle, pictures / "b", "--text", "", "--output", out)
        assert result.exit_code == 1
        assert "must be a/x0.png as in the results before, got b/x0.png" in result.output

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["none.png", "--text", ""], "does not exist"),
            (["."], "exactly one of --text"),
            ([".", "--text", "", "--workers", "many"], "workers must be a number or auto"),
            ([".", "--text", "", "--shard", "4/2"], "shard must be I/N"),
        ],
    )
    def test_refuses_arguments(
        self, bundle: list[str], tmp_path: Path, arguments: list[str], message: str
    ) -> None:
        result = call(bundle, *arguments, "--output", tmp_path / "out")
        assert (result.exit_code, message in result.output) == (1, True), result.output
        assert not (tmp_path / "out").exists()


class TestShards:
    def test_share_the_cases(self, bundle: list[str], pictures: Path, tmp_path: Path) -> None:
        arguments = (pictures, "--text", SENTENCE, "--output", tmp_path / "out")
        first = call(bundle, *arguments, "--shard", "0/2")
        assert first.exit_code == 0, first.output
        assert "3 of 5 cases segmented, 2 left to other processes" in first.output
        assert not (tmp_path / "out" / "cases.csv").exists()
        merged = call(bundle, *arguments, "--merge")
        assert merged.exit_code == 0, merged.output
        assert len(rows(tmp_path / "out")) == 3
        second = call(bundle, *arguments, "--shard", "1/2")
        assert "5 of 5 cases segmented" in second.output
        assert len(rows(tmp_path / "out")) == 5
        ids = [line["id"] for line in journal(tmp_path / "out")]
        assert len(ids) == len(set(ids)) == 5

    def test_reads_the_environment_of_torchrun(
        self, bundle: list[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        result = call(bundle, pictures, "--text", "", "--output", tmp_path / "out")
        assert "2 of 5 cases segmented, 3 left" in result.output, result.output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_cleanly(
    bundle: list[str], tmp_path: Path, repository: Path, number: signal.Signals
) -> None:
    for index in range(400):
        draw(tmp_path / "in" / f"{index}.png", seed=index)
    command = [sys.executable, "-m", "tools.predict", "baseline_segmentation", str(tmp_path / "in")]
    command += ["--text", "", "--output", str(tmp_path / "out"), *bundle]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=repository, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    part = tmp_path / "out" / OPENING_MARK
    deadline = time.monotonic() + 120
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command to go on" in errors
    done = len(journal(tmp_path / "out"))
    assert 0 < done < 400
    assert len(list((tmp_path / "out" / "predictions").iterdir())) == done

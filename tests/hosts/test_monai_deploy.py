"""The real graph of MONAI Deploy on every packed bundle, alone in a folder, from a study to what a viewer reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "tools" / "hosts" / "monai_deploy" / "app"
VOLUMES = "tcsa_uda_segmentation"  # takes no sentence, and no picture either
BUNDLES = tuple(sorted({path.name for path in (ROOT / "bundles").glob("*_segmentation")} - {VOLUMES}))
RESULTS = ["report.dcm", "result.json", "segmentation.dcm", "summary.png"]
LEFT, RIGHT = "One infected area, lower left lung.", "One infected area, lower right lung."
NAME, NUMBER = "Unmistakable^Patient", "ID-4711-0815"
IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate")
# What runs the studies of one bundle in one process: importing the host takes longer than a study.
DRIVER = """
import json, sys
sys.path.insert(0, "app")
from guided_segmentation.starting import main
codes = {}
for name, arguments in json.load(open("runs.json")).items():
    print(f"== {name}", file=sys.stderr, flush=True)
    codes[name] = main(["-i", f"studies/{name}", "-o", f"out/{name}", "-m", "bundle", *arguments])
json.dump(codes, open("codes.json", "w"))
strangers = sorted(n for n in sys.modules if n.partition(".")[0] in ("tools", "common"))
sys.exit(f"imported {strangers}" if strangers else 0)
"""
pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def host() -> Path:
    """The interpreter of the host's environment."""
    named = os.environ.get("MONAI_DEPLOY_PYTHON")
    candidates = [*([Path(named)] if named else []), ROOT / ".hosts" / "monai_deploy" / "bin" / "python"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    pytest.skip("no MONAI Deploy: make hosts, or set MONAI_DEPLOY_PYTHON to an interpreter that has it")


@dataclass(frozen=True)
class Finished:
    """What the application left of several studies."""

    folder: Path
    codes: Mapping[str, int]
    log: str
    bundle: str
    segmenter: Any

    def out(self, name: str) -> Path:
        return self.folder / "out" / name

    def result(self, name: str) -> dict[str, Any]:
        return json.loads((self.out(name) / "result.json").read_text(encoding="utf-8"))

    def sources(self, name: str) -> list[Dataset]:
        files = sorted((self.folder / "studies" / name).glob("*.dcm"))
        return [pydicom.dcmread(path) for path in files]

    def error(self, name: str) -> str:
        """The lines that one study wrote to standard error."""
        return self.log.split(f"== {name}\n")[1].split("\n== ")[0]


def studies(folder: Path, dicom: Path) -> dict[str, list[str]]:
    """Write the studies; return the arguments for each."""
    radiograph, series = dicom / "chest_cr_monochrome1_j2k.dcm", sorted((dicom / "ct_3slice").glob("*.dcm"))

    def study(name: str, *files: Path, **tags: Any) -> Path:
        place = folder / name
        place.mkdir(parents=True)
        for number, file in enumerate(files):
            dataset = pydicom.dcmread(file)
            dataset.PatientName, dataset.PatientID = NAME, NUMBER
            for tag, value in tags.items():
                setattr(dataset, tag, value)
            dataset.save_as(place / f"{number}.dcm")
        return place

    for name in ("left", "seen_right"):
        study(name, radiograph)
    (study("sidecar", radiograph) / "sentence.txt").write_text(RIGHT, encoding="utf-8")
    report_of(pydicom.dcmread(radiograph), LEFT).save_as(
        study("report", radiograph) / "report.sr", enforce_file_format=True
    )
    study("comments", radiograph, ImageComments=LEFT)
    study("series", *series)
    study("nameless", *series, StudyInstanceUID="", SeriesInstanceUID="")
    again = pydicom.dcmread(series[0])
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.79"
    again.save_as(study("two_phases", *series) / "again.dcm")
    study("magnetic_resonance", *series, Modality="MR")
    study("no_image")
    (folder / "no_image" / "note.txt").write_text("nothing", encoding="utf-8")
    two = study("two_series", series[0])
    dataset = pydicom.dcmread(radiograph)
    dataset.StudyInstanceUID = pydicom.dcmread(series[0]).StudyInstanceUID
    dataset.save_as(two / "other.dcm")
    truncated = study("truncated", series[0]) / "0.dcm"
    truncated.write_bytes(truncated.read_bytes()[:200_000])
    return {
        "left": ["--text", LEFT, "--log-level", "DEBUG"],
        "seen_right": ["--text", RIGHT, "--laterality", "image"],
        "sidecar": [],
        "report": [],
        "comments": [],
        "series": ["--text", LEFT],
        "nameless": ["--text", LEFT],
        "two_phases": [],
        "magnetic_resonance": [],
        "no_image": [],
        "two_series": [],
        "truncated": [],
    }


def report_of(image: Dataset, text: str) -> Dataset:
    """Return a basic text report whose impression is `text`."""
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = BasicTextSRStorage
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.77"
    report.StudyInstanceUID, report.SeriesInstanceUID = image.StudyInstanceUID, "1.2.826.0.1.3680043.8.498.78"
    report.PatientName, report.PatientID, report.Modality = NAME, NUMBER, "SR"
    report.ContentDate, report.ContentTime, report.ValueType = "20240102", "101112", "CONTAINER"
    heading, item = Dataset(), Dataset()
    heading.CodeValue, heading.CodingSchemeDesignator, heading.CodeMeaning = "121073", "DCM", "Impression"
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", text
    item.ConceptNameCodeSequence = [heading]
    report.ContentSequence = [item]
    return report


def packed(bundle: str, folder: Path) -> tuple[Path, Any]:
    """Pack a bundle with random weights; return its folder, and the same from the repository."""
    import torch

    from common.data.phantom_files import write_phantom_dataset
    from common.inference import load_bundle
    from tools.packing import PackRequest, pack_bundle

    source = ROOT / "bundles" / bundle
    with pytest.warns(UserWarning, match="untrained"):
        segmenter = load_bundle(source, overlays=["light"], allow_random=True)
    network = segmenter.network
    generator = torch.Generator().manual_seed(5)
    state = network.state_dict()
    for values in state.values():  # weights of a size at which the mask is neither empty nor full
        if values.is_floating_point() and values.ndim > 1:
            values.copy_(torch.randn(values.shape, generator=generator) / values[0].numel() ** 0.5)
    write_phantom_dataset(folder / "phantoms", count=10, size=64, seed=1)
    picture = folder / "phantoms" / "images" / "phantom_0000.png"
    bias = [name for name, values in state.items() if name.endswith("bias") and values.numel() == 1][-1]
    state[bias] -= segmenter.logits([segmenter.prepare({"image": picture, "text": LEFT})])[0].median()
    weights = folder / "weights.pt"
    torch.save(state, weights)
    request = PackRequest(
        bundle=bundle,
        overlays=("light",),
        weights=weights,
        output=folder / "dist",
        bundles=source.parent,
        proof=False,
    )
    return pack_bundle(request).folder, load_bundle(source, overlays=["light"], weights=weights)


@pytest.fixture(scope="module", params=BUNDLES)
def finished(
    request: pytest.FixtureRequest, host: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """All studies through one bundle: the application and the packed bundle alone in a folder."""
    made, folder = tmp_path_factory.mktemp("packed"), tmp_path_factory.mktemp("elsewhere")
    bundle, segmenter = packed(request.param, made)
    shutil.copytree(bundle, folder / "bundle")
    shutil.copytree(APP, folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    runs = studies(folder / "studies", real_data / "dicom")
    (folder / "runs.json").write_text(json.dumps(runs), encoding="utf-8")
    (folder / "drive.py").write_text(DRIVER, encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [host, "-I", "-B", "drive.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    codes = json.loads((folder / "codes.json").read_text(encoding="utf-8"))
    return Finished(folder, codes, process.stdout + process.stderr, request.param, segmenter)


def texts_of(report: Dataset) -> list[str]:
    """All texts of a structured report."""
    found = [str(report.TextValue)] if "TextValue" in report else []
    return found + [text for item in report.get("ContentSequence") or () for text in texts_of(item)]


def dicom_errors(path: Path) -> list[str]:
    """What the validator of dicom3tools calls errors."""
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False, timeout=120)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


class TestStudies:
    @pytest.mark.parametrize(
        "name", ["left", "seen_right", "sidecar", "report", "comments", "series", "nameless"]
    )
    def test_writes_all_results(self, finished: Finished, name: str) -> None:
        assert finished.codes[name] == 0, finished.error(name)
        assert sorted(path.name for path in finished.out(name).iterdir()) == RESULTS
        info = finished.result(name)
        assert info["model"] == finished.bundle
        assert info["weights_sha256"] == finished.segmenter.info.weights_sha256
        assert info["device"] == "cpu"

    @pytest.mark.parametrize("name", ["left", "series"])
    def test_results_belong_to_the_study(self, finished: Finished, name: str) -> None:
        source = finished.sources(name)[0]
        for file in ("segmentation.dcm", "report.dcm"):
            written = pydicom.dcmread(finished.out(name) / file)
            for keyword in IDENTITY:
                assert str(written.get(keyword, "")) == str(source.get(keyword, "")), (file, keyword)
            assert written.SeriesInstanceUID != source.SeriesInstanceUID

    @pytest.mark.parametrize("name", ["left", "series"])
    def test_mask_is_that_of_the_bundle_on_the_frames_of_the_source(
        self, finished: Finished, name: str
    ) -> None:
        import highdicom

        from common.dicom import read_segmentation

        sources = finished.sources(name)
        segmentation = highdicom.seg.segread(finished.out(name) / "segmentation.dcm")
        uids = {str(source.SOPInstanceUID) for source in sources}
        assert {str(uid) for _, _, uid in segmentation.get_source_image_uids()} <= uids
        mask = read_segmentation(segmentation, sources if len(sources) > 1 else sources[0])
        files = sorted((finished.folder / "studies" / name).glob("*.dcm"))
        expected = finished.segmenter(files if len(files) > 1 else files[0], LEFT, laterality="patient")
        share = float(expected.mask.mean())
        assert 0.001 < share < 0.999, "the mask must be neither empty nor full for this test to say anything"
        frames = expected.mask[None] if expected.mask.ndim == 2 else in_order(expected, sources)
        # the same network in the same version of PyTorch: no pixel differs
        np.testing.assert_array_equal(mask, frames)

    @pytest.mark.parametrize("name", ["left", "series"])
    def test_files_are_valid_dicom(self, finished: Finished, name: str) -> None:
        if shutil.which("dciodvfy") is None:
            pytest.skip("no dciodvfy: install dicom3tools")
        for file in ("segmentation.dcm", "report.dcm"):
            assert dicom_errors(finished.out(name) / file) == []

    def test_report_refers_to_the_segmentation(self, finished: Finished) -> None:
        segmentation = pydicom.dcmread(finished.out("left") / "segmentation.dcm")
        report = pydicom.dcmread(finished.out("left") / "report.dcm")
        assert str(segmentation.SOPInstanceUID) in {
            str(item.ReferencedSOPInstanceUID)
            for evidence in report.CurrentRequestedProcedureEvidenceSequence
            for series in evidence.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }

    def test_summary_is_a_small_picture(self, finished: Finished) -> None:
        from PIL import Image

        with Image.open(finished.out("left") / "summary.png") as picture:
            assert picture.mode == "RGB"
            assert max(picture.size) <= 512


class TestSentences:
    def test_left_of_the_patient_is_the_right_half_of_the_picture(self, finished: Finished) -> None:
        """The radiograph says L\\F: its columns run to the patient's left."""
        info = finished.result("left")
        assert info["text"] == LEFT
        if finished.segmenter.info.laterality == "image":
            assert info["sentence"] == RIGHT
            assert any(
                RIGHT in text for text in texts_of(pydicom.dcmread(finished.out("left") / "report.dcm"))
            )
        assert any(LEFT in text for text in texts_of(pydicom.dcmread(finished.out("left") / "report.dcm")))

    def test_network_reads_what_was_translated(self, finished: Finished) -> None:
        if finished.segmenter.info.laterality != "image":
            pytest.skip("the bundle reads the patient's left and right")
        left, seen = finished.result("left"), finished.result("seen_right")
        assert (seen["text"], seen["given_laterality"], seen["sentence"]) == (RIGHT, "image", RIGHT)
        assert left["mean_probability"] == seen["mean_probability"]
        assert left["share"] == seen["share"]

    def test_other_sides_give_other_masks(self, finished: Finished) -> None:
        if not reads_text(finished):
            pytest.skip("the network takes no text")
        assert finished.result("left")["mean_probability"] != finished.result("sidecar")["mean_probability"]

    @pytest.mark.parametrize(
        ("name", "source", "text"),
        [
            ("left", "given", LEFT),
            ("sidecar", "sidecar", RIGHT),
            ("report", "report", LEFT),
            ("comments", "image_comments", LEFT),
        ],
    )
    def test_sentence_and_its_source(self, finished: Finished, name: str, source: str, text: str) -> None:
        info = finished.result(name)
        assert (info["text_source"], info["text"]) == (source, text)
        assert info["given_laterality"] == "patient"
        report = pydicom.dcmread(finished.out(name) / "report.dcm")
        assert any(text in each for each in texts_of(report))


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("magnetic_resonance", "selection rules accept, got MR"),
            ("no_image", "must hold the DICOM files of a study, got none"),
            ("two_series", "one series that the selection rules accept, got 2"),
            ("two_phases", "every slice once"),
            ("truncated", "error: "),
        ],
    )
    def test_one_line_and_nothing_written(self, finished: Finished, name: str, message: str) -> None:
        assert finished.codes[name] == 1
        said = finished.error(name).strip().splitlines()
        assert len(said) == 1, said
        assert said[0].startswith("error: ")
        assert message in said[0]
        assert not finished.out(name).exists() or list(finished.out(name).iterdir()) == []

    def test_says_nothing_of_the_patient(self, finished: Finished) -> None:
        source = finished.sources("left")[0]
        secrets = [NAME, "Unmistakable", NUMBER, LEFT, RIGHT, str(source.StudyInstanceUID)]
        secrets += [str(source.get("StudyDescription") or NAME), str(source.get("SeriesDescription") or NAME)]
        assert [secret for secret in secrets if secret in finished.log] == []


def test_command_line_and_environment(host: Path, tmp_path: Path) -> None:
    shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [host, "-I", "-B", "app", *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    told = run("--help")
    assert told.returncode == 0
    assert "HOLOSCAN_MODEL_PATH" in told.stdout
    (tmp_path / "study").mkdir()
    missing = run("-i", "study", HOLOSCAN_MODEL_PATH="nowhere")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.strip().endswith("got none in nowhere")
    assert not (tmp_path / "output").exists()


def in_order(expected: Any, sources: list[Dataset]) -> np.ndarray:
    """The mask of a series as frames in the order of `sources`."""
    from common.dicom.volume import mask_to_frames, series_headers

    frames = mask_to_frames(expected.mask, expected.meta)
    uids = [str(header.SOPInstanceUID) for header in series_headers(expected.meta)]
    return frames[[uids.index(str(source.SOPInstanceUID)) for source in sources]]


def reads_text(finished: Finished) -> bool:
    """Whether the network of a bundle depends on its text at all."""
    return getattr(finished.segmenter.network, "uses_text", True)

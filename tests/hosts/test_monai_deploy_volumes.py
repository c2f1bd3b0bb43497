"""The real graph of MONAI Deploy on a packed bundle of classes: a CT series in, a segment for each class out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch

from common.dicom import read_segmentation
from common.inference import Segmenter, class_volumes, load_bundle
from tools.packing import PackRequest, pack_bundle

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "tools" / "hosts" / "monai_deploy" / "app"
BUNDLE = "tcsa_uda_segmentation"
TINY = {
    **{"image_size": 64, "width": 0.0625, "depths": [1, 1, 1, 1], "embedding_size": 32},
    **{"discriminator_width": 0.0625, "steps": 4},
}
NAMES = ["liver", "right kidney", "left kidney", "spleen"]
ROUNDED = 5  # voxels
PATIENT = "Unmistakable^Patient"
DRIVER = """
import json, sys
sys.path.insert(0, "app")
from guided_segmentation.starting import main
codes = {}
for name, arguments in json.load(open("runs.json")).items():
    print(f"== {name}", file=sys.stderr, flush=True)
    codes[name] = main(["-i", "study", "-o", f"out/{name}", "-m", "bundle", *arguments])
json.dump(codes, open("codes.json", "w"))
"""
RUNS = {
    "as_the_files_say": [],
    "as_mr": ["--modality", "mr"],
    "with_a_sentence": ["--text", "liver"],
    "with_a_laterality": ["--laterality", "patient"],
}
pytestmark = pytest.mark.hosts


@dataclass(frozen=True)
class Finished:
    """What the application left, and the same bundle in Python."""

    folder: Path
    codes: Mapping[str, int]
    log: str
    segmenter: Segmenter

    def out(self, name: str) -> Path:
        return self.folder / "out" / name

    def error(self, name: str) -> str:
        return self.log.split(f"== {name}\n")[1].split("\n== ")[0].strip()


@pytest.fixture(scope="module")
def host() -> Path:
    named = os.environ.get("MONAI_DEPLOY_PYTHON")
    candidates = [*([Path(named)] if named else []), ROOT / ".hosts" / "monai_deploy" / "bin" / "python"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    pytest.skip("no MONAI Deploy: make hosts, or set MONAI_DEPLOY_PYTHON to an interpreter that has it")


def varied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Random weights of a head, which untrained finds one class alone, with which it finds several."""
    state, generator = network.state_dict(), torch.Generator().manual_seed(0)
    for name, values in state.items():
        if name.startswith("head.") and values.ndim > 1:
            values.copy_(torch.randn(values.shape, generator=generator) / values[0].numel() ** 0.5)
    return state


@pytest.fixture(scope="module")
def finished(host: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("elsewhere")
    overlay, weights = folder / "tiny.json", folder / "model.pt"
    overlay.write_text(json.dumps(TINY), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        untrained = load_bundle(
            ROOT / "bundles" / BUNDLE, overlays=[overlay], device="cpu", allow_random=True
        )
    torch.save(varied(untrained.network), weights)
    request = PackRequest(
        bundle=BUNDLE,
        bundles=ROOT / "bundles",
        overlays=(str(overlay),),
        weights=weights,
        output=folder / "dist",
        proof=False,
    )
    shutil.copytree(pack_bundle(request).folder, folder / "bundle")
    shutil.copytree(APP, folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "study").mkdir()
    for number, file in enumerate(sorted((real_data / "dicom" / "ct_3slice").glob("*.dcm"))):
        dataset = pydicom.dcmread(file)
        dataset.PatientName = PATIENT
        dataset.save_as(folder / "study" / f"{number}.dcm")
    (folder / "runs.json").write_text(json.dumps(RUNS), encoding="utf-8")
    (folder / "drive.py").write_text(DRIVER, encoding="utf-8")
    process = subprocess.run(
        [host, "-I", "-B", "drive.py"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    codes = json.loads((folder / "codes.json").read_text(encoding="utf-8"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the application
    segmenter = load_bundle(ROOT / "bundles" / BUNDLE, overlays=[overlay], device="cpu", weights=weights)
    yield Finished(folder, codes, process.stdout + process.stderr, segmenter)
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("name", "modality"), [("as_the_files_say", "ct"), ("as_mr", "mr")])
def test_a_series_gets_a_segment_for_each_class(finished: Finished, name: str, modality: str) -> None:
    assert finished.codes[name] == 0, finished.error(name)
    files = sorted((finished.folder / "study").glob("*.dcm"))
    sources = [pydicom.dcmread(file) for file in files]
    segmentation = pydicom.dcmread(finished.out(name) / "segmentation.dcm")
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == NAMES
    assert segmentation.PatientName == sources[0].PatientName
    expected = finished.segmenter(files, modality=modality)
    assert len(np.unique(expected.mask)) > 1, "the classes must differ for this test to say anything"
    found = read_segmentation(segmentation, sources)
    for number in range(5):  # two processes may round a tie of two classes to either side
        assert abs(int((found == number).sum()) - int((expected.mask == number).sum())) <= ROUNDED, number
    result: dict[str, Any] = json.loads((finished.out(name) / "result.json").read_text(encoding="utf-8"))
    assert (result["modality"], result["text_source"], result["text"]) == (modality, "none", "")
    assert list(result["labels"].values())[1:] == NAMES
    for column, volume in class_volumes(expected).items():
        assert result[column] == pytest.approx(volume, abs=0.01 * ROUNDED)  # a voxel has less than 0.01 ml


@pytest.mark.parametrize("file", ["segmentation.dcm", "report.dcm"])
def test_files_are_valid_dicom(finished: Finished, file: str) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("no dciodvfy: install dicom3tools")
    path = finished.out("as_the_files_say") / file
    done = subprocess.run([program, path], capture_output=True, text=True, check=False, timeout=120)
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize("option", ["text", "laterality"])
def test_a_sentence_is_refused(finished: Finished, option: str) -> None:
    name = f"with_a_{'sentence' if option == 'text' else option}"
    assert finished.codes[name] == 1
    assert finished.error(name) == (
        f"error: --{option} must be left out for bundle, which segments volumes into classes and reads no sentence"
    )
    assert not finished.out(name).exists()


def test_says_nothing_of_the_patient(finished: Finished) -> None:
    assert "Unmistakable" not in finished.log

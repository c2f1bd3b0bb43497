"""Packed bundles: their own code, from their folder alone, and one of them in a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.inference import Segmenter
from tools.packing import PackRequest, pack_bundle

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"width": 0.125, "image_size": 64}
SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."

PROGRAM = """
import json, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
package, first, second, image, text, output = sys.argv[1:]
sys.path.insert(0, first if package.startswith("scripts") else {root!r})
from importlib import import_module
inference = import_module(package)
segmenter = inference.load_bundle(first, device="cpu")
result = segmenter(image, text)
np.save(output, result.mask)
prepare = type(segmenter.prepare)(*segmenter.prepare.__reduce__()[1])
found = {{
    "info": [segmenter.info.name, segmenter.info.version, segmenter.info.weights_sha256],
    "anatomy": segmenter.info.anatomy,
    "network": type(segmenter.network).__module__,
    "again": bool((inference.load_bundle(first, device="cpu")(image, text).mask == result.mask).all()),
    "worker": bool((segmenter.infer([prepare({{"image": image, "text": text}})])[0].mask == result.mask).all()),
    "repository": sorted({{name.partition(".")[0] for name in sys.modules}} & {{"common", "tools"}}),
    "side": inference.measures(result).side,
}}
try:
    inference.load_bundle(second)
except ValueError as error:
    found["second"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Path]) -> dict[str, Path]:
    """Every bundle, packed small."""
    folder = tmp_path_factory.mktemp("packed")
    overlay = folder / "small.json"
    overlay.write_text(json.dumps(SMALL), encoding="utf-8")
    folders = {}
    for name, place in weights.items():
        request = PackRequest(
            bundle=name,
            bundles=ROOT / "bundles",
            output=folder / "dist",
            overlays=("qata_cov19", str(overlay)) if name.startswith("baseline") else (str(overlay),),
            weights=place / "model.pt",
            proof=False,
        )
        folders[name] = pack_bundle(request).folder
    return folders


def run(package: str, *arguments: object, folder: Path) -> Any:
    command = [sys.executable, "-I", "-c", PROGRAM.format(root=str(ROOT)), package, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("package", ["common.inference", "scripts.common.inference"])
def test_a_packed_bundle_runs_its_own_code_and_is_the_only_one(
    package: str, packed: dict[str, Path], baseline: Segmenter, images: dict[str, Path], tmp_path: Path
) -> None:
    first, second = packed["baseline_segmentation"], packed["ssa_segmentation"]
    found = run(package, first, second, images["gray"], SENTENCE, tmp_path / "mask.npy", folder=tmp_path)
    assert found["info"] == ["baseline_segmentation", baseline.info.version, baseline.info.weights_sha256]
    assert found["network"].startswith("scripts.common.")
    assert found["anatomy"] == "lung"
    assert (found["again"], found["worker"]) == (True, True)
    assert found["repository"] == (["common"] if package.startswith("common") else [])
    assert "must be the only packed bundle of its process" in found["second"]
    assert np.array_equal(np.load(tmp_path / "mask.npy"), baseline(images["gray"], SENTENCE).mask)

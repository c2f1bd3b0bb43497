"""Packed bundles in the stock server of MONAI Label: masks, geometry, versions side by side, training."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits

from common.data.phantom_chest import write_phantom_dataset
from tools.hosts.monai_label.server import LabelServer
from tools.packing import PackRequest, pack_bundle

pytestmark = pytest.mark.hosts

ROOT = Path(__file__).resolve().parents[2]
VOLUMES = "tcsa_uda_segmentation"  # takes no sentence, and no picture either
BUNDLES = tuple(sorted({path.name for path in (ROOT / "bundles").glob("*_segmentation")} - {VOLUMES}))
OTHER = "_other_code"
PHANTOM = "orientation_segmentation"
TRAINED = "trained_segmentation"
SIZE = 32
SENTENCES = ("left lung", "right lung", "upper zones", "")
ROWS, COLUMNS = 64, 96
BRIGHT = """
import torch


class BrightPixels(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, image, text=None):
        return 8 * self.scale * image.mean(1, keepdim=True)
"""


@pytest.fixture(scope="module")
def host_python() -> Path:
    python = Path(os.environ.get("MONAI_LABEL_PYTHON", ROOT / ".hosts" / "monai_label" / "bin" / "python"))
    if not python.is_file():
        pytest.skip(f"no MONAI Label at {python}: `make hosts`, or set MONAI_LABEL_PYTHON")
    return python


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantom_dataset(folder, count=12, size=64, seed=1)
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> dict[str, Path]:
    """Every bundle; the same with other code; one that marks what is bright; one to be trained."""
    output = tmp_path_factory.mktemp("packed")
    overlay, weights = output / "tiny.json", output / "weights.pt"
    overlay.write_text(json.dumps({"image_size": SIZE, "width": 0.125}), encoding="utf-8")
    folders = {}
    for name in BUNDLES:
        torch.save(weights_that_read(name, overlay, image=phantoms / "images" / "phantom_0000.png"), weights)
        request = PackRequest(
            bundle=name,
            bundles=ROOT / "bundles",
            overlays=(str(overlay),),
            weights=weights,
            output=output,
            proof=False,
        )
        folders[name] = pack_bundle(request).folder
        folders[name + OTHER] = with_inverted_masks(folders[name], output / (name + OTHER))
    folders[TRAINED] = folders["ssa_segmentation"]
    folders[PHANTOM] = with_bright_pixels(folders[BUNDLES[0]], output / PHANTOM)
    return folders


@pytest.fixture(scope="module")
def server(
    host_python: Path, packed: dict[str, Path], phantoms: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LabelServer]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(phantoms / "images", folder / "studies")
    with LabelServer(
        python=host_python,
        folder=folder,
        studies=folder / "studies",
        bundles=packed,
        environment={"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def log_of_the_server(request: pytest.FixtureRequest) -> Iterator[None]:
    """Put what the server logged into the report of a test that fails."""
    yield
    if "server" in request.fixturenames:
        print(request.getfixturevalue("server").log_tail())


def weights_that_read(bundle: str, overlay: Path, *, image: Path) -> dict[str, Any]:
    """Train a tiny network so that the sentence alone tells it to mark all, nothing, the upper or the lower half."""
    parser = ConfigParser()
    parser.read_config([ROOT / "bundles" / bundle / "configs" / "inference.json", overlay])
    parser["bundle_root"] = str(ROOT / "bundles" / bundle)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").train()
    preprocessing = parser.get_parsed_content("preprocessing")
    cases = [preprocessing({"image": str(image), "text": sentence}) for sentence in SENTENCES]
    images = torch.stack([case["image"].as_tensor() for case in cases])
    texts = torch.stack([case["text"] for case in cases])
    with (
        torch.no_grad()
    ):  # without the statistics of its batch norms a deep network does not hear the sentence
        for _ in range(30):
            network(images, texts)
    network.eval()  # as the server runs it
    masks = torch.zeros(len(cases), 1, SIZE, SIZE)
    masks[0] = masks[2, :, : SIZE // 2] = masks[3, :, SIZE // 2 :] = 1
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(400):
        loss = binary_cross_entropy_with_logits(network(images, texts), masks)
        if loss.item() < 0.05:
            return network.state_dict()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    raise AssertionError(f"{bundle} has not learned to read the sentence: loss {loss.item():.3f}")


def with_inverted_masks(bundle: Path, copy: Path) -> Path:
    """Copy a packed bundle as another version, whose code marks what the first leaves out."""
    shutil.copytree(bundle, copy)
    code = copy / "scripts" / "common" / "transforms" / "saving.py"
    text = code.read_text(encoding="utf-8")
    assert text.count(">= self.threshold") == 1
    code.write_text(text.replace(">= self.threshold", "< self.threshold"), encoding="utf-8")
    metadata = copy / "configs" / "metadata.json"
    content = json.loads(metadata.read_text(encoding="utf-8")) | {"version": "9.9.9"}
    metadata.write_text(json.dumps(content), encoding="utf-8")
    return copy


def with_bright_pixels(bundle: Path, copy: Path) -> Path:
    """Copy a packed bundle with a network that marks bright pixels, on a grid of the phantom's size."""
    shutil.copytree(bundle, copy)
    (copy / "scripts" / "bright.py").write_text(BRIGHT, encoding="utf-8")
    path = copy / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"network_def": {"_target_": "scripts.bright.BrightPixels"}, "image_size": [ROWS, COLUMNS]}
    path.write_text(json.dumps(config), encoding="utf-8")
    torch.save({"scale": torch.ones(())}, copy / "models" / "model.pt")
    return copy


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def phantom() -> np.ndarray:
    """A bright F, which no turn or flip brings onto itself, with a dot that no transpose does."""
    image = np.full((ROWS, COLUMNS), 10, dtype=np.uint8)
    image[8:56, 10:20] = image[8:16, 20:60] = image[28:36, 20:44] = image[50:54, 70:90] = 200
    return image


def turned(around_x: float, around_y: float, around_z: float) -> np.ndarray:
    result = np.eye(3)
    for angle, (a, b) in ((around_x, (1, 2)), (around_y, (0, 2)), (around_z, (0, 1))):
        turn = np.eye(3)
        turn[[a, b], [a, b]] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def affine(directions: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = directions @ np.diag([0.7, 0.9, 3.0])
    matrix[:3, 3] = [11.0, -20.5, 7.25]
    return matrix


LPS = np.diag([-1.0, -1.0, 1.0])
SLICES = np.stack([phantom(), np.roll(phantom(), 5, 0), np.roll(phantom(), 9, 1)], axis=-1).transpose(1, 0, 2)
NIFTI = {
    "two_axes.nii.gz": (SLICES[..., 0], affine(LPS)),
    "single_slice.nii.gz": (SLICES[..., :1], affine(LPS)),
    "single_slice_oblique.nii.gz": (SLICES[..., :1], affine(turned(-0.1, 0.15, 0.2) @ LPS)),
    "lps.nii.gz": (SLICES, affine(LPS)),
    "ras.nii.gz": (SLICES[::-1, ::-1], affine(np.eye(3))),
    "rows_first.nii.gz": (SLICES.transpose(1, 0, 2)[::-1], affine(np.eye(3)[[1, 0, 2]] * [[-1], [1], [1]])),
    "oblique.nii.gz": (SLICES, affine(turned(0.1, 0.15, 0.2) @ LPS)),
    "oblique_flipped.nii": (SLICES[..., ::-1], affine(turned(-0.1, 0.15, 0.2) @ -np.eye(3))),
}


def test_info_lists_models_and_trainers(server: LabelServer, packed: dict[str, Path]) -> None:
    info = server.client.info()
    assert sorted(info["models"]) == sorted(info["trainers"]) == sorted(packed)
    for name, model in info["models"].items():
        assert (model["type"], model["dimension"]) == ("segmentation", 2), name
        assert model["labels"] == {"finding": 1}
        assert model["description"]
        assert (model["config"]["text"], model["config"]["laterality"]) == ("", "image")
        assert model["config"]["model_filename"] == ["model.pt"]
    assert info["models"][BUNDLES[0]]["version"] != info["models"][BUNDLES[0] + OTHER]["version"] == "9.9.9"


@pytest.mark.parametrize("bundle", BUNDLES)
def test_sentences_change_the_mask(bundle: str, server: LabelServer) -> None:
    masks = [
        picture(server.client.infer(bundle, "phantom_0000", params={"text": sentence}))
        for sentence in SENTENCES
    ]
    assert all(mask.shape == (64, 64) and mask.dtype == np.uint8 for mask in masks)
    left, right, _, default = masks
    assert left.mean() > 0.9 > 0.1 > right.mean()
    np.testing.assert_array_equal(picture(server.client.infer(bundle, "phantom_0000")), default)
    answer = json.loads(server.client.infer(bundle, "phantom_0000", output="json"))
    assert answer["label_names"] == {"finding": 1}


@pytest.mark.parametrize("bundle", [name for name in BUNDLES if name != "c2seg_segmentation"])
def test_sentences_move_the_mask(bundle: str, server: LabelServer) -> None:
    """Where the deepest features are more than the one pixel that C2Seg has at this size."""
    upper, default = (
        picture(server.client.infer(bundle, "phantom_0000", params={"text": sentence}))
        for sentence in SENTENCES[2:]
    )
    assert upper[:32].mean() > 0.8 > 0.2 > upper[32:].mean()
    assert default[32:].mean() > 0.8 > 0.2 > default[:32].mean()


def test_the_left_of_the_patient_is_the_right_of_the_picture(server: LabelServer) -> None:
    spoken = {"text": SENTENCES[0], "laterality": "patient"}
    mask = picture(server.client.infer(BUNDLES[0], "phantom_0000", params=spoken))
    np.testing.assert_array_equal(
        mask, picture(server.client.infer(BUNDLES[0], "phantom_0000", params={"text": SENTENCES[1]}))
    )


@pytest.mark.parametrize("colours", [False, True], ids=["gray", "rgb"])
def test_pictures_come_back_as_they_lie(colours: bool, server: LabelServer, tmp_path: Path) -> None:
    image = phantom()
    path = tmp_path / "phantom.png"
    Image.fromarray(np.stack([image, image // 2, image], axis=-1) if colours else image).save(path)
    np.testing.assert_array_equal(picture(server.client.infer(PHANTOM, path)), image > 100)


@pytest.mark.parametrize("name", NIFTI)
def test_nifti_comes_back_on_its_own_grid(name: str, server: LabelServer, tmp_path: Path) -> None:
    values, matrix = NIFTI[name]
    image = nibabel.Nifti1Image(np.ascontiguousarray(values), matrix)
    image.set_sform(matrix, 1)
    image.set_qform(matrix, 1)
    nibabel.save(image, tmp_path / name)
    written = tmp_path / f"mask_{name}"
    written.write_bytes(server.client.infer(PHANTOM, tmp_path / name, params={"text": "left"}))
    mask = nibabel.load(written)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.atleast_3d(values) > 100)
    np.testing.assert_allclose(mask.affine, matrix, atol=1e-5)


def test_versions_side_by_side_run_their_own_code(server: LabelServer) -> None:
    asked = [*BUNDLES, *(name + OTHER for name in BUNDLES)]
    order = [*asked, *reversed(asked), asked[0], asked[2]]
    masks: dict[str, list[np.ndarray]] = {name: [] for name in asked}
    for name in order:
        mask = server.client.infer(name, "phantom_0001", params={"text": SENTENCES[0]})
        masks[name].append(picture(mask))
    for answers in masks.values():
        assert all(np.array_equal(answers[0], answer) for answer in answers)
    for name in BUNDLES:
        np.testing.assert_array_equal(masks[name][0], 1 - masks[name + OTHER][0])


@pytest.mark.parametrize(
    ("model", "image", "params"),
    [
        ("unknown_segmentation", "phantom_0000", None),
        (BUNDLES[0], "no_such_image", None),
        (BUNDLES[0], "phantom_0000", {"laterality": "up"}),
        (BUNDLES[0], "phantom_0000", {"text": ["left"]}),
    ],
)
def test_wrong_requests_end_in_an_error_and_the_server_goes_on(
    model: str, image: str, params: dict[str, Any] | None, server: LabelServer
) -> None:
    with pytest.raises(RuntimeError, match="status 500"):
        server.client.infer(model, image, params=params)
    assert picture(server.client.infer(BUNDLES[0], "phantom_0000")).shape == (64, 64)


def test_a_sentence_is_never_run(server: LabelServer, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for sentence in (f"$__import__('pathlib').Path({str(trace)!r}).touch()", "@network", "@missing", "$"):
        mask = server.client.infer(BUNDLES[0], "phantom_0000", params={"text": sentence})
        assert picture(mask).shape == (64, 64)
    assert not trace.exists()


def test_two_epochs_from_saved_labels_and_sidecars(server: LabelServer, phantoms: Path) -> None:
    names = [path.stem for path in sorted((phantoms / "masks").glob("*.png"))]
    for name in names:
        server.client.save_label(name, phantoms / "masks" / f"{name}.png")
    (server.studies / f"{names[0]}.txt").write_text("opacity in the left lung", encoding="utf-8")
    models = server.app / "model" / TRAINED / "models"
    before = hashlib.sha256((models / "model.pt").read_bytes()).hexdigest()
    task = server.client.train(TRAINED, max_epochs=2, val_split=0.25, device="cpu")
    assert task["status"] == "DONE", task["details"]
    assert "read the sentences of 1 of 9 cases from sidecars" in server.log.read_text(encoding="utf-8")
    assert hashlib.sha256((models / "model.pt").read_bytes()).hexdigest() != before
    assert torch.load(models / "training" / "checkpoint_last.pt", weights_only=True)["epoch"] == 2
    assert sorted(path.name for path in models.glob("*.pt")) == ["model.pt"]
    again = server.client.train(TRAINED, max_epochs=1, val_split=0)
    assert again["status"] == "DONE", again["details"]
    assert torch.load(models / "training" / "checkpoint_last.pt", weights_only=True)["epoch"] == 1
    assert picture(server.client.infer(TRAINED, names[0], params={"text": "left"})).shape == (64, 64)

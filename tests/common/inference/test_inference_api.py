"""common.inference on every bundle of the repository: the same masks as MONAI's runner, batches, files and errors."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from common.inference import Segmenter, load_bundle, measures, preview

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "bundles" / "baseline_segmentation"
SMALL = {"width": 0.125, "image_size": 64}
SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."
TOLERANCE = 1e-4  # of logits of the order of 1: another batch takes other kernels
KINDS = ("gray", "colour", "deep", "oblique")


def stored(path: Path) -> np.ndarray:
    if path.name.endswith(".nii.gz"):
        return np.asanyarray(nibabel.load(path).dataobj)
    with Image.open(path) as picture:
        return np.asarray(picture)


def run_bundle(bundle: Path, image: Path, text: str, *, weights: Path, output: Path, **more: Any) -> Path:
    """Segment a file as ``python -m monai.bundle run`` does."""
    flow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(bundle),
        device="$torch.device('cpu')",
        image=str(image),
        text=text,
        model_dir=str(weights),
        output_dir=str(output),
        **{**SMALL, **more},
    )
    flow.initialize()
    flow.run()
    return next(path for path in (output / "predictions").iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_the_one_that_the_bundle_writes(
    segmenter: Segmenter, weights: dict[str, Path], images: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    bundle = ROOT / "bundles" / segmenter.info.name
    given = weights[segmenter.info.name]
    expected = run_bundle(bundle, images[kind], SENTENCE, weights=given, output=tmp_path / "run")
    result = segmenter(images[kind], SENTENCE)
    written = result.save(tmp_path / "api")["mask"]
    assert written.name == expected.name
    assert 0 < result.mask.mean() < 1
    assert np.array_equal(stored(written), stored(expected))
    assert np.array_equal(result.mask, result.probability >= result.threshold)


def test_a_sentence_of_the_patient_is_translated_as_the_bundle_does(
    baseline: Segmenter, weights: dict[str, Path], images: dict[str, Path], tmp_path: Path
) -> None:
    given = weights["baseline_segmentation"]
    expected = run_bundle(
        BUNDLE, images["gray"], SENTENCE, weights=given, output=tmp_path, text_laterality="patient"
    )
    result = baseline(images["gray"], SENTENCE, laterality="patient")
    assert result.text == SENTENCE
    assert result.sentence == SENTENCE.replace("left", "right")
    assert (result.given_laterality, result.laterality) == ("patient", "image")
    assert result.is_translated
    assert any("does not say how the patient lies" in warning for warning in result.warnings)
    assert np.array_equal(result.mask * 255, stored(expected))


def test_results_do_not_depend_on_the_batch(
    segmenter: Segmenter, chests: Path, images: dict[str, Path]
) -> None:
    files = [*sorted((chests / "images").glob("*.png"))[:5], images["colour"]]
    texts = [SENTENCE, "", "Bilateral pulmonary infection.", None, SENTENCE, "upper right lung"]
    prepared = [
        segmenter.prepare({"image": file, "text": text}) for file, text in zip(files, texts, strict=True)
    ]
    together = segmenter.logits(prepared)
    alone = [segmenter.logits([case])[0] for case in prepared]
    for first, second in zip(together, alone, strict=True):
        torch.testing.assert_close(first, second, atol=TOLERANCE, rtol=0)
    results = segmenter.infer(prepared)
    assert [result.id for result in results] == [file.name.split(".")[0] for file in files]
    assert [result.mask.shape for result in results] == [(64, 64)] * 5 + [(90, 70)]


def test_prepared_cases_and_their_preparation_travel_to_other_processes(
    baseline: Segmenter, images: dict[str, Path]
) -> None:
    prepare = pickle.loads(pickle.dumps(baseline.prepare))
    assert len(pickle.dumps(baseline.prepare)) < 10_000  # no network
    case = {"image": images["gray"], "text": SENTENCE}
    there = pickle.loads(pickle.dumps(prepare(case)))
    here = baseline.prepare(case)
    assert torch.equal(there["image"].as_tensor(), here["image"].as_tensor())
    assert torch.equal(there["text"], here["text"])
    assert np.array_equal(baseline.infer([there])[0].mask, baseline.infer([here])[0].mask)


def test_what_is_known_of_the_bundle(baseline: Segmenter) -> None:
    info = baseline.info
    assert (info.name, info.laterality, info.network) == ("baseline_segmentation", "image", "MMIUNet")
    assert (info.image_size, info.device, info.modalities) == ((64, 64), "cpu", ())
    assert info.weights_sha256 is not None
    assert len(info.algorithm_version) <= 64
    assert set(info.versions) == {"project", "monai", "pytorch"}
    assert pickle.loads(pickle.dumps(info)) == info


def test_overlays_by_name_and_by_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"image_size": 96, "max_epochs": 3}', encoding="utf-8")
    with pytest.warns(UserWarning, match="runs untrained"):
        segmenter = load_bundle(
            BUNDLE, overlays=["light", "kvasir_seg", file], allow_random=True, device="cpu"
        )
    assert segmenter.info.image_size == (96, 96)
    assert segmenter.info.anatomy == "polyp"
    assert segmenter.info.segment_codes == "polyp"


def test_an_untrained_network_says_so_in_every_result(images: dict[str, Path]) -> None:
    with pytest.warns(UserWarning, match=r"model\.pt does not exist: the network runs untrained"):
        segmenter = load_bundle(BUNDLE, overrides=SMALL, allow_random=True, device="cpu")
    result = segmenter(images["gray"], "upper left lung")
    assert any("untrained" in warning for warning in result.warnings)
    assert measures(result).row()["weights_sha256"] is None
    assert segmenter.info.algorithm_version.endswith("untrained")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"the weights must be a file, got .*model\.pt, which does not exist: train the bundle first"),
        ({"weights": "nowhere.pt"}, "must be a file, got nowhere.pt"),
        ({"overlays": ["nothing"]}, r"overlays must be JSON files or names of .*light.*got 'nothing'"),
        ({"overrides": {"hight": 3}}, r"overrides must be keys of .*inference\.json, got hight"),
        ({"overrides": {"image_size": 65}}, "image_size must be one or two positive multiples of 32, got 65"),
        ({"device": "tpu9"}, "device must be cpu, cuda"),
        ({"device": "cuda:77"}, "device must be on this machine, got cuda:77"),
        ({"slice_batch": 0, "allow_random": True}, "slice_batch must be at least 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*runs untrained")
def test_what_cannot_be_loaded(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = {"overrides": {}, **settings}
    settings["overrides"] = {"model_dir": str(tmp_path), **settings["overrides"]}
    with pytest.raises(ValueError, match=message):
        load_bundle(BUNDLE, **settings)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be a bundle with configs/inference\.json"):
        load_bundle(tmp_path)


def test_weights_of_another_network(weights: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="must hold the weights of MMIUNet as it is configured"):
        load_bundle(
            BUNDLE,
            overrides={**SMALL, "width": 0.25},
            weights=weights["baseline_segmentation"] / "model.pt",
        )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.png", b"not an image", "must be a readable picture"),
        ("empty.png", b"", "got an empty one"),
        ("truncated.nii.gz", b"\x1f\x8b\x08\x00abc", "must be a readable NIfTI file"),
        ("notes.txt", b"hello", "must be an image of a known kind"),
        ("missing.png", None, "does not exist"),
    ],
)
def test_bad_files_are_named(
    baseline: Segmenter, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        baseline(path, SENTENCE)


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        ({"image": None}, TypeError, "image must be a path or a sequence of paths, got NoneType"),
        ({"image": []}, ValueError, "got none"),
        ({"image": "a.png", "label": "b.png"}, ValueError, "a case must have keys of .*, got label"),
        ({"image": "a.png", "laterality": "mirror"}, ValueError, "laterality must be image or patient"),
        ({"image": "a.png", "text": 3}, TypeError, "text must be a string or None, got int"),
        ({"image": "a.png", "text_source": "email"}, ValueError, "text_source must be one of"),
        ({"image": "a.png", "text_source": "dicom"}, ValueError, "must be a DICOM file for a sentence"),
        ({"image": ["a.png", "b.png"]}, ValueError, r"a\.png must be a readable DICOM file"),
    ],
)
def test_bad_cases(baseline: Segmenter, case: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        baseline.prepare(case)


def test_a_folder_without_dicom_files(baseline: Segmenter, images: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="must hold one series of images, got no DICOM files"):
        baseline(images["gray"].parent)


def test_a_nifti_mask_lies_on_its_image(baseline: Segmenter, images: dict[str, Path], tmp_path: Path) -> None:
    result = baseline(images["oblique"], SENTENCE)
    mask, image = nibabel.load(result.save(tmp_path)["mask"]), nibabel.load(images["oblique"])
    assert mask.shape == image.shape
    assert np.allclose(mask.affine, image.affine)
    found = measures(result)
    assert found.spacing_kind == "patient"
    assert found.area_mm2 == pytest.approx(result.mask.sum() * 0.7 * 0.8)
    assert (found.volume_ml, found.size_note) == (None, "")


def test_saving_again_gives_the_same_name_and_leaves_nothing_else(
    baseline: Segmenter, images: dict[str, Path], tmp_path: Path
) -> None:
    result = baseline(images["gray"], SENTENCE, id="patient 7/left")
    written = [result.save(tmp_path)["mask"] for _ in range(2)]
    assert written[0] == written[1] == tmp_path / "patient_7_left.png"
    assert [path.name for path in tmp_path.glob("*.png")] == ["patient_7_left.png"]
    assert not list(tmp_path.glob(".*"))


def test_a_preview_is_small_and_shows_the_outline(baseline: Segmenter, images: dict[str, Path]) -> None:
    result = baseline(images["gray"], SENTENCE)
    picture = preview(result)
    assert (picture.mode, picture.size) == ("RGB", (70, 90))
    outlined = (np.asarray(picture) == (255, 176, 0)).all(axis=-1)
    assert 0 < outlined.mean() < 0.6
    assert max(preview(result, largest=40).size) == 40
    with pytest.raises(ValueError, match="largest must be at least 32"):
        preview(result, largest=8)


def test_sentences_that_are_not_understood_are_said(baseline: Segmenter, images: dict[str, Path]) -> None:
    said = baseline(images["gray"], "wobbly lung, upper left lung, " + "and lower left lung " * 20).warnings
    assert any("not understood in the sentence: wobbly" in warning for warning in said)
    assert any("longer than 24 tokens" in warning for warning in said)


def test_a_broken_output_is_said(baseline: Segmenter, images: dict[str, Path]) -> None:
    prepared = baseline.prepare({"image": images["gray"]})
    result = baseline.finish(prepared, torch.full((1, 64, 64), float("nan")))
    assert "not finite" in result.warnings[0]
    assert not result.mask.any()


def test_metadata_of_the_wrong_form(tmp_path: Path, weights: dict[str, Path]) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(BUNDLE / "configs", folder / "configs")
    file = folder / "configs" / "metadata.json"
    for text, message in (
        ('{"modalities": "CR"}', "modalities must be a list"),
        ('{"anatomy": "knee"}', "anatomy must be one of"),
        ("[]", "must hold a JSON object"),
        ("{", "must be a readable JSON file"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=f"metadata.json.*{message}"):
            load_bundle(
                folder,
                overrides=SMALL,
                weights=weights["baseline_segmentation"] / "model.pt",
            )

"""Volumes: slice by slice, on the grid of their files, NIfTI and DICOM."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigWorkflow

from common.dicom import read_segmentation
from common.inference import Segmenter, load_bundle, measures, preview

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"width": 0.125, "image_size": 64}
SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."
TOLERANCE = 1e-4  # of logits of the order of 1: another batch takes other kernels


def test_a_volume_is_the_one_that_the_bundle_writes(
    segmenter: Segmenter, weights: dict[str, Path], images: dict[str, Path], tmp_path: Path
) -> None:
    bundle = ROOT / "bundles" / segmenter.info.name
    flow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(bundle),
        device="$torch.device('cpu')",
        image=str(images["volume"]),
        text=SENTENCE,
        model_dir=str(weights[segmenter.info.name]),
        output_dir=str(tmp_path / "run"),
        **SMALL,
    )
    flow.initialize()
    flow.run()
    expected = nibabel.load(tmp_path / "run" / "predictions" / "volume.nii.gz")
    written = nibabel.load(segmenter(images["volume"], SENTENCE).save(tmp_path)["mask"])
    assert np.array_equal(np.asanyarray(written.dataobj), np.asanyarray(expected.dataobj))
    assert np.array_equal(written.affine, expected.affine)


def test_a_volume_lies_on_its_image(baseline: Segmenter, images: dict[str, Path], tmp_path: Path) -> None:
    result = baseline(images["volume"], SENTENCE)
    assert result.mask.shape == result.probability.shape
    assert np.array_equal(result.mask, result.probability >= 0.5)
    assert 0 < result.mask.mean() < 1
    mask, image = nibabel.load(result.save(tmp_path)["mask"]), nibabel.load(images["volume"])
    assert mask.shape == image.shape == (40, 48, 5)
    assert np.allclose(mask.affine, image.affine)
    assert int(np.asanyarray(mask.dataobj).sum()) == int(result.mask.sum())
    found = measures(result)
    assert found.volume_ml == pytest.approx(result.mask.sum() * 0.7 * 0.8 * 2.0 / 1000)
    assert (found.area_mm2, found.zones) == (None, ())
    rows, columns, _ = result.mask.shape
    assert preview(result).size == (columns, rows)


def test_slices_do_not_depend_on_each_other_s_company(
    weights: dict[str, Path], baseline: Segmenter, images: dict[str, Path]
) -> None:
    other = load_bundle(
        ROOT / "bundles" / "baseline_segmentation",
        overrides={**SMALL, "model_dir": str(weights["baseline_segmentation"])},
        device="cpu",
        slice_batch=2,
    )
    prepared = baseline.prepare({"image": images["volume"], "text": SENTENCE})
    picture = baseline.prepare({"image": images["gray"], "text": SENTENCE})
    expected = baseline.logits([prepared])[0]
    torch.testing.assert_close(other.logits([prepared])[0], expected, atol=TOLERANCE, rtol=0)
    mixed = baseline.logits([picture, prepared, picture])
    torch.testing.assert_close(mixed[1], expected, atol=TOLERANCE, rtol=0)
    single = {**prepared, "image": prepared["image"][..., 3]}
    torch.testing.assert_close(baseline.logits([single])[0], expected[..., 3], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_dicom_series(baseline: Segmenter, real_data: Path, tmp_path: Path, as_folder: bool) -> None:
    folder = real_data / "dicom" / "ct_3slice"
    files = sorted(folder.glob("*.dcm"), reverse=True)
    result = baseline(folder if as_folder else files, "lower left lung", laterality="patient")
    assert result.id == "ct_3slice"
    assert result.mask.shape[2] == len(result.paths) == 3
    assert result.sentence == "lower right lung"
    written = result.save(tmp_path)
    headers = [pydicom.dcmread(path) for path in result.paths]
    mask = read_segmentation(pydicom.dcmread(written["segmentation"]), headers)
    assert mask.shape == (3, 512, 512)
    assert 0 < mask.mean() < 1
    shown = sorted(mask.sum(axis=(1, 2)).tolist())
    assert shown == sorted(result.mask.sum(axis=(0, 1)).tolist())
    assert written["report"].is_file()
    assert measures(result).volume_ml is not None
    assert preview(result).size == (512, 512)
    with pytest.raises(ValueError, match="a DICOM series must be written as DICOM"):
        result.save(tmp_path, dicom=False)


def test_two_series_in_a_folder(baseline: Segmenter, real_data: Path, tmp_path: Path) -> None:
    for number, source in enumerate(("ct_3slice/01.dcm", "ct_image.dcm")):
        (tmp_path / f"{number}.dcm").write_bytes((real_data / "dicom" / source).read_bytes())
    with pytest.raises(ValueError, match="must hold one series of images, got 2"):
        baseline(tmp_path)


def test_a_folder_with_one_slice_is_a_picture(baseline: Segmenter, real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "0001").write_bytes((real_data / "dicom" / "ct_image.dcm").read_bytes())
    result = baseline(tmp_path)
    assert result.mask.shape == (128, 128)
    assert np.array_equal(result.mask, baseline(tmp_path / "0001").mask)

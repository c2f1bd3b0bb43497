"""Volume phantoms: one anatomy in two modalities, a real shift between them, and files that lie in space."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.data import load_datalist, verify_files
from common.data.phantom_organs import ABDOMEN, ANATOMIES, draw_organs
from common.data.phantom_volume import (
    AXIS_CODES,
    VolumePhantom,
    phantom_volume,
    write_volume_phantom,
    write_volume_phantom_dataset,
)
from common.transforms.volume_loading import load_volume

SMALL = {"size": 48, "slices": 12}


@pytest.fixture(scope="module")
def scans() -> dict[tuple[str, int, str], VolumePhantom]:
    return {
        (anatomy, seed, modality): phantom_volume(seed, anatomy=anatomy, modality=modality, **SMALL)
        for anatomy in ANATOMIES
        for seed in range(3)
        for modality in ("ct", "mr")
    }


def normalised(image: np.ndarray) -> np.ndarray:
    clipped = np.clip(image, *np.percentile(image, (0.5, 99.5)))
    return (clipped - clipped.mean()) / clipped.std()


def test_every_class_is_in_every_patient(scans: dict[tuple[str, int, str], VolumePhantom]) -> None:
    for scan in scans.values():
        counts = np.bincount(scan.label.ravel(), minlength=5)
        assert len(counts) == 5
        assert counts[1:].min() >= 20
        assert counts[0] > 0.8 * scan.label.size
        assert scan.image.shape == scan.label.shape == (48, 48, 12)
        assert (scan.image.dtype, scan.label.dtype) == (np.float32, np.uint8)


def test_a_seed_is_one_patient_in_both_modalities(scans: dict[tuple[str, int, str], VolumePhantom]) -> None:
    for anatomy in ANATOMIES:
        ct, mr = (scans[anatomy, 1, modality] for modality in ("ct", "mr"))
        assert np.array_equal(ct.label, mr.label)
        assert np.array_equal(ct.affine, mr.affine)
        assert not np.array_equal(ct.label, scans[anatomy, 2, "ct"].label)
        again = phantom_volume(1, anatomy=anatomy, modality="mr", **SMALL)
        assert np.array_equal(again.image, mr.image)


def test_the_same_patient_is_at_the_same_place_whatever_the_grid() -> None:
    points = np.random.default_rng(0).uniform(-60, 60, (500, 3)).astype(np.float32)
    alone = draw_organs(points, 4, anatomy="abdomen").label
    shuffled = np.random.default_rng(1).permutation(500)
    assert np.array_equal(draw_organs(points[shuffled], 4, anatomy="abdomen").label, alone[shuffled])


def test_liver_is_on_the_right_and_spleen_on_the_left_of_the_patient(
    scans: dict[tuple[str, int, str], VolumePhantom],
) -> None:
    names = {name: value for value, name in ABDOMEN.items()}
    for seed in range(3):
        scan = scans["abdomen", seed, "ct"]
        columns = {name: np.nonzero(scan.label == value)[1].mean() for name, value in names.items()}
        assert columns["liver"] < columns["spleen"]  # the patient's right is shown on the left
        assert columns["right kidney"] < 24 < columns["left kidney"]


def test_tissue_brightness_has_another_order_in_the_other_modality(
    scans: dict[tuple[str, int, str], VolumePhantom],
) -> None:
    ct, mr = (normalised(scans["abdomen", 0, modality].image) for modality in ("ct", "mr"))
    label = scans["abdomen", 0, "ct"].label
    # liver and spleen cannot be told apart in CT, and can in MR
    spleen, liver = label == 4, label == 1
    apart = [abs(np.median(image[spleen]) - np.median(image[liver])) for image in (ct, mr)]
    assert apart[0] < 0.2
    assert apart[1] > 0.8
    # the myocardium of MR is darker than the fat around it, that of CT brighter
    heart = scans["heart", 0, "ct"].label
    for modality, sign in (("ct", 1), ("mr", -1)):
        image = normalised(scans["heart", 0, modality].image)
        wall = np.median(image[heart == 1])
        blood = np.median(image[heart == 3])
        around = np.median(image[(heart == 0) & (image > -0.3)])
        assert blood > wall
        if sign < 0:
            assert around > wall


def test_brightness_learnt_in_one_modality_fails_in_the_other(
    scans: dict[tuple[str, int, str], VolumePhantom],
) -> None:
    """Nearest class mean of brightness: what it gains over chance in its own modality is lost in the other."""
    for anatomy in ANATOMIES:
        values: dict[str, list[np.ndarray]] = {}
        for modality in ("ct", "mr"):
            image = normalised(scans[anatomy, 0, modality].image)
            label = scans[anatomy, 0, modality].label
            values[modality] = [image[label == number] for number in range(1, 5)]
        for home, away in (("ct", "mr"), ("mr", "ct")):
            means = np.array([each.mean() for each in values[home]])
            hits = {
                modality: np.mean(
                    [
                        (np.abs(each[:, None] - means).argmin(1) == number).mean()
                        for number, each in enumerate(values[modality])
                    ]
                )
                for modality in (home, away)
            }
            assert hits[home] > hits[away] + 0.1, (anatomy, home, hits)


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_a_mild_shift_keeps_the_order_of_the_tissues(anatomy: str) -> None:
    """Inside the body, MR without a shift of contrast goes with CT; with its own contrast it does less."""
    ct = phantom_volume(0, anatomy=anatomy, **SMALL).image
    body = ct > -300
    agreement = [
        np.corrcoef(
            ct[body], phantom_volume(0, anatomy=anatomy, modality="mr", shift=shift, **SMALL).image[body]
        )[0, 1]
        for shift in (0.0, 1.0)
    ]
    assert agreement[0] > agreement[1] + 0.2


def test_magnetic_resonance_has_a_bias_field_and_no_negative_values() -> None:
    scan = phantom_volume(5, anatomy="abdomen", modality="mr", **SMALL)
    assert scan.image.min() >= 0
    liver = np.where(scan.label == 1, scan.image, np.nan)
    half = np.nanmean(liver[:, :16]), np.nanmean(liver[:, 16:])
    ct = np.where(scan.label == 1, phantom_volume(5, modality="ct", **SMALL).image, np.nan)
    steady = np.nanmean(ct[:, :16]), np.nanmean(ct[:, 16:])
    assert abs(half[0] / half[1] - 1) > 2 * abs(steady[0] / steady[1] - 1)


def test_grids_are_oblique_and_anisotropic(scans: dict[tuple[str, int, str], VolumePhantom]) -> None:
    for scan in scans.values():
        lengths = np.linalg.norm(scan.affine[:3, :3], axis=0)
        assert lengths[2] > 1.5 * lengths[0]
        directions = scan.affine[:3, :3] / lengths
        assert np.allclose(directions.T @ directions, np.eye(3), atol=1e-12)
        assert 0.001 < np.abs(directions).min() < 0.2


@pytest.mark.parametrize("codes", AXIS_CODES)
def test_files_show_the_same_volume_whatever_their_axes(codes: str, tmp_path: Path) -> None:
    scan = phantom_volume(3, modality="mr", size=32, slices=6)
    write_volume_phantom(scan, tmp_path / "i.nii.gz", label_path=tmp_path / "l.nii.gz", axis_codes=codes)
    assert nibabel.aff2axcodes(nibabel.load(tmp_path / "i.nii.gz").affine) == tuple(codes)
    for name, wanted in (("i", np.rint(scan.image)), ("l", scan.label)):
        loaded = load_volume(tmp_path / f"{name}.nii.gz")
        assert np.array_equal(loaded[0].numpy(), wanted)
        assert np.allclose(loaded.affine, scan.affine, atol=1e-4)


def test_data_set_keeps_patients_apart_and_is_complete(tmp_path: Path) -> None:
    path = write_volume_phantom_dataset(
        tmp_path / "data", anatomy="heart", count=5, size=32, slices=4, seed=2
    )
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["labels"]["4"] == "ascending aorta"
    subjects = [
        case["subject"] for section in ("training", "validation", "test") for case in document[section]
    ]
    assert len(subjects) == len(set(subjects)) == 10
    assert [len(document[name]) for name in ("training", "validation", "test")] == [6, 2, 2]
    assert verify_files(path) == 20
    cases = load_datalist(path, "test")
    assert {case["modality"] for case in cases} == {"ct", "mr"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anatomy": "brain"}, "anatomy must be one of abdomen, heart, got 'brain'"),
        ({"modality": "us"}, "modality must be one of ct, mr, got 'us'"),
        ({"size": 8}, "size must be at least 16"),
        ({"slices": 1}, "slices at least 2"),
        ({"shift": 1.5}, r"shift must be in 0\.\.1, got 1.5"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phantom_volume(0, **arguments)


def test_bad_requests_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count must be at least 5"):
        write_volume_phantom_dataset(tmp_path / "data", count=4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(FileExistsError, match="absent or empty"):
        write_volume_phantom_dataset(tmp_path / "full", count=5)
    with pytest.raises(ValueError, match="axis_codes must be like 'RAS'"):
        write_volume_phantom(phantom_volume(0, size=16, slices=2), tmp_path / "x.nii", axis_codes="RLS")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["full"]

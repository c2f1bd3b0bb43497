"""Chest phantoms: sentence, mask and picture agree, and every file format shows the same picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from scipy import ndimage

from common.data import load_datalist, phantom_files, verify_files
from common.data.phantom_chest import (
    ZONES,
    PhantomCase,
    caption,
    occupied_zones,
    phantom_case,
    write_phantom_dataset,
    write_phantom_dicom,
    write_phantom_nifti,
)
from common.text.findings import read_findings
from common.text.zones import LUNG_ZONES
from common.transforms.loading import load_image

MARKED = (("left", "upper"), ("right", "lower"))


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return [phantom_case(seed) for seed in range(120)]


@pytest.fixture(scope="module")
def asymmetric() -> PhantomCase:
    return phantom_case(7, 96, zones=MARKED)


def test_zones_have_the_order_of_the_sentence_reader() -> None:
    assert tuple(ZONES) == tuple(LUNG_ZONES)


def test_image_and_masks_have_the_asked_size_and_types(cases: list[PhantomCase]) -> None:
    for case in cases[:10]:
        assert case.image.shape == case.mask.shape == case.lookalike_mask.shape == (96, 96)
        assert case.image.dtype == np.uint8
        assert case.mask.dtype == case.lookalike_mask.dtype == np.bool_
        assert case.image.max() - int(case.image.min()) > 120


def test_a_seed_gives_one_case_and_a_generator_advances() -> None:
    first, again = phantom_case(3), phantom_case(3)
    assert np.array_equal(first.image, again.image)
    assert first.sentence == again.sentence
    rng = np.random.default_rng(3)
    one, two = phantom_case(rng), phantom_case(rng)
    assert np.array_equal(one.image, first.image)
    assert not np.array_equal(one.image, two.image)


def test_the_same_seed_gives_the_same_chest_at_another_size() -> None:
    small, large = phantom_case(5, 96, zones=MARKED), phantom_case(5, 192, zones=MARKED)
    reduced = large.mask.reshape(96, 2, 96, 2).mean((1, 3)) > 0.5
    overlap = 2 * (reduced & small.mask).sum() / (reduced.sum() + small.mask.sum())
    assert overlap > 0.9
    brightness = large.image.reshape(96, 2, 96, 2).mean((1, 3))
    assert np.corrcoef(brightness.ravel(), small.image.ravel())[0, 1] > 0.97


def test_the_mask_occupies_exactly_the_zones_of_the_case(cases: list[PhantomCase]) -> None:
    for case in cases:
        assert occupied_zones(case.mask) == case.zones
        assert not (case.mask & case.lookalike_mask).any()


def test_the_sentence_reader_finds_exactly_the_zones_of_the_case(cases: list[PhantomCase]) -> None:
    for case in cases:
        findings = read_findings(case.sentence, anatomy="lung")
        assert findings.zones == case.zones, case.sentence
        assert findings.contradictions == (), case.sentence
        assert findings.unknown_words == (), case.sentence
        assert findings.negated == (not case.zones), case.sentence


@pytest.mark.parametrize("wording", ["lvit", "free"])
def test_every_set_of_zones_is_read_back_from_its_sentence(wording: str) -> None:
    rng = np.random.default_rng(0)
    for code in range(64):
        zones = frozenset(zone for bit, zone in enumerate(ZONES) if code >> bit & 1)
        for count in (max(1, len(zones)), len(zones) + 1):
            sentence = caption(rng, zones, count=count, wording=wording)
            findings = read_findings(sentence, anatomy="lung")
            assert findings.zones == zones, sentence
            if wording == "lvit" and zones:
                assert findings.count == count, sentence


def test_half_of_the_unnamed_zones_hold_a_lookalike(cases: list[PhantomCase]) -> None:
    surplus = []
    for case in cases:
        unnamed = 6 - len(case.zones)
        filled = occupied_zones(case.lookalike_mask)
        assert not filled & case.zones
        assert len(filled) in {unnamed // 2, (unnamed + 1) // 2}
        surplus.append(len(filled) - unnamed / 2)
    assert abs(float(np.mean(surplus))) < 0.12


def test_the_count_is_the_number_of_connected_areas(cases: list[PhantomCase]) -> None:
    for case in cases:
        assert case.count == ndimage.label(case.mask)[1] == ndimage.label(case.mask, np.ones((3, 3)))[1]


def test_lookalikes_look_like_infections(cases: list[PhantomCase]) -> None:
    """Area and contrast with the rest of the same lungs differ by less than twice their standard error."""
    for measure in (_area, _contrast):
        named = np.array([value for case in cases for value in measure(case, case.mask)])
        other = np.array([value for case in cases for value in measure(case, case.lookalike_mask)])
        error = np.sqrt(named.var() / len(named) + other.var() / len(other))
        assert abs(named.mean() - other.mean()) < 2.5 * error


def _area(case: PhantomCase, mask: np.ndarray) -> list[float]:
    return [float(part.sum()) for part in _zone_parts(mask)]


def _contrast(case: PhantomCase, mask: np.ndarray) -> list[float]:
    clear = ~ndimage.binary_dilation(case.mask | case.lookalike_mask, iterations=4)
    values = []
    for part in _zone_parts(mask):
        ring = ndimage.binary_dilation(part, iterations=7) & clear
        if ring.sum() > 10:
            values.append(float(case.image[part].mean() - np.percentile(case.image[ring], 25)))
    return values


def _zone_parts(mask: np.ndarray) -> list[np.ndarray]:
    parts = []
    for row in range(3):
        for column in range(2):
            part = np.zeros_like(mask)
            window = slice(32 * row, 32 * row + 32), slice(48 * column, 48 * column + 48)
            part[window] = mask[window]
            if part.any():
                parts.append(part)
    return parts


def test_infections_are_brighter_than_the_same_lung_without_them() -> None:
    with_infection = phantom_case(11, zones=MARKED)
    assert with_infection.mask.mean() > 0.005
    assert _contrast(with_infection, with_infection.mask)[0] > 5


def test_a_case_without_infection_says_so_and_keeps_its_lookalikes() -> None:
    case = phantom_case(1, zones=())
    assert not case.mask.any()
    assert case.lookalike_mask.any()
    assert case.count == 0
    assert case.sentence.startswith("No ")


def test_both_wordings_and_cases_without_infection_occur(cases: list[PhantomCase]) -> None:
    lvit = sum("pulmonary infection" in case.sentence for case in cases)
    assert 60 <= lvit <= 105
    assert 1 <= sum(not case.zones for case in cases) <= 14
    assert len({case.sentence for case in cases}) > 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 16}, "size must be at least 32 pixels, got 16"),
        ({"zones": [("centre", "upper")]}, "zones must be among"),
        ({"wording": "poem"}, "wording must be one of .* got 'poem'"),
    ],
)
def test_impossible_requests_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phantom_case(0, **arguments)


def test_a_data_set_has_sections_checksums_and_binary_masks(tmp_path: Path) -> None:
    path = write_phantom_dataset(tmp_path / "set", count=20, size=48, seed=4)
    document = json.loads(path.read_text())
    assert [len(load_datalist(path, section)) for section in ("training", "validation", "test")] == [14, 2, 4]
    assert document["laterality"] == "image"
    assert document["anatomy"] == "lung"
    assert document["labels"] == {"0": "background", "1": "infection"}
    assert verify_files(path) == 40
    first = load_datalist(path, "training")[0]
    expected = phantom_case(np.random.default_rng([4, 0]), 48)
    assert np.array_equal(np.asarray(Image.open(first["image"])), expected.image)
    assert np.array_equal(np.asarray(Image.open(first["label"])), expected.mask * np.uint8(255))
    assert first["text"] == expected.sentence


def test_a_data_set_is_written_the_same_twice_and_grows_without_changing(tmp_path: Path) -> None:
    digests = [
        json.loads(write_phantom_dataset(tmp_path / name, count=count, size=32, seed=1).read_text())["sha256"]
        for name, count in (("a", 10), ("b", 10), ("c", 12))
    ]
    assert digests[0] == digests[1]
    assert digests[0].items() <= digests[2].items()


def test_every_format_lists_the_same_cases(tmp_path: Path) -> None:
    formats = ("nifti", "png", "jpg", "dicom")
    path = write_phantom_dataset(tmp_path / "set", count=10, size=48, formats=formats)
    lists = [
        load_datalist(path, "test"),
        *(load_datalist(path.with_name(f"dataset_{name}.json"), "test") for name in formats[1:]),
    ]
    reference = load_image(lists[1][0]["image"])[0].numpy()
    for listed in lists:
        assert [case["text"] for case in listed] == [case["text"] for case in lists[0]]
        assert np.abs(load_image(listed[0]["image"])[0].numpy() - reference).mean() < 3
        truth = load_image(listed[0]["label"])[0].numpy() > 0
        assert np.array_equal(truth, load_image(lists[1][0]["label"])[0].numpy() > 0)


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def failing(rng: np.random.Generator, size: int) -> PhantomCase:
        drawn.append(size)
        if len(drawn) > 3:
            raise OSError("disk full")
        return phantom_case(rng, size)

    monkeypatch.setattr(phantom_files, "phantom_case", failing)
    with pytest.raises(OSError, match="disk full"):
        write_phantom_dataset(tmp_path / "set", count=10, size=32)
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_output_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="output must be absent or empty"):
        write_phantom_dataset(tmp_path, count=10, size=32)
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 9}, "count must be at least 10"),
        ({"count": 10, "formats": ()}, "formats must be one or more of"),
        ({"count": 10, "formats": ("png", "gif")}, "got .'png', 'gif'."),
        ({"count": 10, "formats": ("png", "png")}, "each once"),
    ],
)
def test_impossible_data_sets_are_refused(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_phantom_dataset(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("axis_codes", ["LPS", "RAS", "LAS", "PLS", "ARI", "LIP", "RSA", "SLA"])
def test_nifti_shows_the_same_picture_whatever_its_axes(
    tmp_path: Path, asymmetric: PhantomCase, axis_codes: str, dimensions: int
) -> None:
    label = tmp_path / "mask.nii.gz"
    path = write_phantom_nifti(
        asymmetric, tmp_path / "a.nii.gz", label_path=label, axis_codes=axis_codes, dimensions=dimensions
    )
    assert np.array_equal(load_image(path)[0].numpy(), asymmetric.image)
    assert np.array_equal(load_image(label)[0].numpy() > 0, asymmetric.mask)


def test_nifti_axes_keep_every_pixel_at_its_place_in_the_world(
    tmp_path: Path, asymmetric: PhantomCase
) -> None:
    affines = []
    for codes in ("LPS", "RAS", "PLS"):
        path = write_phantom_nifti(asymmetric, tmp_path / f"{codes}.nii.gz", axis_codes=codes)
        affines.append(load_image(path).affine)
    assert np.allclose(affines[0], affines[1], atol=1e-4)
    assert np.allclose(affines[0], affines[2], atol=1e-4)


@pytest.mark.parametrize("axis_codes", ["LP", "LRS", "PSL", "XYZ", "lps"])
def test_axis_codes_that_make_no_frame_are_refused(
    tmp_path: Path, asymmetric: PhantomCase, axis_codes: str
) -> None:
    with pytest.raises(ValueError, match="axis_codes must be like 'LPS'"):
        write_phantom_nifti(asymmetric, tmp_path / "a.nii", axis_codes=axis_codes)


def test_other_numbers_of_dimensions_are_refused(tmp_path: Path, asymmetric: PhantomCase) -> None:
    with pytest.raises(ValueError, match="dimensions must be 2 or 3, got 4"):
        write_phantom_nifti(asymmetric, tmp_path / "a.nii", dimensions=4)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("orientation", ["L\\F", "R\\F", "L\\H", "R\\H"])
def test_dicom_shows_the_same_picture_however_it_is_stored(
    tmp_path: Path, asymmetric: PhantomCase, photometric: str, orientation: str
) -> None:
    path = write_phantom_dicom(
        asymmetric, tmp_path / "a.dcm", photometric=photometric, orientation=orientation, name="p1"
    )
    assert np.array_equal(load_image(path)[0].numpy(), asymmetric.image)
    stored = pydicom.dcmread(path)
    assert stored.ImageComments == asymmetric.sentence
    assert list(stored.PatientOrientation) == orientation.split("\\")
    assert str(stored.PatientName) == "Phantom^p1"
    mirrored = np.array_equal(stored.pixel_array, asymmetric.image)
    assert mirrored == (photometric == "MONOCHROME2" and orientation == "L\\F")


def test_dicom_identifiers_are_reproducible_and_distinct(tmp_path: Path, asymmetric: PhantomCase) -> None:
    def identifier(**arguments: str) -> str:
        return pydicom.dcmread(
            write_phantom_dicom(asymmetric, tmp_path / "a.dcm", **arguments)
        ).SOPInstanceUID

    assert identifier() == identifier()
    assert len({identifier(), identifier(name="b"), identifier(orientation="R\\F")}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"photometric": "RGB"}, "photometric must be MONOCHROME1 or MONOCHROME2, got 'RGB'"),
        ({"orientation": "F\\L"}, "orientation must be L or R"),
    ],
)
def test_impossible_dicom_is_refused(
    tmp_path: Path, asymmetric: PhantomCase, arguments: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_phantom_dicom(asymmetric, tmp_path / "a.dcm", **arguments)

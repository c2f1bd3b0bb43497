"""Tests of series: which there are, slices in order, one brightness, masks back on the frames, clear errors."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset

from common.dicom import (
    check_modality,
    is_series,
    list_series,
    load_series,
    mask_to_frames,
    read_dicom_pixels,
    read_segmentation,
    scan_dicom,
    series_files,
    series_headers,
    write_segmentation,
)
from common.transforms import load_image

ALGORITHM = {"codes": "liver", "algorithm_name": "SSA", "algorithm_version": "0.1.0"}
AXIAL = (1, 0, 0, 0, 1, 0)
ORIENTATIONS = {
    "axial": AXIAL,
    "prone": (-1, 0, 0, 0, -1, 0),
    "feet first": (-1, 0, 0, 0, 1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": (0.8, 0.6, 0, -0.48, 0.64, 0.6),
}


def change(path: Path, **tags: object) -> None:
    """Rewrite a file with other attributes; None removes one."""
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)


def stored_values(files: Sequence[Path]) -> np.ndarray:
    """`(files, rows, columns)` of modality values."""
    return np.stack([pydicom.dcmread(file).pixel_array.astype(float) - 10 for file in files])


class TestListing:
    def test_series_of_a_folder(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]], real_data: Path
    ) -> None:
        ct_files(tmp_path / "a", range(12))
        ct_files(tmp_path / "b" / "deep", (0, 1), SeriesInstanceUID="1.2.9", SeriesNumber=4)
        shutil.copy(real_data / "dicom" / "sr_document.dcm", tmp_path / "b" / "report")
        (tmp_path / "notes.txt").write_text("left lung")
        (tmp_path / "a" / "text.dcm").write_text("no DICOM")
        found = scan_dicom(tmp_path)
        assert [(each.modality, each.frames, each.number) for each in found.series] == [
            ("CT", 12, None),
            ("CT", 2, 4),
        ]
        assert [file.name for file in found.series[0].files] == [f"{number}.dcm" for number in range(1, 13)]
        assert [(each.modality, each.frames) for each in found.others] == [("SR", 0)]
        assert found.others[0].files[0].name == "report"
        assert found.unreadable == ()
        assert list_series([tmp_path / "a"]) == [found.series[0]]
        assert found.series[0].cases == (found.series[0].files,)
        with pytest.raises(
            ValueError, match=r"nowhere must be a DICOM file or a folder of them, but it does not"
        ):
            list_series(tmp_path / "nowhere")

    def test_images_without_positions_are_cases_of_their_own(
        self, tmp_path: Path, radiograph: Dataset, saved: Callable[..., Path]
    ) -> None:
        for name in ("pa", "lateral"):
            saved(radiograph, np.zeros((6, 8), np.uint8), tmp_path / name)
        (series,) = list_series(tmp_path)
        assert (series.positioned, [len(case) for case in series.cases]) == (False, [1, 1])

    def test_segmentations_and_directories_are_no_images(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]], mask: np.ndarray
    ) -> None:
        pytest.importorskip("highdicom")
        source = [pydicom.dcmread(file) for file in ct_files(tmp_path / "a")]
        write_segmentation(np.ones((4, 5, 6), bool), source, tmp_path / "seg.dcm", **ALGORITHM)
        found = scan_dicom(tmp_path)
        assert [each.modality for each in found.others] == ["SEG"]
        assert load_series(tmp_path).shape == (1, 5, 6, 4)
        with pytest.raises(
            ValueError, match=r"seg\.dcm must be an image to look at, got a file of modality SEG"
        ):
            load_series([tmp_path / "seg.dcm"])
        directory = pydicom.dcmread(pydicom.data.get_testdata_file("DICOMDIR", download=False))
        directory.save_as(tmp_path / "DICOMDIR")
        assert scan_dicom(tmp_path) == found

    def test_real_series_without_identifiers(self, real_data: Path) -> None:
        (series,) = list_series(real_data / "dicom" / "ct_series")
        assert (series.series_uid, series.frames, series.positioned) == ("", 20, True)

    @pytest.mark.slow
    def test_listing_is_fast(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        ct_files(tmp_path, range(1000))
        started = time.perf_counter()
        assert list_series(tmp_path)[0].frames == 1000
        assert time.perf_counter() - started < 20


class TestVolumes:
    def test_slices_are_sorted_by_position(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        files = ct_files(tmp_path, (4, 0, 6, 2))
        image = load_series(tmp_path)
        expected = stored_values([files[1], files[3], files[0], files[2]])
        np.testing.assert_array_equal(np.moveaxis(image[0].numpy(), -1, 0), expected)
        assert load_series(files[::-1]).shape == (1, 5, 6, 4)
        torch.testing.assert_close(load_series(files[::-1]).as_tensor(), image.as_tensor(), rtol=0, atol=0)
        # column 2, row 1 of the third slice lies at LPS (-3 + 2 * 0.25, -4 + 0.5, 5 + 4)
        np.testing.assert_allclose(image.affine.numpy() @ [1, 2, 2, 1], [2.5, 3.5, 9, 1])

    def test_meta_data_are_those_of_the_other_formats(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]]
    ) -> None:
        files = ct_files(tmp_path)
        volume, single = load_series(tmp_path).meta, load_image(files[0]).meta
        assert set(single) == set(volume)
        assert [single[key] for key in ("series_files", "frame_order", "warnings")] == ["", "", ""]
        assert all(type(volume[key]) is type(single[key]) for key in single)
        np.testing.assert_allclose(volume["spacing"], [0.5, 0.25, 2])
        assert (volume["file_format"], volume["spacing_kind"], volume["warnings"]) == ("dicom", "patient", "")
        assert volume["filename_or_obj"] == str(tmp_path)
        assert series_files(volume) == files
        assert series_files(single) == files[:1]

    def test_one_slice_is_what_the_loader_makes_of_it(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]]
    ) -> None:
        (file,) = ct_files(tmp_path, (0,))
        torch.testing.assert_close(load_series(tmp_path).as_tensor(), load_image(file).as_tensor())
        assert is_series(tmp_path)
        assert not is_series(file)
        assert not is_series(tmp_path / "nowhere")

    @pytest.mark.parametrize("cosines", ORIENTATIONS.values(), ids=list(ORIENTATIONS))
    def test_every_orientation_is_displayed_as_nifti_is(
        self, cosines: Sequence[float], tmp_path: Path, ct_files: Callable[..., list[Path]]
    ) -> None:
        """Write the slices with their affine as NIfTI: the same picture and affine come out."""
        import nibabel

        files = ct_files(tmp_path, (4, 0, 6, 2), cosines=cosines)
        shown = load_series(files)
        order = [1, 3, 0, 2]
        stored = np.moveaxis(stored_values([files[number] for number in order]), 0, -1)
        nibabel.save(
            nibabel.Nifti1Image(stored.astype(np.float32), shown.meta["file_affine"]), tmp_path / "a.nii"
        )
        expected = load_image(tmp_path / "a.nii")
        torch.testing.assert_close(shown.as_tensor(), expected.as_tensor(), rtol=0, atol=0)
        np.testing.assert_allclose(shown.affine, expected.affine, atol=1e-5)

    def test_one_window_for_all_slices(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        files = ct_files(tmp_path, (2, 0))
        change(files[0], WindowCenter=900, WindowWidth=10)
        change(files[1], WindowCenter=[500, 40], WindowWidth=[1001, 400])  # the lowest slice
        image = load_series(tmp_path)[0].numpy()
        expected = np.clip((stored_values(files[::-1]) - 499.5) / 1000 + 0.5, 0, 1) * 255
        np.testing.assert_allclose(np.moveaxis(image, -1, 0), expected, rtol=1e-5)

    def test_every_slice_is_rescaled_by_itself(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]]
    ) -> None:
        files = ct_files(tmp_path, (0, 2))
        change(files[1], RescaleSlope=3, RescaleIntercept=7)
        image = load_series(tmp_path)[0].numpy()
        raw = stored_values(files) + 10
        np.testing.assert_array_equal(image[..., 0], raw[0] - 10)
        np.testing.assert_array_equal(image[..., 1], raw[1] * 3 + 7)

    def test_reversed_and_padded_over_the_whole_volume(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]]
    ) -> None:
        files = ct_files(tmp_path, (0, 2), PhotometricInterpretation="MONOCHROME1")
        plain = stored_values(files)
        image = np.moveaxis(load_series(tmp_path)[0].numpy(), -1, 0)
        np.testing.assert_array_equal(image, plain.min() + plain.max() - plain)
        worst = int(plain.max()) + 10
        for file in files:
            dataset = pydicom.dcmread(file)
            dataset.add_new("PixelPaddingValue", "SS", worst)
            dataset.save_as(file)
        padded = np.moveaxis(load_series(tmp_path)[0].numpy(), -1, 0)
        inside = plain[plain + 10 != worst]
        np.testing.assert_array_equal(
            padded, np.where(plain + 10 == worst, inside.min(), inside.min() + inside.max() - plain)
        )

    def test_colours(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]], saved: Callable[..., Path]
    ) -> None:
        files = ct_files(tmp_path, (0, 2))
        colours = np.random.default_rng(0).integers(0, 255, (2, 5, 6, 3), dtype=np.uint8)
        for file, stored in zip(files, colours, strict=True):
            dataset = pydicom.dcmread(file)
            dataset.PhotometricInterpretation = "RGB"
            saved(dataset, stored, file)
        np.testing.assert_array_equal(load_series(tmp_path).numpy(), np.moveaxis(colours, (0, 3), (3, 0)))

    def test_tilted_gantry_is_sheared(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        files = ct_files(tmp_path)
        for number, file in enumerate(files):
            change(file, ImagePositionPatient=[-3, -4 + number, 5 + 2 * number])
        image = load_series(tmp_path)
        assert image.meta["warnings"] == ""
        np.testing.assert_allclose(image.affine[:3, 2], [0, -1, 2])
        change(files[1], ImagePositionPatient=[-3, 3, 7])
        assert "slices do not lie behind one another" in load_series(tmp_path).meta["warnings"]

    def test_missing_and_uneven_slices_are_warned_of(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]]
    ) -> None:
        ct_files(tmp_path / "a", (0, 2, 4, 8, 10))
        warning = load_series(tmp_path / "a").meta["warnings"]
        assert "are 2 to 4 mm apart, as if 1 were missing" in warning
        ct_files(tmp_path / "b", (0, 2, 4.2, 6))
        assert (
            "are 1.8 to 2.2 mm apart: they are shown evenly" in load_series(tmp_path / "b").meta["warnings"]
        )
        ct_files(tmp_path / "c", (0, 2, 4.01, 6))
        assert load_series(tmp_path / "c").meta["warnings"] == ""

    def test_files_are_decoded_once(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from common.dicom import slices

        asked = []
        decode = slices.stored_pixels
        monkeypatch.setattr(
            slices,
            "stored_pixels",
            lambda dataset, where: (asked.append(where), decode(dataset, where=where))[1],
        )
        files = ct_files(tmp_path)
        load_series(tmp_path)
        assert sorted(asked) == files


@pytest.fixture
def enhanced_file(tmp_path: Path, enhanced: Dataset, saved: Callable[..., Path]) -> Path:
    """Frames from the top down, with a rescaling and a window in the functional groups."""
    frames = enhanced.PerFrameFunctionalGroupsSequence
    for number, group in enumerate(frames):
        group.PlanePositionSequence[0].ImagePositionPatient = [-3, -4, 10 - 2 * number]
        rescaling = Dataset()
        rescaling.RescaleSlope, rescaling.RescaleIntercept, rescaling.RescaleType = 1, number, "HU"
        group.PixelValueTransformationSequence = [rescaling]
    stored = np.arange(3 * 5 * 6, dtype=np.uint16).reshape(3, 5, 6)
    return saved(enhanced, stored, tmp_path / "enhanced.dcm")


class TestFramesOfOneFile:
    def test_functional_groups_place_and_rescale(self, enhanced_file: Path) -> None:
        assert is_series(enhanced_file)
        image = load_series(enhanced_file)
        stored = np.arange(90).reshape(3, 5, 6)
        np.testing.assert_array_equal(image[0, :, :, 2].numpy(), stored[0])
        np.testing.assert_array_equal(image[0, :, :, 0].numpy(), stored[2] + 2)
        assert image.meta["frame_order"] == "2 1 0"
        np.testing.assert_allclose(image.meta["spacing"], [0.5, 0.25, 2])

    def test_window_of_the_first_frame(self, enhanced_file: Path) -> None:
        dataset = pydicom.dcmread(enhanced_file)
        for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            window = Dataset()
            window.WindowCenter, window.WindowWidth = 46.5 + number, 91
            group.FrameVOILUTSequence = [window]
        dataset.save_as(enhanced_file)
        image = load_series(enhanced_file)[0].numpy()
        value = (np.arange(90).reshape(3, 5, 6)[0] - 48) / 90 + 0.5  # of the lowest, the last in the file
        np.testing.assert_allclose(image[..., 2], np.clip(value, 0, 1) * 255, rtol=1e-5)

    def test_masks_go_back(self, enhanced_file: Path, tmp_path: Path) -> None:
        pytest.importorskip("highdicom")
        image = load_series(enhanced_file)
        mask = image[0].numpy() == 7  # frame 0, row 1, column 1, by its stored value
        frames = mask_to_frames(mask, image.meta)
        assert np.argwhere(frames).tolist() == [[0, 1, 1]]
        path = write_segmentation(
            frames, series_headers(image.meta), tmp_path / "seg.dcm", grid="stored", **ALGORITHM
        )
        back = read_segmentation(pydicom.dcmread(path), series_headers(image.meta))
        np.testing.assert_array_equal(back > 0, frames)

    def test_cine_is_no_volume(self, tmp_path: Path, radiograph: Dataset, saved: Callable[..., Path]) -> None:
        radiograph.NumberOfFrames = 3
        stored = np.random.default_rng(0).integers(0, 255, (3, 6, 8), dtype=np.uint8)
        file = saved(radiograph, stored, tmp_path / "cine.dcm")
        with pytest.raises(
            ValueError, match=r"cine\.dcm must be slices with a position.*got 3 of 3 frames, such as"
        ):
            load_series(file)
        np.testing.assert_array_equal(read_dicom_pixels(file, frame=2).pixels[0], stored[2])
        with pytest.raises(ValueError, match=r"frame must be 0 to 2 for .*cine\.dcm, got 3"):
            read_dicom_pixels(file, frame=3)

    def test_several_files_of_several_frames(self, enhanced_file: Path) -> None:
        other = enhanced_file.with_name("other.dcm")
        shutil.copy(enhanced_file, other)
        with pytest.raises(ValueError, match="single slices or one file of several frames, got 2 files"):
            load_series([enhanced_file, other])


class TestMasks:
    @pytest.mark.parametrize("cosines", ORIENTATIONS.values(), ids=list(ORIENTATIONS))
    @pytest.mark.parametrize("given", [(0, 1, 2, 3), (2, 0, 3, 1)])
    def test_what_is_drawn_on_the_display_lies_on_its_pixels(
        self,
        cosines: Sequence[float],
        given: Sequence[int],
        tmp_path: Path,
        ct_files: Callable[..., list[Path]],
        errors_of: Callable[[Path], list[str]],
    ) -> None:
        """Every pixel brighter than a threshold, on the display and in the files."""
        highdicom = pytest.importorskip("highdicom")
        files = [ct_files(tmp_path, (4, 0, 6, 2), cosines=cosines)[number] for number in given]
        image = load_series(files)
        frames = mask_to_frames(image > 600, image.meta)
        expected = stored_values(files) > 600
        np.testing.assert_array_equal(frames, expected)
        assert frames.dtype == bool
        source = series_headers(image.meta)
        path = write_segmentation(frames, source, tmp_path / "seg.dcm", grid="stored", **ALGORITHM)
        np.testing.assert_array_equal(read_segmentation(pydicom.dcmread(path), source) > 0, expected)
        found = highdicom.seg.segread(path).get_pixels_by_source_instance(
            [each.SOPInstanceUID for each in source],
            segment_numbers=[1],
            assert_missing_frames_are_empty=True,
        )
        np.testing.assert_array_equal(found[..., 0] > 0, expected)
        assert errors_of(path) == []

    def test_single_images_too(self, tmp_path: Path, radiograph: Dataset, saved: Callable[..., Path]) -> None:
        radiograph.PatientOrientation = ["F", "R"]
        stored = np.random.default_rng(0).integers(0, 255, (6, 8), dtype=np.uint8)
        image = load_image(saved(radiograph, stored, tmp_path / "a.dcm"))
        np.testing.assert_array_equal(mask_to_frames(image.numpy(), image.meta), stored[None])

    def test_errors(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        ct_files(tmp_path)
        meta = load_series(tmp_path).meta
        with pytest.raises(
            ValueError, match=r"mask must have the displayed shape \(5, 6, 4\), got \(4, 5, 6\)"
        ):
            mask_to_frames(np.zeros((4, 5, 6)), meta)
        with pytest.raises(ValueError, match="meta must be of a DICOM image, got 'png'"):
            mask_to_frames(np.zeros((5, 6)), {"file_format": "png"})

    def test_real_series(
        self, tmp_path: Path, real_data: Path, errors_of: Callable[[Path], list[str]]
    ) -> None:
        highdicom = pytest.importorskip("highdicom")
        files = sorted((real_data / "dicom" / "ct_series").iterdir())
        files = [*files[1::2], *files[::2]]
        image = load_series(files)
        assert image.shape == (1, 512, 512, 20)
        mask = np.zeros(image.shape[1:], bool)
        mask[100:200, 300:340, 4:9] = image[0, 100:200, 300:340, 4:9].numpy() > 100
        frames = mask_to_frames(mask, image.meta)
        assert [frames[number].sum() for number in range(20)].count(0) == 15
        depths = [pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2] for file in files]
        lowest = sorted(depths)
        for frame, depth in zip(frames, depths, strict=True):
            np.testing.assert_array_equal(frame, mask[:, :, lowest.index(depth)])
        source = series_headers(image.meta)
        with pytest.warns(UserWarning, match="no StudyInstanceUID and SeriesInstanceUID"):
            path = write_segmentation(frames, source, tmp_path / "seg.dcm", grid="stored", **ALGORITHM)
        seg = pydicom.dcmread(path)
        with pytest.warns(UserWarning, match="gets a derived one"):
            np.testing.assert_array_equal(read_segmentation(seg, source) > 0, frames)
        uids = [each.file_meta.MediaStorageSOPInstanceUID for each in source]
        found = highdicom.seg.segread(path).get_pixels_by_source_instance(
            uids, segment_numbers=[1], assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(found[..., 0] > 0, frames)
        assert errors_of(path) == []


class TestErrors:
    def test_several_series(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        first = ct_files(tmp_path / "a")
        second = ct_files(tmp_path / "b", (0,), SeriesInstanceUID="1.2.9")
        message = r"one series of images, got 2 \(CT, 4 files such as 1\.dcm; CT, 1 files such as 1\.dcm\): pass the"
        for source in (tmp_path, first + second):
            with pytest.raises(ValueError, match=message):
                load_series(source)

    def test_localizer_in_the_series(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        files = ct_files(tmp_path)
        change(files[2], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
        with pytest.raises(
            ValueError,
            match=r"one orientation, got 2 \(3 such as 1\.dcm; 1 such as 3\.dcm\): leave out the loc",
        ):
            load_series(tmp_path)

    def test_several_phases(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        ct_files(tmp_path, (0, 2, 4, 0, 2, 4))
        with pytest.raises(
            ValueError,
            match=r"every slice once, got 6 slices at 3 places \(such as 1\.dcm and 4\.dcm\): several",
        ):
            load_series(tmp_path)

    def test_gap_that_makes_no_sense(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        ct_files(tmp_path, (0, 2, 4, 300, 302))
        with pytest.raises(
            ValueError, match=r"got 5 with a distance of 296 mm after 3\.dcm where 2 mm is usual"
        ):
            load_series(tmp_path)

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"Rows": 4}, r"one size, got 5 x 6 \(1\.dcm\), 4 x 6 \(2\.dcm\)"),
            ({"PixelSpacing": [1, 1]}, r"one pixel spacing, got 0\.5 x 0\.25, 1 x 1 mm"),
            ({"PhotometricInterpretation": "MONOCHROME1"}, "one kind of pixels, got MONOCHROME2"),
            (
                {"ImagePositionPatient": None},
                "got 1 of 4 images without: they are no volume, pass them one by one",
            ),
            ({"Modality": "MR"}, r"2\.dcm must be of modality CT, got MR"),
            (
                {
                    "VOILUTFunction": "LOG",
                    "WindowCenter": 1,
                    "WindowWidth": 2,
                    "ImagePositionPatient": [-3, -4, 0],
                },
                r"must have pixels, windows and lookup tables that fit its header, got ValueError",
            ),
        ],
    )
    def test_slices_that_differ(
        self, tags: dict[str, object], message: str, tmp_path: Path, ct_files: Callable[..., list[Path]]
    ) -> None:
        change(ct_files(tmp_path)[1], **tags)
        with pytest.raises(ValueError, match=message):
            load_series(tmp_path, modalities=("CT",))

    def test_folders_without_images(self, tmp_path: Path, real_data: Path) -> None:
        with pytest.raises(ValueError, match="must hold one series of images, got no DICOM files"):
            load_series(tmp_path)
        shutil.copy(real_data / "dicom" / "sr_document.dcm", tmp_path / "a")
        with pytest.raises(ValueError, match="got files of modality SR alone"):
            load_series(tmp_path)
        with pytest.raises(ValueError, match=r"a must be a DICOM file with pixels, got one without \(SR\)"):
            load_series([tmp_path / "a"])
        with pytest.raises(ValueError, match="a series must have at least one file, got none"):
            load_series([])
        with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
            load_series(tmp_path, threads=0)

    def test_one_slice_is_cut_off(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        file = ct_files(tmp_path)[2]
        whole = file.read_bytes()
        file.write_bytes(whole[:-20])
        with pytest.raises(
            ValueError, match=r"3\.dcm must hold 60 bytes of pixels, got 40: the file is cut off"
        ):
            load_series(tmp_path)
        file.write_bytes(whole[:500])
        assert len(scan_dicom(tmp_path).unreadable) == 1
        with pytest.raises(ValueError, match=r"3\.dcm must be a DICOM file with pixels, .*cut off"):
            load_series(tmp_path)

    def test_value_that_is_none(self, tmp_path: Path, ct_files: Callable[..., list[Path]]) -> None:
        file = ct_files(tmp_path)[1]
        raw = file.read_bytes()
        at = raw.index(b"0.5\\0.25")
        file.write_bytes(raw[:at] + b"Doe^Jane" + raw[at + 8 :])
        with pytest.raises(ValueError, match=r"2\.dcm must have numbers as PixelSpacing, got another value$"):
            load_series(tmp_path)

    def test_threads_leave_warnings_as_they_were(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]]
    ) -> None:
        ct_files(tmp_path)
        before, level = list(warnings.filters), logging.getLogger("pydicom").level
        with ThreadPoolExecutor(4) as pool:
            images = list(pool.map(load_series, [tmp_path] * 12))
        assert all(torch.equal(image, images[0]) for image in images)
        assert (list(warnings.filters), logging.getLogger("pydicom").level) == (before, level)

    def test_nothing_of_the_patient_is_said(
        self, tmp_path: Path, ct_files: Callable[..., list[Path]], caplog: pytest.LogCaptureFixture
    ) -> None:
        files = ct_files(tmp_path, PatientName="Secretname", SeriesDescription="Secretname")
        raw = files[1].read_bytes().replace(b"19500102", b"SecretDa")  # no date
        files[1].write_bytes(raw)
        with caplog.at_level(logging.DEBUG):
            assert "ecret" not in repr(scan_dicom(tmp_path))
            load_series(tmp_path)
            change(files[2], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
            with pytest.raises(ValueError, match="one orientation") as error:
                load_series(tmp_path)
        assert "ecret" not in str(error.value) + caplog.text


def test_modalities() -> None:
    dataset = Dataset()
    dataset.Modality = "CR"
    check_modality(dataset, ("CR", "DX"), where="a.dcm")
    check_modality(dataset, (), where="a.dcm")
    with pytest.raises(ValueError, match=r"a\.dcm must be of modality CT or MR, got CR"):
        check_modality(dataset, ("CT", "MR"), where="a.dcm")
    dataset["Modality"]._value = "Doe^Jane, born 1950"
    with pytest.raises(ValueError, match="got unknown modality"):
        check_modality(dataset, ("CT",), where="a.dcm")

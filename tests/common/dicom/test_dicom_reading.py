"""Tests of the DICOM reader: brightness, lookup tables, padding, colour, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from common.dicom import is_dicom, read_dicom_pixels
from common.dicom.reading import window


def write(path: Path, stored: np.ndarray, *, photometric: str = "MONOCHROME2", **tags: object) -> Path:
    """Write an uncompressed secondary capture."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        SecondaryCaptureImageStorage,
        generate_uid(),
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Modality, dataset.PhotometricInterpretation = "OT", photometric
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 1 if stored.ndim == 2 else 3
    if stored.ndim == 3:
        dataset.PlanarConfiguration = 0
    bits = stored.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = np.ascontiguousarray(stored).tobytes()
    dataset.save_as(path)
    return path


@pytest.fixture
def ramp() -> np.ndarray:
    """Signed pixels from -300 to 300."""
    return np.linspace(-300, 300, 30).astype(np.int16).reshape(5, 6)


def test_rescaled_values_without_a_window(tmp_path: Path, ramp: np.ndarray) -> None:
    path = write(tmp_path / "a.dcm", ramp, RescaleSlope=2, RescaleIntercept=-10, RescaleType="HU")
    read = read_dicom_pixels(path)
    np.testing.assert_array_equal(read.pixels[0], ramp * 2.0 - 10)
    assert read.pixels.dtype == np.float32
    assert (read.directions, read.spacing, read.spacing_kind, read.positioned) == (
        None,
        None,
        "unknown",
        False,
    )


def test_monochrome1_is_reversed(tmp_path: Path, ramp: np.ndarray) -> None:
    plain = read_dicom_pixels(write(tmp_path / "a.dcm", ramp)).pixels
    reversed_ = read_dicom_pixels(write(tmp_path / "b.dcm", ramp, photometric="MONOCHROME1")).pixels
    np.testing.assert_allclose(reversed_, plain.max() + plain.min() - plain)
    inverse = read_dicom_pixels(
        write(tmp_path / "c.dcm", ramp, photometric="MONOCHROME1", PresentationLUTShape="INVERSE")
    ).pixels
    np.testing.assert_array_equal(inverse, reversed_)


def test_first_window_is_used_after_rescaling(tmp_path: Path, ramp: np.ndarray) -> None:
    path = write(
        tmp_path / "a.dcm",
        ramp,
        RescaleSlope=1,
        RescaleIntercept=5,
        RescaleType="HU",
        WindowCenter=[40, 300],
        WindowWidth=[101, 9],
    )
    expected = np.clip((ramp + 5 - 39.5) / 100 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(read_dicom_pixels(path).pixels[0], expected, rtol=1e-6)
    one = write(tmp_path / "b.dcm", ramp, photometric="MONOCHROME1", WindowCenter=45, WindowWidth=101)
    np.testing.assert_allclose(
        read_dicom_pixels(one).pixels[0],
        255 - np.clip((ramp - 44.5) / 100 + 0.5, 0, 1) * 255,
        rtol=1e-5,
        atol=1e-4,
    )


def test_window_without_width_is_ignored(tmp_path: Path, ramp: np.ndarray) -> None:
    path = write(tmp_path / "a.dcm", ramp, WindowCenter=40, WindowWidth=0)
    np.testing.assert_array_equal(read_dicom_pixels(path).pixels[0], ramp)


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        ("LINEAR", [0, 127.5, 255, 300, -5], [0, 0.5, 1, 1, 0]),
        ("LINEAR_EXACT", [0, 128, 256, 300, -5], [0, 0.5, 1, 1, 0]),
        ("SIGMOID", [128, 192, 1e9, -1e9], [0.5, 1 / (1 + np.exp(-1)), 1, 0]),
    ],
)
def test_window_functions(function: str, values: list[float], expected: list[float]) -> None:
    found = window(np.array(values), center=128, width=256, function=function)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_window_of_width_one_is_a_step() -> None:
    assert window(np.array([9.4, 9.6]), center=10, width=1).tolist() == [0, 1]


def test_window_refuses_bad_arguments() -> None:
    with pytest.raises(ValueError, match="width must be > 0, got 0"):
        window(np.zeros(1), center=0, width=0)
    with pytest.raises(ValueError, match="function must be LINEAR, LINEAR_EXACT or SIGMOID, got 'LOG'"):
        window(np.zeros(1), center=0, width=1, function="LOG")


def test_lookup_table_of_interest(tmp_path: Path) -> None:
    stored = np.arange(16, dtype=np.uint8).reshape(4, 4)
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [16, 0, 8], [value * value for value in range(16)]
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    path = write(tmp_path / "a.dcm", stored, VOILUTSequence=Sequence([item]), WindowCenter=1, WindowWidth=2)
    np.testing.assert_allclose(read_dicom_pixels(path).pixels[0], stored.astype(float) ** 2)


def test_padding_is_black(tmp_path: Path, ramp: np.ndarray) -> None:
    padded = ramp.copy()
    padded[0] = -2000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        path = write(tmp_path / "a.dcm", padded, photometric=photometric, PixelPaddingValue=-2000)
        pixels = read_dicom_pixels(path).pixels[0]
        assert (pixels[0] == ramp[1:].min()).all()
        assert pixels.max() == ramp.max()
    ranged = write(tmp_path / "b.dcm", padded, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1000)
    assert (read_dicom_pixels(ranged).pixels[0, 0] == ramp[1:].min()).all()


def test_colour_and_palette(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    path = write(tmp_path / "rgb.dcm", colours, photometric="RGB")
    np.testing.assert_array_equal(read_dicom_pixels(path).pixels, colours.transpose(2, 0, 1))
    tables = {f"{name}PaletteColorLookupTableData": bytes(range(0, 256)) for name in ("Red", "Green", "Blue")}
    descriptors = {
        f"{name}PaletteColorLookupTableDescriptor": [256, 0, 8] for name in ("Red", "Green", "Blue")
    }
    palette = write(
        tmp_path / "p.dcm", colours[..., 0].copy(), photometric="PALETTE COLOR", **tables, **descriptors
    )
    np.testing.assert_allclose(read_dicom_pixels(palette).pixels[1], colours[..., 0])


def test_luminance_and_chrominance_become_red_green_blue(tmp_path: Path) -> None:
    stored = np.zeros((4, 6, 3), dtype=np.uint8)
    stored[...] = (76, 85, 255)  # pure red in YBR_FULL
    pixels = read_dicom_pixels(write(tmp_path / "y.dcm", stored, photometric="YBR_FULL")).pixels
    np.testing.assert_allclose(pixels[:, 0, 0], [254, 0, 0], atol=2)


def test_image_plane_is_an_affine(tmp_path: Path, ramp: np.ndarray) -> None:
    path = write(
        tmp_path / "a.dcm",
        ramp,
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ImagePositionPatient=[-10, -20, 30],
        PixelSpacing=[0.5, 0.25],
    )
    read = read_dicom_pixels(path)
    assert read.positioned
    assert read.spacing == (0.5, 0.25)
    assert read.directions is not None
    # row 2, column 4 lies at LPS (-10 + 4 * 0.25, -20 + 2 * 0.5, 30), which is RAS (9, 19, 30)
    np.testing.assert_allclose(read.directions @ [2, 4, 0, 1], [9, 19, 30, 1])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.3]}, ((0.2, 0.3), "detector")),
        ({"ImagerPixelSpacing": [0.2, 0.3], "PixelSpacing": [0.2, 0.3]}, ((0.2, 0.3), "detector")),
        ({"ImagerPixelSpacing": [0.2, 0.3], "PixelSpacing": [0.1, 0.15]}, ((0.1, 0.15), "patient")),
        ({"PixelSpacing": [0, 0]}, (None, "unknown")),
    ],
)
def test_spacing(
    tags: dict[str, object], expected: tuple[object, str], tmp_path: Path, ramp: np.ndarray
) -> None:
    read = read_dicom_pixels(write(tmp_path / "a.dcm", ramp, **tags))
    assert (read.spacing, read.spacing_kind) == expected


@pytest.mark.parametrize("orientation", [["L"], ["L", "R"], ["X", "F"], ["", ""]])
def test_patient_orientation_that_says_nothing(
    orientation: list[str], tmp_path: Path, ramp: np.ndarray
) -> None:
    assert (
        read_dicom_pixels(write(tmp_path / "a.dcm", ramp, PatientOrientation=orientation)).directions is None
    )


def test_errors_name_the_file(tmp_path: Path, ramp: np.ndarray) -> None:
    frames = write(tmp_path / "frames.dcm", ramp, NumberOfFrames=2)
    with pytest.raises(ValueError, match=r"frames\.dcm must have a single frame, got 2: split it"):
        read_dicom_pixels(frames)
    dataset = pydicom.dcmread(frames)
    del dataset.PixelData
    dataset.save_as(tmp_path / "empty.dcm")
    with pytest.raises(
        ValueError, match=r"empty\.dcm must be a DICOM file with pixels, got one without \(OT\)"
    ):
        read_dicom_pixels(tmp_path / "empty.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(ValueError, match=r"text\.dcm must be a readable DICOM file"):
        read_dicom_pixels(tmp_path / "text.dcm")
    assert is_dicom(frames)
    assert not is_dicom(tmp_path / "text.dcm")


def test_real_reports_are_no_images(real_data: Path) -> None:
    with pytest.raises(
        ValueError, match=r"sr_document\.dcm must be a DICOM file with pixels, got one without \(SR\)"
    ):
        read_dicom_pixels(real_data / "dicom" / "sr_document.dcm")

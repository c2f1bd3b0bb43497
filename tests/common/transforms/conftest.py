"""One asymmetric phantom and writers of it in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

ROWS, COLUMNS = 64, 96


def asymmetric_phantom() -> np.ndarray:
    """A picture `(64, 96)`, uint8, of which no flip or transposition is the same; bright parts are above 150."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    picture = (rows * 0.6 + columns * 0.4 + 10 * np.sin(rows / 5)).astype(np.uint8)
    picture[6:22, 8:30] = 230  # large, upper left
    picture[44:52, 70:90] = 200  # low, lower right
    picture[30:34, 12:16] = 180
    return picture


def _picture(name: str, mode: str = "L", **options: object) -> Callable[[Path, np.ndarray], Path]:
    def write(folder: Path, picture: np.ndarray) -> Path:
        image = Image.fromarray(picture)
        if mode == "I;16":
            image = Image.fromarray(picture.astype(np.uint16) * 257)
        elif mode == "P":
            image = image.quantize(256)
        elif mode == "RGBA":
            image = image.convert("RGBA")
        elif mode == "F":
            image = Image.fromarray(picture.astype(np.float32) / 255)
        elif mode == "RGB":
            image = image.convert("RGB")
        image.save(folder / name, **options)
        return folder / name

    return write


def _nifti(
    name: str,
    turn: Callable[[np.ndarray], np.ndarray],
    columns: list[tuple[float, ...]],
    code: int = 1,
    tilt: float = 0.0,
) -> Callable[[Path, np.ndarray], Path]:
    def write(folder: Path, picture: np.ndarray) -> Path:
        affine = np.eye(4)
        affine[:3, :3] = np.array(columns).T
        turned = np.eye(4)
        turned[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
        affine = turned @ affine
        affine[:3, 3] = (12.0, -30.0, 7.0)
        image = nibabel.Nifti1Image(np.ascontiguousarray(turn(picture)), affine)
        image.set_sform(affine, code=code)
        image.set_qform(affine if code else None, code=code)
        nibabel.save(image, folder / name)
        return folder / name

    return write


def write_dicom(
    path: Path,
    stored: np.ndarray,
    *,
    orientation: list[str] | None = None,
    photometric: str = "MONOCHROME2",
    compressed: bool = False,
    **tags: object,
) -> Path:
    """Write a DX file with the given stored pixels and tags."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Modality, dataset.PhotometricInterpretation = "DX", photometric
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 1 if stored.ndim == 2 else 3
    if stored.ndim == 3:
        dataset.PlanarConfiguration = 0
    bits = stored.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    if orientation is not None:
        dataset.PatientOrientation = orientation
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = np.ascontiguousarray(stored).tobytes()
    if compressed:
        dataset.compress(JPEG2000Lossless)
    dataset.save_as(path)
    return path


def _dicom(
    name: str, turn: Callable[[np.ndarray], np.ndarray], orientation: list[str] | None, **options: object
) -> Callable[[Path, np.ndarray], Path]:
    def write(folder: Path, picture: np.ndarray) -> Path:
        return write_dicom(folder / name, turn(picture), orientation=orientation, **options)

    return write


L, R, A, P, S, I = (-2.0, 0, 0), (2.0, 0, 0), (0, 1.5, 0), (0, -1.5, 0), (0, 0, 3.0), (0, 0, -3.0)  # noqa: E741

WRITERS: dict[str, Callable[[Path, np.ndarray], Path]] = {
    "png": _picture("p.png"),
    "png_16_bit": _picture("p16.png", "I;16"),
    "png_palette": _picture("pp.png", "P"),
    "png_rgb": _picture("prgb.png", "RGB"),
    "png_rgba": _picture("prgba.png", "RGBA"),
    "tiff": _picture("p.tif"),
    "tiff_16_bit": _picture("p16.tiff", "I;16"),
    "tiff_float": _picture("pf.tif", "F"),
    "bmp": _picture("p.bmp"),
    "jpg": _picture("p.jpg", quality=98),
    "nifti_ras_axial": _nifti("ras.nii.gz", lambda p: p[::-1, ::-1].T[..., None], [R, A, S]),
    "nifti_lps_axial": _nifti("lps.nii.gz", lambda p: p.T[..., None], [L, P, S]),
    "nifti_permuted_coronal": _nifti("cor.nii", lambda p: p[::-1][..., None], [S, L, A], tilt=0.15),
    "nifti_middle_axis_coronal": _nifti("cor2.nii.gz", lambda p: p[::-1, ::-1].T[:, None], [R, A, S]),
    "nifti_sagittal": _nifti("sag.nii.gz", lambda p: p[:, ::-1].T[None], [L, A, I]),
    "nifti_two_dimensional": _nifti("xy_lps.nii.gz", lambda p: p.T, [L, P, S]),
    "nifti_without_orientation": _nifti("xy.nii.gz", lambda p: p.T, [R, A, S], code=0),
    "nifti_float": _nifti("f.nii.gz", lambda p: p.T[..., None].astype(np.float32) - 100, [L, P, S]),
    "dicom": _dicom("plain.dcm", lambda p: p, None),
    "dicom_no_suffix": _dicom("1.2.840.10008", lambda p: p, ["L", "F"]),
    "dicom_l_f": _dicom("lf.dcm", lambda p: p, ["L", "F"]),
    "dicom_r_f": _dicom("rf.dcm", lambda p: p[:, ::-1], ["R", "F"]),
    "dicom_l_h": _dicom("lh.dcm", lambda p: p[::-1], ["L", "H"]),
    "dicom_f_l": _dicom("fl.dcm", lambda p: p.T, ["F", "L"]),
    "dicom_h_r": _dicom("hr.dcm", lambda p: p[::-1, ::-1].T, ["HL", "RP"]),
    "dicom_monochrome1": _dicom("m1.dcm", lambda p: 255 - p, ["L", "F"], photometric="MONOCHROME1"),
    "dicom_monochrome1_window": _dicom(
        "m1w.dcm",
        lambda p: 255 - p[:, ::-1],
        ["R", "F"],
        photometric="MONOCHROME1",
        WindowCenter=128,
        WindowWidth=256,
    ),
    "dicom_window_16_bit": _dicom(
        "w16.dcm",
        lambda p: p.astype(np.uint16) * 16,
        ["L", "F"],
        WindowCenter=0,
        WindowWidth=257,
        RescaleSlope=1 / 16,
        RescaleIntercept=-128,
        RescaleType="US",
    ),
    "dicom_jpeg2000": _dicom("j2k.dcm", lambda p: p[:, ::-1], ["R", "F"], compressed=True),
    "dicom_image_orientation": _dicom(
        "iop.dcm",
        lambda p: p[::-1],
        None,
        ImageOrientationPatient=[1, 0, 0, 0, -1, 0],
        ImagePositionPatient=[-10, 20, 5],
        PixelSpacing=[0.5, 0.7],
    ),
}


@pytest.fixture
def phantom() -> np.ndarray:
    """The asymmetric phantom."""
    return asymmetric_phantom()


@pytest.fixture(params=sorted(WRITERS))
def format_name(request: pytest.FixtureRequest) -> str:
    """The name of a way to store the phantom."""
    return str(request.param)


@pytest.fixture
def writers() -> dict[str, Callable[[Path, np.ndarray], Path]]:
    """All ways to store a picture, by name."""
    return WRITERS


@pytest.fixture
def phantom_file(format_name: str, phantom: np.ndarray, tmp_path: Path) -> Path:
    """The phantom, stored in each of the ways."""
    return WRITERS[format_name](tmp_path, phantom)


def stored_pixels(path: Path) -> np.ndarray:
    """The pixels of a phantom's file on its own grid, by an independent reader, foreground bright."""
    if path.name.endswith((".nii", ".nii.gz")):
        return np.asarray(nibabel.load(path).dataobj)
    if path.suffix in (".dcm", ".10008"):
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array.astype(float)
        return 255 - pixels if dataset.PhotometricInterpretation == "MONOCHROME1" else pixels
    with Image.open(path) as picture:
        return np.asarray(picture.convert("F"))


@pytest.fixture
def read_stored() -> Callable[[Path], np.ndarray]:
    """The independent reader."""
    return stored_pixels


@pytest.fixture
def dicom_writer() -> Callable[..., Path]:
    """Writes DX files."""
    return write_dicom

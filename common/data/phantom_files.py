"""Write chest phantoms as NIfTI and DICOM, and whole data sets of them with their `dataset.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from tqdm import tqdm

from .phantom_captions import CAPTION_VERSION
from .phantom_case import LATERALITY, PhantomCase, phantom_case
from .phantom_folder import new_folder

FORMATS = ("png", "jpg", "nifti", "dicom")

_LICENSE = "CC0-1.0: drawn from formulas, no patient data"
_ORIGIN = {"L": (0, -1.0), "R": (0, 1.0), "P": (1, -1.0), "A": (1, 1.0), "I": (2, -1.0), "S": (2, 1.0)}
_MILLIMETRES = 350.0


def write_phantom_dataset(
    output: str | Path,
    *,
    count: int,
    size: int = 96,
    seed: int = 0,
    formats: Sequence[str] = ("png",),
) -> Path:
    """Write a data set of chest phantoms: `images/`, `masks/` and `dataset.json`, or nothing at all.

    The files are written beside `output` and renamed when complete. Case `i` depends on `seed` and `i` alone.

    Args:
        output: the folder to create; it must be absent or empty.
        count: number of cases, at least 10; 70 % training, 10 % validation, 20 % test, in the order drawn.
        size: rows and columns of a picture.
        seed: seed of the data set.
        formats: among "png", "jpg", "nifti" and "dicom". `dataset.json` lists the first,
            `dataset_FORMAT.json` each further one. DICOM and JPEG images have PNG masks.

    Returns:
        The path of `dataset.json`.

    Raises:
        ValueError: too few cases, or an unknown or repeated format.
        FileExistsError: `output` is a file or a folder that is not empty.
    """
    output = Path(output)
    _check_request(count, formats)
    with new_folder(output) as folder:
        _write_all(folder, count=count, size=size, seed=seed, formats=formats)
    return output / "dataset.json"


def _check_request(count: int, formats: Sequence[str]) -> None:
    if count < 10:
        raise ValueError(f"count must be at least 10, so that every section has cases, got {count}")
    if not formats or len(set(formats)) != len(formats) or not set(formats) <= set(FORMATS):
        raise ValueError(f"formats must be one or more of {FORMATS}, each once, got {tuple(formats)}")


def _write_all(folder: Path, *, count: int, size: int, seed: int, formats: Sequence[str]) -> None:
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    entries: dict[str, list[dict[str, str]]] = {name: [] for name in formats}
    for index in tqdm(range(count), desc="phantoms", unit="case", disable=None):
        case = phantom_case(np.random.default_rng([seed, index]), size)
        for name in formats:
            entries[name].append(_write_case(folder, name, f"phantom_{index:04d}", case))
    for position, name in enumerate(formats):
        document = _document(folder, entries[name], seed=seed, size=size)
        target = folder / ("dataset.json" if position == 0 else f"dataset_{name}.json")
        target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _document(folder: Path, entries: list[dict[str, str]], *, seed: int, size: int) -> dict[str, Any]:
    first, second = round(0.7 * len(entries)), round(0.8 * len(entries))
    files = sorted({entry[key] for entry in entries for key in ("image", "label")})
    return {
        "name": "phantom_chest",
        "description": "Synthetic chest radiographs; some opacities are not named by the sentence.",
        "modality": "CR",
        "anatomy": "lung",
        "labels": {"0": "background", "1": "infection"},
        "laterality": LATERALITY,
        "split": {
            "protocol": "70/10/20 in the order drawn",
            "source": f"common.data.phantom_chest, seed {seed}, {size} x {size} pixels",
        },
        "caption_version": CAPTION_VERSION,
        "license": _LICENSE,
        "training": entries[:first],
        "validation": entries[first:second],
        "test": entries[second:],
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
    }


def _write_case(folder: Path, kind: str, name: str, case: PhantomCase) -> dict[str, str]:
    image, label = _WRITERS[kind](folder, name, case)
    return {"id": name, "image": image, "label": label, "text": case.sentence}


def _write_mask(folder: Path, name: str, case: PhantomCase) -> str:
    label = f"masks/{name}.png"
    if not (folder / label).exists():
        Image.fromarray(case.mask.astype(np.uint8) * 255).save(folder / label)
    return label


def _write_png(folder: Path, name: str, case: PhantomCase) -> tuple[str, str]:
    image = f"images/{name}.png"
    Image.fromarray(case.image).save(folder / image)
    return image, _write_mask(folder, name, case)


def _write_jpg(folder: Path, name: str, case: PhantomCase) -> tuple[str, str]:
    image = f"images/{name}.jpg"
    Image.fromarray(case.image).save(folder / image, quality=97)
    return image, _write_mask(folder, name, case)


def _write_nifti(folder: Path, name: str, case: PhantomCase) -> tuple[str, str]:
    image, label = f"images/{name}.nii.gz", f"masks/{name}.nii.gz"
    write_phantom_nifti(case, folder / image, label_path=folder / label)
    return image, label


def _write_dicom(folder: Path, name: str, case: PhantomCase) -> tuple[str, str]:
    image = f"images/{name}.dcm"
    write_phantom_dicom(case, folder / image, name=name)
    return image, _write_mask(folder, name, case)


_WRITERS: dict[str, Callable[[Path, str, PhantomCase], tuple[str, str]]] = {
    "png": _write_png,
    "jpg": _write_jpg,
    "nifti": _write_nifti,
    "dicom": _write_dicom,
}


def write_phantom_nifti(
    case: PhantomCase,
    path: str | Path,
    *,
    label_path: str | Path | None = None,
    axis_codes: str = "LPS",
    dimensions: int = 3,
) -> Path:
    """Write a phantom, and its mask if asked, as NIfTI with the axes in a chosen order and direction.

    The picture is displayed with the patient's left on the right, and posterior or inferior at the bottom;
    all choices of `axis_codes` over the same letters' axes put every pixel at the same place in the world.

    Args:
        case: what to write.
        path: the image's file, `.nii` or `.nii.gz`.
        label_path: the mask's file, if wanted.
        axis_codes: towards what each array axis grows: among the first two one of L, R and one of A, P, S, I;
            the third is the slice's axis.
        dimensions: 3 for a single slice `(·, ·, 1)`, 2 for a flat array.

    Returns:
        The path of the image.

    Raises:
        ValueError: axis codes that do not make a frame, or other dimensions than 2 and 3.
    """
    if dimensions not in (2, 3):
        raise ValueError(f"dimensions must be 2 or 3, got {dimensions}")
    axes = [_ORIGIN[code][0] for code in axis_codes if code in _ORIGIN]
    if len(axis_codes) != 3 or sorted(axes) != [0, 1, 2] or 0 not in axes[:2]:
        raise ValueError(f"axis_codes must be like 'LPS' with L or R among the first two, got {axis_codes!r}")
    for target, pixels in ((path, case.image), (label_path, case.mask.astype(np.uint8))):
        if target is not None:
            array, affine = _oriented(pixels, axis_codes)
            array = array[..., None] if dimensions == 3 else array
            image = nibabel.Nifti1Image(np.ascontiguousarray(array), affine)
            image.header.set_xyzt_units("mm")
            nibabel.save(image, str(target))
    return Path(path)


def _oriented(pixels: np.ndarray, axis_codes: str) -> tuple[np.ndarray, np.ndarray]:
    """Displayed rows × columns as a NIfTI array of the given axes, with its affine (mm, RAS+)."""
    rows, _ = pixels.shape
    spacing = _MILLIMETRES / rows
    shown = {"L": 1, "R": 1, "P": 0, "A": 0, "I": 0, "S": 0}
    array = pixels if shown[axis_codes[0]] == 0 else pixels.T
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(axis_codes):
        world, sign = _ORIGIN[code]
        affine[world, axis] = sign * spacing
        if axis < 2 and code in "RAS":
            array = np.flip(array, axis)
            affine[world, 3] = -spacing * (array.shape[axis] - 1)
    return array, affine


def write_phantom_dicom(
    case: PhantomCase,
    path: str | Path,
    *,
    photometric: str = "MONOCHROME2",
    orientation: str = "L\\F",
    name: str = "phantom",
) -> Path:
    """Write a phantom as a DICOM Computed Radiography image of a synthetic patient.

    Args:
        case: what to write; its sentence becomes the Image Comments (0020,4000).
        path: the file.
        photometric: "MONOCHROME2", or "MONOCHROME1" (stored inverted, so that it displays the same).
        orientation: Patient Orientation (0020,0020): where columns (L or R) and rows (F or H) grow. With R
            the pixels are stored mirrored, with H upside down, so that it displays the same.
        name: names the patient and, with the pixels, the unique identifiers.

    Returns:
        The path.

    Raises:
        ValueError: another photometric interpretation or orientation.
    """
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"photometric must be MONOCHROME1 or MONOCHROME2, got {photometric!r}")
    columns, _, rows = orientation.partition("\\")
    if columns not in ("L", "R") or rows not in ("F", "H"):
        raise ValueError(f"orientation must be L or R, a backslash, and F or H, got {orientation!r}")
    pixels = case.image[:: -1 if rows == "H" else 1, :: -1 if columns == "R" else 1]
    pixels = 255 - pixels if photometric == "MONOCHROME1" else pixels
    dataset = _dicom_header(case, name, hashlib.sha256(pixels.tobytes() + orientation.encode()).hexdigest())
    dataset.PatientOrientation = [columns, rows]
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.ImagerPixelSpacing = [f"{_MILLIMETRES / pixels.shape[0]:.6f}"] * 2
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return Path(path)


def _dicom_header(case: PhantomCase, name: str, digest: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["instance", name, digest])
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study", name, digest])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series", name, digest])
    dataset.PatientName = f"Phantom^{name}"
    dataset.PatientID = name
    for empty in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"):
        setattr(dataset, empty, "")
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.Modality, dataset.Manufacturer = "CR", "phantom"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ImageComments = case.sentence
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    return dataset

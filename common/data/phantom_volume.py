"""Made-up volumes of an abdomen or a heart in two modalities, and data sets of them for domain adaptation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from tqdm import tqdm

from .phantom_folder import new_folder
from .phantom_organs import ANATOMIES, FIELD_OF_VIEW, draw_organs, rotation
from .phantom_scans import SCANNERS, render_scan

AXIS_CODES = ("RAS", "LPS", "LAS", "RPI", "PSR")  # of the files, in turn
TILT = 0.08  # radians: deviation of the scan from the patient's axes

_LICENSE = "CC0-1.0: drawn from formulas, no patient data"
_TO_RAS = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # (rows, columns, slices) to RAS+
_SMALLEST = 16


@dataclass(frozen=True)
class VolumePhantom:
    """One scan of a made-up patient, as displayed.

    Args:
        image: `(rows, columns, slices)` float32: Hounsfield units, or arbitrary units >= 0.
        label: classes of the same shape, uint8.
        affine: 4 x 4, from (row, column, slice) to RAS+ mm; oblique, with slices thicker than pixels.
    """

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray


def phantom_volume(
    seed: int,
    *,
    anatomy: str = "abdomen",
    modality: str = "ct",
    size: int = 96,
    slices: int = 24,
    shift: float = 1.0,
) -> VolumePhantom:
    """Scan a made-up patient.

    The same seed is the same patient on the same oblique grid in both modalities: the classes are equal, voxel by
    voxel, and the images are not.

    Args:
        seed: of the patient, at least 0.
        anatomy: "abdomen" (liver, right kidney, left kidney, spleen) or "heart" (myocardium, left atrial cavity,
            left ventricular cavity, ascending aorta).
        modality: "ct" or "mr".
        size: rows and columns, at least 16.
        slices: at least 2.
        shift: how far the contrast of "mr" is from that of "ct", 0..1.

    Returns:
        The scan.

    Raises:
        ValueError: when an argument is out of range or unknown.
    """
    if size < _SMALLEST or slices < 2:
        raise ValueError(f"size must be at least {_SMALLEST} and slices at least 2, got {size} and {slices}")
    if anatomy not in ANATOMIES:
        raise ValueError(f"anatomy must be one of {', '.join(ANATOMIES)}, got {anatomy!r}")
    if modality not in SCANNERS:
        raise ValueError(f"modality must be one of {', '.join(SCANNERS)}, got {modality!r}")
    if not 0 <= shift <= 1:
        raise ValueError(f"shift must be in 0..1, got {shift}")
    affine, spacing = _grid(np.random.default_rng([seed, 0]), anatomy, size, slices)
    organs = draw_organs(_points(affine, (size, size, slices)), seed, anatomy=anatomy)
    rng = np.random.default_rng([seed, 2 + SCANNERS.index(modality)])
    image = render_scan(organs.tissue, rng, scanner=modality, anatomy=anatomy, spacing=spacing, shift=shift)
    return VolumePhantom(image, organs.label, affine)


def _grid(
    rng: np.random.Generator, anatomy: str, size: int, slices: int
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return the affine of the displayed axes to RAS+ mm, and the spacing in mm."""
    width, height = FIELD_OF_VIEW[anatomy]
    step = width * rng.uniform(0.97, 1.06) / size
    spacing = (step, step, height * rng.uniform(0.97, 1.06) / slices)
    turned = rotation(rng.uniform(-TILT, TILT, 3)) @ _TO_RAS
    affine = np.eye(4)
    affine[:3, :3] = turned * spacing
    middle = (np.array([size, size, slices]) - 1) / 2
    affine[:3, 3] = rng.uniform(-5, 5, 3) - affine[:3, :3] @ middle
    return affine, spacing


def _points(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Place of every voxel: mm towards the left, the back and upwards, `(rows, columns, slices, 3)`."""
    matrix = (np.diag([-1.0, -1.0, 1.0]) @ affine[:3]).astype(np.float32)
    axes = [np.arange(side, dtype=np.float32) for side in shape]
    rows, columns, slices = (
        axis.reshape([-1 if place == other else 1 for other in range(3)] + [1])
        for place, axis in enumerate(axes)
    )
    return rows * matrix[:, 0] + columns * matrix[:, 1] + slices * matrix[:, 2] + matrix[:, 3]


def write_volume_phantom(
    phantom: VolumePhantom, path: str | Path, *, label_path: str | Path | None = None, axis_codes: str = "RAS"
) -> Path:
    """Write a scan, and its classes if asked, as NIfTI: every voxel at its place, whatever the order of the axes.

    Args:
        phantom: the scan.
        path: of the image, `.nii` or `.nii.gz`; 16-bit integers.
        label_path: of the classes, if wanted.
        axis_codes: towards what the axes of the array grow: a permutation of L or R, A or P, S or I.

    Returns:
        The path of the image.

    Raises:
        ValueError: when `axis_codes` name no three axes.
    """
    if sorted({"L": 0, "R": 0, "A": 1, "P": 1, "S": 2, "I": 2}.get(code, 9) for code in axis_codes) != [
        0,
        1,
        2,
    ]:
        raise ValueError(f"axis_codes must be like 'RAS' or 'LPS', got {axis_codes!r}")
    arrays = ((path, np.rint(phantom.image).astype(np.int16)), (label_path, phantom.label))
    for target, array in arrays:
        if target is None:
            continue
        image = nibabel.Nifti1Image(array, phantom.affine)
        turn = ornt_transform(io_orientation(phantom.affine), axcodes2ornt(tuple(axis_codes)))
        image = image.as_reoriented(turn)
        image.set_sform(image.affine, code=1)
        image.set_qform(image.affine, code=1)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, str(target))
    return Path(path)


def write_volume_phantom_dataset(
    output: str | Path,
    *,
    anatomy: str = "abdomen",
    count: int = 20,
    size: int = 96,
    slices: int = 24,
    seed: int = 0,
    shift: float = 1.0,
) -> Path:
    """Write scans of different patients in both modalities: `images/`, `labels/` and `dataset.json`, or nothing.

    No patient is in two modalities or two sections. The files lie in several orders of axes, in turn.

    Args:
        output: the folder to create; it must be absent or empty.
        anatomy: "abdomen" or "heart".
        count: patients of each modality, at least 5; 70 % training, 10 % validation, 20 % test, at least one each.
        size: rows and columns of a slice.
        slices: of a volume.
        seed: of the data set.
        shift: see `phantom_volume`.

    Returns:
        The path of `dataset.json`.

    Raises:
        ValueError: when an argument is out of range or unknown.
        FileExistsError: when `output` is a file or a folder that is not empty.
    """
    output = Path(output)
    if count < 5:
        raise ValueError(f"count must be at least 5, so that every section has patients, got {count}")
    drawing = {"anatomy": anatomy, "size": size, "slices": slices, "shift": shift}
    with new_folder(output) as folder:
        document = _write_all(folder, drawing, count=count, seed=seed)
        (folder / "dataset.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return output / "dataset.json"


def _write_all(folder: Path, drawing: dict[str, Any], *, count: int, seed: int) -> dict[str, Any]:
    anatomy = drawing["anatomy"]
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    validation, test = max(1, round(0.1 * count)), max(1, round(0.2 * count))
    sections: dict[str, list[dict[str, str]]] = {"training": [], "validation": [], "test": []}
    digests: dict[str, str] = {}
    for number in tqdm(range(2 * count), desc="volumes", unit="volume", disable=None):
        modality, place = SCANNERS[number // count], number % count
        phantom = phantom_volume(_patient_seed(seed, number), modality=modality, **drawing)
        entry = _write_case(folder, f"{anatomy}_{modality}_{place:03d}", phantom, number)
        entry |= {"modality": modality, "subject": f"patient_{number:03d}"}
        late = place >= count - test
        section = "test" if late else "validation" if place >= count - test - validation else "training"
        sections[section].append(entry)
        for key in ("image", "label"):
            digests[entry[key]] = hashlib.sha256((folder / entry[key]).read_bytes()).hexdigest()
    return {
        "name": f"phantom_{anatomy}",
        "description": "Synthetic volumes: the same anatomy as CT and as MR, of different patients.",
        "modality": "ct, mr",
        "anatomy": anatomy,
        "labels": {str(value): name for value, name in ANATOMIES[anatomy].items()},
        "laterality": "patient",
        "split": {
            "protocol": "70/10/20 of each modality in the order drawn; no patient in two of them",
            "source": f"common.data.phantom_volume, seed {seed}, {drawing}",
        },
        "caption_version": "none",
        "license": _LICENSE,
        **sections,
        "sha256": digests,
    }


def _patient_seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _write_case(folder: Path, name: str, phantom: VolumePhantom, number: int) -> dict[str, str]:
    image, label = f"images/{name}.nii.gz", f"labels/{name}.nii.gz"
    codes = AXIS_CODES[number % len(AXIS_CODES)]
    write_volume_phantom(phantom, folder / image, label_path=folder / label, axis_codes=codes)
    return {"id": name, "image": image, "label": label, "text": ""}

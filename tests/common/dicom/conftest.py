"""Fixtures of the DICOM tests: small images of every kind, and the validator."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
)

STUDY, SERIES, FRAME = (
    "1.2.826.0.1.3680043.8.498.1",
    "1.2.826.0.1.3680043.8.498.2",
    "1.2.826.0.1.3680043.8.498.3",
)


def image(kind: str, *, number: int = 1, rows: int = 6, columns: int = 8, **tags: object) -> Dataset:
    """Return an image without pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, f"{SERIES}.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = "Müller^Åsa", "ID 7", "F"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.StudyTime = "19500102", "20240203", "101112"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "S1", "A1", "Doe^Jo"
    dataset.Modality, dataset.Manufacturer, dataset.InstanceNumber = "CT", "Maker", number
    dataset.Rows, dataset.Columns = rows, columns
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


@pytest.fixture
def radiograph() -> Dataset:
    """A chest radiograph that knows neither spacing nor frame of reference."""
    return image(ComputedRadiographyImageStorage, Modality="CR", PatientOrientation=["L", "F"])


@pytest.fixture
def slices() -> list[Dataset]:
    """Three axial slices, from the top down, 2 and 3 mm apart."""
    return [
        image(
            CTImageStorage,
            number=number,
            FrameOfReferenceUID=FRAME,
            ImagePositionPatient=[-3, -4, z],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[0.5, 0.25],
            SliceThickness=2,
            PositionReferenceIndicator="",
        )
        for number, z in enumerate((15, 13, 10), start=1)
    ]


@pytest.fixture
def enhanced() -> Dataset:
    """A multi-frame CT of three frames with functional groups."""
    dataset = image(EnhancedCTImageStorage, FrameOfReferenceUID=FRAME, NumberOfFrames=3)
    dataset.PositionReferenceIndicator = ""
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.25], 2
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for z in (0, 2, 4):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [-3, -4, z]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


@pytest.fixture(scope="session")
def saved() -> Callable[..., Path]:
    """What writes an image with pixels `([frames,] rows, columns[, 3])` as a file."""

    def save(dataset: Dataset, stored: np.ndarray, path: Path) -> Path:
        bits = stored.dtype.itemsize * 8
        colour = stored.ndim > 2 and stored.shape[-1] == 3
        dataset.SamplesPerPixel = 3 if colour else 1
        if "PhotometricInterpretation" not in dataset:
            dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            dataset.PlanarConfiguration = 0
        dataset.Rows, dataset.Columns = stored.shape[-3:-1] if colour else stored.shape[-2:]
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
        dataset.PixelRepresentation = int(stored.dtype.kind == "i")
        dataset.PixelData = np.ascontiguousarray(stored).tobytes()
        dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return save


@pytest.fixture(scope="session")
def ct_files(saved: Callable[..., Path]) -> Callable[..., list[Path]]:
    """What writes a CT series: one slice for each position along the normal, 5 rows and 6 columns."""

    def write(
        folder: Path,
        depths: Sequence[float] = (0, 2, 4, 6),
        *,
        cosines: Sequence[float] = (1, 0, 0, 0, 1, 0),
        **tags: object,
    ) -> list[Path]:
        normal = np.cross(cosines[:3], cosines[3:])
        files = []
        for number, depth in enumerate(depths, start=1):
            dataset = image(
                CTImageStorage,
                number=number,
                FrameOfReferenceUID=FRAME,
                ImagePositionPatient=[float(part) for part in np.array([-3.0, -4, 5]) + normal * depth],
                ImageOrientationPatient=list(cosines),
                PixelSpacing=[0.5, 0.25],
                SliceThickness=2,
                PositionReferenceIndicator="",
                RescaleSlope=1,
                RescaleIntercept=-10,
                RescaleType="HU",
            )
            for name, value in tags.items():
                setattr(dataset, name, value)
            stored = np.random.default_rng(int(depth * 10)).integers(0, 1000, (5, 6)).astype(np.int16)
            files.append(saved(dataset, stored, folder / f"{number}.dcm"))
        return files

    return write


@pytest.fixture
def mask() -> np.ndarray:
    """`(6, 8)` without any symmetry, of two parts."""
    found = np.zeros((6, 8), dtype=bool)
    found[1:3, 5:8] = True
    found[5, 0] = True
    return found


@pytest.fixture(scope="session")
def errors_of() -> Callable[[Path], list[str]]:
    """What `dciodvfy` of dicom3tools calls errors in a file; without it, a skip of what follows the first call."""
    program = shutil.which("dciodvfy")

    def run(path: Path) -> list[str]:
        if program is None:
            pytest.skip("no dciodvfy: install dicom3tools")
        result = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace")
        lines = (result.stdout + result.stderr).splitlines()
        return [line for line in lines if line.startswith("Error")]

    return run

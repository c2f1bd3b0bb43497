"""How tissues look in computed tomography and in magnetic resonance: contrast, bias field, noise."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from scipy import ndimage

from .phantom_organs import TISSUES

SCANNERS = ("ct", "mr")

# Hounsfield units, portal venous phase; the heart's blood carries contrast medium
_CT = MappingProxyType(
    {
        "air": -1000.0,
        "fat": -100.0,
        "muscle": 55.0,
        "bone": 520.0,
        "marrow": 210.0,
        "lung": -810.0,
        "vessel": 165.0,
        "fluid": 12.0,
        "bowel": 40.0,
        "stomach": 28.0,
        "liver": 108.0,
        "kidney": 190.0,
        "spleen": 122.0,
        "myocardium": 105.0,
        "left blood": 340.0,
        "right blood": 175.0,
    }
)
# Arbitrary units: T2-weighted with suppressed fat in the abdomen, balanced steady-state in the chest
_MR = MappingProxyType(
    {
        "air": 0.0,
        "fat": 110.0,
        "muscle": 175.0,
        "bone": 60.0,
        "marrow": 230.0,
        "lung": 35.0,
        "vessel": 70.0,
        "fluid": 960.0,
        "bowel": 430.0,
        "stomach": 760.0,
        "liver": 250.0,
        "kidney": 690.0,
        "spleen": 560.0,
        "myocardium": 290.0,
        "left blood": 640.0,
        "right blood": 560.0,
    }
)
_WINDOW = (-1000.0, -150.0, 450.0)  # Hounsfield units that a mild shift shows as 0, 50 and 900
_MR_CHEST = MappingProxyType({**_MR, "fat": 780.0, "vessel": 600.0, "muscle": 250.0})


def render_scan(
    tissue: np.ndarray,
    rng: np.random.Generator,
    *,
    scanner: str,
    anatomy: str,
    spacing: tuple[float, ...],
    shift: float = 1.0,
) -> np.ndarray:
    """Render tissues as a scanner shows them.

    Computed tomography: Hounsfield units with correlated noise. Magnetic resonance: arbitrary units, another order
    of the tissues, a multiplicative bias field and Rician noise. In both, each tissue's value is the patient's own,
    has texture, and is averaged over neighbouring voxels.

    Args:
        tissue: `(rows, columns, slices)` indices into `TISSUES`.
        rng: of the patient and scan.
        scanner: "ct" or "mr".
        anatomy: "abdomen" or "heart", which are scanned with other sequences.
        spacing: of the three axes, in mm.
        shift: of the contrast of "mr", 0..1: 1 is its own order of the tissues, 0 that of "ct".

    Returns:
        `(rows, columns, slices)` float32.

    Raises:
        ValueError: when the scanner is unknown.
    """
    if scanner not in SCANNERS:
        raise ValueError(f"modality must be one of {', '.join(SCANNERS)}, got {scanner!r}")
    if scanner == "ct":
        return _tomography(tissue, rng)
    own = _MR_CHEST if anatomy == "heart" else _MR
    table = {
        name: shift * value + (1 - shift) * float(np.interp(_CT[name], _WINDOW, (0.0, 50.0, 900.0)))
        for name, value in own.items()
    }
    return _resonance(tissue, rng, table, spacing)


def _tomography(tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    values = np.array([_CT[name] for name in TISSUES]) + rng.normal(0, 6, len(TISSUES))
    values[TISSUES.index("air")] = _CT["air"]
    clean = _blurred(values.astype(np.float32)[tissue])
    noise = rng.standard_normal(tissue.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0.6, 0.6, 0))
    scan = clean + np.float32(rng.uniform(12, 22) / noise.std()) * noise
    return np.clip(scan, -1024, 3071)


def _resonance(
    tissue: np.ndarray,
    rng: np.random.Generator,
    table: Mapping[str, float],
    spacing: tuple[float, ...],
) -> np.ndarray:
    values = np.array([table[name] for name in TISSUES]) * rng.uniform(0.88, 1.12, len(TISSUES))
    texture = ndimage.gaussian_filter(rng.standard_normal(tissue.shape, dtype=np.float32), (1.5, 1.5, 0.5))
    clean = values.astype(np.float32)[tissue] * (1 + np.float32(0.06 / texture.std()) * texture)
    clean = _blurred(clean) * _bias_field(tissue.shape, rng, spacing)
    level = rng.uniform(14, 28)
    real = clean + level * rng.standard_normal(tissue.shape, dtype=np.float32)
    imaginary = level * rng.standard_normal(tissue.shape, dtype=np.float32)
    return np.hypot(real, imaginary).astype(np.float32) * np.float32(rng.uniform(0.6, 1.6))


def _blurred(values: np.ndarray) -> np.ndarray:
    """Average over neighbours in the plane, as a voxel on a border does."""
    return np.asarray(ndimage.gaussian_filter(values, (0.5, 0.5, 0)), dtype=np.float32)


def _bias_field(shape: tuple[int, ...], rng: np.random.Generator, spacing: tuple[float, ...]) -> np.ndarray:
    """A smooth factor, about 0.6 to 1.6, with a geometric mean near 1."""
    field = np.zeros(shape, dtype=np.float32)
    axes = [np.arange(side, dtype=np.float32) * step for side, step in zip(shape, spacing, strict=True)]
    for _ in range(3):
        direction = rng.normal(size=3)
        wave = direction * (2 * np.pi / rng.uniform(260, 520) / np.linalg.norm(direction))
        phases = np.add.outer(np.add.outer(axes[0] * wave[0], axes[1] * wave[1]), axes[2] * wave[2])
        field += np.sin(phases + rng.uniform(0, 2 * np.pi), dtype=np.float32)
    field -= field.mean()
    return np.exp(np.float32(rng.uniform(0.3, 0.45)) * field / np.abs(field).max())

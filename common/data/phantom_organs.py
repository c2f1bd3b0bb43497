"""Where the tissues of made-up bodies lie: an abdomen and a heart, drawn from formulas in millimetres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

Points = np.ndarray  # (..., 3) float32: mm towards the patient's left, towards the back, upwards

TISSUES = (
    "air",
    "fat",
    "muscle",
    "bone",
    "marrow",
    "lung",
    "vessel",
    "fluid",
    "bowel",
    "stomach",
    "liver",
    "kidney",
    "spleen",
    "myocardium",
    "left blood",
    "right blood",
)
ABDOMEN = MappingProxyType({0: "background", 1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"})
HEART = MappingProxyType(
    {
        0: "background",
        1: "myocardium",
        2: "left atrial cavity",
        3: "left ventricular cavity",
        4: "ascending aorta",
    }
)
ANATOMIES = MappingProxyType({"abdomen": ABDOMEN, "heart": HEART})
FIELD_OF_VIEW = MappingProxyType({"abdomen": (350.0, 170.0), "heart": (230.0, 150.0)})  # mm: in plane, height

_TISSUE = {name: index for index, name in enumerate(TISSUES)}


@dataclass(frozen=True)
class Organs:
    """Tissues and classes at some points.

    Args:
        tissue: index into `TISSUES`, uint8.
        label: class of the anatomy, uint8; 0 is background.
    """

    tissue: np.ndarray
    label: np.ndarray


class _Canvas:
    """Paints shapes over one another, each with a place, size and surface of its own."""

    def __init__(self, points: Points, rng: np.random.Generator) -> None:
        self.points, self.rng = points, rng  # (3, N)
        self.tissue = np.zeros(points.shape[1], dtype=np.uint8)
        self.label = np.zeros(points.shape[1], dtype=np.uint8)

    def ellipsoid(self, centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
        """Where an ellipsoid (centre and radii in mm, varied) with a wavy surface is."""
        middle = (np.asarray(centre) + self.rng.normal(0, 3.5, 3)).astype(np.float32)
        lengths = np.asarray(radii) * (1 + self.rng.uniform(-0.12, 0.12, 3))
        local = (rotation(self.rng.normal(0, 0.1, 3)) / lengths[:, None]).astype(np.float32)
        waves = self._waves()
        near = self._near(middle - 1.25 * lengths.max(), middle + 1.25 * lengths.max())
        inside = ((local @ (self.points[:, near] - middle[:, None])) ** 2).sum(0) < 1 + 0.12 * waves(near)
        return self._selected(near[inside])

    def capsule(self, start: Sequence[float], end: Sequence[float], radius: float) -> np.ndarray:
        """Where a tube with round ends (mm, varied) is."""
        shift = self.rng.normal(0, 2.5, 3)
        first, last = np.asarray(start) + shift, np.asarray(end) + shift
        radius = radius * (1 + self.rng.uniform(-0.12, 0.12))
        waves = self._waves()
        near = self._near(np.minimum(first, last) - 1.25 * radius, np.maximum(first, last) + 1.25 * radius)
        offset = self.points[:, near] - first.astype(np.float32)[:, None]
        along = (last - first).astype(np.float32)
        share = np.clip(along @ offset / (along @ along), 0, 1)
        inside = ((offset - along[:, None] * share) ** 2).sum(0) < radius**2 * (1 + 0.1 * waves(near))
        return self._selected(near[inside])

    def _waves(self) -> Callable[[np.ndarray], np.ndarray]:
        """Draw three plane waves of 45 to 100 mm; return their sum, about -1 to 1, at some of the points."""
        directions = self.rng.normal(size=(3, 3))
        lengths = self.rng.uniform(45, 100, 3) * np.linalg.norm(directions, axis=1)
        waves = (2 * np.pi * directions / lengths[:, None]).astype(np.float32)
        phases = self.rng.uniform(0, 2 * np.pi, (3, 1)).astype(np.float32)
        return lambda where: np.sin(waves @ self.points[:, where] + phases).sum(0) / 2

    def _near(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Indices of the points in a box."""
        inside = np.ones(self.points.shape[1], dtype=bool)
        for coordinate, least, most in zip(self.points, low, high, strict=True):
            inside &= (coordinate > least) & (coordinate < most)
        return np.flatnonzero(inside)

    def _selected(self, indices: np.ndarray) -> np.ndarray:
        mask = np.zeros(self.points.shape[1], dtype=bool)
        mask[indices] = True
        return mask

    def paint(self, where: np.ndarray, tissue: str, label: int = 0) -> None:
        """Give a region a tissue and a class, over whatever was there."""
        self.tissue[where] = _TISSUE[tissue]
        self.label[where] = label


def draw_organs(points: Points, seed: int, *, anatomy: str) -> Organs:
    """Draw a patient at some points.

    Args:
        points: `(..., 3)` mm from the middle of the organs: towards the patient's left, the back, and upwards.
        seed: of the patient; the same patient is the same whatever the points.
        anatomy: "abdomen" (classes `ABDOMEN`) or "heart" (classes `HEART`).

    Returns:
        Tissue and class at every point.

    Raises:
        ValueError: when the anatomy is unknown.
    """
    if anatomy not in ANATOMIES:
        raise ValueError(f"anatomy must be one of {', '.join(ANATOMIES)}, got {anatomy!r}")
    shape = points.shape[:-1]
    columns = np.ascontiguousarray(points.reshape(-1, 3).T, dtype=np.float32)
    canvas = _Canvas(columns, np.random.default_rng([seed, 1]))
    (_draw_abdomen if anatomy == "abdomen" else _draw_heart)(canvas)
    return Organs(canvas.tissue.reshape(shape), canvas.label.reshape(shape))


def rotation(angles: np.ndarray) -> np.ndarray:
    """Return the 3 x 3 rotation by angles (radians) about the first, second and third axis, in this order."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [other for other in range(3) if other != axis]
        step = np.eye(3)
        step[first, first] = step[second, second] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        result = step @ result
    return result


def _trunk(canvas: _Canvas, half_width: float, half_depth: float) -> np.ndarray:
    """Paint skin, fat, muscle and ribs, and return the depth under the skin: 0 in the middle, 1 at the skin."""
    points, rng = canvas.points, canvas.rng
    width, depth = half_width * rng.uniform(0.93, 1.07), half_depth * rng.uniform(0.93, 1.07)
    level = (np.abs(points[0]) / width) ** 2.4 + (np.abs(points[1]) / depth) ** 2.4
    level = level ** np.float32(1 / 2.4)
    canvas.paint(level < 1, "fat")
    canvas.paint(level < 0.9, "muscle")
    angle = np.arctan2(points[1] / depth, points[0] / width)
    ribs = np.sin(points[2] / 5 + 3 * np.abs(angle) + rng.uniform(0, 6)) > 0.55
    canvas.paint((level > 0.84) & (level < 0.885) & ribs, "bone")
    canvas.paint(level < 0.82, "fat")
    return level


def _spine(canvas: _Canvas, back: float) -> None:
    canvas.paint(canvas.capsule((0, back + 26, -300), (0, back + 26, 300), 9), "bone")
    canvas.paint(canvas.capsule((0, back, -300), (0, back, 300), 21), "bone")
    canvas.paint(canvas.capsule((0, back, -300), (0, back, 300), 18), "marrow")
    canvas.paint(canvas.capsule((-30, back + 12, -300), (-30, back + 12, 300), 13), "muscle")
    canvas.paint(canvas.capsule((30, back + 12, -300), (30, back + 12, 300), 13), "muscle")


def _draw_abdomen(canvas: _Canvas) -> None:
    level = _trunk(canvas, 160, 108)
    inside = level < 0.81
    _spine(canvas, 58)
    canvas.paint(canvas.capsule((12, 28, -300), (12, 28, 300), 9), "vessel")
    canvas.paint(canvas.capsule((-20, 28, -300), (-20, 28, 300), 11), "vessel")
    for _ in range(7):
        place = canvas.rng.uniform((-80, -70, -95), (80, -5, -30))
        canvas.paint(canvas.ellipsoid(place, (24, 17, 18)) & inside, "bowel")
        canvas.paint(canvas.ellipsoid(np.add(place, (0, -5, 0)), (9, 6, 8)) & inside, "air")
    canvas.paint(canvas.ellipsoid((52, -38, 26), (40, 30, 36)) & inside, "stomach")
    canvas.paint(canvas.ellipsoid((52, -56, 30), (20, 8, 18)) & inside, "air")
    spleen = canvas.ellipsoid((92, 22, 30), (24, 42, 38)) & ~canvas.ellipsoid((68, 4, 26), (22, 26, 30))
    canvas.paint(spleen & inside, "spleen", 4)
    liver = canvas.ellipsoid((-70, -8, 24), (64, 62, 54)) | canvas.ellipsoid((-8, -46, 38), (52, 24, 26))
    canvas.paint(liver & inside & (canvas.tissue != _TISSUE["vessel"]), "liver", 1)
    canvas.paint(canvas.ellipsoid((-46, -38, -18), (13, 13, 20)) & inside, "fluid")
    for label, side, height in ((2, -1, -36), (3, 1, -28)):
        kidney = canvas.ellipsoid((side * 58, 48, height), (23, 21, 46))
        hilum = canvas.ellipsoid((side * 40, 42, height), (13, 10, 15))
        canvas.paint(kidney & ~hilum & inside, "kidney", label)


def _draw_heart(canvas: _Canvas) -> None:
    level = _trunk(canvas, 150, 105)
    inside = level < 0.81
    for side in (-1, 1):
        canvas.paint(canvas.ellipsoid((side * 82, 8, 10), (66, 84, 150)) & inside, "lung")
    _spine(canvas, 68)
    canvas.paint(canvas.ellipsoid((12, -12, -4), (66, 56, 62)) & inside, "fat")
    canvas.paint(canvas.capsule((22, 46, -300), (22, 46, 300), 11), "vessel")
    apex = np.array([0.68, -0.52, -0.52]) + canvas.rng.normal(0, 0.05, 3)
    apex /= np.linalg.norm(apex)
    middle = np.array([22.0, -14.0, -10.0])
    canvas.paint(canvas.ellipsoid(np.add(middle, (-38, -18, 2)), (27, 22, 36)), "right blood")
    canvas.paint(canvas.ellipsoid(np.add(middle, (-48, 14, 18)), (22, 22, 28)), "right blood")
    root = middle - 36 * apex + np.array([-14.0, -8.0, 4.0])
    canvas.paint(canvas.capsule(np.add(root, (16, -12, 0)), np.add(root, (24, 6, 52)), 11), "right blood")
    _draw_left_heart(canvas, middle, apex, root)


def _draw_left_heart(canvas: _Canvas, middle: np.ndarray, apex: np.ndarray, root: np.ndarray) -> None:
    """Paint the ventricle with its wall, the atrium behind its base, and the aorta above."""
    radius = canvas.rng.uniform(19, 25)
    wall = canvas.rng.uniform(9, 13)
    offset = canvas.points - middle.astype(np.float32)[:, None]
    ahead = apex.astype(np.float32) @ offset
    across = np.sqrt(((offset - apex.astype(np.float32)[:, None] * ahead) ** 2).sum(0))
    beyond_base = ahead > -28
    outer = (ahead / (40 + wall)) ** 2 + (across / (radius + wall)) ** 2 < 1
    inner = (ahead / 40) ** 2 + (across / radius) ** 2 < 1
    canvas.paint(canvas.ellipsoid(np.add(middle - 52 * apex, (4, 14, -4)), (27, 22, 25)), "left blood", 2)
    canvas.paint(canvas.capsule(root, np.add(root, (-10, -2, 72)), 14), "left blood", 4)
    canvas.paint(outer & beyond_base, "myocardium", 1)
    canvas.paint(inner & beyond_base, "left blood", 3)

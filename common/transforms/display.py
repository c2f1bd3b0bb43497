"""How the axes of a file become rows and columns as a person sees the picture, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from torch import Tensor

PADDED = 3  # meta arrays have one length for every file, so that cases of several formats can share a batch


@dataclass(frozen=True)
class DisplayOrder:
    """A permutation and reversal of spatial axes, from a file's own order to the order of the display.

    Args:
        axes: displayed axis `d` (0 rows, 1 columns, 2 slices) shows stored axis `axes[d]`.
        flips: whether displayed axis `d` runs against the stored axis.
    """

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    @classmethod
    def identity(cls, dimensions: int) -> DisplayOrder:
        """Return the order of a file that is stored as it is displayed."""
        return cls(tuple(range(dimensions)), (False,) * dimensions)

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> DisplayOrder:
        """Read the order from the meta data of an image that `load_image` read."""
        axes = tuple(int(axis) for axis in np.asarray(meta["display_axes"]) if axis >= 0)
        flips = tuple(bool(flip) for flip in np.asarray(meta["display_flips"])[: len(axes)])
        return cls(axes, flips)

    def to_meta(self) -> dict[str, np.ndarray]:
        """Return `display_axes` and `display_flips`, int64 arrays of length 3 (axes padded with -1)."""
        missing = PADDED - len(self.axes)
        return {
            "display_axes": np.array([*self.axes, *[-1] * missing], dtype=np.int64),
            "display_flips": np.array([*self.flips, *[False] * missing], dtype=np.int64),
        }

    def to_display(self, stored: Tensor) -> Tensor:
        """Turn `(C, *stored axes)` into `(C, rows, columns[, slices])`."""
        turned = stored.permute(0, *(axis + 1 for axis in self.axes))
        return self._flipped(turned)

    def to_stored(self, displayed: Tensor) -> Tensor:
        """Turn `(C, rows, columns[, slices])` into `(C, *stored axes)`: the inverse of `to_display`."""
        turned = self._flipped(displayed)
        return turned.permute(0, *(self.axes.index(axis) + 1 for axis in range(len(self.axes))))

    def _flipped(self, displayed: Tensor) -> Tensor:
        dims = [d + 1 for d, flip in enumerate(self.flips) if flip]
        return displayed.flip(dims) if dims else displayed

    def affine(self, stored_affine: np.ndarray, shape: Sequence[int], kept: Sequence[int]) -> np.ndarray:
        """Return the affine of the displayed array.

        Args:
            stored_affine: 4 x 4, from the indices of the file's three axes to millimetres.
            shape: lengths of the file's three axes.
            kept: which of the three axes the stored array of this order has (the others have length 1).
        """
        rest = [axis for axis in range(3) if axis not in kept]
        order = [kept[axis] for axis in self.axes] + rest
        flips = [*self.flips, *[False] * len(rest)]
        mapping = np.zeros((4, 4))
        mapping[3, 3] = 1
        for displayed, (axis, flip) in enumerate(zip(order, flips, strict=True)):
            mapping[axis, displayed] = -1 if flip else 1
            mapping[axis, 3] = shape[axis] - 1 if flip else 0
        return stored_affine @ mapping


def picture_order(dimensions: int) -> DisplayOrder:
    """Return the order of arrays stored as (x, y[, z]) without any orientation: x to the right, y down."""
    return DisplayOrder((1, 0, 2)[:dimensions], (False,) * dimensions)


def anatomical_order(affine: np.ndarray, kept: Sequence[int]) -> DisplayOrder | None:
    """Return the radiological display order of axes with a known orientation.

    Whole volumes are shown axially. A single slice is shown in its own plane, which is told by the anatomical
    axis that it lacks.

    | plane    | row 0     | column 0      | slice 0  |
    |----------|-----------|---------------|----------|
    | axial    | anterior  | patient right | inferior |
    | coronal  | superior  | patient right |          |
    | sagittal | superior  | anterior      |          |

    Args:
        affine: 4 x 4, from the indices of three axes to RAS+ millimetres; only directions matter.
        kept: the axes that the array has, in order: all three, or the two of a single slice.

    Returns:
        The order, or None when the directions do not name two or three distinct anatomical axes.
    """
    world, sign = _anatomical_axes(affine)
    shown = [world[axis] for axis in kept]
    if -1 in shown:
        return None
    if len(kept) == 3:
        wanted = ((1, -1), (0, -1), (2, 1))  # rows towards posterior, columns towards left, slices upwards
    else:
        plane = ({0, 1, 2} - set(shown)).pop()
        wanted = {2: ((1, -1), (0, -1)), 1: ((2, -1), (0, -1)), 0: ((2, -1), (1, -1))}[plane]
    axes = tuple(shown.index(anatomical) for anatomical, _ in wanted)
    flips = tuple(sign[kept[axis]] != direction for axis, (_, direction) in zip(axes, wanted, strict=True))
    return DisplayOrder(axes, flips)


def _anatomical_axes(affine: np.ndarray) -> tuple[list[int], list[int]]:
    """Return per array axis the anatomical axis nearest to it (0 R, 1 A, 2 S; -1 unknown) and its sign."""
    directions = np.array(affine[:3, :3], dtype=float)
    if not np.isfinite(directions).all():
        return [-1] * 3, [1] * 3
    orientation = io_orientation(affine)
    world = [-1 if np.isnan(axis) else int(axis) for axis in orientation[:, 0]]
    sign = [1 if np.isnan(direction) else int(direction) for direction in orientation[:, 1]]
    return world, sign

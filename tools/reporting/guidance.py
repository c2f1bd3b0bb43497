"""Where the text looks and where the sentence points, as heat over the picture of a case."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from common.transforms.loading import load_image
from common.transforms.saving import safe_name

FOLDER = "maps"
COLOURS = "magma"
_STRONG = 0.9  # of a map's highest value: what its description calls the strongest
_MOST_PLACES = 3
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


@dataclass(frozen=True)
class MapKind:
    """One of the maps: the end of its file's name, its caption, and what it shows."""

    suffix: str
    caption: str
    words: str


KINDS = (
    MapKind(
        "attention",
        "text attention",
        "where in the image the words look, in units of the most in this image: the same everywhere when they do not "
        "choose.",
    ),
    MapKind(
        "prior",
        "prior from the sentence",
        "where the sentence points: 1 at the centre of each zone that it names, less around it; the same everywhere "
        "when it names none. A prior that is confined to the box around the strongest attention is 0 outside.",
    ),
    MapKind(
        "guide",
        "guide = attention × prior",
        "the product of the two, towards which training draws the prediction.",
    ),
)


@dataclass(frozen=True)
class Heat:
    """One map of a case.

    Attributes:
        caption: what it is called.
        uri: the map as colours that are the more opaque the higher the value; None when there is trouble.
        words: where it is strongest, for those who do not see it.
        trouble: why there is none.
    """

    caption: str
    uri: str | None = None
    words: str = ""
    trouble: str = ""


def case_maps(folder: Path, name: str, *, size: int) -> tuple[Heat, ...]:
    """Find and colour the maps that an evaluation wrote for a case; what cannot be read is said, not raised.

    Args:
        folder: of the evaluation.
        name: id of the case.
        size: longest side of a map in pixels; smaller ones are not enlarged.

    Returns:
        One entry for each of `KINDS`, or none when the case has no map at all.
    """
    try:
        stem = safe_name(name)
    except ValueError:
        return ()
    paths = [folder / FOLDER / f"{stem}.{kind.suffix}.png" for kind in KINDS]
    # unlike Path.is_file, os.path.isfile is False for a name that is too long
    if not any(os.path.isfile(path) for path in paths):
        return ()
    return tuple(_heat(kind, path, size) for kind, path in zip(KINDS, paths, strict=True))


def _heat(kind: MapKind, path: Path, size: int) -> Heat:
    if not os.path.isfile(path):
        return Heat(kind.caption, trouble="was not written")
    try:
        values = load_image(path)[0].numpy()
    except (ValueError, OSError):
        return Heat(kind.caption, trouble="cannot be read")
    if values.ndim != 2 or not 0 <= values.min() <= values.max() <= 255:
        return Heat(kind.caption, trouble="must be an 8-bit grey picture")
    if not values.any():
        return Heat(kind.caption, trouble="is 0 everywhere")
    return Heat(kind.caption, heat_uri(values, size=size), strongest_words(values))


def heat_uri(values: np.ndarray, *, size: int) -> str:
    """Encode a map as a PNG data URI, coloured and the more opaque the higher the value.

    Args:
        values: `(rows, columns)`, 0 to 255.
        size: longest side in pixels; smaller maps are not enlarged.

    Returns:
        The URI.
    """
    picture = Image.fromarray(np.rint(values).astype(np.uint8))
    picture.thumbnail((size, size), Image.Resampling.BILINEAR)
    colours = _palette()
    picture.putpalette(colours[:, :3].tobytes())  # the grey values become places in the palette
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True, transparency=colours[:, 3].tobytes())
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


@cache
def _palette() -> np.ndarray:
    """The colours of 0 to 255, `(256, 4)` uint8."""
    import matplotlib as mpl  # imported here: most reports have no maps

    position = np.linspace(0, 1, 256)
    colours = mpl.colormaps[COLOURS](position)
    colours[:, 3] = 0.8 * position**0.5
    return np.rint(colours * 255).astype(np.uint8)


def heat_scale(steps: int = 9) -> list[str]:
    """The colours from 0 to 1 in equal steps, as CSS writes them."""
    chosen = _palette()[np.linspace(0, 255, steps).round().astype(int)]
    return [f"rgb({red} {green} {blue} / {alpha / 255:.2f})" for red, green, blue, alpha in chosen.tolist()]


def strongest_words(values: np.ndarray) -> str:
    """Say in which ninths of the picture a map comes near to its highest value.

    Args:
        values: `(rows, columns)`, not 0 everywhere.

    Returns:
        Words such as "strongest in the lower left of the picture".
    """
    strong = values >= _STRONG * values.max()
    places = [
        f"{row} {column}"
        for row, band in zip(_ROWS, np.array_split(strong, 3, axis=0), strict=True)
        for column, part in zip(_COLUMNS, np.array_split(band, 3, axis=1), strict=True)
        if part.any()
    ]
    if len(places) > _MOST_PLACES:
        return "about as strong in many places"
    words = " and ".join(filter(None, (", ".join(places[:-1]), places[-1])))
    return f"strongest in the {words} of the picture".replace("middle centre", "middle")

"""Names of interpolations, of which transformers makes a table while it is imported."""

from __future__ import annotations

from enum import Enum


class InterpolationMode(Enum):
    """Ways to interpolate, as torchvision names them."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"

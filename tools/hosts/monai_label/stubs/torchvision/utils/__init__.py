"""Grids of images: MONAI Label imports the names for its DeepEdit handlers, which bundles do not use."""

from __future__ import annotations

from typing import NoReturn


def make_grid(*_: object, **__: object) -> NoReturn:
    """Refuse: there is no torchvision in this environment."""
    raise NotImplementedError(
        "make_grid needs torchvision, which is not installed: install a build for this torch"
    )


def save_image(*_: object, **__: object) -> NoReturn:
    """Refuse: there is no torchvision in this environment."""
    raise NotImplementedError(
        "save_image needs torchvision, which is not installed: install a build for this torch"
    )

"""From a picture to a tensor: transformers imports the name for image processors, which bundles do not use."""

from __future__ import annotations

from typing import NoReturn


def pil_to_tensor(*_: object, **__: object) -> NoReturn:
    """Refuse: there is no torchvision in this environment."""
    raise NotImplementedError(
        "pil_to_tensor needs torchvision, which is not installed: install a build for this torch"
    )

"""The case, or the cases, that a command line names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".nii", ".nii.gz", ".dcm")


def single_case(
    image: str | Path | None, text: Any, *, laterality: str | None = None
) -> list[dict[str, Any]]:
    """Return the one case, or the cases of a folder, that a command line names.

    Args:
        image: an image file, or a folder whose images share `text`; None or "" gives no case.
        text: the sentence; None or "" is the empty prompt. MONAI's command line makes a tuple of "left, lower" and
            a number of "2": they become a sentence again.
        laterality: which side the sentence calls left, ``image`` or ``patient``; None: as the bundle.

    Raises:
        ValueError: when `image` does not exist or is a folder without images.
    """
    if not image:
        return []
    source = existing_source(image)
    files = [source]
    if source.is_dir():
        files = sorted(f for f in source.iterdir() if f.name.lower().endswith(IMAGE_SUFFIXES))
        if not files:
            raise ValueError(f"the folder {source} must hold images ({', '.join(IMAGE_SUFFIXES)}), got none")
    extra = {"laterality": laterality} if laterality else {}
    sentence = (
        ", ".join(map(str, text)) if isinstance(text, (list, tuple)) else str("" if text is None else text)
    )
    return [{"id": f.name.split(".")[0], "image": str(f), "text": sentence, **extra} for f in files]


def existing_source(image: str | Path) -> Path:
    """Return the file or folder that a command line names.

    Args:
        image: its path.

    Raises:
        ValueError: when it does not exist.
    """
    source = Path(image)
    if not source.exists():
        raise ValueError(
            f"image must be a file or a folder, got {source}, which does not exist: check --image"
        )
    return source

"""Which series of a study is segmented: rules in the form of the host's series selector, and its files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SELECTION = "image"
_LOCALIZER = "!LOCALIZER"


def selection_rules(modalities: Sequence[str]) -> str:
    """Return the selector's JSON rules for some modalities.

    Localizers of CT and MR are left out, by the image type, which those files must have.

    Args:
        modalities: DICOM modalities, such as `("CR", "DX", "CT")`.
    """
    return json.dumps({"selections": [_selection(modality) for modality in modalities]})


def _selection(modality: str) -> dict[str, Any]:
    conditions: dict[str, Any] = {"Modality": f"^{modality}$"}
    if modality in ("CT", "MR"):
        conditions["ImageType"] = [_LOCALIZER]
    return {"name": f"{SELECTION} {modality}", "conditions": conditions}


def read_rules(path: Path) -> str:
    """Return a file of selection rules as text.

    Raises:
        ValueError: when it is no JSON object with a list of "selections".
    """
    try:
        text = path.read_text(encoding="utf-8")
        rules = json.loads(text)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be a readable JSON file, got {type(error).__name__}") from None
    if not isinstance(rules, dict) or not isinstance(rules.get("selections"), list):
        raise ValueError(f'{path} must be a JSON object with a list "selections", got another')
    return text


def only_series(found: Sequence[tuple[str, str, int]], *, wanted: str | None, present: Iterable[str]) -> str:
    """Return the UID of the series to segment.

    Args:
        found: of every series that the rules select: Series Instance UID, modality, number of images.
        wanted: the UID that was asked for; None: there must be one.
        present: modalities in the study, for the error.

    Raises:
        ValueError: when none is left, or more than one.
    """
    left = sorted({each for each in found if wanted in (None, each[0])})
    if len(left) == 1:
        return left[0][0]
    if not left:
        kinds = ", ".join(sorted(set(present))) or "no images"
        reason = f"series {wanted}" if wanted else "one series"
        raise ValueError(
            f"the study must have {reason} that the selection rules accept, got {kinds}: see --rules"
        )
    listed = "; ".join(f"{uid} ({modality}, {count} images)" for uid, modality, count in left)
    raise ValueError(
        f"the study must have one series that the selection rules accept, got {len(left)}: {listed}. Choose one with"
        " --series or narrower --rules"
    )

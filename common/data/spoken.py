"""The cases that a contrastive pretraining can use: those with a sentence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from .dataset import load_cases

logger = logging.getLogger(__name__)


def spoken_cases(
    path: str | Path, section: str, *, fraction: float = 1.0, seed: int = 42
) -> list[dict[str, Any]]:
    """Return the cases of a section that have a sentence, and refuse a section that has too few different ones.

    Args:
        path: a ``dataset.json``.
        section: ``training``, ``validation`` or ``test``.
        fraction: share of the section to draw from, in (0, 1]; the same cases as those of `load_cases`.
        seed: of the share.

    Raises:
        ValueError: when fewer than two different sentences are left.
    """
    cases = load_cases(path, section, fraction=fraction, seed=seed)
    spoken = [case for case in cases if case["text"].strip()]
    different = {case["text"].strip() for case in spoken}
    if len(different) < 2:
        raise ValueError(
            f"{section} in {Path(path).name} must hold at least two different sentences for a contrastive "
            f"pretraining, got {len(different)} in {len(cases)} cases: leave stage I out and train with 'run' "
            "alone"
        )
    if len(spoken) < len(cases):
        logger.info(
            "%s: %d of %d cases have no sentence and are left out",
            section,
            len(cases) - len(spoken),
            len(cases),
        )
    return spoken

"""What one call of the robustness tool was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.data.splits import SECTIONS
from common.text.perturbation import PERTURBATIONS
from common.transforms import CORRUPTIONS, parse_corruption

SCORED = ("clean", "all", "off")


class RobustnessError(ValueError):
    """The call is refused; the message says what must be, what came, and the fix."""


@dataclass(frozen=True, order=True)
class Cell:
    """One condition: how the images are corrupted and how the sentences are perturbed.

    Attributes:
        corruption: "none" or such as "low_dose/110".
        perturbation: one of `common.text.perturbation.PERTURBATIONS`.
    """

    corruption: str = "none"
    perturbation: str = "none"

    @property
    def slug(self) -> str:
        """The name of its files."""
        return re.sub(r"[^\w.-]", "_", f"{self.corruption}--{self.perturbation}")


CLEAN, MIRRORED = Cell(), Cell(perturbation="mirror")


@dataclass(frozen=True)
class RobustnessRequest:
    """The options of one call.

    Attributes:
        bundle: folder of a packed bundle, or of one of the repository.
        weights: state dict; None: the bundle's own.
        dataset_dir: folder of ``dataset.json``.
        output: folder of the results.
        overlays: those that the weights were trained with.
        section: "training", "validation" or "test".
        corruptions: as `named_corruptions` reads them.
        perturbations: names.
        full: every corruption with every perturbation; else each of them alone.
        limit: only the first so many cases; None: all.
        curve: share of the training cases and the weights that were trained with it.
        scored: which cells get contradiction scores: "clean" (images as they are, sentences true and mirrored),
            "all" or "off".
        batch: pictures that the network sees at a time, >= 1.
        device: where the network runs; None chooses.
        overwrite: measure again what another call with other weights or cases measured in the same folder.
    """

    bundle: Path
    dataset_dir: Path
    output: Path
    weights: Path | None = None
    overlays: tuple[str, ...] = ()
    section: str = "test"
    corruptions: tuple[str, ...] = tuple(CORRUPTIONS)
    perturbations: tuple[str, ...] = PERTURBATIONS
    full: bool = False
    limit: int | None = None
    curve: tuple[tuple[float, Path], ...] = ()
    scored: str = "clean"
    batch: int = 16
    device: str | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Refuse options that mean nothing.

        Raises:
            RobustnessError: naming the option and the fix.
        """
        for name, value, known in (("section", self.section, SECTIONS), ("scores", self.scored, SCORED)):
            if value not in known:
                raise RobustnessError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        for name in ("batch", "limit"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise RobustnessError(f"{name} must be at least 1, got {number}")
        for share, file in self.curve:
            if not file.is_file():
                raise RobustnessError(f"curve must name weights that exist, got {share:g}={file}")
        cells(self)

    def is_scored(self, cell: Cell) -> bool:
        """Whether the cases of a cell get contradiction scores."""
        return self.scored == "all" or (self.scored == "clean" and cell in (CLEAN, MIRRORED))


def cells(request: RobustnessRequest) -> list[Cell]:
    """Return the cells of a grid, the clean one first, none twice.

    Raises:
        RobustnessError: when a name is unknown.
    """
    corruptions = named_corruptions(request.corruptions)
    unknown = [name for name in request.perturbations if name not in PERTURBATIONS]
    if unknown:
        raise RobustnessError(
            f"perturbations must be of {', '.join(PERTURBATIONS)}, got {', '.join(map(repr, unknown))}"
        )
    if request.full:
        grid = [Cell(image, text) for image in ("none", *corruptions) for text in request.perturbations]
    else:
        grid = [Cell(perturbation=text) for text in request.perturbations]
        grid += [Cell(corruption=image) for image in corruptions]
    return list(dict.fromkeys([CLEAN, *grid]))


def named_corruptions(names: Sequence[str]) -> list[str]:
    """Return corruptions with their levels: a kind alone stands for all its levels, "none" for nothing.

    Args:
        names: such as "low_dose", "low_dose/110" or "none".

    Raises:
        RobustnessError: when a name or a level is unknown.
    """
    found: list[str] = []
    for name in names:
        if name in CORRUPTIONS:
            found += [f"{name}/{level:g}" for level in CORRUPTIONS[name]]
            continue
        try:
            if parse_corruption(name) is not None:
                found.append(name)
        except ValueError as error:
            raise RobustnessError(str(error)) from error
    return list(dict.fromkeys(found))


def read_curve(texts: Sequence[str]) -> tuple[tuple[float, Path], ...]:
    """Read points of a low-data curve, smallest share first.

    Args:
        texts: such as "0.25=models/quarter.pt".

    Raises:
        RobustnessError: when one is no share in (0, 1] and a path, or a share occurs twice.
    """
    points: dict[float, Path] = {}
    for text in texts:
        share, _, path = text.partition("=")
        try:
            value = float(share)
        except ValueError:
            value = float("nan")
        if not 0 < value <= 1 or not path:
            raise RobustnessError(f"curve must be FRACTION=WEIGHTS such as 0.25=model.pt, got {text!r}")
        if value in points:
            raise RobustnessError(f"curve must name each fraction once, got {value:g} twice")
        points[value] = Path(path)
    return tuple(sorted(points.items()))

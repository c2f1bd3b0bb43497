"""What is to be exported, and what keeps it from being exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.packing import PackError

FORMATS = ("torchscript", "onnx", "pt2")


class ExportError(PackError):
    """What keeps a bundle from being exported, in words for the person who exports it."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What is to be exported.

    Attributes:
        bundle: name in `bundles`, a bundle's folder, or a packed folder.
        overlays: names in the bundle, or paths of JSON files; merged in this order.
        weights: a file of tensors alone; None: the bundle's own ``models/model.pt``.
        random_weights: export untrained, with the seed 0, where there are no weights.
        formats: of `FORMATS`.
        output: folder of the results.
        batch: images of the larger batch that is timed, >= 1.
        repeats: timed rounds of every batch, >= 1.
        device: of the network, as PyTorch names it; onnxruntime always runs on the CPU.
        bundles: folder of the bundles.
        overwrite: replace what an earlier call wrote.
    """

    bundle: str
    overlays: Sequence[str] = ()
    weights: Path | None = None
    random_weights: bool = False
    formats: Sequence[str] = FORMATS
    output: Path = Path("exports")
    batch: int = 4
    repeats: int = 7
    device: str = "cpu"
    bundles: Path = Path("bundles")
    overwrite: bool = False

    def check(self) -> None:
        """Refuse values that no export can have.

        Raises:
            ExportError: naming the option.
        """
        strange = [name for name in self.formats if name not in FORMATS]
        if strange or not self.formats:
            raise ExportError(
                f"the formats must be some of {', '.join(FORMATS)}, got {', '.join(strange) or 'none'} (--format)"
            )
        for name, value in (("batch", self.batch), ("repeats", self.repeats)):
            if value < 1:
                raise ExportError(f"{name} must be at least 1, got {value} (--{name})")

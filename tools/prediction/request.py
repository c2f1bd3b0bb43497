"""What one call of the prediction tool was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TEXT_SOURCES = ("dicom", "sidecar")
LATERALITIES = ("image", "patient")
PREVIEWS = 200
BATCH = 8


class PredictError(ValueError):
    """The call is refused; the message says what must be, what came, and the fix."""


@dataclass(frozen=True)
class Shard:
    """Every `count`-th case, beginning with case `index`.

    Attributes:
        index: 0 to `count` - 1.
        count: how many processes share the cases, at least 1.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise PredictError(
                f"shard must be I/N with 0 <= I < N, got {self.index}/{self.count}: the first of four is 0/4"
            )

    def owns(self, position: int) -> bool:
        """Whether the case at this position of the list belongs to the shard."""
        return position % self.count == self.index


def read_shard(text: str | None, environment: Mapping[str, str]) -> Shard:
    """Return the part of the cases that this process has.

    Args:
        text: ``I/N`` of the command line, or None.
        environment: of the process; `torchrun` sets ``RANK`` and ``WORLD_SIZE``.

    Returns:
        The shard of the command line, else that of the environment, else everything.

    Raises:
        PredictError: when either cannot be read.
    """
    if text is None:
        rank, size = environment.get("RANK"), environment.get("WORLD_SIZE")
        if rank is None or size is None:
            return Shard()
        text = f"{rank}/{size}"
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if match is None:
        raise PredictError(f"shard must be I/N such as 0/4, got {text!r}")
    return Shard(int(match[1]), int(match[2]))


def preview_limit(text: str) -> int | None:
    """Return how many cases are pictured, flagged ones apart: a number, None for all, -1 for not even the flagged.

    Raises:
        PredictError: when it is no number, ``all`` or ``none``.
    """
    if text in ("all", "none"):
        return None if text == "all" else -1
    if not text.isdecimal():
        raise PredictError(f"previews must be a number, all or none, got {text!r}")
    return int(text)


@dataclass(frozen=True)
class PredictRequest:
    """The options of one call.

    Attributes:
        bundle: folder of a packed bundle, or of one of the repository.
        inputs: files, folders, or tables of paths.
        output: folder of the results.
        overlays: names or files of overlays, merged in this order.
        weights: another state dict than the bundle's own.
        text: one sentence for all cases, or None; a bundle of classes reads none.
        texts: a table of sentences, or None.
        text_from: "dicom" or "sidecar", or None.
        laterality: whose left the sentences mean, "image" or "patient"; None: as the bundle.
        batch: pictures a network call, at least 1.
        workers: threads that load and prepare; None chooses.
        threads: threads of the network on the CPU; None chooses.
        previews: cases with a preview beside those that are flagged; None: all, -1: none at all.
        device: where the network runs; None chooses.
        overwrite: remove the results of earlier calls first.
        resume: go on with what an earlier call began; False refuses a folder that holds results.
        retry_failed: try again what failed before.
        allow_random: run a bundle that has no weights.
        modality: of the volumes, for a bundle that segments classes; None: as their files or the bundle say.
        force_modality: only warn of DICOM modalities that the bundle is not for.
        merge: only write the tables and the report of what is there.
        shard: which cases.
    """

    bundle: Path
    inputs: tuple[Path, ...]
    output: Path
    overlays: tuple[str, ...] = ()
    weights: Path | None = None
    text: str | None = None
    texts: Path | None = None
    text_from: str | None = None
    laterality: str | None = None
    batch: int = BATCH
    workers: int | None = None
    threads: int | None = None
    previews: int | None = PREVIEWS
    device: str | None = None
    overwrite: bool = False
    resume: bool = True
    retry_failed: bool = False
    allow_random: bool = False
    modality: str | None = None
    force_modality: bool = False
    merge: bool = False
    shard: Shard = field(default_factory=Shard)

    @property
    def segments_classes(self) -> bool:
        """Whether the bundle segments volumes into classes and reads no sentences, as far as its files tell."""
        try:
            content = json.loads((self.bundle / "configs" / "inference.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False  # loading the bundle says what is wrong
        return isinstance(content, dict) and bool(content.get("labels"))

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            PredictError: naming the option and the fix.
        """
        if self.segments_classes:
            self._check_no_texts()
        else:
            self._check_texts()
        for name, least in (("batch", 1), ("workers", 1), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise PredictError(f"{name} must be at least {least}, got {value}")
        if self.laterality not in (None, *LATERALITIES):
            raise PredictError(f"laterality must be image or patient, got {self.laterality!r}")
        if self.overwrite and not self.resume:
            raise PredictError("only one of --overwrite and --no-resume can be given")
        if self.overwrite and (self.shard.count > 1 or self.merge):
            raise PredictError(
                "--overwrite must not be given to one of several processes or to --merge: remove "
                f"{self.output} before they start"
            )

    def _given(self, *names: str) -> list[str]:
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]

    def _check_no_texts(self) -> None:
        given = self._given("text", "texts", "text_from", "laterality")
        if given:
            raise PredictError(
                f"{' and '.join(given)} must be left out for {self.bundle.name}, which segments volumes into classes "
                "and reads no sentence: --modality says what the volumes are"
            )

    def _check_texts(self) -> None:
        if self.modality is not None:
            raise PredictError(
                f"--modality must be left out for {self.bundle.name}, which reads sentences, got {self.modality!r}"
            )
        given = self._given("text", "texts", "text_from")
        if len(given) != 1:
            got = " and ".join(given) if given else "none"
            raise PredictError(
                f"exactly one of --text, --texts and --text-from must be given, got {got}: "
                '--text "" runs without a sentence'
            )
        if self.text_from not in (None, *TEXT_SOURCES):
            raise PredictError(f"text-from must be one of {', '.join(TEXT_SOURCES)}, got {self.text_from!r}")
        if self.text_from == "dicom" and self.laterality is not None:
            raise PredictError(
                "--laterality must not be given with --text-from dicom: DICOM speaks of the patient's left"
            )

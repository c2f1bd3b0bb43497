"""The proof that an archive needs nothing but itself and the packages that its metadata name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from . import isolated
from .manifest import manifest_differences
from .sources import PackError

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a packed bundle did on its own.

    Attributes:
        network: class of the inference network.
        output: shape of its output for one case.
        weights: whether weights were loaded, strictly.
        text_changes_output: whether a sentence and no sentence gave different outputs.
        seconds_per_case: of the forward pass, mean of two.
        targets: classes and functions that the configurations name and that were found.
        modules: of the packed code that were imported.
    """

    network: str
    output: list[int]
    weights: bool
    text_changes_output: bool
    seconds_per_case: float
    targets: int
    modules: int


def prove(archive: Path, *, timeout: float = 600) -> Proof:
    """Unpack an archive into an empty folder and run it there, isolated from the repository.

    Args:
        archive: as `tools.packing.write_archive` writes it: one folder.
        timeout: seconds after which the process is ended.

    Raises:
        PackError: as `prove_folder`.
    """
    with tempfile.TemporaryDirectory(prefix="packed_bundle_") as place:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(place)
        return prove_folder(next(Path(place).iterdir()), timeout=timeout)


def prove_folder(folder: Path, *, timeout: float = 600) -> Proof:
    """Run a packed bundle where it lies, isolated from the repository, and write nothing into it.

    A process of ``python -I`` in another, empty folder, with the packed one first on its path and ``common`` and
    ``tools`` refused (also those of an editable installation), parses every configuration, builds network and
    preprocessing, loads the weights when there are some, and segments a picture with a sentence and without.

    Args:
        folder: of the packed bundle.
        timeout: seconds after which the process is ended.

    Raises:
        PackError: when a file is not what the manifest says, or the bundle does not run.
    """
    differing = manifest_differences(folder)
    if differing:
        raise PackError(f"a packed bundle must hold what its manifest lists: {'; '.join(differing[:5])}")
    program = [sys.executable, "-I", "-B", str(Path(isolated.__file__).resolve()), str(folder.resolve())]
    with tempfile.TemporaryDirectory(prefix="elsewhere_") as elsewhere:
        try:
            result = subprocess.run(
                program,
                cwd=elsewhere,
                env=os.environ | OFFLINE,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise PackError(f"the packed bundle must run within {timeout:.0f} s, but did not") from error
    proven = [line for line in result.stdout.splitlines() if line.startswith(isolated.MARK)]
    if result.returncode != 0 or not proven:
        raise PackError(f"the packed bundle must run alone, but it failed:\n{_reason(result.stderr)}")
    return Proof(**json.loads(proven[-1].removeprefix(isolated.MARK)))


def _reason(stderr: str) -> str:
    """The exceptions that a traceback names, the first cause in front; else its last lines."""
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if not line.startswith((" ", "Traceback")) and "Error: " in line]
    return "\n".join(errors or lines[-5:]) or "no message"

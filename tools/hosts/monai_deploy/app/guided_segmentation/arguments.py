"""The command line and the environment variables of the application."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LATERALITIES = ("patient", "image")
MODALITIES = ("ct", "mr", "flair", "t2")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_DESCRIPTION = """Segment what a sentence describes in the image or series of a DICOM study; with a bundle of classes
all of them in a series, without a sentence.

Writes segmentation.dcm (DICOM SEG), report.dcm (DICOM SR, TID 1500), summary.png and result.json."""
_EXAMPLE = """Every option has an environment variable, given in brackets, for platforms that start a package without
arguments. Example:

  python app -i study -o output -m ssa_segmentation --text "opacity in the lower left lung"
"""


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """Return the check of a choice; argparse's own leaves defaults, here the environment, unchecked."""

    def checked(value: str) -> str:
        if value not in choices:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(choices)}, got {value!r}")
        return value

    return checked


# names: environment variable, help, default, type
_OPTIONS: dict[tuple[str, ...], tuple[str, str, str | None, Callable[[str], Any]]] = {
    ("-i", "--input"): ("HOLOSCAN_INPUT_PATH", "folder of the study", "input", Path),
    ("-o", "--output"): ("HOLOSCAN_OUTPUT_PATH", "folder of the results", "output", Path),
    ("-m", "--model"): (
        "HOLOSCAN_MODEL_PATH",
        "packed bundle, or a folder with nothing but one",
        "models",
        Path,
    ),
    ("--text",): ("GUIDED_TEXT", "the sentence; default: looked for", None, str),
    ("--laterality",): (
        "GUIDED_LATERALITY",
        "whose left the given sentence means, patient or image; default: the patient's, in endoscopy the image's",
        None,
        _one_of(LATERALITIES),
    ),
    ("--sidecar",): ("GUIDED_SIDECAR", ".txt or .json file with the sentence", None, Path),
    ("--modality",): (
        "GUIDED_MODALITY",
        "for a bundle of classes: what the series is, ct, mr, flair or t2; default: what its files say",
        None,
        _one_of(MODALITIES),
    ),
    ("--series",): ("GUIDED_SERIES", "Series Instance UID, where several are possible", None, str),
    ("--rules",): ("GUIDED_RULES", "JSON file of selection rules", None, Path),
    ("-l", "--log-level"): (
        "GUIDED_LOG_LEVEL",
        "DEBUG, INFO, WARNING or ERROR",
        "WARNING",
        _one_of(LOG_LEVELS),
    ),
}


@dataclass(frozen=True)
class Options:
    """What a run is to do.

    Attributes:
        input: folder of the study.
        output: folder of the results.
        model: the packed bundle, or a folder that holds it.
        text: the sentence; None: from a sidecar, a report or the images' attributes.
        laterality: whose left the given sentence means, "patient" or "image"; None: as is usual for the modality.
        sidecar: text or JSON file with the sentence; None: none is asked.
        modality: of the series, for a bundle of classes; None: as its files say, else as the bundle.
        series: Series Instance UID; None: the one that the rules select.
        rules: file of selection rules; None: by the modalities of the bundle.
        log_level: of Python's logging.
    """

    input: Path
    output: Path
    model: Path
    text: str | None = None
    laterality: str | None = None
    sidecar: Path | None = None
    modality: str | None = None
    series: str | None = None
    rules: Path | None = None
    log_level: str = "WARNING"


def parse_options(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Return the options; the command line goes before the environment.

    Args:
        arguments: without the program.
        environment: of the process.

    Raises:
        SystemExit: with code 2 and the reason, when an argument is unknown or not of its kind.
    """
    given = _parser(environment).parse_args(arguments)
    return Options(**vars(given))


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python app",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    for names, rest in _OPTIONS.items():
        variable, text, default, kind = rest
        value = environment.get(variable) or default
        parser.add_argument(*names, default=value, type=kind, help=f"{text} [{variable}]")
    return parser

"""Logging without the patient: the host's operators log attributes of studies, and pydicom repeats odd values."""

from __future__ import annotations

import logging
import os
import warnings

_TALKATIVE = ("pydicom", "highdicom")
_OPERATORS = "dicom_"  # modules of the host's operators that read studies


class WithoutStudies(logging.Filter):
    """Leave out what the host's operators say while they read studies: attributes, and errors that repeat them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record may be shown."""
        return not record.module.startswith(_OPERATORS)


def set_up_logging(level: str) -> None:
    """Log to standard error from `level` on, never a patient's data; Holoscan's own log is off unless asked for.

    Args:
        level: name of a level of Python's logging.
    """
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    handler.addFilter(WithoutStudies())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if level != "DEBUG":
        warnings.simplefilter("ignore")

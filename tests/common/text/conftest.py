"""Real captions."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def caption_files(real_data: Path) -> dict[str, list[str]]:
    """Distinct real captions: QaTa-COV19, MosMedData+, polyps."""

    def column(path: str, name: str, delimiter: str = ",") -> list[str]:
        with (real_data / path).open(newline="", encoding="utf-8") as file:
            return sorted({row[name] for row in csv.DictReader(file, delimiter=delimiter)})

    return {
        "qata": column("text/qata_captions_train.csv", "caption"),
        "mosmed": column("text/mosmeddata_plus_train.csv", "text", ";"),
        "polyps": column("kvasir_seg/train.csv", "text") + column("cvc_clinicdb/train.csv", "text"),
    }

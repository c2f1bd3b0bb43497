"""The key by which training sentences lose their words of place: off as published, wired to the training alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

BUNDLES = ("baseline_segmentation", "biclip_segmentation", "c2seg_segmentation", "ssa_segmentation")
ROOT = Path(__file__).parents[2] / "bundles"


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("share", [None, 0.3])
def test_the_key_reaches_the_augmentation(bundle: str, share: float | None) -> None:
    parser = ConfigParser()
    parser.read_config(str(ROOT / bundle / "configs" / "train.json"))
    assert parser["position_dropout"] == 0.0
    if share is not None:
        parser["position_dropout"] = share
    steps = parser.get_parsed_content("train#augmentation")
    dropped = [step.prob for step in steps if type(step).__name__ == "RandDropPositiond"]
    assert dropped == ([] if share is None else [share])
    assert "position_dropout" not in str(parser["validate"])

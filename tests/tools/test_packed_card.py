"""What a packed bundle says of itself and carries along: its model card, and the golden output of its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.packing import (
    BundleSource,
    Contents,
    PackError,
    golden_of,
    packed_card,
    read_source,
    repository_only,
)
from tools.packing.golden import what_decides_output
from tools.verification import Status, opened_bundle
from tools.verification.packed import card

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted((ROOT / "bundles").glob("*_segmentation"))
DATA = {"name": "Some lungs", "sha256": "ff00"}
NOTHING = Contents(overlays=(), laterality="image", weights=None, training_data=None)
FULL = Contents(overlays=("light", "qata"), laterality="patient", weights="ab12", training_data=DATA)
CARD = """# A bundle

## Data and licence

See the licence. <!-- repository -->`python -m tools.prepare_data` makes it.<!-- /repository -->

## Train and infer

<!-- repository -->
In the repository: `bundles/a_segmentation`.
<!-- /repository -->

It goes on after a kill.

## Limitations
"""


def source_of(folder: Path, text: str) -> BundleSource:
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    (folder / "docs" / "README.md").write_text(text, encoding="utf-8")
    return BundleSource(folder=folder, metadata={"version": "1.2.3"})


class TestCard:
    def test_what_only_the_repository_can_do_is_left_out(self, tmp_path: Path) -> None:
        text = packed_card(source_of(tmp_path / "a_segmentation", CARD), NOTHING)
        assert "See the licence.\n" in text
        assert "It goes on after a kill." in text
        assert "repository" not in text
        assert repository_only(text) == []
        assert [line for line in text.splitlines() if line.startswith("#")] == [
            *("# A bundle", "## Data and licence", "## Train and infer", "## Limitations")
        ]

    def test_it_says_what_was_packed(self, tmp_path: Path) -> None:
        source = source_of(tmp_path / "a_segmentation", CARD)
        text = packed_card(source, FULL)
        assert "This folder is version 1.2.3, with the overlays light, qata merged." in text
        assert "`models/model.pt` (SHA-256 `ab12`), were trained on Some lungs, list SHA-256 `ff00`." in text
        assert "It calls left what `laterality` says: `patient`." in text
        assert "`model/a_segmentation` of the app `monaibundle`" in text
        bare = packed_card(source, NOTHING)
        assert "This folder is version 1.2.3.\nIt holds no weights: train it first." in bare
        unknown = Contents(overlays=(), laterality="image", weights="ab12", training_data=None)
        assert "were trained with data that nobody named." in packed_card(source, unknown)

    def test_several_processes_only_where_there_is_a_configuration(self, tmp_path: Path) -> None:
        source = source_of(tmp_path, CARD)
        assert "torchrun" not in packed_card(source, NOTHING)
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "multi_gpu_train.json").write_text("{}", encoding="utf-8")
        assert "torchrun" in packed_card(source, NOTHING)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (
                "goes on",
                "is `python -m tools.report`",
                r"tools\.report works in the repository alone: put it",
            ),
            ("goes on", "is in [x](../../../docs/x.md)", r"\]\(\.\./\.\./\.\./docs/x\.md\) works in the"),
            ("goes on", "--bundle_root bundles/a_b", "bundles/a_b works in the repository alone"),
            ("\n<!-- /repository -->\n", "\n", "every <!-- repository --> must have its"),
            ("## Train and infer", "## Use", "must have the section '## Train and infer'"),
        ],
    )
    def test_cards_that_cannot_be_packed(self, old: str, new: str, message: str, tmp_path: Path) -> None:
        with pytest.raises(PackError, match=message):
            packed_card(source_of(tmp_path, CARD.replace(old, new)), NOTHING)

    @pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
    def test_every_bundle_has_a_card_that_can_be_packed(self, bundle: Path) -> None:
        text = packed_card(read_source(str(bundle), bundles=ROOT / "bundles"), FULL)
        assert "--config_file configs/inference.json --bundle_root ." in text
        assert "\n\n\n" not in text

    def test_verification_finds_a_card_of_the_repository(self, tmp_path: Path) -> None:
        source_of(tmp_path, CARD)
        with opened_bundle(tmp_path) as opened:
            assert card(opened).status is Status.SKIPPED
        (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
        with opened_bundle(tmp_path) as opened:
            result = card(opened)
        assert result.status is Status.FAIL
        assert "tools.prepare_data works in the repository alone" in result.detail
        assert "pack the bundle" in result.fix


class TestGolden:
    INFERENCE = {  # noqa: RUF012 - copied, never changed
        "image_size": 64,
        "width": 1.0,
        "output_dir": "out",
        "network_def": {"_target_": "N", "width": "@width"},
        "network": "$@network_def.to(@device)",
        "device": "cpu",
        "preprocessing": {"_target_": "p", "image_size": "@image_size"},
        "inferer": {"_target_": "i"},
        "handlers": ["@network", "@output_dir"],
    }

    @pytest.fixture
    def source(self, tmp_path: Path) -> BundleSource:
        for name in ("configs", "models"):
            (tmp_path / name).mkdir()
        torch.save({"a": torch.zeros(1)}, tmp_path / "models" / "model.pt")
        text = json.dumps(self.INFERENCE)
        (tmp_path / "configs" / "inference.json").write_text(text, encoding="utf-8")
        source = BundleSource(folder=tmp_path, metadata={})
        self.write(source, weights=sha256(tmp_path / "models" / "model.pt"))
        return source

    def write(self, source: BundleSource, **content: Any) -> None:
        (source.folder / "models" / "golden.json").write_text(json.dumps(content), encoding="utf-8")

    def test_it_goes_with_its_weights(self, source: BundleSource) -> None:
        expected = source.folder / "models" / "golden.json"
        assert golden_of(source, source.weights, self.INFERENCE) == expected
        assert golden_of(source, source.weights, self.INFERENCE | {"output_dir": "elsewhere"}) == expected
        assert golden_of(source, None, self.INFERENCE) is None
        self.write(source, weights="of others")
        assert golden_of(source, source.weights, self.INFERENCE) is None
        expected.unlink()
        assert golden_of(source, source.weights, self.INFERENCE) is None

    @pytest.mark.parametrize(
        "changed",
        [
            {"image_size": 32},
            {"width": 0.5},
            {"inferer": {"_target_": "j"}},
            {"network_def": {"_target_": "M"}},
        ],
    )
    def test_not_when_the_output_is_another(self, changed: dict[str, Any], source: BundleSource) -> None:
        assert golden_of(source, source.weights, self.INFERENCE | changed) is None

    def test_what_decides_is_followed_through_references(self) -> None:
        assert set(what_decides_output(self.INFERENCE)) == {
            *("network", "network_def", "preprocessing", "inferer", "image_size", "width")
        }


def sha256(path: Path) -> str:
    from common.checks import file_sha256

    return file_sha256(path)

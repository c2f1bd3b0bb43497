"""tools.export_model: what it writes is what the network gives, and what it cannot write is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel
from typer.testing import CliRunner

from tools import export_model as command
from tools.exporting import (
    FORMATS,
    ExportError,
    ExportRequest,
    Exports,
    Row,
    card_with_table,
    export_model,
    largest_difference,
    milliseconds_per_image,
    opened_model,
    steps_of,
)
from tools.exporting import export as exporting
from tools.exporting.formats import REGISTRY
from tools.exporting.torchscript import read_traced, traced_difference
from tools.packing import PackRequest, pack_bundle

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted((ROOT / "bundles").glob("*_segmentation"))
BASELINE = "baseline_segmentation"
VOLUMES = "tcsa_uda_segmentation"
NETWORKS = sorted(
    path.stem
    for path in (ROOT / "bundles" / BASELINE / "configs" / "overlays").glob("*.json")
    if "network_def" in path.read_text(encoding="utf-8")
)
TINY = {"width": 0.125, "image_size": 64}
TOLERANCE = 1e-4
FAILED = Row(format="onnx", runtime="onnxruntime, cpu", note="the operator is unknown")
ANOTHER = {
    **{"name": "another", "bundle": "b", "overlays": ["another"], "network": "N", "image_size": [32, 32]},
    **{"max_tokens": 24, "random_weights": False, "threads": 1, "machine": {"cpu": "c", "cores": 2}},
    **{"versions": {"torch": "2"}, "rows": [dataclasses.asdict(FAILED)]},
}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An overlay that makes every network small."""
    path = tmp_path_factory.mktemp("overlays") / "tiny.json"
    path.write_text(json.dumps(TINY), encoding="utf-8")
    return str(path)


def request(output: Path, tiny: str, *overlays: str, **values: Any) -> ExportRequest:
    settings = {"bundle": BASELINE, "bundles": ROOT / "bundles", "random_weights": True, "repeats": 1}
    settings |= {"formats": ("torchscript",), "overlays": (*overlays, tiny), "batch": 2}
    return ExportRequest(output=output, **{**settings, **values})


@pytest.fixture(scope="module")
def zones(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exports]:
    """The zone U-Net as TorchScript and `torch.export` program."""
    folder = tmp_path_factory.mktemp("exports")
    return folder, export_model(request(folder, tiny, "zone_unet", formats=("torchscript", "pt2")))


class TestExport:
    def test_every_format_is_a_row_with_its_numbers(self, zones: tuple[Path, Exports]) -> None:
        folder, exports = zones
        assert exports.complete
        assert [row.format for row in exports.rows] == ["eager", "torchscript", "pt2"]
        for row in exports.rows[1:]:
            assert row.file is not None
            path = folder / row.file
            assert row.megabytes == round(path.stat().st_size / 1e6, 2)
            assert row.difference is not None
            assert 0 <= row.difference <= TOLERANCE
            assert row.seconds is not None
            assert set(row.milliseconds) == {"1", "2"}
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]

    def test_files_give_the_networks_output_for_any_batch(
        self, zones: tuple[Path, Exports], tiny: str
    ) -> None:
        folder, exports = zones
        with opened_model(request(folder, tiny, "zone_unet")) as model, torch.inference_mode():
            for row in exports.rows[1:]:
                run = REGISTRY[row.format].read(folder / str(row.file), "cpu")
                for rows in ([0], [1, 2], [0, 1, 2, 0, 1]):
                    image, text = model.image[rows], model.text[rows]
                    expected = model.network(image, text)
                    torch.testing.assert_close(run(image, text), expected, atol=TOLERANCE, rtol=0)

    def test_sidecar_says_how_to_feed_them(self, zones: tuple[Path, Exports], tiny: str) -> None:
        folder, exports = zones
        assert exports.sidecar == folder / f"{exports.name}.json"
        content = read(exports.sidecar)
        image, text = content["inputs"]
        assert (image["name"], image["dtype"], image["shape"]) == ("image", "float32", ["batch", 3, 64, 64])
        assert (text["name"], text["dtype"], text["shape"]) == ("text", "int64", ["batch", 2, 24])
        assert text["used"]
        assert content["outputs"][0]["shape"] == ["batch", 1, 64, 64]
        assert content["outputs"][0]["threshold"] == 0.5
        assert content["laterality"] == "image"
        assert content["weights"] == {"sha256": None, "random": True}
        assert content["tokenizer"]["name"] == "zones"
        assert content["tokenizer"]["vocabulary"] is None
        assert set(content["files"]) == {"torchscript", "pt2"}
        with opened_model(request(folder, tiny, "zone_unet")) as model:
            for example, expected in zip(content["examples"], model.text.tolist(), strict=True):
                assert [example["ids"], example["mask"]] == expected

    def test_sentences_are_a_real_a_blank_and_a_long_one(self, tiny: str, tmp_path: Path) -> None:
        with opened_model(request(tmp_path, tiny)) as model:
            tokens = model.text[:, 1].sum(dim=1).tolist()
        assert 2 < tokens[0] < 24
        assert tokens[1] == 2
        assert tokens[2] == 24

    def test_what_is_there_is_kept(self, zones: tuple[Path, Exports], tiny: str) -> None:
        folder, exports = zones
        before = (folder / f"{exports.name}.ts").read_bytes()
        with pytest.raises(ExportError, match=r"must not hold .*zone_unet-tiny\.ts.*--overwrite"):
            export_model(request(folder, tiny, "zone_unet"))
        assert (folder / f"{exports.name}.ts").read_bytes() == before


class TestFailures:
    def test_another_output_is_not_written(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def doubled(path: Path, device: str) -> Any:
            loaded = read_traced(path, device=device)
            return lambda image, text: 2 * loaded(image, text)

        changed = dataclasses.replace(REGISTRY["torchscript"], read=doubled)
        monkeypatch.setitem(exporting.REGISTRY, "torchscript", changed)
        exports = export_model(request(tmp_path, tiny, "zone_unet"))
        row = exports.rows[1]
        assert not exports.complete
        assert row.file is None
        assert row.difference is not None
        assert row.difference > TOLERANCE
        assert "must differ by at most 0.0001" in row.note
        assert list(tmp_path.iterdir()) == []

    def test_a_format_that_fails_is_a_row_and_the_others_go_on(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(model: Any, path: Path) -> None:
            path.write_text("half", encoding="utf-8")
            raise RuntimeError("outer\nmore") from ValueError("the operator is unknown\nand more")

        changed = dataclasses.replace(REGISTRY["pt2"], write=refuse)
        monkeypatch.setitem(exporting.REGISTRY, "pt2", changed)
        exports = export_model(request(tmp_path, tiny, "zone_unet", formats=("pt2", "torchscript")))
        assert exports.rows[1].note == "ValueError: the operator is unknown"
        assert exports.rows[1].file is None
        assert exports.rows[2].file == f"{exports.name}.ts"
        assert {path.suffix for path in tmp_path.iterdir()} == {".ts", ".json"}

    def test_missing_packages_are_named(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changed = dataclasses.replace(REGISTRY["onnx"], packages=("no_such_package_here",))
        monkeypatch.setitem(exporting.REGISTRY, "onnx", changed)
        exports = export_model(request(tmp_path, tiny, "zone_unet", formats=("onnx",)))
        assert exports.rows[1].note.startswith("needs no_such_package_here: pip install")
        assert exports.sidecar is None

    def test_weights_are_needed(self, tiny: str, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match=r"must have weights.*--random-weights"):
            export_model(request(tmp_path, tiny, random_weights=False))
        with pytest.raises(ExportError, match=r"nothing\.pt, which does not exist"):
            export_model(request(tmp_path, tiny, weights=tmp_path / "nothing.pt"))
        torch.save({"strange": torch.zeros(1)}, tmp_path / "model.pt")
        with pytest.raises(ExportError, match=r"(?s)entries differ.*Overlays: zone_unet, tiny"):
            export_model(request(tmp_path, tiny, "zone_unet", weights=tmp_path / "model.pt"))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"formats": ("tensorrt",)}, "formats must be some of torchscript, onnx, pt2, got tensorrt"),
            ({"formats": ()}, "got none"),
            ({"batch": 0}, "batch must be at least 1, got 0"),
            ({"repeats": 0}, "repeats must be at least 1, got 0"),
            ({"device": "toaster"}, "device must be one of this machine, got 'toaster'"),
        ],
    )
    def test_bad_requests(self, values: dict[str, Any], message: str, tiny: str, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match=message):
            export_model(request(tmp_path, tiny, "zone_unet", **values))

    def test_a_component_that_cannot_be_built(self, tiny: str, tmp_path: Path) -> None:
        path = tmp_path / "odd.json"
        path.write_text('{"image_size": 65}', encoding="utf-8")
        with pytest.raises(ExportError, match=r"preprocessing of inference\.json cannot be built"):
            export_model(request(tmp_path, str(path)))

    def test_comparison_sees_shapes_and_numbers(self) -> None:
        image, text = torch.zeros(2, 3, 4, 4), torch.zeros(2, 2, 3, dtype=torch.int64)

        def same(image: Tensor, text: Tensor) -> Tensor:
            return image[:, :1]

        assert largest_difference(same, same, image, text) == 0
        with pytest.raises(ValueError, match=r"must have shape \(1, 1, 4, 4\), got \(1, 3, 4, 4\)"):
            largest_difference(lambda image, text: image, same, image, text)
        with pytest.raises(ValueError, match="must be finite"):
            largest_difference(lambda image, text: image[:, :1] / 0, same, image, text)

    def test_every_run_is_timed_at_every_batch(self) -> None:
        seen: list[int] = []

        def run(image: Tensor, text: Tensor) -> None:
            seen.append(len(image))

        image, text = torch.zeros(3, 1, 4, 4), torch.zeros(3, 2, 3, dtype=torch.int64)
        times = milliseconds_per_image({"a": (run, "cpu")}, image, text, batches=(1, 5), repeats=2)
        assert seen == [1, 1, 1, 5, 5, 5]
        assert set(times["a"].milliseconds) == set(times["a"].processor_milliseconds) == {"1", "5"}


def test_weights_of_a_packed_bundle_run_its_own_code(tiny: str, tmp_path: Path) -> None:
    with opened_model(request(tmp_path, tiny, "zone_unet")) as model:
        torch.save(model.network.state_dict(), tmp_path / "model.pt")
        expected = model.network(model.image, model.text)
    packing = PackRequest(
        bundle=BASELINE,
        bundles=ROOT / "bundles",
        overlays=("zone_unet", tiny),
        weights=tmp_path / "model.pt",
        output=tmp_path / "dist",
        proof=False,
    )
    folder = pack_bundle(packing).folder
    chosen = request(tmp_path / "exports", tiny, bundle=str(folder), overlays=(), random_weights=False)
    with opened_model(chosen) as packed:
        assert type(packed.network).__module__ == "scripts.common.networks.zone_unet"
    exports = export_model(chosen)
    assert exports.summary["weights"] == read(folder / "manifest.json")["weights"]["sha256"]
    run = read_traced(tmp_path / "exports" / str(exports.rows[1].file))
    # one network, two copies of its code
    torch.testing.assert_close(run(model.image, model.text), expected, atol=TOLERANCE, rtol=0)


def test_a_frozen_text_encoder_is_exported_with_the_network(tiny: str, tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "lower", "left", "right", "lung", "upper"]
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    overlay = tmp_path / "frozen.json"
    overlay.write_text(json.dumps({"tokenizer": str(tmp_path / "bert")}), encoding="utf-8")
    exports = export_model(request(tmp_path / "exports", tiny, str(overlay)))
    assert exports.complete
    assert "frozen text encoder" in exports.rows[0].note
    assert exports.sidecar is not None
    content = read(exports.sidecar)
    assert content["tokenizer"]["name"] == "bert"
    assert content["tokenizer"]["vocabulary"]["file"] == "vocab.txt"
    assert str(tmp_path) not in exports.sidecar.read_text(encoding="utf-8")


def test_traced_difference_refuses_another_output(tmp_path: Path) -> None:
    class Counting(torch.nn.Module):
        calls = 0

        def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
            Counting.calls += 1
            return image + text.sum() + Counting.calls

    with pytest.raises(ValueError, match=r"must give the same within 0\.0001"):
        traced_difference(Counting(), torch.zeros(2, 1), torch.zeros(2, 1), tmp_path / "model.ts")


class TestCommand:
    def arguments(self, tmp_path: Path, tiny: str, *more: str) -> list[str]:
        places = ["--bundles", str(ROOT / "bundles"), "--output", str(tmp_path / "exports")]
        return [BASELINE, "--overlay", "zone_unet", tiny, *places, "--repeats", "1", "--batch", "1", *more]

    def test_table_json_and_exit_code(self, tiny: str, tmp_path: Path) -> None:
        listing = tmp_path / "exports.json"
        listing.write_text(json.dumps([ANOTHER]), encoding="utf-8")
        more = ["--random-weights", "--format", "torchscript", "--json", str(listing)]
        for extra in ([], ["--overwrite"]):
            output = CliRunner().invoke(command.app, self.arguments(tmp_path, tiny, *more, *extra))
            assert output.exit_code == 0, output.output
        assert "random weights" in output.output
        assert "torchscript" in output.output
        other, entry = read(listing)
        assert other == ANOTHER
        text = (tmp_path / "exports.md").read_text(encoding="utf-8")
        assert "| another | onnx | the operator is unknown |" in text
        assert "| zone_unet-tiny | torchscript |" in text
        assert "64 × 64 pixels, 24 tokens, random weights" in text
        assert entry["name"] == "baseline_segmentation-0.1.0-zone_unet-tiny"
        assert entry["random_weights"]
        assert entry["threads"] == torch.get_num_threads()
        assert entry["versions"]["torch"] == torch.__version__
        assert [row["format"] for row in entry["rows"]] == ["eager", "torchscript"]

    def test_one_when_a_format_is_missing(
        self, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = Row(format="onnx", runtime="onnxruntime, cpu", note="the [operator] is unknown")
        summary = {"image_size": [64, 64], "network": "N", "random_weights": True, "threads": 1}
        found = Exports(name="n", summary=summary, rows=(row,), sidecar=None)
        monkeypatch.setattr(command, "export_model", lambda request, **values: found)
        output = CliRunner().invoke(command.app, self.arguments(tmp_path, tiny))
        assert output.exit_code == 1
        assert "[operator]" in output.output

    def test_two_when_nothing_can_begin(self, tiny: str, tmp_path: Path) -> None:
        output = CliRunner().invoke(command.app, self.arguments(tmp_path, tiny))
        assert output.exit_code == 2
        assert "--random-weights" in output.output
        (tmp_path / "list.json").write_text('{"a": 1}', encoding="utf-8")
        more = ["--random-weights", "--json", str(tmp_path / "list.json")]
        output = CliRunner().invoke(command.app, self.arguments(tmp_path, tiny, *more))
        assert output.exit_code == 2
        assert "must be a list of measurements" in output.output

    def test_steps_are_those_that_are_told(self, tiny: str, tmp_path: Path) -> None:
        told: list[str] = []
        chosen = request(tmp_path, tiny, "zone_unet")
        export_model(chosen, on_step=told.append)
        assert told == steps_of(chosen)


def test_onnx_keeps_an_input_that_the_network_ignores(tiny: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    exports = export_model(request(tmp_path, tiny, "unet", formats=("onnx",)))
    assert [row.note for row in exports.rows] == ["", ""]
    session = runtime.InferenceSession(
        str(tmp_path / f"{exports.name}.onnx"), providers=["CPUExecutionProvider"]
    )
    assert [entry.name for entry in session.get_inputs()] == ["image", "text"]
    assert [entry.type for entry in session.get_inputs()] == ["tensor(float)", "tensor(int64)"]
    assert session.get_inputs()[0].shape[1:] == [3, 64, 64]
    assert exports.sidecar is not None
    assert not read(exports.sidecar)["inputs"][1]["used"]


@pytest.mark.slow
@pytest.mark.parametrize("overlay", NETWORKS)
def test_every_network_is_exported_in_every_format(overlay: str, tiny: str, tmp_path: Path) -> None:
    formats = [name for name in FORMATS if not REGISTRY[name].missing()]
    exports = export_model(request(tmp_path, tiny, overlay, formats=formats))
    assert [row.note for row in exports.rows] == [""] * len(exports.rows)
    assert exports.complete


@pytest.mark.slow
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_bundle_is_exported(bundle: Path, tiny: str, tmp_path: Path) -> None:
    formats = [name for name in FORMATS if not REGISTRY[name].missing()]
    if (
        bundle.name == VOLUMES
    ):  # its untrained logits are thousands: in float32 they are no more exact than 1e-2
        formats = [name for name in formats if name != "onnx"]
    exports = export_model(request(tmp_path, tiny, bundle=bundle.name, formats=formats))
    assert [row.note for row in exports.rows] == [""] * len(exports.rows)


class TestCard:
    CARD = "# Card\n\n<!-- exports -->\n\nold\n<!-- /exports -->\n\nrest\n"

    def test_the_table_is_replaced_and_nothing_else(self) -> None:
        entry = {
            "bundle": "b",
            "network": "N",
            "overlays": [],
            "rows": [
                {
                    "format": "eager",
                    "file": None,
                    "megabytes": 1.0,
                    "seconds": None,
                    "difference": None,
                    "processor_milliseconds": {"1": 7.0},
                }
            ],
        }
        text = card_with_table(self.CARD, [entry])
        assert "| b (N) | eager | 1.0 |  |  | 7 |" in text
        assert "old" not in text
        assert text.startswith("# Card\n\n<!-- exports -->\n\n| network")
        assert text.endswith("\n<!-- /exports -->\n\nrest\n")
        assert card_with_table(text, [entry]) == text

    def test_a_card_without_a_place_is_refused(self) -> None:
        with pytest.raises(ValueError, match="must have the lines <!-- exports -->"):
            card_with_table("# Card\n", [])

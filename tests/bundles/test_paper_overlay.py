"""The overlay ``paper`` of every bundle: the published sizes, with encoders from a local folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from transformers import BertConfig, BertModel

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "baseline_segmentation" / "configs"
SSA = ROOT / "bundles" / "ssa_segmentation" / "configs"
SEMI = ROOT / "bundles" / "semi_medref_segmentation" / "configs"
BICLIP = ROOT / "bundles" / "biclip_segmentation" / "configs"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "right", "lung", "lower"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT as wide as CXR-BERT, of one layer."""
    folder = tmp_path_factory.mktemp("bert")
    config = BertConfig(vocab_size=len(WORDS), num_hidden_layers=1, max_position_embeddings=32)
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return folder


NETWORKS = [("mmi_unet", 56.17), ("guide_decoder", 43.95)]


@pytest.mark.parametrize(("overlay", "millions"), NETWORKS)
def test_trainable_parameters_without_text_encoder(encoder: Path, overlay: str, millions: float) -> None:
    parser = ConfigParser()
    names = ["train", f"overlays/{overlay}", "overlays/paper"]
    parser.read_config([CONFIGS / f"{name}.json" for name in names])
    parser.update({"bundle_root": str(CONFIGS.parent), "tokenizer": str(encoder)})
    network = parser.get_parsed_content("network_def")
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trainable / 1e6 == pytest.approx(millions, rel=0.005)
    assert not any("text_encoder" in name for name in network.state_dict())
    assert parser["loss"] == "dice_only"
    assert parser["image_size"] == 224


@pytest.mark.parametrize(("backbone", "millions"), NETWORKS)
def test_ssa_has_its_base_networks_parameters(encoder: Path, backbone: str, millions: float) -> None:
    parser = ConfigParser()
    parser.read_config([SSA / f"{name}.json" for name in ("train", "overlays/qata_cov19", "overlays/paper")])
    parser.update({"bundle_root": str(SSA.parent), "tokenizer": str(encoder), "backbone": backbone})
    network = parser.get_parsed_content("network")
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trainable / 1e6 == pytest.approx(millions, rel=0.005)
    trained = parser.get_parsed_content("training_network")
    extra = sum(p.numel() for p in trained.parameters() if p.requires_grad) - trainable
    assert extra / 1e6 == pytest.approx(0.4, rel=0.01)
    chosen = {key: parser[key] for key in ("image_size", "batch_size", "max_epochs", "mirror", "loss")}
    assert chosen == {
        "image_size": 224,
        "batch_size": 32,
        "max_epochs": 100,
        "mirror": 0.0,
        "loss": "dice_bce",
    }


@pytest.mark.parametrize(("backbone", "millions"), NETWORKS)
def test_semi_medref_adds_an_image_head(encoder: Path, backbone: str, millions: float) -> None:
    parser = ConfigParser()
    parser.read_config([SEMI / f"{name}.json" for name in ("train", "overlays/qata_cov19", "overlays/paper")])
    parser.update({"bundle_root": str(SEMI.parent), "tokenizer": str(encoder), "backbone": backbone})
    student = parser.get_parsed_content("training_network")
    counts = [
        sum(p.numel() for p in network.parameters() if p.requires_grad) / 1e6
        for network in (student.network, student, parser.get_parsed_content("teacher").network)
    ]
    assert counts == pytest.approx([millions, millions + 0.592, 0.0], rel=0.005)


@pytest.mark.parametrize(("parts", "millions"), [(True, 33.93), (False, 32.26)], ids=["BiCLIP", "EF-UNet"])
def test_biclip_trains_as_many_parameters_as_the_papers(encoder: Path, parts: bool, millions: float) -> None:
    parser = ConfigParser()
    names = ("train", "overlays/qata_cov19", "overlays/paper")
    parser.read_config([BICLIP / f"{name}.json" for name in names])
    parser.update({"bundle_root": str(BICLIP.parent), "tokenizer": str(encoder)})
    parser.update(dict.fromkeys(("bmf", "iac", "cycle"), parts))
    trained = parser.get_parsed_content("training_network")
    trainable = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    assert trainable / 1e6 == pytest.approx(millions, rel=0.005)
    assert not any("text_encoder" in name for name in trained.network.state_dict())


def test_every_parameter_learns_at_the_papers_size(encoder: Path) -> None:
    parser = ConfigParser()
    parser.read_config(
        [CONFIGS / f"{name}.json" for name in ("train", "overlays/mmi_unet", "overlays/paper")]
    )
    parser.update({"bundle_root": str(CONFIGS.parent), "tokenizer": str(encoder), "width": 0.25})
    network = parser.get_parsed_content("network_def").train()
    text = torch.tensor([[[2, 5, 7, 3], [1, 1, 1, 1]]])
    text = torch.nn.functional.pad(text, (0, 20))
    network(torch.randn(1, 3, 224, 224), text)["logits"].square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []

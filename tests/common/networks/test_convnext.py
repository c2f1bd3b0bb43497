from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import BertConfig, ConvNextConfig, ConvNextForImageClassification, ConvNextModel

from common.networks import ConvNextEncoder, MMIUNet


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small ConvNeXt of random weights, stored in half precision as a classifier."""
    folder = tmp_path_factory.mktemp("convnext")
    torch.manual_seed(0)
    config = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], num_labels=5)
    ConvNextForImageClassification(config).half().save_pretrained(folder)
    return folder


def test_stages_have_the_strides_and_channels_of_the_paper() -> None:
    encoder = ConvNextEncoder(depths=(1, 1, 1, 1))
    features = encoder(torch.randn(1, 3, 64, 96))
    assert encoder.channels == (96, 192, 384, 768)
    assert [tuple(feature.shape) for feature in features] == [
        (1, 96, 16, 24),
        (1, 192, 8, 12),
        (1, 384, 4, 6),
        (1, 768, 2, 3),
    ]


def test_stepping_equals_the_whole_model(weights: Path) -> None:
    encoder = ConvNextEncoder(pretrained=weights)
    model = ConvNextModel.from_pretrained(weights, dtype=torch.float32)
    image = torch.randn(2, 3, 64, 64)
    expected = model(image, output_hidden_states=True).hidden_states
    for feature, state in zip(encoder(image), expected[-4:], strict=True):
        assert_close(feature, state)


def test_pretrained_weights_are_loaded_in_single_precision(weights: Path) -> None:
    network = MMIUNet(pretrained=str(weights), text_encoder={"hidden_size": 32, "num_layers": 1})
    assert {weight.dtype for weight in network.encoder.parameters()} == {torch.float32}
    assert network.encoder.channels == (8, 16, 24, 32)
    assert network.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_a_random_start_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="common.networks.convnext"):
        ConvNextEncoder(width=0.125, depths=(1, 1, 1, 1))
    assert [record.message for record in caplog.records] == [
        "ConvNeXt encoder starts at random: no pretrained weights named"
    ]


def test_missing_weights_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"pretrained must be a cached .* got '.*nowhere'"):
        ConvNextEncoder(pretrained=tmp_path / "nowhere")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    BertConfig(hidden_size=16, num_attention_heads=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must be a ConvNeXt with 4 stages, got the model type 'bert'"):
        ConvNextEncoder(pretrained=tmp_path)


def test_incomplete_weights_are_refused(tmp_path: Path, weights: Path) -> None:
    model = ConvNextModel.from_pretrained(weights)
    del model.encoder.stages[3].layers[0].dwconv
    model.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"must hold all weights of a ConvNeXt, got .* without encoder\.stages\.3"
    ):
        ConvNextEncoder(pretrained=tmp_path)


def test_pretrained_weights_fix_width_and_channels(weights: Path) -> None:
    with pytest.raises(ValueError, match=r"width must be 1 with pretrained weights, got 0\.5"):
        ConvNextEncoder(pretrained=weights, width=0.5)
    with pytest.raises(ValueError, match=r"in_channels must be 3 with the weights of .*, got 1"):
        ConvNextEncoder(1, pretrained=weights)


def test_depths_must_be_four() -> None:
    with pytest.raises(ValueError, match=r"depths must have 4 entries, got \[3, 3, 9\]"):
        ConvNextEncoder(depths=(3, 3, 9))


def test_a_network_takes_over_pretrained_weights(tmp_path: Path) -> None:
    arguments = {
        "width": 1 / 12,
        "depths": (1, 1, 1, 1),
        "text_encoder": {"hidden_size": 32, "num_layers": 1},
    }
    network = MMIUNet(**arguments)
    config = ConvNextConfig(hidden_sizes=list(network.encoder.channels), depths=[1, 1, 1, 1])
    model = ConvNextModel(config)
    model.save_pretrained(tmp_path)
    network.load_pretrained(tmp_path)
    image = torch.randn(1, 3, 64, 64)
    assert_close(network.encoder(image)[-1], model(image).last_hidden_state)


def test_pretrained_weights_of_another_size_are_refused(weights: Path) -> None:
    network = MMIUNet(width=0.125, text_encoder={"hidden_size": 32, "num_layers": 1})
    before = network.encoder.stem.patch_embeddings.weight.clone()
    with pytest.raises(ValueError, match="set width to 1 or leave pretrained empty"):
        network.load_pretrained(weights)
    assert torch.equal(network.encoder.stem.patch_embeddings.weight, before)

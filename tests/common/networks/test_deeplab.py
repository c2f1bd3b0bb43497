from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from common.networks import AtrousPyramid, DilatedResNet

SMALL = {"width": 0.125, "depths": (1, 2, 1, 1)}


def make(**arguments: object) -> DilatedResNet:
    torch.manual_seed(0)
    return DilatedResNet(**{**SMALL, **arguments})


def changed(network: nn.Module) -> nn.Module:
    """Statistics other than those of the start."""
    network.train()
    network(torch.rand(2, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize(("stride", "side"), [(8, 33), (4, 65)])
def test_sides_are_those_of_deeplab(stride: int, side: int) -> None:
    network = make(output_stride=stride).eval()
    middle, deep = network(torch.rand(1, 3, 256, 64))
    assert middle.shape[1:3] == (network.channels[0], side)
    assert deep.shape[1:3] == (network.channels[1], side)
    assert deep.shape[3] == side // 4 + 1


def test_resnet_101_has_its_parameters() -> None:
    with torch.device("meta"):
        network = DilatedResNet()
    # torchvision's count without the classifier
    assert sum(weight.numel() for weight in network.parameters()) == 44_549_160 - (2048 * 1000 + 1000)
    assert network.channels == (1024, 2048)
    assert network.layer4[0].conv2.dilation == (4, 4)
    assert network.layer3[0].conv2.dilation == (2, 2)


@pytest.mark.parametrize(
    ("convention", "place"), [("caffe", "conv1"), ("torchvision", "conv2"), ("plain", "conv2")]
)
def test_the_stride_is_where_the_weights_had_it(convention: str, place: str) -> None:
    block = make(convention=convention).layer2[0]
    strides = {name: getattr(block, name).stride for name in ("conv1", "conv2")}
    assert strides == {"conv1": (1, 1), "conv2": (1, 1), place: (2, 2)}


def seen(convention: str, image: torch.Tensor) -> torch.Tensor:
    """What the first convolution is given."""
    network, inputs = make(convention=convention).eval(), []
    network.conv1.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    network(image)
    return inputs[0]


def test_pixels_are_scaled_to_what_the_weights_know() -> None:
    image = torch.stack([torch.full((32, 32), value) for value in (1.0, 0.0, -1.0)])[None]  # red, green, blue
    assert_close(seen("plain", image), image)
    blue, green, red = seen("caffe", image)[0, :, 0, 0].tolist()
    assert (blue, green, red) == pytest.approx((0 - 104.007, 127.5 - 116.669, 255 - 122.679), abs=1e-3)
    scaled = seen("torchvision", image)[0, :, 0, 0].tolist()
    assert scaled == pytest.approx([(1 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, -0.406 / 0.225], abs=1e-5)


def test_frozen_norms_keep_scale_and_shift_and_follow_the_statistics() -> None:
    network = make(freeze_norm=True)
    frozen = {name for name, weight in network.named_parameters() if not weight.requires_grad}
    norms = {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert frozen == {f"{name}.{part}" for name in norms for part in ("weight", "bias")}
    before = network.bn1.running_mean.clone()
    changed(network)
    assert not torch.equal(network.bn1.running_mean, before)


@pytest.mark.parametrize("prefix", ["", "module.", "Scale."])
@pytest.mark.parametrize("kind", ["file.safetensors", "file.pth", "folder"])
def test_pretrained_weights_are_taken_over(tmp_path: Path, prefix: str, kind: str) -> None:
    known = changed(make())
    saved = {f"{prefix}{name}": value.half() for name, value in known.state_dict().items()}
    saved |= {f"{prefix}fc.weight": torch.zeros(10, 4), f"{prefix}layer5.conv2d_list.0.bias": torch.zeros(21)}
    # files of old have no counts
    saved = {name: value for name, value in saved.items() if not name.endswith("num_batches_tracked")}
    path = tmp_path / ("model.safetensors" if kind == "folder" else kind)
    save_file(saved, path) if path.suffix == ".safetensors" else torch.save(saved, path)
    torch.manual_seed(5)
    network = DilatedResNet(**SMALL, pretrained=str(tmp_path if kind == "folder" else path)).eval()
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    image = torch.rand(1, 3, 64, 64)
    assert_close(network(image), known.half().float()(image), rtol=1e-3, atol=1e-3)  # half precision


def test_a_random_start_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="common.networks.deeplab"):
        make()
    assert [record.message for record in caplog.records] == [
        "DeepLab encoder starts at random: no pretrained weights named"
    ]


def test_other_weights_are_refused(tmp_path: Path) -> None:
    state = make().state_dict()
    torch.save(state, tmp_path / "small.pth")
    with pytest.raises(
        ValueError, match=r"conv1.weight of \(16, 3, 7, 7\) among them, got \(8, 3, 7, 7\) in .*width"
    ):
        make(width=0.25, pretrained=tmp_path / "small.pth")
    del state["layer3.0.conv2.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"layer3.0.conv2.weight of .* got none in"):
        make(pretrained=tmp_path / "less.pth")
    torch.save(make(), tmp_path / "whole.pth")
    with pytest.raises(ValueError, match="must be tensors alone"):
        make(pretrained=tmp_path / "whole.pth")
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="pretrained must be a readable file of weights"):
        make(pretrained=tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="does not exist"):
        make(pretrained=tmp_path / "nowhere.pth")


def test_a_pixel_of_the_pyramid_sees_its_dilations() -> None:
    pyramid = AtrousPyramid(2, 3, dilations=(2, 5))
    features = torch.rand(1, 2, 21, 21, requires_grad=True)
    pyramid(features)[0, 0, 10, 10].backward()
    rows = features.grad[0, 0].any(dim=1).nonzero().flatten().tolist()
    assert rows == [5, 8, 10, 12, 15]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (1, 1, 1)}, r"depths must have 4 entries, each at least 1, got \[1, 1, 1\]"),
        ({"depths": (1, 1, 0, 1)}, "depths must have 4 entries, each at least 1"),
        ({"output_stride": 16}, "output_stride must be 4 or 8, got 16"),
        ({"convention": "bgr"}, "convention must be one of plain, caffe, torchvision, got 'bgr'"),
        (
            {"convention": "caffe", "in_channels": 1},
            "in_channels must be 3 with the convention 'caffe', got 1",
        ),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)

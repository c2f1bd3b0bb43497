"""TCSA's network: what it returns, which words it has read, and that it is nobody else's business."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from monai.bundle import ConfigParser
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from common.layers import scale_channels
from common.losses import PrototypeAlignment, VisionLanguageCovariance, confident_labels
from common.networks import TCSA
from common.text.prompt_embeddings import class_embeddings

CLASSES = ["background", "MYO", "LAC", "LVC", "AA"]
SMALL = {"width": 0.125, "depths": (1, 1, 1, 1)}


def make(**arguments: object) -> TCSA:
    torch.manual_seed(0)
    return TCSA(**{"classes": CLASSES, **SMALL, **arguments})


def images(count: int = 2, size: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_shapes_in_both_modes(size: tuple[int, int]) -> None:
    network, image = make(), torch.randn(2, 3, *size)
    small = tuple(side // 8 + 1 for side in size)
    outputs = network.train()(image)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "logits": (2, 5, *size),
        "aux_logits": (2, 5, *size),
        "features": (2, network.feature_channels, *small),
        "prototype_features": (2, network.prototype_channels, *small),
        "class_embeddings": (2, 5, 512),
        "projected_embeddings": (2, 5, network.head.text_channels),
    }
    logits = network.eval()(image)
    assert logits.shape == (2, 5, *size)
    assert logits.isfinite().all()
    assert "aux_logits" not in make(auxiliary=False).train()(image)
    assert make(output_stride=4).train()(image)["features"].shape[2:] == tuple(side // 4 + 1 for side in size)


@pytest.mark.slow
def test_the_paper_has_its_parameters() -> None:
    network = TCSA(CLASSES)
    count = {name: sum(w.numel() for w in part.parameters()) / 1e6 for name, part in network.named_children()}
    assert (network.feature_channels, network.prototype_channels) == (256, 2048)
    assert sum(count[name] for name in ("encoder", "projection", "auxiliary")) == pytest.approx(
        68.05, abs=0.005
    )
    assert count["head"] == pytest.approx(18.86 - 0.39, abs=0.01)  # see DynamicHead


def test_the_gradient_reaches_every_parameter() -> None:
    network = make().train()
    outputs = network(images(), modality=["mr", "ct"])
    (outputs["logits"].square().mean() + outputs["aux_logits"].square().mean()).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert [name for name, weight in network.named_parameters() if not weight.grad.any()] == []


def test_the_losses_fit_and_move_the_encoder() -> None:
    """One forward pass of both domains, the losses on it, and gradients where they belong."""
    network = make().train()
    covariance = VisionLanguageCovariance(network.num_classes, network.feature_channels)
    alignment = PrototypeAlignment(network.num_classes, network.prototype_channels)
    label = torch.randint(0, 5, (1, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    outputs = network(images(), modality=["mr", "ct"])
    probability = outputs["logits"][1:].softmax(1)
    loss = covariance(outputs["features"][:1], label, outputs["class_embeddings"][0])
    loss = loss + alignment(
        outputs["prototype_features"][:1], label, outputs["prototype_features"][1:], probability
    )
    loss.backward()
    assert confident_labels(probability).shape == (1, 64, 64)
    for part in (network.encoder.conv1, network.encoder.layer4[0].conv3, network.projection[-1][0]):
        assert part.weight.grad.abs().max() > 0
    assert all(weight.grad is None for weight in network.head.parameters())


def test_the_modality_says_which_words_are_read() -> None:
    network, image = make().eval(), images()
    mr, ct = network(image, modality="mr"), network(image, modality="ct")
    assert (mr - ct).abs().max() > 1e-5
    assert_close(network(image, modality=["ct", "mr"]), torch.stack([ct[0], mr[1]]), rtol=1e-4, atol=1e-5)
    assert_close(network(image), mr)
    assert_close(network(image, modality=""), mr)
    assert_close(make(modality="ct").eval()(image), ct)


def test_sentences_of_hosts_are_ignored() -> None:
    network, image = make().eval(), images()
    assert_close(network(image, torch.zeros(2, 2, 24, dtype=torch.long)), network(image))


def test_descriptions_can_be_replaced_and_are_saved() -> None:
    network, other, image = make(embedding_size=16), make(embedding_size=16), images()
    start = network.eval()(image)
    words = class_embeddings(CLASSES, ["mr", "ct"], text="embedded", size=16)
    assert network.set_class_embeddings(words) is network
    assert (network(image) - start).abs().max() > 1e-5
    assert "class_embeddings" not in dict(network.named_parameters())
    other.load_state_dict(network.state_dict(), strict=True)
    assert_close(other.eval()(image), network(image), rtol=0, atol=0)
    assert_close(other.class_embeddings, words)
    with pytest.raises(
        ValueError, match=r"embeddings must be \(2, 5, 16\), .* got \(2, 5, 512\): .*embedding_size"
    ):
        network.set_class_embeddings(torch.zeros(2, 5, 512))


def test_the_descriptions_of_the_start_are_the_same_for_every_seed() -> None:
    first, second = make(), TCSA(CLASSES, **SMALL)
    assert_close(first.class_embeddings, second.class_embeddings, rtol=0, atol=0)
    assert not torch.equal(first.encoder.conv1.weight, second.encoder.conv1.weight)


def test_state_dict_round_trip() -> None:
    network, image = make().eval(), images()
    torch.manual_seed(1)
    other = TCSA(CLASSES, **SMALL).eval()
    assert not torch.allclose(other(image), network(image))
    other.load_state_dict(network.state_dict(), strict=True)
    assert_close(other(image), network(image))


def test_a_case_does_not_depend_on_its_batch() -> None:
    network, image = make().eval(), images(3)
    alone = torch.cat([network(image[i : i + 1]) for i in range(3)])
    assert_close(network(image), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_traced_network_gives_the_same() -> None:
    network = make(modality="ct").eval()
    traced = torch.jit.trace(network, (images(1),), check_trace=False)
    assert_close(traced(images(1, seed=1)), network(images(1, seed=1)), rtol=1e-4, atol=1e-5)


def test_autocast_gives_finite_logits() -> None:
    network = make().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images())["logits"]
    logits.float().mean().backward()
    assert logits.isfinite().all()


def test_it_can_learn_a_shape() -> None:
    network = make(width=0.25).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    label = torch.zeros(2, 64, 64, dtype=torch.long)
    label[0, 16:48, 16:48], label[1, :32] = 3, 1
    image = (label[:, None].float() - 1).expand(-1, 3, -1, -1)
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(network(image)["logits"], label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_parameter_groups_hold_every_trained_parameter_once() -> None:
    network = make(freeze_norm=True)
    encoder, rest = network.parameter_groups(0.001)
    assert (encoder["lr"], rest["lr"]) == (0.001, pytest.approx(0.01))
    found = [*encoder["params"], *rest["params"]]
    wanted = {id(weight) for weight in network.parameters() if weight.requires_grad}
    assert len(found) == len(wanted) == len({id(weight) for weight in found} & wanted)
    of_encoder = {id(weight) for weight in network.encoder.parameters()}
    assert {id(weight) for weight in encoder["params"]} <= of_encoder
    assert not {id(weight) for weight in rest["params"]} & of_encoder
    torch.optim.SGD(network.parameter_groups(0.001, head_factor=1), lr=1)
    with pytest.raises(ValueError, match="learning_rate must be positive and finite, got 0"):
        network.parameter_groups(0)
    with pytest.raises(ValueError, match="head_factor must be positive and finite, got -1"):
        network.parameter_groups(1, head_factor=-1)


def test_every_argument_can_stand_in_json() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(TCSA).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert json.loads(json.dumps(defaults))["depths"] == [3, 4, 23, 3]
    assert scale_channels(2048, 0.125) == make(depths=[1, 1, 1, 1]).prototype_channels


def test_a_configuration_builds_network_and_words() -> None:
    config = {
        "classes": ["background", "liver", "spleen"],
        "modalities": ["ct", "mr"],
        "network_def": {
            "_target_": "common.networks.TCSA",
            "classes": "@classes",
            "modalities": "@modalities",
            "embedding_size": 16,
            **SMALL,
        },
        "embeddings": {
            "_target_": "common.text.prompt_embeddings.class_embeddings",
            "classes": "@classes",
            "modalities": "@modalities",
            "text": "embedded",
            "size": 16,
        },
        "network": "$@network_def.set_class_embeddings(@embeddings).to('cpu')",
        "covariance": {
            "_target_": "common.losses.VisionLanguageCovariance",
            "classes": "$len(@classes)",
            "dim": "$@network_def.feature_channels",
        },
    }
    parser = ConfigParser(json.loads(json.dumps(config)))
    network = parser.get_parsed_content("network")
    assert_close(network.class_embeddings, parser.get_parsed_content("embeddings"))
    assert parser.get_parsed_content("covariance").bank.means.shape == (3, network.feature_channels)


@pytest.mark.usefixtures("one_process")
def test_distributed_training_finds_every_parameter_used() -> None:
    """A parameter without a gradient would stop the second step."""
    network = DistributedDataParallel(make(freeze_norm=True).train())
    optimizer = torch.optim.SGD(network.module.parameter_groups(1e-3), lr=1e-3)
    for _ in range(2):
        outputs = network(images(), None, modality=["mr", "ct"])
        optimizer.zero_grad()
        (outputs["logits"].mean() + outputs["aux_logits"].mean()).backward()
        optimizer.step()


def test_exported_network_gives_the_same() -> None:
    network = make().eval()
    size = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(network, (images(2),), dynamic_shapes={"image": {0: size}})
    assert_close(program.module()(images(3)), network(images(3)), rtol=1e-4, atol=1e-5)


def test_wrong_images_and_modalities_are_refused() -> None:
    network = make().eval()
    with pytest.raises(ValueError, match="image size must be a multiple of 32, got 64 x 50"):
        network(torch.zeros(1, 3, 64, 50))
    with pytest.raises(ValueError, match="image must have 3 channels, got 1"):
        network(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ValueError, match="modality must be one of mr, ct, got 'flair'"):
        network(images(), modality="flair")
    with pytest.raises(ValueError, match="modality must be one name, or 2, one per image, got 1"):
        network(images(), modality=["mr"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "t2"}, "modality must be one of mr, ct, got 't2'"),
        ({"modalities": ["mr", "pet"]}, "modalities must be of ct, mr, flair, t2, each once"),
        ({"classes": ["liver", "spleen"]}, "classes must be 'background' and then"),
        ({"embedding_size": 0}, "size must be at least 1, got 0"),
        ({"width": 0}, "width must be > 0, got 0"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)

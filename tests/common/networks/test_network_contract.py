from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from common.networks import (
    UKAN,
    AttentionUNet,
    BiCLIP,
    C2Seg,
    DynUNet,
    EFUNet,
    GuideDecoder,
    MMIUNet,
    SwinUNETR,
    UNet,
    UNetPlusPlus,
    ZoneUNet,
)
from common.text.encoder import TextEncoder
from common.text.tokenizer import build_tokenizer

Maker = Callable[..., nn.Module]

ENCODER = {"name": "embedded", "hidden_size": 32, "num_layers": 1, "num_heads": 2}
SHALLOW = {"text_encoder": ENCODER, "depths": (1, 1, 2, 1)}


def open_c2seg(**arguments: object) -> C2Seg:
    """C2Seg with its gates open: at the start they are nearly shut, and effects of the text are near rounding."""
    network = C2Seg(**{"text_encoder": ENCODER, **arguments})
    with torch.no_grad():
        for fusion in network.fusions:
            for gate in (fusion.first_gate, fusion.second_gate):
                gate.second.base_weight.mul_(50)
    return network


WORDS: dict[str, Maker] = {
    "mmi_unet": partial(MMIUNet, **SHALLOW),
    "guide_decoder": partial(GuideDecoder, **SHALLOW),
    "c2seg": open_c2seg,
    "ef_unet": partial(EFUNet, text_encoder=ENCODER),
    "biclip": partial(BiCLIP, text_encoder=ENCODER),
}
GUIDED: dict[str, Maker] = {**WORDS, "zone_unet": ZoneUNet}
PLAIN: dict[str, Maker] = {
    "unet": UNet,
    "unetpp": UNetPlusPlus,
    "attention_unet": AttentionUNet,
    "swin_unetr": SwinUNETR,
    "dynunet": DynUNet,
    "ukan": UKAN,
}
ALL = {**GUIDED, **PLAIN}

every_network = pytest.mark.parametrize("name", ALL)
every_guided = pytest.mark.parametrize("name", GUIDED)
every_worded = pytest.mark.parametrize("name", WORDS)

# shifting all scores of a softmax, or all values before a norm, changes nothing: such a bias has a zero gradient
WITHOUT_EFFECT = re.compile(r"\.key\.bias$|conv\.bias$|mix\.0\.bias$|psi\.\d+\.conv\.bias$")


def make(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return ALL[name](**{"width": 0.125, **arguments})


def text_of(name: str, *sentences: str | None) -> Tensor:
    tokenizer = build_tokenizer("zones" if name == "zone_unet" else "embedded", max_tokens=24)
    return torch.stack([tokenizer.encode(sentence) for sentence in sentences])


LEFT = "Unilateral pulmonary infection, one infected area, upper left lung."
RIGHT = "Unilateral pulmonary infection, one infected area, lower right lung."


@every_network
@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_shapes_in_both_modes(name: str, size: tuple[int, int]) -> None:
    network, text = make(name, num_classes=2), text_of(name, LEFT, RIGHT)
    image = torch.randn(2, 3, *size)
    outputs = network.train()(image, text)
    assert outputs["logits"].shape == (2, 2, *size)
    logits = network.eval()(image, text)
    assert isinstance(logits, Tensor)
    assert logits.shape == (2, 2, *size)
    assert logits.isfinite().all()


def test_paper_size() -> None:
    network = make("mmi_unet").eval()
    assert network(torch.randn(1, 3, 224, 224), text_of("mmi_unet", LEFT)).shape == (1, 1, 224, 224)


@every_network
def test_gradient_reaches_every_parameter(name: str) -> None:
    network = make(name).train()
    # 128: below it the deepest Bridger has one image token, and a softmax over one score has no gradient
    outputs = network(torch.randn(2, 3, 128, 128), text_of(name, LEFT, RIGHT))
    outputs["logits"].square().mean().backward()
    missed = [key for key, weight in network.named_parameters() if weight.grad is None]
    assert not missed
    still = [
        key
        for key, weight in network.named_parameters()
        if not weight.grad.any() and not WITHOUT_EFFECT.search(key)
    ]
    assert not still


@every_guided
def test_text_changes_the_output(name: str) -> None:
    network, image = make(name).eval(), torch.randn(1, 3, 64, 64)
    difference = network(image, text_of(name, LEFT)) - network(image, text_of(name, RIGHT))
    assert difference.abs().max() > 1e-5


@pytest.mark.parametrize("name", PLAIN)
def test_plain_networks_ignore_the_text(name: str) -> None:
    network, image = make(name).eval(), torch.randn(1, 3, 64, 64)
    assert_close(network(image, text_of(name, LEFT)), network(image))


@every_guided
def test_padding_does_not_change_the_output_when_masked(name: str) -> None:
    network, image, text = make(name).eval(), torch.randn(1, 3, 64, 64), text_of(name, LEFT)
    filled = text.clone()
    filled[:, 0] = torch.where(text[:, 1] == 0, 7, text[:, 0])
    assert not torch.equal(filled, text)
    expected = network(image, text)
    assert_close(network(image, filled), expected)
    used = int(text[0, 1].sum())
    assert_close(network(image, text[:, :, :used]), expected, atol=1e-5, rtol=1e-4)


@every_worded
def test_padding_counts_as_in_the_papers_when_not_masked(name: str) -> None:
    network = make(name, mask_padding=False).eval()
    image, text = torch.randn(1, 3, 64, 64), text_of(name, LEFT)
    filled = text.clone()
    filled[:, 0] = torch.where(text[:, 1] == 0, 7, text[:, 0])
    assert not torch.allclose(network(image, text), network(image, filled), atol=1e-6)


@every_network
def test_a_missing_text_is_the_empty_prompt(name: str) -> None:
    network, image = make(name).eval(), torch.randn(2, 3, 64, 64)
    assert_close(network(image), network(image, text_of(name, "", None)))


@every_network
def test_a_case_does_not_depend_on_its_batch(name: str) -> None:
    network, image = make(name).eval(), torch.randn(3, 3, 64, 64)
    text = text_of(name, LEFT, RIGHT, "")
    together = network(image, text)
    alone = torch.cat([network(image[i : i + 1], text[i : i + 1]) for i in range(3)])
    assert_close(together, alone, atol=1e-4, rtol=1e-4)


@every_network
def test_state_dict_round_trip(name: str) -> None:
    network, text, image = make(name).eval(), text_of(name, LEFT), torch.randn(1, 3, 64, 64)
    torch.manual_seed(1)
    other = ALL[name](width=0.125).eval()
    assert not torch.allclose(other(image, text), network(image, text))
    other.load_state_dict(network.state_dict(), strict=True)
    assert_close(other(image, text), network(image, text))


@every_network
def test_width_scales_the_parameters(name: str) -> None:
    narrow, wide = (sum(p.numel() for p in make(name, width=width).parameters()) for width in (0.125, 0.75))
    assert narrow < wide


@every_network
def test_dropout_is_an_argument_and_acts_in_training(name: str) -> None:
    network, image, text = make(name, dropout=0.5).train(), torch.randn(2, 3, 64, 64), text_of(name, LEFT, "")
    # everything but the dropout is fixed
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    first, second = network(image, text)["logits"], network(image, text)["logits"]
    assert not torch.allclose(first, second)


@every_network
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_traced_network_gives_the_same(name: str) -> None:
    network, image, text = make(name).eval(), torch.randn(1, 3, 64, 64), text_of(name, LEFT)
    traced = torch.jit.trace(network, (image, text), check_trace=False)
    image, text = torch.randn(1, 3, 64, 64), text_of(name, RIGHT)
    assert_close(traced(image, text), network(image, text), atol=1e-5, rtol=1e-4)


@every_network
def test_autocast_gives_finite_logits(name: str) -> None:
    network, image = make(name).train(), torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(image, text_of(name, LEFT, RIGHT))["logits"]
    logits.float().mean().backward()
    assert logits.isfinite().all()


@every_network
def test_wrong_images_are_refused(name: str) -> None:
    network = make(name).eval()
    with pytest.raises(ValueError, match="image size must be a multiple of 32, got 224 x 250"):
        network(torch.zeros(1, 3, 224, 250))
    with pytest.raises(ValueError, match="image must have 3 channels, got 1"):
        network(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ValueError, match=r"image must have shape .*, got \(3, 64, 64\)"):
        network(torch.zeros(3, 64, 64))


@every_guided
def test_wrong_text_is_refused(name: str) -> None:
    network, image = make(name).eval(), torch.zeros(2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"text must have shape \(2, 2, tokens\).* got \(1, 2, 24\)"):
        network(image, torch.zeros(1, 2, 24, dtype=torch.long))
    with pytest.raises(TypeError, match=r"text must hold integer token ids, got torch\.float32"):
        network(image, torch.zeros(2, 2, 24))


@pytest.mark.parametrize(("maker", "millions"), [(MMIUNet, 56.17), (GuideDecoder, 43.95)])
def test_parameter_counts_of_the_papers(maker: Maker, millions: float) -> None:
    encoder = TextEncoder("embedded", hidden_size=768, num_layers=1, num_heads=12)
    network = maker(text_encoder=encoder)
    count = sum(
        weight.numel()
        for key, weight in network.named_parameters()
        if weight.requires_grad and not key.startswith("prompt.text_encoder.")
    )
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_mmi_unet_hands_on_what_alignment_needs() -> None:
    network = make("mmi_unet", return_attention=True).train()
    outputs = network(torch.randn(2, 3, 128, 64), text_of("mmi_unet", LEFT, ""))
    assert set(outputs) == {"logits", "image_tokens", "text_tokens", "text_mask", "text_attention"}
    deepest = network.encoder.channels[-1]
    assert outputs["image_tokens"].shape == (2, 2, deepest)
    assert outputs["text_tokens"].shape == (2, 24, deepest)
    assert outputs["text_mask"].dtype == torch.bool
    assert outputs["text_attention"].shape == (2, 8, 24, 16, 8)
    assert isinstance(network.eval()(torch.randn(1, 3, 64, 64)), Tensor)


def test_guide_decoder_refuses_more_tokens_than_it_mixes() -> None:
    network = make("guide_decoder", max_tokens=8, text_encoder={**ENCODER, "max_tokens": 24}).eval()
    image = torch.randn(1, 3, 32, 32)
    assert network(image, text_of("guide_decoder", LEFT)[:, :, :5]).shape == (1, 1, 32, 32)
    with pytest.raises(ValueError, match="text must have at most 8 tokens, got 24"):
        network(image, text_of("guide_decoder", LEFT))

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from common.networks import GuideDecoder, MMIUNet, build_backbone
from common.text.tokenizer import build_tokenizer

ENCODER = {"name": "embedded", "hidden_size": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
NAMES = ("guide_decoder", "mmi_unet")
LEFT = "Unilateral pulmonary infection, one infected area, upper left lung."
RIGHT = "Bilateral pulmonary infection, two infected areas, all right lung and lower left lung."
KEYS = {"logits", "image_tokens", "text_tokens", "text_mask"}

# weights over 64 to 96 pixels are about 0.01: the default absolute tolerance would hide differences between them
TIGHT = {"atol": 1e-8, "rtol": 1e-4}

every_backbone = pytest.mark.parametrize("name", NAMES)


def make(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    defaults = {"width": 0.125, "text_encoder": ENCODER, "depths": (1, 1, 1, 1), "dropout": 0.0}
    network = build_backbone(name, **{**defaults, "return_attention": True, **arguments})
    if isinstance(network, MMIUNet):
        # at their start of 0.02 the weights of a narrow Bridger make attention all but even, whatever it looks at
        with torch.no_grad():
            for weight in network.bridgers[0].text_interactor.parameters():
                weight.mul_(10 if weight.ndim == 2 else 1)
    return network


def text_of(*sentences: str) -> Tensor:
    tokenizer = build_tokenizer("embedded", max_tokens=24)
    return torch.stack([tokenizer.encode(sentence) for sentence in sentences])


def with_other_padding(text: Tensor) -> Tensor:
    other = text.clone()
    other[:, 0] = torch.where(text[:, 1] == 0, 7, text[:, 0])
    return other


def attention_of(outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return outputs["text_attention"], outputs.get("text_attention_mask", outputs["text_mask"])


def reached(network: nn.Module, tokens: Tensor) -> set[str]:
    network.zero_grad()
    (tokens * torch.randn_like(tokens)).sum().backward(retain_graph=True)
    return {
        key for key, weight in network.named_parameters() if weight.grad is not None and weight.grad.any()
    }


@pytest.mark.parametrize(("name", "kind"), [("mmi_unet", MMIUNet), ("guide_decoder", GuideDecoder)])
def test_networks_by_name(name: str, kind: type[nn.Module]) -> None:
    network = make(name, num_classes=3, in_channels=1)
    assert type(network) is kind
    assert network.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)


def test_unknown_names_and_arguments_are_refused() -> None:
    choices = "backbone must be one of 'guide_decoder', 'mmi_unet', got"
    with pytest.raises(ValueError, match=rf"{choices} 'mmiunet': did you mean 'mmi_unet'\?"):
        build_backbone("mmiunet")
    with pytest.raises(ValueError, match=rf"{choices} 'GuideDecoder': did you mean 'guide_decoder'\?"):
        build_backbone("GuideDecoder")
    with pytest.raises(ValueError, match=f"{choices} 'zzz'$"):
        build_backbone("zzz")
    with pytest.raises(TypeError, match="no_such_argument"):
        build_backbone("mmi_unet", no_such_argument=1)


@every_backbone
@pytest.mark.parametrize("size", [(64, 64), (96, 96), (64, 128)])
@pytest.mark.parametrize("width", [0.125, 0.25])
def test_what_training_hands_on(name: str, size: tuple[int, int], width: float) -> None:
    network = make(name, width=width).train()
    outputs = network(torch.randn(2, 3, *size), text_of(LEFT, ""))
    assert set(outputs) - {"text_attention_mask"} == {*KEYS, "text_attention"}
    channels = network.encoder.channels[-1]
    assert network.token_channels == channels
    rows, columns = size[0] // 32, size[1] // 32
    # the deepest Bridger halves the features, the deepest decoder block does not
    pixels = (rows // 2) * (columns // 2) if name == "mmi_unet" else rows * columns
    assert outputs["logits"].shape == (2, 1, *size)
    assert outputs["image_tokens"].shape == (2, pixels, channels)
    assert outputs["text_tokens"].shape == (2, 24, channels)
    assert outputs["text_mask"].shape == (2, 24)
    attention, mask = attention_of(outputs)
    heads, tokens = (8, 24) if name == "mmi_unet" else (4, 9)
    assert attention.shape == (2, heads, tokens, size[0] // 8, size[1] // 8)
    assert mask.shape == (2, tokens)
    assert mask.dtype == outputs["text_mask"].dtype == torch.bool
    assert (attention >= 0).all()
    assert_close(attention.sum(dim=(3, 4)), torch.ones(2, heads, tokens))


def test_masks_of_the_two_networks() -> None:
    image, text = torch.randn(2, 3, 64, 64), text_of(LEFT, "")
    assert torch.equal(make("mmi_unet").train()(image, text)["text_mask"], text[:, 1].bool())
    mixed = make("guide_decoder").train()(image, text)
    assert mixed["text_mask"].all()
    assert mixed["text_attention_mask"].all()


@every_backbone
def test_attention_is_handed_on_on_demand_and_changes_nothing_else(name: str) -> None:
    network, image, text = make(name).train(), torch.randn(2, 3, 64, 96), text_of(LEFT, RIGHT)
    with_it = network(image, text)
    network.return_attention = False
    without = network(image, text)
    assert set(without) == KEYS
    for key in KEYS:
        assert_close(with_it[key], without[key], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_guide_decoder_gives_the_same_to_the_last_bit_with_attention(dropout: float) -> None:
    image, text = torch.randn(2, 3, 64, 96), text_of(LEFT, RIGHT)
    results = []
    for wanted in (False, True):
        network = make("guide_decoder", return_attention=wanted, dropout=dropout).train()
        torch.manual_seed(1)
        results.append((network(image, text), network.eval()(image, text)))
    (without, evaluated), (with_it, evaluated_with_it) = results
    assert all(torch.equal(without[key], with_it[key]) for key in KEYS)
    assert torch.equal(evaluated, evaluated_with_it)


@every_backbone
def test_the_method_equals_the_training_output_in_either_mode(name: str) -> None:
    network, image, text = make(name).train(), torch.randn(2, 3, 64, 96), text_of(LEFT, RIGHT)
    expected = attention_of(network(image, text))
    assert_close(network.text_attention(image, text), expected, **TIGHT)
    network.eval()
    # its parts stay in evaluation mode
    network.training = True
    expected = attention_of(network(image, text))
    network.training = False
    assert_close(network.text_attention(image, text), expected, **TIGHT)
    alone = network.text_attention(image[1:], text[1:])
    assert_close(alone[0], expected[0][1:], **TIGHT)


@every_backbone
def test_the_method_needs_no_text(name: str) -> None:
    network, image = make(name, return_attention=False).eval(), torch.randn(2, 3, 64, 64)
    assert_close(network.text_attention(image), network.text_attention(image, text_of("", "")), **TIGHT)


@every_backbone
@pytest.mark.parametrize("mode", [True, False])
def test_the_method_leaves_the_network_as_it_is(name: str, mode: bool) -> None:
    network, image, text = make(name).train(mode), torch.randn(2, 3, 64, 64), text_of(LEFT, RIGHT)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.text_attention(image, text)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(module.training is mode for module in network.modules())
    with pytest.raises(ValueError, match="image size must be a multiple of 32, got 64 x 50"):
        network.text_attention(torch.zeros(1, 3, 64, 50))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.track_running_stats for norm in norms)
    assert norms


@every_backbone
def test_the_method_may_come_between_forward_and_backward(name: str) -> None:
    network, image, text = make(name).train(), torch.randn(2, 3, 64, 64), text_of(LEFT, RIGHT)
    outputs = network(image, text)
    network.text_attention(image, text)
    outputs["logits"].square().mean().backward()
    assert network.encoder.stem.patch_embeddings.weight.grad.isfinite().all()


def test_mmi_unet_computes_the_first_stage_alone_for_the_method() -> None:
    network = make("mmi_unet").eval()
    network.encoder.stages = network.encoder.stages[:1]
    network.bridgers = network.bridgers[:1]
    assert network.text_attention(torch.randn(1, 3, 64, 64))[0].shape == (1, 8, 24, 8, 8)


@every_backbone
def test_gradient_of_the_tokens_reaches_both_sides(name: str) -> None:
    network = make(name).train()
    outputs = network(torch.randn(2, 3, 128, 128), text_of(LEFT, RIGHT))
    words, pixels = "prompt.token_projection.weight", "encoder.stem.patch_embeddings.weight"
    assert {words, pixels} <= reached(network, outputs["image_tokens"])
    expected = {words, pixels} if name == "mmi_unet" else {words, "decoder.0.text_in.0.weight"}
    assert expected <= reached(network, outputs["text_tokens"])
    assert {words, pixels} <= reached(network, outputs["text_attention"])


@every_backbone
def test_text_changes_tokens_and_attention(name: str) -> None:
    network, image = make(name).train(), torch.randn(1, 3, 96, 96).expand(2, -1, -1, -1)
    outputs = network(image, text_of(LEFT, RIGHT))
    for key in ("image_tokens", "text_tokens", "text_attention"):
        first, second = outputs[key]
        assert (first - second).abs().max() > 1e-3 * first.abs().max(), key


@every_backbone
def test_masked_padding_changes_no_other_token(name: str) -> None:
    network, image, text = make(name).train(), torch.randn(2, 3, 64, 64), text_of(LEFT, RIGHT)
    other = with_other_padding(text)
    assert not torch.equal(other, text)
    expected, outputs = network(image, text), network(image, other)
    mask = outputs["text_mask"]
    assert_close(outputs["image_tokens"], expected["image_tokens"])
    assert_close(outputs["text_tokens"][mask], expected["text_tokens"][mask])
    attention, mask = attention_of(outputs)
    assert_close(attention.movedim(2, 1)[mask], attention_of(expected)[0].movedim(2, 1)[mask], **TIGHT)


@every_backbone
def test_padding_counts_when_it_is_not_masked(name: str) -> None:
    network, image, text = make(name, mask_padding=False).eval(), torch.randn(1, 3, 64, 64), text_of(LEFT)
    first, _ = network.text_attention(image, text)
    second, _ = network.text_attention(image, with_other_padding(text))
    assert not torch.allclose(first, second, atol=0.0, rtol=1e-4)


@every_backbone
def test_attention_adds_no_weights(name: str) -> None:
    plain, looking = make(name, return_attention=False), make(name)
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (plain, looking)]
    assert shapes[0] == shapes[1]


@every_backbone
def test_attention_under_autocast(name: str) -> None:
    network, image, text = make(name).train(), torch.randn(2, 3, 64, 64), text_of(LEFT, RIGHT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention, _ = attention_of(network(image, text))
    # 64 weights of 8 bits each
    assert_close(attention.float().sum(dim=(3, 4)), torch.ones(attention.shape[:3]), atol=1e-2, rtol=0.0)


@every_backbone
def test_exported_network_gives_the_same(name: str) -> None:
    network, image, text = make(name).eval(), torch.randn(1, 3, 64, 64), text_of(LEFT)
    exported = torch.export.export(network, (image, text)).module()
    image, text = torch.randn(1, 3, 64, 64), text_of(RIGHT)
    assert_close(exported(image, text), network(image, text), atol=1e-5, rtol=1e-4)

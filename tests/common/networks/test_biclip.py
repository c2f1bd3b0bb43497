"""EF-UNet and BiCLIP: their sizes, what BiCLIP without its parts is, and what inference computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from common.networks import BiCLIP, EFUNet, FusionTraining, count_parameters
from common.text.encoder import TextEncoder
from common.text.tokenizer import build_tokenizer
from common.transforms import FusedAugmentation

ENCODER = {"name": "embedded", "hidden_size": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
LEFT = "Unilateral pulmonary infection, one infected area, upper left lung."
RIGHT = "Bilateral pulmonary infection, two infected areas, all right lung and lower left lung."


def make(network: type[EFUNet] = BiCLIP, *, seed: int = 0, **arguments: object) -> EFUNet:
    torch.manual_seed(seed)
    return network(**{"width": 0.125, "text_encoder": ENCODER, **arguments})


def text_of(*sentences: str) -> Tensor:
    tokenizer = build_tokenizer("embedded", max_tokens=32)
    return torch.stack([tokenizer.encode(sentence) for sentence in sentences])


def picture(*size: int) -> Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(1))


def without_head_of_its_own(network: EFUNet) -> dict[str, Tensor]:
    return {key: weight for key, weight in network.state_dict().items() if not key.startswith("refinement.")}


def test_parameter_counts_of_the_papers() -> None:
    encoder = TextEncoder("embedded", hidden_size=768, num_layers=1, num_heads=12, trainable=False)
    early, both_ways = EFUNet(text_encoder=encoder), BiCLIP(text_encoder=encoder)
    trained = FusionTraining(both_ways, augmentation=FusedAugmentation("biclip"))
    assert count_parameters(early).true / 1e6 == pytest.approx(32.26, abs=0.005)
    assert count_parameters(trained).true / 1e6 == pytest.approx(33.93, abs=0.005)
    # what inference needs, within the half per cent as well
    assert count_parameters(both_ways).true / 1e6 == pytest.approx(33.93, rel=0.005)


@pytest.mark.parametrize("mode", [True, False])
def test_biclip_without_bmf_is_ef_unet(mode: bool) -> None:
    early, plain = make(EFUNet), make(BiCLIP, bmf=False, seed=1)
    assert list(early.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(early.state_dict(), strict=True)
    image, text = picture(2, 3, 64, 64), text_of(LEFT, RIGHT)
    expected, result = (network.train(mode)(image, text) for network in (early, plain))
    for one, other in zip(*((out.values() if mode else [out]) for out in (expected, result)), strict=True):
        assert torch.equal(one, other)


def test_bmf_refines_by_the_image_what_is_drawn() -> None:
    full, early = make(BiCLIP).eval(), make(EFUNet).eval()
    early.load_state_dict(without_head_of_its_own(full), strict=True)
    # a dark and a bright picture
    image = picture(2, 3, 64, 64) * torch.tensor([0.2, 1.0])[:, None, None, None]
    text = text_of(LEFT, LEFT)
    drawn, plain = full.draw(image, text), early.draw(image, text)
    assert torch.equal(drawn.text_vector, plain.text_vector)
    refined = full.refinement(drawn.text_vector, image)
    assert_close(
        drawn.pseudo, nn.functional.interpolate(full.generator(refined), size=(64, 64), mode="bilinear")
    )
    # one sentence, two images: two pseudo images, but one for EF-UNet
    assert torch.equal(plain.pseudo[0], plain.pseudo[1])
    assert (drawn.pseudo[0] - drawn.pseudo[1]).abs().max() > 2e-5


def test_the_pseudo_image_of_the_paper_s_size_is_not_resized() -> None:
    network = make(EFUNet).eval()
    image, text = picture(1, 3, 224, 224), text_of(LEFT)
    drawn = network.draw(image, text)
    assert torch.equal(drawn.pseudo, network.generator(drawn.text_vector))


def test_image_and_pseudo_image_are_standardized() -> None:
    network = make(EFUNet)
    image, pseudo = picture(1, 3, 32, 32), picture(1, 3, 32, 32) ** 2
    fused = network.fuse(image, pseudo)
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        assert_close(fused[:, channel], (image[:, channel] - mean) / std)
    assert_close(fused[:, 3:], (pseudo - 0.5) / 0.25)


def test_inference_is_one_pass_of_the_u_net() -> None:
    network, passes = make(BiCLIP).eval(), []
    network.unet.head.register_forward_hook(lambda *_: passes.append(1))
    image, text = picture(2, 3, 64, 96), text_of(LEFT, RIGHT)
    logits = network(image, text)
    assert len(passes) == 1
    assert logits.shape == (2, 1, 64, 96)
    drawn = network.draw(image, text)
    assert_close(logits, network.unet(network.fuse(image, drawn.pseudo)))


def test_training_returns_what_an_objective_reads() -> None:
    outputs = make(BiCLIP).train()(picture(2, 3, 64, 64), text_of(LEFT, RIGHT))
    assert set(outputs) == {"logits", "text_vector", "pseudo"}
    assert outputs["text_vector"].shape == (2, 784)
    assert outputs["pseudo"].shape == (2, 3, 64, 64)


def test_without_text_it_is_a_u_net_of_the_image() -> None:
    network = make(BiCLIP, use_text=False).eval()
    assert [key for key in network.state_dict() if not key.startswith("unet.")] == []
    image = picture(2, 3, 64, 64)
    assert torch.equal(network(image, text_of(LEFT, RIGHT)), network(image))
    assert set(network.train()(image)) == {"logits"}


def test_another_vector_and_other_channels() -> None:
    network = make(BiCLIP, vector_side=8, in_channels=1).eval()
    assert network.vector_channels == 64
    assert network(picture(1, 1, 64, 64), text_of(LEFT)).shape == (1, 1, 64, 64)
    assert network.draw(picture(1, 1, 64, 64), text_of(LEFT)).pseudo.shape == (1, 1, 64, 64)
    with pytest.raises(ValueError, match="vector_side must be at least 1, got 0"):
        make(vector_side=0)

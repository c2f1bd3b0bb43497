"""The objective of SSA: which terms there are, what they are worth, what they reach."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from common.losses import (
    DirectionalGuidance,
    SegmentationObjective,
    SpatialAlignmentObjective,
    symmetric_info_nce,
    transport_alignment_loss,
)
from common.networks import AlignedNetwork, build_backbone

SENTENCES = ["lower left lung", "upper right lung", "lower left lung"]


def outputs_and_batch() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(3, 2, 6, 16, generator=generator).softmax(3).unflatten(3, (4, 4))
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1, 4:] = False
    outputs = {
        "logits": torch.randn(3, 1, 16, 16, generator=generator, requires_grad=True),
        "image_embedding": torch.randn(3, 9, 8, generator=generator, requires_grad=True),
        "text_embedding": torch.randn(3, 6, 8, generator=generator, requires_grad=True),
        "text_mask": mask,
        "text_attention": attention,
    }
    label = (torch.rand(3, 1, 16, 16, generator=generator) > 0.7).float()
    return outputs, {"label": label, "sentence": SENTENCES}


@pytest.mark.parametrize(
    ("switches", "names"),
    [
        ({"dsot": "off", "cdg": False}, []),
        ({"dsot": "off", "cdg": True}, ["guide"]),
        ({"dsot": "global", "cdg": False}, ["global"]),
        ({"dsot": "local", "cdg": False}, ["local"]),
        ({"dsot": "both", "cdg": True}, ["global", "local", "guide"]),
    ],
)
def test_switches_decide_which_terms_there_are(switches: dict[str, Any], names: list[str]) -> None:
    outputs, batch = outputs_and_batch()
    terms = SpatialAlignmentObjective(**switches)(outputs, batch, epoch=9)
    assert list(terms) == ["dice", "bce", *names]


def test_each_term_is_its_weight_times_the_published_quantity() -> None:
    outputs, batch = outputs_and_batch()
    guidance = DirectionalGuidance(prior_frame="image")
    objective = SpatialAlignmentObjective(
        "dice_only",
        guidance=guidance,
        weights={"global": 0.3, "local": 0.7, "guide": 0.9},
        ot_mode="semi_relaxed",
        temperature=0.2,
    )
    terms = objective(outputs, batch, epoch=5)
    mask = outputs["text_mask"]
    text = torch.stack([t[m].mean(0) for t, m in zip(outputs["text_embedding"], mask, strict=True)])
    image = outputs["image_embedding"].mean(1)
    expected = {
        "dice": SegmentationObjective("dice_only")(outputs, batch)["dice"],
        "global": 0.3 * symmetric_info_nce(image, text, temperature=0.2),
        "local": 0.7
        * transport_alignment_loss(
            outputs["image_embedding"], outputs["text_embedding"], text_mask=mask, mode="semi_relaxed"
        ),
        "guide": 0.9 * guidance(outputs["logits"], outputs["text_attention"], mask, SENTENCES),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_same_sentences_can_be_positives_of_each_other() -> None:
    outputs, batch = outputs_and_batch()
    apart = SpatialAlignmentObjective(dsot="global", cdg=False)(outputs, batch)["global"]
    together = SpatialAlignmentObjective(dsot="global", cdg=False, same_text_positives=True)(outputs, batch)
    assert abs(apart.item() - together["global"].item()) > 1e-4


def test_the_guidance_starts_at_its_epoch() -> None:
    outputs, batch = outputs_and_batch()
    objective = SpatialAlignmentObjective(dsot="off", guide_start=3)
    before, from_then = objective(outputs, batch, epoch=2), objective(outputs, batch, epoch=3)
    assert before["guide"].item() == 0
    assert from_then["guide"].item() > 0


def test_gradients_reach_what_each_term_is_about() -> None:
    outputs, batch = outputs_and_batch()
    terms = SpatialAlignmentObjective()(outputs, batch, epoch=9)
    for name in ("global", "local"):
        gradients = torch.autograd.grad(
            terms[name],
            [outputs["image_embedding"], outputs["text_embedding"], outputs["logits"]],
            allow_unused=True,
            retain_graph=True,
        )
        assert all(float(g.abs().sum()) > 0 for g in gradients[:2])
        assert gradients[2] is None
        padded = gradients[1][~outputs["text_mask"]]
        assert float(padded.abs().max()) == 0


@pytest.mark.parametrize("backbone", ["mmi_unet", "guide_decoder"])
def test_a_training_step_on_a_real_backbone_reaches_every_parameter(backbone: str) -> None:
    torch.manual_seed(0)
    network = AlignedNetwork(
        build_backbone(backbone, width=0.125, return_attention=True), channels=16
    ).train()
    text = torch.stack([torch.randint(5, 90, (3, 24)), torch.ones(3, 24, dtype=torch.long)], dim=1)
    outputs = network(torch.randn(3, 3, 64, 64), text)
    batch = {"label": (torch.rand(3, 1, 64, 64) > 0.8).float(), "sentence": SENTENCES}
    terms = SpatialAlignmentObjective()(outputs, batch, epoch=9)
    torch.stack(list(terms.values())).sum().backward()
    silent = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dsot": "all"}, "dsot must be one of off, global, local, both, got 'all'"),
        ({"ot_mode": "relaxed"}, "ot_mode must be one of .*, got 'relaxed'"),
        ({"weights": {"gloabl": 1}}, r"weights must name terms of .*, got \['gloabl'\]"),
        ({"weights": {"guide": -1}}, "weights must be finite and not negative"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpatialAlignmentObjective(**arguments)


def test_a_network_without_the_outputs_is_named_with_the_way_out() -> None:
    _, batch = outputs_and_batch()
    with pytest.raises(ValueError, match=r"outputs must hold 'image_embedding'.* must be an AlignedNetwork"):
        SpatialAlignmentObjective()({"logits": torch.zeros(3, 1, 16, 16)}, batch)

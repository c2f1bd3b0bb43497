"""Attention, box, guide, refined target and the loss of directional guidance."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from common.losses import (
    DirectionalGuidance,
    attention_boxes,
    directional_prior,
    normalised_attention,
    refined_target,
)
from common.text import mirror_sentence, read_findings

SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."


def some_attention(batch: int = 2, tokens: int = 5, size: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(batch, 4, tokens, size * size, generator=generator).softmax(3).unflatten(3, (size, size))
    )


def test_attention_is_averaged_over_heads_and_real_tokens_alone() -> None:
    attention = some_attention()
    mask = torch.tensor([[True, True, False, False, False], [True] * 5])
    result = normalised_attention(attention, mask, (6, 6))
    for image, real in enumerate((2, 5)):
        mean = sum(attention[image, h, t] for h in range(4) for t in range(real)) / (4 * real)
        expected = mean / mean.max()
        torch.testing.assert_close(result[image, 0], expected, rtol=1e-5, atol=1e-5)
    assert result.amax(dim=(1, 2, 3)).tolist() == [1, 1]


def test_uniform_attention_and_a_row_without_tokens_are_no_error() -> None:
    uniform = torch.full((1, 2, 3, 4, 4), 1 / 16)
    torch.testing.assert_close(
        normalised_attention(uniform, torch.ones(1, 3, dtype=torch.bool), (8, 8)), torch.ones(1, 1, 8, 8)
    )
    attention = some_attention(batch=1)
    nothing, everything = (torch.full((1, 5), value) for value in (False, True))
    torch.testing.assert_close(
        normalised_attention(attention, nothing, (6, 6)), normalised_attention(attention, everything, (6, 6))
    )


def test_the_box_is_tight() -> None:
    attention = torch.zeros(3, 1, 20, 30)
    attention[0, 0, 4, 7] = attention[0, 0, 11, 25] = 0.5
    attention[1, 0, 3:5, 6] = 0.9  # two pixels of 600: under 1 %
    attention[2] = 0.4
    boxes = attention_boxes(attention)
    assert boxes.tolist() == [[4, 12, 7, 26], [0, 20, 0, 30], [0, 20, 0, 30]]


def test_the_guide_is_attention_times_prior_in_the_box() -> None:
    attention, mask = some_attention(), torch.ones(2, 5, dtype=torch.bool)
    sentences = [SENTENCE, "upper right lung"]
    maps = DirectionalGuidance().maps(attention, mask, sentences, (24, 24))
    looks = normalised_attention(attention, mask, (24, 24))
    prior = directional_prior([read_findings(s) for s in sentences], (24, 24), boxes=attention_boxes(looks))
    torch.testing.assert_close(maps.attention, looks)
    torch.testing.assert_close(maps.prior, prior)
    torch.testing.assert_close(maps.guide, looks * prior)


def test_in_the_image_frame_the_box_is_the_image() -> None:
    attention, mask = some_attention(), torch.ones(2, 5, dtype=torch.bool)
    sentences = [SENTENCE, None]
    maps = DirectionalGuidance(prior_frame="image").maps(attention, mask, sentences, (24, 36))
    findings = [read_findings(s) for s in sentences]
    torch.testing.assert_close(maps.prior, directional_prior(findings, (24, 36)))


@pytest.mark.parametrize("frame", ["box", "image"])
def test_maps_mirror_with_image_and_sentence(frame: str) -> None:
    attention, mask = some_attention(batch=1), torch.ones(1, 5, dtype=torch.bool)
    guidance = DirectionalGuidance(prior_frame=frame)
    maps = guidance.maps(attention, mask, [SENTENCE], (30, 30))
    mirrored = guidance.maps(attention.flip(4), mask, [mirror_sentence(SENTENCE)], (30, 30))
    for one, other in zip(maps, mirrored, strict=True):
        torch.testing.assert_close(other, one.flip(3), rtol=0, atol=1e-6)


def test_laterality_decides_the_side() -> None:
    attention, mask = torch.full((1, 1, 1, 4, 4), 1 / 16), torch.ones(1, 1, dtype=torch.bool)
    halves = []
    for laterality in ("image", "patient"):
        prior = DirectionalGuidance(laterality=laterality).maps(attention, mask, [SENTENCE], (16, 16)).prior
        halves.append(int(prior.argmax()) % 16 < 8)
    assert halves == [True, False]


def test_the_refined_target_is_worked_out_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 0.0], [math.log(3), math.log(3)]]]], requires_grad=True)
    guide = torch.tensor([[[[0.0, 0.4], [0.2, 0.1]]]])
    target = refined_target(logits, guide, 0.5)
    expected = torch.tensor([[[[0.5 * 0.5, 0.5], [0.75 * 0.75, 0.75 * 0.625]]]])
    torch.testing.assert_close(target, expected)
    assert not target.requires_grad
    torch.testing.assert_close(refined_target(logits, torch.zeros_like(guide)), logits.detach().sigmoid())
    torch.testing.assert_close(refined_target(logits, guide, 0.0), logits.detach().sigmoid())


def test_the_loss_is_the_cross_entropy_with_the_refined_target_and_moves_the_logits_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 1, 12, 12, generator=generator, requires_grad=True)
    attention = some_attention().requires_grad_()
    mask = torch.ones(2, 5, dtype=torch.bool)
    guidance = DirectionalGuidance(strength=0.7)
    loss = guidance(logits, attention, mask, [SENTENCE, SENTENCE])
    guide = guidance.maps(attention, mask, [SENTENCE, SENTENCE], (12, 12)).guide
    target = refined_target(logits, guide, 0.7)
    torch.testing.assert_close(loss, F.binary_cross_entropy(logits.sigmoid(), target))
    loss.backward()
    assert attention.grad is None
    torch.testing.assert_close(logits.grad, (logits.sigmoid() - target).detach() / logits.numel())
    assert bool((logits.grad >= 0).all())  # the guidance only takes away


def test_descending_the_loss_takes_away_what_the_sentence_does_not_name() -> None:
    logits = torch.zeros(1, 1, 24, 24, requires_grad=True)
    attention, mask = torch.full((1, 1, 1, 4, 4), 1 / 16), torch.ones(1, 1, dtype=torch.bool)
    guidance = DirectionalGuidance()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(guidance(logits, attention, mask, [SENTENCE]), logits)
        logits = (logits - 200 * gradient).detach().requires_grad_()
    probabilities = logits.detach().sigmoid()[0, 0]
    assert float(probabilities[20, 6]) > 0.4
    assert float(probabilities[4, 18]) < 0.05


def test_half_precision_logits_give_a_float32_loss() -> None:
    logits = torch.randn(2, 1, 12, 12).bfloat16()
    mask = torch.ones(2, 5, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = DirectionalGuidance()(logits, some_attention().bfloat16(), mask, [SENTENCE, None])
    assert loss.dtype == torch.float32
    assert bool(torch.isfinite(loss))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"laterality": "viewer"}, "laterality must be 'image' or 'patient', got 'viewer'"),
        ({"prior_frame": "lung"}, "prior_frame must be 'box' or 'image', got 'lung'"),
        ({"strength": 1.5}, "strength must be from 0 to 1, got 1.5"),
        ({"threshold": -0.1}, "threshold must be from 0 to 1, got -0.1"),
        ({"minimum_area": 2.0}, "minimum_area must be from 0 to 1, got 2.0"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DirectionalGuidance(**arguments)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"attention must be \(B, heads, L, h, w\) and text_mask \(B, L\)"):
        normalised_attention(torch.rand(2, 5, 4, 4), torch.ones(2, 5, dtype=torch.bool), (4, 4))
    with pytest.raises(ValueError, match="sentences must be one per image, got 1 for 2 images"):
        DirectionalGuidance().maps(some_attention(), torch.ones(2, 5, dtype=torch.bool), [SENTENCE], (8, 8))

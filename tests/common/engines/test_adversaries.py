"""Discriminators of two domains: who learns from whom, their loop, their state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from common.engines import Adversaries
from common.losses import entropy_map
from common.networks import PatchDiscriminator


class Discriminator(nn.Module):
    """Two convolutions with batch normalisation between them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.layers(maps)


def adversaries(**kwargs: Any) -> Adversaries:
    return Adversaries({"logits": Discriminator(1), "aux_logits": Discriminator(2)}, **kwargs)


def predictions(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(2, 3, 8, 8, generator=generator).requires_grad_()
        for name in ("logits", "aux_logits")
    }


def weights(given: Adversaries) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in given.discriminators.parameters()]


def test_a_verdict_teaches_the_network_and_not_the_discriminators() -> None:
    both, target = adversaries(), predictions(0)
    before = weights(both)
    verdicts = both.judge(target)
    assert set(verdicts) == {"logits", "aux_logits"}
    sum(verdict.sum() for verdict in verdicts.values()).backward()
    assert all(float(tensor.grad.abs().sum()) > 0 for tensor in target.values())
    assert all(parameter.grad is None for parameter in both.discriminators.parameters())
    assert all(parameter.requires_grad for parameter in both.discriminators.parameters())
    assert all(torch.equal(*pair) for pair in zip(before, weights(both), strict=True))


def test_a_step_teaches_the_discriminators_and_not_the_network() -> None:
    both, source, target = adversaries(), predictions(0), predictions(1)
    before = weights(both)
    losses = both.step(source, target)
    assert set(losses) == {"logits", "aux_logits"}
    assert not any(loss.requires_grad for loss in losses.values())
    assert all(tensor.grad is None for tensor in (*source.values(), *target.values()))
    assert not any(torch.equal(*pair) for pair in zip(before[:1], weights(both)[:1], strict=True))


@pytest.mark.parametrize("maps", ["entropy", "probability"])
def test_steps_are_those_of_a_loop(maps: str) -> None:
    both = adversaries(maps=maps, learning_rate=0.01, betas=(0.5, 0.9), total_steps=5, power=0.9)
    modules = [Discriminator(1), Discriminator(2)]
    optimizer = torch.optim.Adam(
        [parameter for module in modules for parameter in module.parameters()], betas=(0.5, 0.9)
    )
    for step in range(4):
        source, target = predictions(2 * step), predictions(2 * step + 1)
        losses = both.step(source, target)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - step / 5) ** 0.9
        optimizer.zero_grad()
        for module, name in zip(modules, ("logits", "aux_logits"), strict=True):
            view = entropy_map if maps == "entropy" else lambda logits: logits.softmax(1)
            answers = [module(view(side[name].detach())) for side in (source, target)]
            loss = sum(
                F.binary_cross_entropy_with_logits(answer, torch.full_like(answer, float(domain))) / 2
                for domain, answer in enumerate(answers)
            )
            loss.backward()
            assert_close(losses[name], loss.detach())
        optimizer.step()
    for ours, theirs in zip(
        both.discriminators.parameters(), (p for m in modules for p in m.parameters()), strict=True
    ):
        assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_steps_learn_to_tell_the_domains_apart() -> None:
    both = adversaries(learning_rate=0.02)
    sure = {name: 8 * tensor.detach() for name, tensor in predictions(0).items()}
    unsure = {name: 0.1 * tensor.detach() for name, tensor in predictions(1).items()}
    losses = [float(both.step(sure, unsure)["logits"]) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    assert float(both.judge(unsure)["logits"].detach().mean()) > 0  # the target's label is 1


def test_one_that_goes_on_from_a_state_is_the_one_that_never_stopped() -> None:
    whole, resumed = adversaries(total_steps=9), adversaries(total_steps=9)
    for step in range(3):
        whole.step(predictions(step), predictions(step + 10))
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for step in range(3, 6):
        for one in (whole, resumed):
            one.step(predictions(step), predictions(step + 10))
    assert all(torch.equal(*pair) for pair in zip(weights(whole), weights(resumed), strict=True))
    assert whole.optimizer.param_groups[0]["lr"] == resumed.optimizer.param_groups[0]["lr"] < 1e-4


def test_full_precision_holds_under_autocast() -> None:
    both, target = adversaries(), predictions(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halves = {name: tensor.bfloat16() for name, tensor in target.items()}
        assert {verdict.dtype for verdict in both.judge(halves).values()} == {torch.float32}
        assert {loss.dtype for loss in both.step(halves, halves).values()} == {torch.float32}


def test_the_patch_discriminator_is_one() -> None:
    one = Adversaries({"logits": PatchDiscriminator(3, width=0.125)})
    logits = torch.randn(1, 3, 32, 32, requires_grad=True)
    one.judge({"logits": logits})["logits"].sum().backward()
    assert float(logits.grad.abs().sum()) > 0
    assert torch.isfinite(one.step({"logits": logits}, {"logits": logits})["logits"])


def test_states_of_others_are_refused() -> None:
    other = Adversaries({"logits": Discriminator(1)})
    with pytest.raises(ValueError, match="the saved discriminators must hold the weights"):
        adversaries().load_state_dict(other.state_dict())


def test_a_loss_that_is_not_finite_names_the_discriminator() -> None:
    wrong = {name: tensor.detach() * float("nan") for name, tensor in predictions(0).items()}
    with pytest.raises(FloatingPointError, match="discriminator of logits must be finite, got nan"):
        adversaries().step(wrong, predictions(1))


def test_a_prediction_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"outputs must hold 'aux_logits', .* got \['logits'\]"):
        adversaries().judge({"logits": predictions(0)["logits"]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"discriminators": {}}, "discriminators must hold at least one, got none"),
        ({"maps": "logits"}, "maps must be one of entropy, probability, got 'logits'"),
        ({"learning_rate": 0.0}, "learning_rate of the discriminators must be positive, got 0.0"),
        ({"total_steps": -3}, "total_steps must be at least 1"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adversaries(**({"discriminators": {"logits": Discriminator(0)}} | arguments))

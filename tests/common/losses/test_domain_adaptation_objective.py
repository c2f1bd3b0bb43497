"""The terms of a step over two domains: names, weights, when they begin, whose words, and where gradients go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from common.losses import (
    DomainAdaptationObjective,
    PrototypeAlignment,
    VisionLanguageCovariance,
    confident_labels,
    fool_loss,
)

CLASSES, DIM, PROTOTYPE_DIM = 3, 5, 7
EMBEDDINGS = torch.randn(2, CLASSES, 6, generator=torch.Generator().manual_seed(9))


def outputs(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    """What a network and discriminators return, as leaves."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    sides = {
        name: {
            "logits": drawn(2, CLASSES, 8, 8),
            "aux_logits": drawn(2, CLASSES, 8, 8),
            "features": drawn(2, DIM, 4, 4),
            "prototype_features": drawn(2, PROTOTYPE_DIM, 4, 4),
            "class_embeddings": EMBEDDINGS,
        }
        for name in ("source", "target")
    }
    return {**sides, "judged": {"logits": drawn(2, 1, 3, 3), "aux_logits": drawn(2, 1, 3, 3)}}


def batch(iteration: int | None = None) -> dict[str, Any]:
    label = torch.arange(2 * 64).reshape(2, 1, 8, 8) // 3 % CLASSES
    return {"label": label} | ({} if iteration is None else {"iteration": iteration})


def objective(**kwargs: Any) -> DomainAdaptationObjective:
    return DomainAdaptationObjective(
        **{
            "covariance": VisionLanguageCovariance(CLASSES, DIM, momentum=0.5),
            "prototypes": PrototypeAlignment(CLASSES, PROTOTYPE_DIM),
            "start_iteration": 2,
            **kwargs,
        }
    )


ALIGNED = {"vlcc", "target_vlcc", "prototype"}
SEGMENTED = {"ce", "dice", "aux_ce", "aux_dice"}
FOOLED = {"adversarial", "aux_adversarial"}


def test_every_term_has_its_weight() -> None:
    given, step = outputs(), batch()
    terms = objective(vlcc_weight=0.5, prototype_weight=2.0)(given, step)
    assert set(terms) == SEGMENTED | FOOLED | ALIGNED
    assert_close(terms["adversarial"], 0.003 * fool_loss(given["judged"]["logits"]))
    assert_close(terms["aux_adversarial"], 0.00002 * fool_loss(given["judged"]["aux_logits"]))
    source, target = given["source"], given["target"]
    pseudo = confident_labels(target["logits"].softmax(1))
    for name, side, labels in (("vlcc", source, step["label"]), ("target_vlcc", target, pseudo)):
        alone = VisionLanguageCovariance(CLASSES, DIM, momentum=0.5)
        assert_close(terms[name], 0.5 * alone(side["features"], labels, EMBEDDINGS[0]))
    alone = PrototypeAlignment(CLASSES, PROTOTYPE_DIM)
    expected = alone(
        source["prototype_features"],
        step["label"],
        target["prototype_features"],
        target["logits"].softmax(1),
    )
    assert_close(terms["prototype"], 2 * expected)


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ({"covariance": None}, {"vlcc", "target_vlcc"}),
        ({"vlcc_weight": 0.0}, {"vlcc", "target_vlcc"}),
        ({"prototypes": None}, {"prototype"}),
        ({"prototype_weight": 0.0}, {"prototype"}),
        ({"adversarial_weights": {}}, FOOLED),
        ({"adversarial_weights": {"logits": 1.0}}, {"aux_adversarial"}),
        ({"aux_weight": 0.0}, {"aux_ce", "aux_dice", "aux_adversarial"}),
    ],
)
def test_every_term_can_be_left_out_with_what_it_needs(arguments: dict[str, Any], missing: set[str]) -> None:
    terms = objective(**arguments)(outputs(), batch())
    assert set(terms) == (SEGMENTED | FOOLED | ALIGNED) - missing


def test_the_source_alone_is_segmented_and_no_bank_moves() -> None:
    loss = objective()
    terms = loss({"source": outputs()["source"]}, batch())
    assert set(terms) == SEGMENTED
    assert not any(bool(module.seen.any()) for module in loss.modules() if hasattr(module, "seen"))


def test_until_the_start_the_banks_follow_and_the_terms_are_zero_without_a_graph() -> None:
    loss = objective()
    for iteration in (1, 2):
        given = outputs(iteration)
        terms = loss(given, batch(iteration))
        assert all(float(terms[name]) == 0 and not terms[name].requires_grad for name in ALIGNED)
        torch.stack(list(terms.values())).sum().backward()
        assert given["source"]["features"].grad is None
    assert all(bool(module.seen.all()) for module in loss.modules() if hasattr(module, "seen"))
    before = loss.covariance.bank.means.clone()
    terms = loss(outputs(3), batch(3))
    assert all(float(terms[name].detach()) > 0 for name in ALIGNED)
    assert not torch.equal(before, loss.covariance.bank.means)


def test_gradients_reach_the_features_of_both_domains_and_no_discriminator_from_the_source() -> None:
    given = outputs()
    torch.stack(list(objective()(given, batch()).values())).sum().backward()
    for domain in ("source", "target"):
        for name in ("features", "prototype_features"):
            assert float(given[domain][name].grad.abs().sum()) > 0, (domain, name)
    assert float(given["judged"]["logits"].grad.abs().sum()) > 0
    assert float(given["source"]["logits"].grad.abs().sum()) > 0
    # the target's logits teach by the discriminators alone: its own labels are taken as they are
    assert given["target"]["logits"].grad is None


def test_the_target_is_to_look_like_the_source_to_the_discriminator() -> None:
    given = outputs()
    objective()(given, batch())["adversarial"].backward()
    assert bool((given["judged"]["logits"].grad > 0).all())  # lower logits: towards the source's label 0


def test_each_domain_has_a_bank_of_its_own() -> None:
    loss = objective()
    loss(outputs(), batch())
    assert not torch.equal(loss.covariance.bank.means, loss.target_covariance.bank.means)
    names = {name.partition(".")[0] for name in loss.state_dict()}
    assert names == {"covariance", "target_covariance", "prototypes"}


class Recorder(nn.Module):
    """Stands in for the covariance and keeps what it is given."""

    def __init__(self, seen: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.seen = seen

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        return Recorder(self.seen)

    def forward(self, features: Tensor, labels: Tensor, text: Tensor) -> Tensor:
        self.seen.append((labels, text))
        return features.mean()


@pytest.mark.parametrize(
    ("text_domain", "expected"),
    [
        ("source", [EMBEDDINGS[1], EMBEDDINGS[1]]),
        ("own", [EMBEDDINGS[1], EMBEDDINGS[0]]),
        ("mean", [EMBEDDINGS.mean(0)] * 2),
    ],
)
def test_the_words_are_those_of_the_modalities_by_name(text_domain: str, expected: list[Tensor]) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    loss = objective(covariance=Recorder(seen), text_domain=text_domain, modalities=("ct", "mr"))
    loss(outputs(), batch() | {"source_modality": "mr", "target_modality": "ct"})
    for (_, text), right in zip(seen, expected, strict=True):
        assert_close(text, right)


def test_the_words_can_be_those_that_the_network_projects() -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    given = outputs()
    for domain in ("source", "target"):
        given[domain]["projected_embeddings"] = 2 * EMBEDDINGS
    objective(covariance=Recorder(seen), text_target="projected")(given, batch())
    assert all(torch.equal(text, 2 * EMBEDDINGS[0]) for _, text in seen)


def test_pixels_of_the_target_that_are_not_sure_do_not_count() -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    given = outputs()
    objective(covariance=Recorder(seen), confidence=0.6)(given, batch())
    (source, _), (target, _) = seen
    assert int(source.min()) == 0
    sure = given["target"]["logits"].softmax(1).amax(1) >= 0.6
    assert torch.equal(target >= 0, sure)
    assert 0 < int(sure.sum()) < sure.numel()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vlcc_weight": -1.0}, "weights must be finite and not negative, got {'vlcc': -1.0}"),
        ({"adversarial_weights": {"logits": float("nan")}}, "weights must be finite"),
        ({"text_domain": "target"}, "text_domain must be one of source, mean, own, got 'target'"),
        ({"text_target": "own"}, "text_target must be one of frozen, projected, got 'own'"),
        ({"start_iteration": -1}, "start_iteration must be 0 or more steps, got -1"),
        ({"confidence": 1.5}, "confidence must be"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objective(**arguments)


def test_what_a_term_needs_and_does_not_get_is_named() -> None:
    given = outputs()
    del given["target"]["features"]
    with pytest.raises(ValueError, match=r"must hold 'features', got .*: switch off the term that needs it"):
        objective()(given, batch())
    with pytest.raises(ValueError, match="batch must hold 'source_modality'"):
        objective(modalities=("ct", "mr"))(outputs(), batch())
    with pytest.raises(ValueError, match="modality must be one of ct, mr, got t2"):
        objective(modalities=("ct", "mr"))(
            outputs(), batch() | {"source_modality": "t2", "target_modality": "ct"}
        )
    with pytest.raises(ValueError, match="outputs must hold 'source'"):
        objective()({}, batch())

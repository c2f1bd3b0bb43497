"""The parts of TCSA-UDA together, small: slices of volumes, the network, discriminators, all terms, resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events

from common.checks import read_tensors
from common.data import CaseLoader, DomainLoader
from common.data.slices import SliceDataset
from common.engines import (
    Adversaries,
    DomainAdaptationTrainer,
    DomainEvaluator,
    loss_terms,
    polynomial,
)
from common.handlers import EpochSeeds, MeanClassDiceMetric, TrainingState
from common.losses import DomainAdaptationObjective, PrototypeAlignment, VisionLanguageCovariance
from common.networks import TCSA, PatchDiscriminator

CLASSES = ("background", "liver", "spleen")
SIDE, STEPS = 32, 2


def volumes(domain: str, *, labelled: bool) -> list[dict[str, Any]]:
    """Two volumes of noise with a bright and a dark block, the other way round in the target."""
    generator = torch.Generator().manual_seed(len(domain))
    cases = []
    for number in range(2):
        label = torch.zeros(1, SIDE, SIDE, 3)
        label[:, 4:16, 4:20], label[:, 18:28, 10 + number : 28] = 1, 2
        shown = (label == 1).float() - (label == 2).float()
        image = (shown if domain == "source" else -0.7 * shown) + 0.2 * torch.randn(
            label.shape, generator=generator
        )
        modality = "mr" if domain == "source" else "ct"
        case = {"id": f"{domain}{number}", "image": image, "domain": domain, "modality": modality}
        cases.append({**case, "label": label} if labelled else case)
    return cases


def keep(case: dict[str, Any]) -> dict[str, Any]:
    return case


def slices(domain: str, *, labelled: bool) -> SliceDataset:
    return SliceDataset(volumes(domain, labelled=labelled), keep, seed=1, progress=False)


def training(path: Path, epochs: int, **switches: Any) -> DomainAdaptationTrainer:
    torch.manual_seed(0)
    network = TCSA(CLASSES, ("mr", "ct"), width=0.0625, depths=(1, 1, 1, 1))
    objective = DomainAdaptationObjective(
        **{
            "covariance": VisionLanguageCovariance(len(CLASSES), network.feature_channels),
            "prototypes": PrototypeAlignment(len(CLASSES), network.prototype_channels, confidence=0.3),
            "start_iteration": 2,
            "modalities": network.modalities,
            **switches,
        }
    )
    adversaries = Adversaries(
        {name: PatchDiscriminator(len(CLASSES), width=0.0625) for name in ("logits", "aux_logits")},
        total_steps=100,
    )
    optimizer = torch.optim.SGD(network.parameter_groups(0.002), lr=0.002, momentum=0.9, weight_decay=5e-4)
    scheduler = polynomial(optimizer, total_steps=100)
    loader = DomainLoader(
        slices("source", labelled=True), slices("target", labelled=False), batch_size=2, steps=STEPS, seed=3
    )
    trainer = DomainAdaptationTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        objective=objective,
        adversaries=adversaries,
        direction="mr_to_ct",
        train_handlers=[EpochSeeds(3, loader)],
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: scheduler.step())
    TrainingState(
        path=path,
        network=network,
        optimizer=optimizer,
        lr_scheduler=scheduler,
        parts={"objective": objective, "adversaries": adversaries},
    ).attach(trainer)
    return trainer


def tensors(state: Any, path: str = "state") -> dict[str, torch.Tensor]:
    """All tensors of a nested state by their place in it."""
    if isinstance(state, torch.Tensor):
        return {path: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {name: value for key, part in items for name, value in tensors(part, f"{path}.{key}").items()}


def test_a_resumed_training_of_all_parts_ends_as_if_never_stopped(tmp_path: Path) -> None:
    trainer = training(tmp_path / "whole.pt", 3)
    trainer.run()
    terms = loss_terms(trainer.state.output)
    assert terms["vlcc"] > 0
    assert terms["prototype"] > 0
    training(tmp_path / "parts.pt", 2).run()
    torch.rand(10)
    training(tmp_path / "parts.pt", 3).run()
    whole, parts = (tensors(read_tensors(tmp_path / f"{name}.pt")) for name in ("whole", "parts"))
    assert list(whole) == list(parts)
    assert any("adversaries.discriminators" in name for name in whole)
    assert any("objective.target_covariance.bank" in name for name in whole)
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


@pytest.mark.parametrize(
    ("switches", "missing"),
    [
        ({"covariance": None}, {"vlcc", "target_vlcc"}),
        ({"prototypes": None, "text_domain": "own"}, {"prototype"}),
        ({"text_target": "projected", "text_domain": "mean", "confidence": 0.5}, set()),
    ],
)
def test_every_switch_leads_to_finite_terms_of_their_names(
    tmp_path: Path, switches: dict[str, Any], missing: set[str]
) -> None:
    trainer = training(tmp_path / "last.pt", 2, **switches)
    trainer.run()
    terms = loss_terms(trainer.state.output)
    assert {"vlcc", "target_vlcc", "prototype"} - set(terms) == missing
    assert all(torch.isfinite(torch.tensor(value)) for value in terms.values())


def test_slices_and_volumes_of_the_source_are_validated_alike() -> None:
    torch.manual_seed(0)
    network = TCSA(CLASSES, ("mr", "ct"), width=0.0625, depths=(1, 1, 1, 1))
    whole = [case | {"image": case["image"].repeat(3, 1, 1, 1)} for case in volumes("source", labelled=True)]
    loaders = {
        "slices": CaseLoader(slices("source", labelled=True), batch_size=4),
        "volumes": CaseLoader(whole, batch_size=1),
    }
    scores = {}
    for name, loader in loaders.items():
        evaluator = DomainEvaluator(
            device="cpu",
            val_data_loader=loader,
            network=network,
            key_val_metric={"dice": MeanClassDiceMetric(len(CLASSES))},
        )
        evaluator.run()
        scores[name] = evaluator.state.metrics["dice"]
    assert scores["slices"] == pytest.approx(scores["volumes"], abs=1e-6)
    assert 0 < scores["slices"] < 1

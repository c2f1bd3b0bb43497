"""Contrastive pretraining of a tiny network: learns, validates, resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.handlers import ValidationHandler
from torch import Tensor, nn

from common.checks import read_tensors
from common.data import CaseLoader
from common.engines import ContrastiveEvaluator, ContrastiveTrainer, loss_terms
from common.handlers import EpochSeeds, SaveBestWeights, TrainingState
from common.losses import ClusterContrastiveObjective

SENTENCES = ("upper left", "upper right", "lower left", "lower right", "")


class TwoVectors(nn.Module):
    """A linear image encoder beside sentence vectors that are looked up and never change."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Linear(16, 8)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("text", torch.randn(len(SENTENCES), 8))

    def forward(self, image: Tensor, text: Tensor | None = None) -> dict[str, Tensor]:
        return {
            "image_vector": self.image(self.dropout(image.flatten(1))),
            "sentence_vector": self.text[text[:, 0, 0]],
        }


def cases(count: int, *, seed: int) -> list[dict[str, object]]:
    """Noise with a bright quarter that the sentence names; every fifth case has no sentence and no label has any."""
    generator = torch.Generator().manual_seed(seed)
    data = []
    for i in range(count):
        image, place = 0.3 * torch.randn(1, 4, 4, generator=generator), i % 5
        rows, cols = slice(0, 2) if place < 2 else slice(2, 4), slice(0, 2) if place % 2 == 0 else slice(2, 4)
        image[:, rows, cols] += 1
        text = torch.tensor([[place, 0], [1, 0]])
        data.append({"id": f"{seed}-{i}", "image": image, "text": text, "sentence": SENTENCES[place]})
    return data


def training(
    folder: Path, epochs: int, *, rho: float = 0.8
) -> tuple[ContrastiveTrainer, ContrastiveEvaluator]:
    network = TwoVectors()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.02)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    loader = CaseLoader(cases(40, seed=1), batch_size=16, shuffle=True, seed=3)
    evaluator = ContrastiveEvaluator(
        device="cpu", val_data_loader=CaseLoader(cases(20, seed=2), batch_size=8), network=network
    )
    trainer = ContrastiveTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        objective=ClusterContrastiveObjective(rho=rho),
        train_handlers=[EpochSeeds(7, loader)],
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: scheduler.step())
    ValidationHandler(interval=1, validator=evaluator, epoch_level=True).attach(trainer)
    SaveBestWeights(path=folder / "pretrained.pt", network=network, validator=evaluator).attach(trainer)
    TrainingState(
        path=folder / "last.pt",
        network=network,
        optimizer=optimizer,
        lr_scheduler=scheduler,
        validator=evaluator,
    ).attach(trainer)
    return trainer, evaluator


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_images_learn_to_find_their_sentences(tmp_path: Path, rho: float) -> None:
    trainer, evaluator = training(tmp_path, 8, rho=rho)
    evaluator.run()
    before = dict(evaluator.state.metrics)
    text = trainer.network.text.clone()
    trainer.run()
    after = evaluator.state.metrics
    assert (
        set(after)
        == set(before)
        == {
            "sentence_mrr",
            "sentence_recall_1",
            "sentence_recall_5",
            "sentence_silhouette",
        }
    )
    assert after["sentence_mrr"] > 0.9 > before["sentence_mrr"]
    assert after["sentence_silhouette"] > before["sentence_silhouette"] + 0.2
    assert torch.equal(trainer.network.text, text)


@pytest.mark.parametrize(("center_text", "learns"), [(False, False), (True, True)])
def test_sentences_that_are_nearly_one_vector_need_centring(
    center_text: bool, learns: bool, tmp_path: Path
) -> None:
    trainer, evaluator = training(tmp_path, 8)
    trainer.network.text.mul_(0.01).add_(1)
    trainer.objective.center_text = center_text
    trainer.run()
    assert (evaluator.state.metrics["sentence_recall_1"] > 0.9) == learns


def test_terms_have_their_names(tmp_path: Path) -> None:
    trainer, _ = training(tmp_path, 1)
    trainer.run()
    assert set(loss_terms(trainer.state.output)) == {"loss", "contrast"}
    assert trainer.state.metrics["train_loss"] == pytest.approx(trainer.state.metrics["train_contrast"])


def test_the_best_epoch_by_mean_reciprocal_rank_is_kept(tmp_path: Path) -> None:
    trainer, evaluator = training(tmp_path, 4)
    seen: dict[int, float] = {}
    evaluator.add_event_handler(
        Events.COMPLETED, lambda e: seen.update({trainer.state.epoch: e.state.metrics["sentence_mrr"]})
    )
    trainer.run()
    assert evaluator.state.best_metric == pytest.approx(max(seen.values()))
    assert seen[evaluator.state.best_metric_epoch] == max(seen.values())
    assert set(read_tensors(tmp_path / "pretrained.pt")) == {"image.weight", "image.bias", "text"}


def test_a_pretraining_stopped_between_epochs_ends_as_if_never_stopped(tmp_path: Path) -> None:
    training(tmp_path / "whole", 4)[0].run()
    training(tmp_path / "parts", 2)[0].run()
    torch.rand(100)
    training(tmp_path / "parts", 4)[0].run()
    for name in ("last.pt", "pretrained.pt"):
        whole, parts = (read_tensors(tmp_path / run / name) for run in ("whole", "parts"))
        whole, parts = whole.get("network", whole), parts.get("network", parts)
        assert list(whole) == list(parts)
        for key, tensor in whole.items():
            assert torch.equal(tensor, parts[key]), (name, key)


def test_a_batch_of_one_case_is_refused() -> None:
    network = TwoVectors()
    with pytest.raises(ValueError, match=r"batch_size must be at least 2 over all processes .*, got 1 in 1"):
        ContrastiveTrainer(
            device="cpu",
            max_epochs=1,
            train_data_loader=CaseLoader(cases(4, seed=1), batch_size=1),
            network=network,
            optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
            objective=ClusterContrastiveObjective(),
        )


def test_a_network_without_vectors_is_named() -> None:
    network = nn.Linear(4, 4)
    trainer = ContrastiveTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=CaseLoader(cases(4, seed=1), batch_size=4),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        objective=ClusterContrastiveObjective(),
        inferer=lambda image, network, text: {"logits": network(image)},
    )
    with pytest.raises(ValueError, match=r"outputs must hold 'image_vector', got the keys \['logits'\]"):
        trainer.run()

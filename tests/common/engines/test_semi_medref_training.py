"""The parts of Semi-MedRef together, on a small network: the teacher, the views, the objective and the loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import Compose
from torch import Tensor

from common.checks import read_tensors
from common.data import CaseDataset, SemiSupervisedLoader
from common.engines import MeanTeacher, SemiSupervisedTrainer, loss_terms
from common.handlers import EpochSeeds, TrainingState
from common.losses import SemiSupervisedObjective
from common.networks import ReferringPair, build_backbone
from common.text.tokenizer import build_tokenizer
from common.transforms import StrongView

SIZE = 64
PLACES = {
    "Unilateral pulmonary infection, one infected area, upper left lung.": (slice(0, 21), slice(0, 32)),
    "Unilateral pulmonary infection, one infected area, lower right lung.": (slice(43, 64), slice(32, 64)),
    "Unilateral pulmonary infection, one infected area, upper right lung.": (slice(0, 21), slice(32, 64)),
    "": (slice(0, 0), slice(0, 0)),
}
TEXT_ENCODER = {"name": "embedded", "hidden_size": 32, "num_layers": 1, "num_heads": 2}


def keep(case: dict[str, Any]) -> dict[str, Any]:
    return case


def cases(count: int, *, labelled: bool) -> CaseDataset:
    """Noise that is brighter where the sentence says."""
    tokenizer, generator = build_tokenizer("embedded", max_tokens=24), torch.Generator().manual_seed(count)
    data = []
    for index in range(count):
        sentence, (rows, columns) = list(PLACES.items())[index % len(PLACES)]
        label = torch.zeros(1, SIZE, SIZE)
        label[:, rows, columns] = 1
        image = torch.randn(3, SIZE, SIZE, generator=generator) + 2 * label
        case = {"id": str(index), "image": image, "sentence": sentence, "text": tokenizer.encode(sentence)}
        data.append({**case, "label": label} if labelled else case)
    return CaseDataset(data, Compose([keep]), progress=False)


def training(
    path: Path, epochs: int, *, backbone: str = "mmi_unet", contrastive: str = "itcl", **view: Any
) -> SemiSupervisedTrainer:
    torch.manual_seed(0)
    network = build_backbone(backbone, width=0.125, depths=(1, 1, 1, 1), text_encoder=TEXT_ENCODER)
    pair = ReferringPair(network, enabled=contrastive != "off")
    teacher = MeanTeacher(network, burn_in=1)
    optimizer = torch.optim.AdamW(pair.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    loader = SemiSupervisedLoader(
        cases(3, labelled=True), cases(8, labelled=False), batch_size=4, seed=3, burn_in=1
    )
    trainer = SemiSupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=loader,
        network=pair,
        optimizer=optimizer,
        objective=SemiSupervisedObjective(contrastive=contrastive, burn_in=1, ramp_epochs=2),
        teacher=teacher,
        # a young teacher is sure of little: all that can be pasted is
        view=StrongView(**{"mix": "position", "rate": 1.0, "accept": 0.3, "threshold": 0.4, **view}),
        burn_in=1,
        seed=3,
        train_handlers=[EpochSeeds(3, loader)],
    )
    TrainingState(
        path=path, network=pair, optimizer=optimizer, lr_scheduler=scheduler, parts={"teacher": teacher}
    ).attach(trainer)
    return trainer


@pytest.mark.parametrize("backbone", ["mmi_unet", "guide_decoder"])
def test_a_resumed_training_of_all_parts_ends_as_if_never_stopped(tmp_path: Path, backbone: str) -> None:
    training(tmp_path / "whole.pt", 3, backbone=backbone).run()
    training(tmp_path / "parts.pt", 2, backbone=backbone).run()
    torch.rand(10)
    training(tmp_path / "parts.pt", 3, backbone=backbone).run()
    whole, parts = (read_tensors(tmp_path / f"{name}.pt") for name in ("whole", "parts"))
    assert whole["teacher"]["steps"] == parts["teacher"]["steps"] == 6
    for one, other in ((whole["network"], parts["network"]), *_networks(whole, parts)):
        assert list(one) == list(other)
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name]), name


def _networks(*states: dict[str, Any]) -> list[tuple[dict[str, Tensor], ...]]:
    return [tuple(state["teacher"]["network"] for state in states)]


@pytest.mark.parametrize(
    "options",
    [
        {"mix": "off", "pos_aug": False, "contrastive": "off"},
        {"mix": "cutmix", "contrastive": "clip"},
        {"mix": "probability", "text_strong": True},
        {"mix": "position", "spc": True},
    ],
)
def test_every_switch_leads_to_finite_terms_of_their_names(tmp_path: Path, options: dict[str, Any]) -> None:
    trainer = training(tmp_path / "last.pt", 2, **options)
    trainer.run()
    terms = loss_terms(trainer.state.output)
    expected = {"loss", "dice", "bce", "unlabelled_dice", "unlabelled_bce"}
    if options.get("contrastive") != "off":
        expected |= {"contrast", "unlabelled_contrast"}
    assert set(terms) == expected
    assert all(torch.isfinite(torch.tensor(value)) for value in terms.values())
    assert all(torch.isfinite(p).all() for p in trainer.teacher.network.parameters())


def test_the_kept_weights_are_those_of_the_network_alone(tmp_path: Path) -> None:
    trainer = training(tmp_path / "last.pt", 1)
    names = list(
        build_backbone("mmi_unet", width=0.125, depths=(1, 1, 1, 1), text_encoder=TEXT_ENCODER).state_dict()
    )
    assert list(trainer.teacher.network.state_dict()) == names
    assert list(trainer.network.network.state_dict()) == names

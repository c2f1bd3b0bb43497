"""Time of a semi-supervised training step beside the supervised one: a strong view, a weak one, and the teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.engines import MeanTeacher, SemiSupervisedTrainer, TextGuidedTrainer
from common.losses import SegmentationObjective, SemiSupervisedObjective
from common.networks import ReferringPair, build_backbone
from common.text.tokenizer import build_tokenizer
from common.transforms import StrongView
from tools.benchmarks.sentences import MAX_TOKENS, captions
from tools.benchmarks.timing import comparison, interleaved_medians

BACKBONES = ("mmi_unet", "guide_decoder")

Batch = dict[str, Any]


def semi_supervised_benchmarks(
    *,
    repeats: int = 7,
    batch_size: int | None = None,
    image_size: int | None = None,
    width: float = 1.0,
    backbones: Sequence[str] = BACKBONES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure whole steps of the trainers: forward, loss, backward, optimiser, and what comes with the teacher.

    Ours is a step after the burn-in with everything on: `batch_size` labelled cases and as many unlabelled ones, whose
    strong view the student segments, whose weak view it compares with its sentences, and which the teacher looks at
    first. The reference is a step of supervised training, once with the labelled cases (``semi_…_batch``), and once
    with as many labelled cases as ours has cases (``semi_…_cases``). On a GPU all are in mixed precision.

    Args:
        repeats: Rounds of each; medians are reported.
        batch_size: Labelled cases, and unlabelled ones; None: 32 on a GPU, 4 elsewhere.
        image_size: Rows and columns, a multiple of 32; None: 224 on a GPU, 96 elsewhere.
        width: Of the networks.
        backbones: Their names.
        seed: Of the cases.

    Returns:
        Two rows a backbone; beyond the usual columns ``cost`` is ours / reference.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch_size = batch_size or (32 if device.type == "cuda" else 4)
    image_size = image_size or (224 if device.type == "cuda" else 96)
    rows = []
    for backbone in backbones:
        labelled, unlabelled, more = (
            _batch(batch_size, image_size, seed=seed + number, labelled=number != 1) for number in range(3)
        )
        ours = _semi_supervised(_network(backbone, width, device), labelled, unlabelled, device)
        references = {"batch": labelled, "cases": _joined(labelled, more)}
        sizes = {"batch": batch_size, "image": [image_size] * 2, "width": width, "repeats": repeats}
        for name, batch in references.items():
            reference = _supervised(_network(backbone, width, device), batch, device)
            seconds = interleaved_medians(ours, reference, repeats=repeats, warm_up=2)
            row = comparison(
                f"semi_{backbone}_{name}", seconds, sizes=sizes, device=device, unit="ms per step", scale=1e3
            )
            rows.append(row | {"cost": row["ours"] / row["reference"]})
    return rows


def _network(backbone: str, width: float, device: torch.device) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_backbone(backbone, width=width, max_tokens=MAX_TOKENS).to(device)


def _batch(count: int, image_size: int, *, seed: int, labelled: bool) -> Batch:
    """Noise, captions and masks of a bright quarter."""
    generator = torch.Generator().manual_seed(seed)
    known = captions(36)
    sentences = [known[index] for index in torch.randint(36, (count,), generator=generator)]
    tokenizer = build_tokenizer("embedded", max_tokens=MAX_TOKENS)
    batch: Batch = {
        "id": [f"{seed}-{index}" for index in range(count)],
        "image": torch.randn(count, 3, image_size, image_size, generator=generator),
        "text": torch.stack([tokenizer.encode(sentence) for sentence in sentences]),
        "sentence": sentences,
    }
    label = torch.zeros(count, 1, image_size, image_size)
    label[..., : image_size // 2, : image_size // 2] = 1
    return {**batch, "label": label} if labelled else batch


def _joined(one: Batch, other: Batch) -> Batch:
    return {
        key: torch.cat([value, other[key]]) if isinstance(value, Tensor) else value + other[key]
        for key, value in one.items()
    }


def _semi_supervised(
    network: nn.Module, labelled: Batch, unlabelled: Batch, device: torch.device
) -> Callable[[], None]:
    pair = ReferringPair(network).to(device)
    trainer = SemiSupervisedTrainer(
        device=device,
        max_epochs=0,
        train_data_loader=[{"labelled": labelled, "unlabelled": unlabelled}],
        network=pair,
        optimizer=torch.optim.AdamW(pair.parameters(), lr=1e-5),
        objective=SemiSupervisedObjective(burn_in=0),
        teacher=MeanTeacher(network, burn_in=0),
        view=StrongView(max_tokens=MAX_TOKENS),
        burn_in=0,
        amp=True,
    )
    return _one_more_step(trainer)


def _supervised(network: nn.Module, batch: Batch, device: torch.device) -> Callable[[], None]:
    trainer = TextGuidedTrainer(
        device=device,
        max_epochs=0,
        train_data_loader=[batch],
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-5),
        objective=SegmentationObjective(),
        amp=True,
    )
    return _one_more_step(trainer)


def _one_more_step(trainer: TextGuidedTrainer) -> Callable[[], None]:
    """A function that trains one more epoch, which is one step."""

    def step() -> None:
        trainer.state.max_epochs += 1
        trainer.run()

    return step

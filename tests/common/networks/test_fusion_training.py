"""What BiCLIP trains: the views of a step, what they share, whether it learns, and that resuming changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.engines import PrepareBatchExtraInput
from torch import Tensor
from torch.testing import assert_close

from common.checks import read_tensors
from common.data import CaseDataset, CaseLoader
from common.engines import TextGuidedTrainer, loss_terms
from common.handlers import EpochSeeds, SaveBestWeights, TrainingState
from common.losses import BiCLIPObjective
from common.networks import BiCLIP, EFUNet, FusionTraining
from common.text.tokenizer import build_tokenizer
from common.transforms import FusedAugmentation

ENCODER = {"name": "embedded", "hidden_size": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
LEFT = "Unilateral pulmonary infection, one infected area, upper left lung."
RIGHT = "Unilateral pulmonary infection, one infected area, lower right lung."
SIZE = 32

# Each rank has its own half of four cases; two steps, so that a parameter without a gradient would stop the second.
PROCESS = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from common.losses import BiCLIPObjective
from common.networks import BiCLIP, FusionTraining
from common.transforms import FusedAugmentation

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
batch, encoder = torch.load(f"{folder}/given.pt", weights_only=True)
batch = {name: tensor[2 * rank : 2 * rank + 2] for name, tensor in batch.items()}
for stop in ("strong", "none"):
    torch.manual_seed(0)
    inner = BiCLIP(width=0.125, text_encoder=encoder, vector_side=8)
    training = FusionTraining(inner, augmentation=FusedAugmentation("biclip"), stop_gradient=stop)
    network = DistributedDataParallel(training.train())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    torch.manual_seed(rank)
    for _ in range(2):
        optimizer.zero_grad()
        sum(BiCLIPObjective(stop_gradient=stop)(network(**batch), {}).values()).backward()
        optimizer.step()
    torch.save(dict(training.named_parameters()), f"{folder}/{rank}_{stop}.pt")
dist.destroy_process_group()
"""


def make(
    network: type[EFUNet] = BiCLIP, *, aug: str = "biclip", use_text: bool = True, **arguments: Any
) -> FusionTraining:
    torch.manual_seed(0)
    inner = network(width=0.125, text_encoder=ENCODER, vector_side=8, use_text=use_text)
    return FusionTraining(inner, augmentation=FusedAugmentation(aug), **arguments)


def step(count: int = 4, size: int = SIZE) -> dict[str, Tensor]:
    """A lesion that the sentence places, brighter than the noise around it."""
    generator = torch.Generator().manual_seed(3)
    tokenizer = build_tokenizer("embedded", max_tokens=32)
    label = torch.zeros(count, 1, size, size)
    half = size // 2
    for case in range(count):
        rows = slice(4, half - 4) if case % 2 == 0 else slice(half + 4, size - 4)
        label[case, :, rows, rows] = 1
    image = 0.6 * torch.rand(count, 3, size, size, generator=generator) + 0.3 * label
    text = torch.stack([tokenizer.encode((LEFT, RIGHT)[case % 2]) for case in range(count)])
    return {"image": image, "text": text, "label": label}


def test_the_outputs_of_a_step() -> None:
    outputs = make().train()(**step())
    shapes = {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    assert shapes == {
        "logits": (4, 1, SIZE, SIZE),
        "label": (4, 1, SIZE, SIZE),
        "pseudo": (4, 3, SIZE, SIZE),
        "pseudo_target": (4, 3, SIZE, SIZE),
        "text_vector": (4, 64),
        "text_vector_from_image": (4, 64),
        "weak_vector": (4, 256),
        "strong_vector": (4, 256),
    }


def test_the_target_is_the_masked_image_before_the_motion() -> None:
    training, batch = make().train(), step()
    outputs = training(**batch, generator=np.random.default_rng(0))
    assert_close(outputs["pseudo_target"], batch["image"] * batch["label"])
    assert not torch.equal(outputs["label"], batch["label"])
    assert torch.equal(outputs["pseudo"], training.network.draw(batch["image"], batch["text"]).pseudo)
    expected = training.augmentation(
        batch["image"], outputs["pseudo"], batch["label"], generator=np.random.default_rng(0)
    )
    assert torch.equal(outputs["label"], expected.label)


def test_the_weak_view_gives_the_logits_and_the_strong_one_its_vector() -> None:
    training, batch = make().train(), step()
    outputs = training(**batch, generator=np.random.default_rng(5))
    network, generator = training.network, np.random.default_rng(5)
    moved = training.augmentation(batch["image"], outputs["pseudo"], batch["label"], generator=generator)
    # both views have the same place and the same pseudo image
    assert_close(outputs["logits"], network.unet(network.fuse(moved.image, moved.pseudo)))
    strong = network.fuse(training.augmentation.strong(moved.image, generator=generator), moved.pseudo)
    assert_close(outputs["strong_vector"], training.projection(network.unet.features(strong)))


def test_with_nothing_switched_on_it_is_ef_unet() -> None:
    training = make(aug="none", iac=False, cycle=False).train()
    training.network.refinement = None
    early, batch = make(EFUNet).network.train(), step()
    early.load_state_dict(training.network.state_dict(), strict=True)
    outputs, expected = training(**batch), early(batch["image"], batch["text"])
    objective = BiCLIPObjective(generator=0.1, iac=0, cycle=0)
    terms, expected_terms = objective(outputs, {}), objective(expected, batch)
    assert torch.equal(outputs["logits"], expected["logits"])
    assert terms.keys() == expected_terms.keys() == {"dice", "bce", "generator"}
    for name, term in terms.items():
        assert_close(term, expected_terms[name])


def test_in_evaluation_it_is_the_network() -> None:
    training, batch = make().eval(), step()
    expected = training.network(batch["image"], batch["text"])
    assert torch.equal(training(**batch), expected)
    assert torch.equal(training(batch["image"], batch["text"]), expected)


@pytest.mark.parametrize("stop", ["strong", "none"])
def test_every_parameter_gets_a_gradient(stop: str) -> None:
    training = make(stop_gradient=stop).train()
    outputs = training(**step(), generator=np.random.default_rng(1))
    assert outputs["strong_vector"].requires_grad == (stop == "none")
    sum(BiCLIPObjective(stop_gradient=stop)(outputs, {}).values()).backward()
    assert [key for key, weight in training.named_parameters() if weight.grad is None] == []
    still = [key for key, weight in training.named_parameters() if not weight.grad.any()]
    # shifting all scores of a softmax changes nothing
    assert [key for key in still if not key.endswith("key.bias")] == []


def test_weights_of_0_leave_no_parameter_without_a_gradient() -> None:
    training = make().train()
    sum(BiCLIPObjective(generator=0, iac=0, cycle=0)(training(**step()), {}).values()).backward()
    assert [key for key, weight in training.named_parameters() if weight.grad is None] == []


def test_switches_leave_parts_out() -> None:
    outputs = make(cycle=False, iac=False).train()(**step())
    assert set(outputs) == {"logits", "label", "pseudo", "pseudo_target", "text_vector"}
    alone = make(use_text=False)
    assert alone.reader is None
    assert set(alone.train()(**step())) == {"logits", "label", "weak_vector", "strong_vector"}


def test_draws_come_from_the_global_generator_or_the_one_given() -> None:
    training, batch = make().train(), step()

    def logits(seed: int, **given: Any) -> Tensor:
        torch.manual_seed(seed)
        return training(**batch, **given)["logits"]

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    given_twice = [logits(seed, generator=np.random.default_rng(0)) for seed in (1, 2)]
    assert torch.equal(*given_twice)


def test_autocast_moves_in_full_precision() -> None:
    training = make().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = training(**step())
        terms = BiCLIPObjective()(outputs, {})
    sum(terms.values()).backward()
    assert all(term.isfinite() for term in terms.values())
    assert outputs["label"].dtype == torch.float32
    assert all(weight.grad.isfinite().all() for weight in training.parameters())


def test_bad_arguments_are_refused() -> None:
    network, batch = make().network, step()
    with pytest.raises(ValueError, match="stop_gradient must be one of none, strong, got 'weak'"):
        make(stop_gradient="weak")
    with pytest.raises(ValueError, match="augmentation must be given for iac, got None"):
        FusionTraining(network)
    training = make().train()
    with pytest.raises(ValueError, match="label must be given in training, got None: set the trainer's"):
        training(batch["image"], batch["text"])
    with pytest.raises(ValueError, match=r"image must be in \[0, 1\], got values from -.*: set normalise"):
        training(4 * batch["image"] - 2, batch["text"], batch["label"])
    with pytest.raises(ValueError, match=r"label must be \(B, K, H, W\) of the image's size, got"):
        training(batch["image"], batch["text"], batch["label"][..., ::2])


def test_a_little_beyond_the_range_is_clipped() -> None:
    training, batch = make(aug="none").train(), step()
    beyond = batch["image"] * 1.2 - 0.1
    outputs = training(beyond, batch["text"], batch["label"])
    assert_close(outputs["pseudo_target"], beyond.clamp(0, 1) * batch["label"])


def test_it_learns_four_cases() -> None:
    training, batch = make(aug="none").train(), step()
    optimizer, objective = torch.optim.AdamW(training.parameters(), lr=1e-2), BiCLIPObjective()
    history: list[dict[str, float]] = []
    for _ in range(25):
        terms = objective(training(**batch, generator=np.random.default_rng(0)), {})
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        history.append({name: float(term.detach()) for name, term in terms.items()})
    first, last = history[0], history[-1]
    assert last["bce"] < 0.4 * first["bce"]
    assert last["dice"] < 0.8 * first["dice"]
    assert last["generator"] < 0.4 * first["generator"]


def trainer(folder: Path, max_epochs: int) -> tuple[TextGuidedTrainer, FusionTraining]:
    """A training as a bundle sets it up: the label goes through prepare_batch to the network."""
    training, batch = make(), step()
    cases = [
        {
            "id": f"case {index}",
            "image": MetaTensor(batch["image"][index]),
            "text": batch["text"][index],
            "label": MetaTensor(batch["label"][index]),
            "sentence": (LEFT, RIGHT)[index % 2],
        }
        for index in range(4)
    ]
    dataset = CaseDataset(cases, lambda case: case, seed=1, progress=False)
    loader = CaseLoader(dataset=dataset, batch_size=2, shuffle=True, seed=1)
    optimizer = torch.optim.AdamW(training.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    engine = TextGuidedTrainer(
        device="cpu",
        max_epochs=max_epochs,
        train_data_loader=loader,
        network=training,
        optimizer=optimizer,
        objective=BiCLIPObjective(),
        prepare_batch=PrepareBatchExtraInput(extra_keys={"text": "text", "label": "label"}),
        train_handlers=[
            EpochSeeds(seed=1, loader=loader),
            SaveBestWeights(path=folder / "model.pt", network=training.network),
            TrainingState(
                path=folder / "last.pt", network=training, optimizer=optimizer, lr_scheduler=schedule
            ),
        ],
    )
    return engine, training


def test_a_resumed_training_is_the_same_and_inference_loads_the_network_alone(tmp_path: Path) -> None:
    whole, expected = trainer(tmp_path / "whole", 2)
    whole.run()
    assert set(loss_terms(whole.state.output)) == {"loss", "dice", "bce", "generator", "iac", "cycle"}
    trainer(tmp_path / "parts", 1)[0].run()
    second, resumed = trainer(tmp_path / "parts", 2)
    second.run()
    for (name, one), other in zip(expected.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    saved = read_tensors(tmp_path / "whole" / "model.pt")
    fresh = make().network
    fresh.load_state_dict(saved, strict=True)
    batch = step()
    assert torch.equal(
        fresh.eval()(batch["image"], batch["text"]), expected.eval()(batch["image"], batch["text"])
    )


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    torch.save((step(), ENCODER), tmp_path / "given.pt")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path), str(rank)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors
    start = make().projection.layers[0].weight
    for stop in ("strong", "none"):
        first, second = (torch.load(tmp_path / f"{rank}_{stop}.pt", weights_only=True) for rank in range(2))
        for name, weight in first.items():
            assert torch.equal(weight, second[name]), name
        assert not torch.equal(first["projection.layers.0.weight"], start)

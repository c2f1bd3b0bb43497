"""Adaptation of a tiny network from one domain to another: the step, its phases, resuming, one process and two."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.handlers import from_engine
from monai.transforms import Compose, MapTransform, RandomizableTransform
from torch import Tensor, nn
from torch.testing import assert_close

from common.checks import read_tensors
from common.data import CaseDataset, CaseLoader, DomainLoader
from common.engines import (
    Adversaries,
    DomainAdaptationTrainer,
    DomainEvaluator,
    loss_terms,
    polynomial,
)
from common.handlers import (
    EpochSeeds,
    MeanClassDiceMetric,
    ReportOracle,
    SaveBestWeights,
    StartFromPhase,
    TrainingState,
    chosen_validator,
)
from common.losses import DomainAdaptationObjective, PrototypeAlignment, VisionLanguageCovariance
from common.volume_inferer import VolumeInferer

SEED, CLASSES, SIDE = 5, 3, 8
STEPS, EPOCHS = 3, 4


class Network(nn.Module):
    """A convolution, normalisation and dropout; a modality shifts the features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.GELU(), nn.Dropout(0.1)
        )
        self.shift = nn.Embedding(2, 6)
        self.head = nn.Conv2d(6, CLASSES, 1)
        self.aux_head = nn.Conv2d(6, CLASSES, 1)
        generator = torch.Generator().manual_seed(3)
        self.register_buffer("words", torch.randn(2, CLASSES, 4, generator=generator))
        self.calls: list[list[str] | None] = []

    def forward(
        self, image: Tensor, text: Tensor | None = None, *, modality: Sequence[str] | None = None
    ) -> dict[str, Tensor] | Tensor:
        self.calls.append(modality)
        numbers = torch.tensor([int(name == "mr") for name in modality or ["ct"] * len(image)])
        features = self.body(image) + self.shift(numbers)[:, :, None, None]
        if not self.training:
            return self.head(features)
        return {
            "logits": self.head(features),
            "aux_logits": self.aux_head(features),
            "features": features,
            "prototype_features": features,
            "class_embeddings": self.words,
        }


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(CLASSES, 4, 3, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.layers(maps)


class Shift(RandomizableTransform, MapTransform):
    """An augmentation: adds one random number to the image."""

    def __init__(self) -> None:
        RandomizableTransform.__init__(self, 1.0)
        MapTransform.__init__(self, "image")

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "image": data["image"] + 0.1 * self.R.rand()}


def cases(count: int, domain: str, *, labelled: bool, named: bool = True) -> CaseDataset:
    """Noise with a bright left and a dark right, whose widths vary; darker and weaker in the target."""
    generator = torch.Generator().manual_seed(count)
    data = []
    for index in range(count):
        label = torch.zeros(1, SIDE, SIDE)
        label[..., : 2 + index % 2], label[..., -2 - index % 2 :] = 1, 2
        image = (label == 1).float() - (label == 2).float()
        image = image if domain == "source" else 0.6 * image - 0.5
        case: dict[str, Any] = {
            "id": f"{domain[0]}{index}",
            "image": image + 0.2 * torch.randn(1, SIDE, SIDE, generator=generator),
        }
        if named:
            case |= {"domain": domain, "modality": "mr" if domain == "source" else "ct"}
        data.append({**case, "label": label} if labelled else case)
    return CaseDataset(data, Compose([Shift()]), seed=SEED, progress=False)


def rates(network: Network) -> list[dict[str, Any]]:
    """Ten times the rate for both heads."""
    heads = [*network.head.parameters(), *network.aux_head.parameters()]
    rest = [*network.body.parameters(), *network.shift.parameters()]
    return [{"params": heads, "lr": 0.2}, {"params": rest, "lr": 0.02}]


def objective(**kwargs: Any) -> DomainAdaptationObjective:
    return DomainAdaptationObjective(
        **{
            "covariance": VisionLanguageCovariance(CLASSES, 6),
            "prototypes": PrototypeAlignment(CLASSES, 6),
            "adversarial_weights": {"logits": 0.1, "aux_logits": 0.01},
            "start_iteration": 4,
            "modalities": ("ct", "mr"),
            **kwargs,
        }
    )


class KilledError(Exception):
    """What ends a training in the middle of an epoch."""


def evaluator(network: nn.Module, domain: str = "source", **kwargs: Any) -> DomainEvaluator:
    return DomainEvaluator(
        device="cpu",
        val_data_loader=CaseLoader(cases(4, domain, labelled=True), batch_size=2),
        network=network,
        domain=domain,
        inferer=VolumeInferer(channels=1),
        key_val_metric={"dice": MeanClassDiceMetric(CLASSES)},
        **kwargs,
    )


def training(
    folder: Path,
    epochs: int = EPOCHS,
    *,
    phase: str = "run",
    kill_at: int | None = None,
    wrap: Any = lambda network: network,
    selection: str = "source_validation",
    **kwargs: Any,
) -> DomainAdaptationTrainer:
    """The training of one phase, as a configuration would have it."""
    torch.manual_seed(SEED)
    network = Network()
    trained = wrap(network)
    optimizer = torch.optim.SGD(rates(network), lr=0.02, momentum=0.9)
    scheduler = polynomial(optimizer, total_steps=EPOCHS * STEPS)
    loader = DomainLoader(
        cases(5, "source", labelled=True),
        cases(7, "target", labelled=False) if phase != "pretrain" else None,
        batch_size=2,
        steps=STEPS,
        seed=SEED,
    )
    terms = objective() if phase == "run" else objective(covariance=None, prototypes=None)
    adversaries = None
    if phase != "pretrain":
        adversaries = Adversaries(
            {"logits": Discriminator(), "aux_logits": Discriminator()},
            maps="probability" if phase == "warmup" else "entropy",
            learning_rate=0.01,
            total_steps=EPOCHS * STEPS,
        )
    trainer = DomainAdaptationTrainer(
        **{
            "device": "cpu",
            "max_epochs": epochs,
            "train_data_loader": loader,
            "network": trained,
            "optimizer": optimizer,
            "objective": terms,
            "adversaries": adversaries,
            "train_handlers": [EpochSeeds(SEED, loader)],
            **kwargs,
        }
    )
    before = {"pretrain": [], "warmup": ["pretrain"], "run": ["warmup", "pretrain"]}[phase]
    StartFromPhase(network=trained, paths=[folder / f"{name}.pt" for name in before]).attach(trainer)
    if adversaries is not None:
        discriminators = [folder / f"{name}_discriminators.pt" for name in before if name != "pretrain"]
        StartFromPhase(network=adversaries.discriminators, paths=discriminators, name="adversaries").attach(
            trainer
        )

    def kill(engine: DomainAdaptationTrainer) -> None:
        if engine.state.iteration == kill_at:
            raise KilledError

    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: scheduler.step())
    trainer.add_event_handler(Events.ITERATION_COMPLETED, kill)
    source = evaluator(trained)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: source.run(engine.state.epoch))
    oracle = ReportOracle(evaluator=evaluator(trained, "target"), path=folder / "oracle.json", interval=1)
    oracle.attach(trainer)
    validator = chosen_validator(selection, source)
    SaveBestWeights(path=folder / f"{phase}.pt", network=trained, validator=validator).attach(trainer)
    parts: dict[str, Any] = {"objective": terms, "oracle": oracle}
    if adversaries is not None:
        parts["adversaries"] = adversaries
        SaveBestWeights(
            path=folder / f"{phase}_discriminators.pt",
            network=adversaries.discriminators,
            validator=validator,
        ).attach(trainer)
    TrainingState(
        path=folder / f"{phase}_last.pt",
        network=trained,
        optimizer=optimizer,
        lr_scheduler=scheduler,
        validator=validator,
        parts=parts,
    ).attach(trainer)
    return trainer


def test_a_step_is_one_forward_pass_with_the_modality_of_every_image(tmp_path: Path) -> None:
    trainer = training(tmp_path, 1)
    trainer.run()
    # evaluations come after the three steps
    assert trainer.network.calls[:STEPS] == [["mr", "mr", "ct", "ct"]] * STEPS
    assert set(loss_terms(trainer.state.output)) == {
        *("loss", "ce", "dice", "aux_ce", "aux_dice", "adversarial", "aux_adversarial"),
        *("vlcc", "target_vlcc", "prototype", "discriminator_logits", "discriminator_aux_logits"),
    }


def test_the_source_alone_is_a_supervised_training(tmp_path: Path) -> None:
    trainer = training(tmp_path, 1, phase="pretrain")
    trainer.run()
    assert trainer.network.calls[:STEPS] == [["mr", "mr"]] * STEPS
    assert set(loss_terms(trainer.state.output)) == {"loss", "ce", "dice", "aux_ce", "aux_dice"}


def test_what_the_discriminators_pay_is_logged_and_no_part_of_the_loss(tmp_path: Path) -> None:
    trainer = training(tmp_path, 2)
    trainer.run()
    terms = loss_terms(trainer.state.output)
    loss = from_engine(["loss"], first=True)(trainer.state.output)
    own = {name: value for name, value in terms.items() if not name.startswith(("loss", "discriminator"))}
    assert float(loss) == pytest.approx(sum(own.values()), abs=1e-5)
    assert terms["discriminator_logits"] > 0
    assert trainer.state.metrics["train_discriminator_aux_logits"] > 0


def test_a_training_is_the_loop_that_its_description_says(
    tmp_path: Path, assert_same: Callable[..., None]
) -> None:
    trainer = training(tmp_path)
    trainer.run()

    torch.manual_seed(SEED)
    network, terms = Network(), objective()
    adversaries = Adversaries(
        {"logits": Discriminator(), "aux_logits": Discriminator()},
        learning_rate=0.01,
        total_steps=EPOCHS * STEPS,
    )
    optimizer = torch.optim.SGD(rates(network), lr=0.02, momentum=0.9)
    loader = DomainLoader(
        cases(5, "source", labelled=True),
        cases(7, "target", labelled=False),
        batch_size=2,
        steps=STEPS,
        seed=SEED,
    )
    iteration = 0
    for epoch in range(1, EPOCHS + 1):
        EpochSeeds(SEED, loader)(SimpleNamespace(state=SimpleNamespace(epoch=epoch, rank=0)))
        for step in loader:
            iteration += 1
            share = (1 - (iteration - 1) / (EPOCHS * STEPS)) ** 0.9
            for group, rate in zip(optimizer.param_groups, (0.2, 0.02), strict=True):
                group["lr"] = rate * share
            network.train()
            images = [step[domain]["image"].as_subclass(Tensor) for domain in ("source", "target")]
            given = network(torch.cat(images), modality=["mr"] * 2 + ["ct"] * 2)
            sides = {
                domain: {
                    name: value if name == "class_embeddings" else value[2 * place : 2 * place + 2]
                    for name, value in given.items()
                }
                for place, domain in enumerate(("source", "target"))
            }
            verdicts = {
                name: adversaries.discriminators[name](
                    -(probability * probability.log2()) / torch.tensor(3.0).log2()
                )
                for name in ("logits", "aux_logits")
                for probability in [sides["target"][name].softmax(1)]
            }
            batch = {"label": step["source"]["label"], "iteration": iteration}
            batch |= {"source_modality": "mr", "target_modality": "ct"}
            optimizer.zero_grad()
            sum(terms({**sides, "judged": verdicts}, batch, epoch).values()).backward()
            optimizer.step()
            adversaries.step(sides["source"], sides["target"])
    for name, tensor in network.state_dict().items():
        assert_close(trainer.network.state_dict()[name], tensor, rtol=1e-4, atol=1e-4, msg=name)
    for ours, theirs in zip(
        trainer.adversaries.discriminators.parameters(), adversaries.discriminators.parameters(), strict=True
    ):
        assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert_same(
        {name: value.shape for name, value in trainer.objective.state_dict().items()},
        {name: value.shape for name, value in terms.state_dict().items()},
    )
    assert_close(trainer.objective.covariance.bank.means, terms.covariance.bank.means, rtol=1e-3, atol=1e-4)


def test_discriminators_have_full_precision_where_the_network_has_half(tmp_path: Path) -> None:
    trainer = training(tmp_path, 2)
    seen: dict[str, set[torch.dtype]] = {"network": set(), "discriminator": set()}
    trainer.network.head.register_forward_hook(lambda *hooked: seen["network"].add(hooked[2].dtype))
    trainer.adversaries.discriminators["logits"].register_forward_hook(
        lambda *hooked: seen["discriminator"].add(hooked[2].dtype)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trainer.run()
    assert seen == {"network": {torch.bfloat16}, "discriminator": {torch.float32}}
    assert all(value == value for value in loss_terms(trainer.state.output).values())


@pytest.mark.parametrize("kill_at", [2, 6, 8])
@pytest.mark.parametrize("phase", ["pretrain", "warmup", "run"])
def test_a_killed_and_resumed_training_ends_as_if_never_stopped(
    tmp_path: Path, phase: str, kill_at: int, assert_same: Callable[..., None]
) -> None:
    training(tmp_path / "whole", phase=phase).run()
    with pytest.raises(KilledError):
        training(tmp_path / "parts", phase=phase, kill_at=kill_at).run()
    torch.rand(100)
    training(tmp_path / "parts", phase=phase).run()
    names = [f"{phase}.pt", f"{phase}_last.pt"] + [f"{phase}_discriminators.pt"] * (phase != "pretrain")
    for name in names:
        assert_same(*(read_tensors(tmp_path / run / name) for run in ("whole", "parts")))
    reports = [(tmp_path / run / "oracle.json").read_text() for run in ("whole", "parts")]
    assert reports[0] == reports[1]
    state = read_tensors(tmp_path / "whole" / f"{phase}_last.pt")
    assert set(state["oracle"]["scores"]) == {1, 2, 3, 4}
    assert bool(state["objective"]) == (phase == "run")
    assert ("adversaries" in state) == (phase != "pretrain")


def test_every_phase_starts_from_the_one_before(tmp_path: Path) -> None:
    starts: dict[str, dict[str, Tensor]] = {}

    def keep(engine: DomainAdaptationTrainer, phase: str) -> None:
        modules = {"network": engine.network}
        if engine.adversaries is not None:
            modules["discriminators"] = engine.adversaries.discriminators
        starts[phase] = {
            f"{name}.{key}": value.clone()
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }

    for phase in ("pretrain", "warmup", "run"):
        trainer = training(tmp_path, 2, phase=phase)
        trainer.add_event_handler(Events.EPOCH_STARTED(once=1), keep, phase)
        trainer.run()
    for phase, before in (("warmup", "pretrain"), ("run", "warmup")):
        for name, tensor in read_tensors(tmp_path / f"{before}.pt").items():
            assert torch.equal(starts[phase][f"network.{name}"], tensor), name
    for name, tensor in read_tensors(tmp_path / "warmup_discriminators.pt").items():
        assert torch.equal(starts["run"][f"discriminators.{name}"], tensor), name


@pytest.mark.parametrize("selection", ["source_validation", "last"])
def test_the_oracle_changes_nothing_and_the_selection_is_what_it_says(tmp_path: Path, selection: str) -> None:
    trainer = training(tmp_path, selection=selection)
    best: list[tuple[int, dict[str, Tensor]]] = []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda engine: best.append(
            (engine.state.epoch, {k: v.clone() for k, v in engine.network.state_dict().items()})
        ),
    )
    trainer.run()
    kept = read_tensors(tmp_path / "run.pt")
    same = [epoch for epoch, state in best if all(torch.equal(state[name], kept[name]) for name in kept)]
    chosen = read_tensors(tmp_path / "run_last.pt")["best_epoch"]
    assert same == ([EPOCHS] if selection == "last" else [chosen])


def test_labels_of_the_target_never_reach_the_training(tmp_path: Path) -> None:
    trainer = training(tmp_path, 1)
    trainer.data_loader.target = cases(7, "target", labelled=True)
    with pytest.raises(
        ValueError, match=r"target cases must come without a label, got one in \['t\d', 't\d'\]"
    ):
        trainer.run()


def test_cases_of_the_wrong_domain_are_refused(tmp_path: Path) -> None:
    trainer = training(tmp_path, 1)
    trainer.data_loader.target = cases(7, "source", labelled=False)
    with pytest.raises(ValueError, match="the target must hold target cases alone, got source in"):
        trainer.run()


def test_modalities_come_from_the_cases_or_the_direction_or_are_the_networks_own(tmp_path: Path) -> None:
    def calls(**kwargs: Any) -> Any:
        trainer = training(tmp_path, 1, phase="pretrain", objective=objective(modalities=None), **kwargs)
        trainer.data_loader.dataset = cases(5, "source", labelled=True, named=False)
        trainer.data_loader.target = cases(5, "target", labelled=False, named=False)
        (tmp_path / "pretrain_last.pt").unlink(missing_ok=True)
        trainer.run()
        return trainer.network.calls[0]

    assert calls() is None
    assert calls(direction="mr_to_ct") == ["mr", "mr", "ct", "ct"]
    assert calls(direction="ct_to_mr") == ["ct", "ct", "mr", "mr"]


def test_half_named_modalities_are_refused(tmp_path: Path) -> None:
    trainer = training(tmp_path, 1)
    trainer.data_loader.target = cases(7, "target", labelled=False, named=False)
    with pytest.raises(ValueError, match="both name their modality or neither, got it of the source alone"):
        trainer.run()


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    trainer = training(tmp_path, 1)
    for case in trainer.data_loader.target._cache:
        case["image"] = case["image"][:, :6]
    with pytest.raises(ValueError, match=r"one size, got \(1, 6, 8\) and \(1, 8, 8\): give both the same"):
        trainer.run()


def test_two_modalities_in_a_domain_are_refused(tmp_path: Path) -> None:
    trainer = training(tmp_path, 1)
    trainer.data_loader.dataset._cache[0]["modality"] = "t2"
    with pytest.raises(ValueError, match="all cases of a domain must be of one modality, got mr, t2"):
        trainer.run()


def test_a_source_without_label_and_a_loader_without_source_are_refused(tmp_path: Path) -> None:
    trainer = training(tmp_path, 1)
    trainer.data_loader.dataset = cases(5, "source", labelled=False)
    with pytest.raises(ValueError, match="source cases must have a label, got none in"):
        trainer.run()
    trainer = training(tmp_path, 1)
    trainer.data_loader = [{"image": torch.zeros(2, 1, 8, 8)}]
    with pytest.raises(
        ValueError, match=r"must hold 'source', got \['image'\]: use common.data.DomainLoader"
    ):
        trainer.run()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_loss_that_is_not_finite_names_the_cases_of_both_domains(tmp_path: Path) -> None:
    trainer = training(tmp_path, 3)
    for case in trainer.data_loader.target._cache:
        case["image"] = case["image"] * float("nan")
    with pytest.raises(FloatingPointError, match=r"in epoch 1 for cases \['s\d', 's\d', 't\d', 't\d'\]"):
        trainer.run()


def test_accumulated_gradients_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accumulation_steps must be 1 in domain adaptation, got 2"):
        training(tmp_path, 1, accumulation_steps=2)


def test_no_epoch_is_no_training(tmp_path: Path) -> None:
    trainer = training(tmp_path, 0)
    trainer.run()
    assert trainer.network.calls == []
    assert not list(tmp_path.iterdir())


def test_the_source_is_learned(tmp_path: Path) -> None:
    training(tmp_path, phase="pretrain").run()
    trainer = training(tmp_path)
    trainer.run()
    metric = evaluator(trainer.network)
    metric.run()
    assert metric.state.metrics["dice"] > 0.6


def test_volumes_are_evaluated_with_the_modality_of_their_slices() -> None:
    network = Network()
    batch = {
        "id": ["one", "two"],
        "image": torch.rand(2, 1, SIDE, SIDE, 5),
        "label": torch.zeros(2, 1, SIDE, SIDE, 5),
        "modality": ["mr", "ct"],
        "domain": ["source", "source"],
    }
    engine = DomainEvaluator(
        device="cpu",
        val_data_loader=[batch],
        network=network,
        inferer=VolumeInferer(channels=1),
        key_val_metric={"dice": MeanClassDiceMetric(CLASSES)},
    )
    engine.run()
    assert network.calls == [["mr"] * 5 + ["ct"] * 5]
    network.eval()
    expected = network(batch["image"][1, ..., 3][None], modality=["ct"])
    assert_close(engine.state.output[1]["pred"][..., 3].as_subclass(Tensor), expected[0])


@pytest.mark.parametrize(("direction", "expected"), [(None, None), ("ct_to_mr", ["mr", "mr"])])
def test_a_host_that_names_no_modality_is_evaluated(direction: str | None, expected: object) -> None:
    network = Network()
    batch = {"image": torch.rand(2, 1, SIDE, SIDE), "label": torch.zeros(2, 1, SIDE, SIDE)}
    DomainEvaluator(
        device="cpu",
        val_data_loader=[batch],
        network=network,
        domain="target",
        direction=direction,
        inferer=VolumeInferer(channels=1),
    ).run()
    assert network.calls == [expected]


def test_the_validation_that_chooses_sees_no_target() -> None:
    engine = evaluator(Network())
    engine.data_loader = CaseLoader(cases(4, "target", labelled=True), batch_size=2)
    with pytest.raises(ValueError, match="must see source cases alone, got t0, t1 of the other domain"):
        engine.run()
    with pytest.raises(ValueError, match="domain must be one of source, target, got 'test'"):
        evaluator(Network(), "test")


# Every rank trains 3 epochs at once, then is killed in the third and goes on, with another start of everything.
PROCESS = """
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

folder, rank, tests = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
sys.path.insert(0, tests)
from test_domain_adaptation import KilledError, training

dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
states = {}
for name, kills in (("whole", [None]), ("parts", [8, None])):
    for kill in kills:
        trainer = training(folder / name, kill_at=kill, wrap=DistributedDataParallel)
        try:
            trainer.run()
        except KilledError:
            pass
        dist.barrier()
    states[name] = {
        "network": trainer.network.module.state_dict(),
        "adversaries": trainer.adversaries.state_dict(),
        "objective": trainer.objective.state_dict(),
        "calls": len([call for call in trainer.network.module.calls if call and len(set(call)) == 2]),
        "cases": list(trainer.state.batch["target"]["id"]),
    }
torch.save(states, folder / f"{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_have_one_network_one_pair_of_adversaries_and_one_bank(
    tmp_path: Path, assert_same: Callable[..., None]
) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    here = str(Path(__file__).parent)
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), str(rank), here], env=environment)
        for rank in range(2)
    ]
    assert [process.wait(timeout=600) for process in processes] == [0, 0]
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert one["whole"]["calls"] == EPOCHS * STEPS
    assert one["whole"]["cases"] != other["whole"]["cases"]
    network, adversaries = dict(Network().named_parameters()), one["whole"]["adversaries"]["discriminators"]
    for state in (one, other):
        for run in ("whole", "parts"):
            for name in network:
                assert torch.equal(one["whole"]["network"][name], state[run]["network"][name]), name
            for name, tensor in state[run]["adversaries"]["discriminators"].items():
                if "running" not in name:  # statistics that nobody reads; a state holds those of rank 0
                    assert torch.equal(adversaries[name], tensor), name
            assert_same(one["whole"]["objective"], state[run]["objective"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU for mixed precision")
def test_mixed_precision_trains_network_and_adversaries(tmp_path: Path) -> None:
    network = PatchNetwork().cuda()
    loader = DomainLoader(
        cases(5, "source", labelled=True), cases(7, "target", labelled=False), batch_size=2, steps=2
    )
    adversaries = Adversaries({"logits": Discriminator()}, device="cuda")
    trainer = DomainAdaptationTrainer(
        device="cuda",
        max_epochs=2,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.01),
        objective=objective(start_iteration=1),
        adversaries=adversaries,
        amp=True,
        train_handlers=[EpochSeeds(SEED, loader)],
    )
    trainer.run()
    assert all(value == value for value in loss_terms(trainer.state.output).values())
    assert trainer.state.output[0]["pred"]["source"]["logits"].dtype == torch.float16


class PatchNetwork(Network):
    """`Network` whose modalities are looked up on its own device."""

    def forward(self, image: Tensor, text: Tensor | None = None, *, modality: Any = None) -> Any:
        outputs = {"features": self.body(image)}
        outputs |= {
            "logits": self.head(outputs["features"]),
            "aux_logits": self.aux_head(outputs["features"]),
        }
        return outputs | {"prototype_features": outputs["features"], "class_embeddings": self.words}

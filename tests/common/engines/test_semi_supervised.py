"""Semi-supervised training of a tiny network: the step, the teacher, resuming, one process and two."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.handlers import StatsHandler, from_engine
from monai.transforms import Compose, MapTransform, RandomizableTransform
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from common.checks import read_tensors
from common.data import CaseDataset, SemiSupervisedLoader
from common.engines import MeanTeacher, SemiSupervisedTrainer, loss_terms
from common.handlers import EpochSeeds, Progress, SaveBestWeights, TrainingState

SEED = 5
BURN_IN = 1


class Segmenter(nn.Module):
    """A convolution, normalisation and dropout; the text shifts the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.Dropout(0.2)
        )
        self.words = nn.Embedding(8, 4)
        self.head = nn.Conv2d(4, 1, 1)

    def encode(self, image: Tensor, text: Tensor) -> Tensor:
        return self.layers(image) + self.words(text[:, 0]).mean(1)[:, :, None, None]

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return self.head(self.encode(image, text))


class Pair(nn.Module):
    """The student and a projection of its features, which only the training needs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = Segmenter()
        self.image_head = nn.Linear(4, 4)
        self.calls: list[tuple[bool, bool]] = []

    def forward(
        self,
        labelled: Mapping[str, Tensor],
        strong: Mapping[str, Tensor] | None = None,
        weak: Mapping[str, Tensor] | None = None,
    ) -> dict[str, dict[str, Tensor]]:
        self.calls.append((strong is not None, weak is not None))
        features = self.network.encode(**labelled)
        outputs = {
            "labelled": {"logits": self.network.head(features), "image_vector": self._vector(features)}
        }
        if strong is not None:
            outputs["strong"] = {"logits": self.network(**strong)}
        if weak is not None:
            outputs["weak"] = {"image_vector": self._vector(self.network.encode(**weak))}
        return outputs

    def _vector(self, features: Tensor) -> Tensor:
        return self.image_head(features.mean((2, 3)))


class Objective:
    """Cross entropy of labels and pseudo labels, and a term of the vectors."""

    def __init__(self, needs_weak: bool = True) -> None:
        self.needs_weak = needs_weak
        self.batches: list[Mapping[str, Any]] = []

    def __call__(self, outputs: Any, batch: Mapping[str, Any], epoch: int) -> dict[str, Tensor]:
        self.batches.append(batch)
        terms = {"bce": _entropy(outputs["labelled"]["logits"], batch["label"])}
        terms["contrast"] = 0.01 * outputs["labelled"]["image_vector"].square().mean()
        if "unlabelled" in batch:
            terms["unlabelled_bce"] = 0.3 * _entropy(
                outputs["strong"]["logits"], batch["unlabelled"]["label"]
            )
        if "weak" in outputs:
            terms["unlabelled_contrast"] = 0.001 * outputs["weak"]["image_vector"].square().mean()
        return terms


def _entropy(logits: Tensor, label: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits.float(), label)


class View:
    """Adds noise to the images, drops the text, and thresholds the probability."""

    def __init__(self) -> None:
        self.drawn: list[float] = []
        self.autocast: list[bool] = []

    def __call__(
        self, image: Tensor, probability: Tensor, sentences: list[str], *, generator: np.random.Generator
    ) -> SimpleNamespace:
        noise = torch.from_numpy(generator.normal(0, 0.2, image.shape)).to(image)
        self.drawn.append(float(noise.flatten()[0]))
        self.autocast.append(torch.is_autocast_enabled(image.device.type))
        text = torch.zeros(len(sentences), 2, 2, dtype=torch.int64, device=image.device)
        return SimpleNamespace(image=image + noise, label=(probability >= 0.5).float(), text=text)


class Shift(RandomizableTransform, MapTransform):
    """A weak augmentation: adds one random number to the image."""

    def __init__(self) -> None:
        RandomizableTransform.__init__(self, 1.0)
        MapTransform.__init__(self, "image")

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "image": data["image"] + 0.1 * self.R.rand()}


def cases(count: int, prefix: str, *, labelled: bool) -> CaseDataset:
    """Noise with a bright half, which is the lesion and which the text names."""
    generator = torch.Generator().manual_seed(len(prefix) + count)
    data = []
    for index in range(count):
        image, lesion = 0.5 * torch.randn(1, 8, 8, generator=generator), torch.zeros(1, 8, 8)
        lesion[..., :4] = index % 2
        lesion[..., 4:] = 1 - index % 2
        text = torch.tensor([[1 + index % 2, 3], [1, 1]])
        case = {
            "id": f"{prefix}{index}",
            "image": image + lesion,
            "text": text,
            "sentence": f"half {index % 2}",
        }
        data.append({**case, "label": lesion} if labelled else case)
    return CaseDataset(data, Compose([Shift()]), seed=SEED, progress=False)


class KilledError(Exception):
    """What ends a training in the middle of an epoch."""


def training(
    folder: Path,
    epochs: int,
    *,
    ssl: str = "ema",
    unlabelled: int | None = 12,
    needs_weak: bool = True,
    kill_at: int | None = None,
    wrap: Any = lambda network: network,
    **kwargs: Any,
) -> SemiSupervisedTrainer:
    pair = Pair()
    teacher = MeanTeacher(pair.network, start=0.8, end=0.95, burn_in=BURN_IN, ramp_epochs=3)
    network = wrap(pair)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    loader = SemiSupervisedLoader(
        cases(3, "l", labelled=True),
        cases(unlabelled, "u", labelled=False) if unlabelled and ssl == "ema" else None,
        batch_size=4,
        seed=SEED,
        burn_in=BURN_IN,
        epoch_cases=unlabelled if ssl == "off" else None,
    )
    parts = {"teacher": teacher} if ssl == "ema" else {}
    trainer = SemiSupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        objective=Objective(needs_weak),
        teacher=teacher if ssl == "ema" else None,
        view=View() if ssl == "ema" else None,
        ssl=ssl,
        burn_in=BURN_IN,
        seed=SEED,
        train_handlers=[EpochSeeds(SEED, loader)],
        **kwargs,
    )

    def kill(engine: SemiSupervisedTrainer) -> None:
        if engine.state.iteration == kill_at:
            raise KilledError

    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: scheduler.step())
    trainer.add_event_handler(Events.ITERATION_COMPLETED, kill)
    SaveBestWeights(path=folder / "model.pt", network=teacher.network).attach(trainer)
    TrainingState(
        path=folder / "last.pt", network=network, optimizer=optimizer, lr_scheduler=scheduler, parts=parts
    ).attach(trainer)
    return trainer


def test_labels_alone_teach_during_the_burn_in_and_every_step_is_one_forward_pass(tmp_path: Path) -> None:
    trainer = training(tmp_path, 3)
    trainer.run()
    assert trainer.network.calls == [(False, False)] * 3 + [(True, True)] * 6
    assert trainer.teacher.steps == 9
    burning, after = trainer.objective.batches[0], trainer.objective.batches[3]
    assert "unlabelled" not in burning
    assert set(after["unlabelled"]) == {"label", "sentence"}
    assert after["unlabelled"]["label"].shape == (4, 1, 8, 8)
    assert set(after["unlabelled"]["sentence"]) <= {"half 0", "half 1"}
    assert set(loss_terms(trainer.state.output)) == {
        "loss",
        "bce",
        "contrast",
        "unlabelled_bce",
        "unlabelled_contrast",
    }


def test_the_weak_view_is_computed_only_for_an_objective_that_asks(tmp_path: Path) -> None:
    trainer = training(tmp_path, 2, needs_weak=False)
    trainer.run()
    assert trainer.network.calls[3:] == [(True, False)] * 3
    assert "unlabelled_contrast" not in loss_terms(trainer.state.output)


def test_a_training_is_the_loop_that_its_description_says(tmp_path: Path) -> None:
    trainer = training(tmp_path, 4)
    trainer.run()

    pair, objective, view = Pair(), Objective(), View()
    teacher = Pair().network.eval()
    loader = SemiSupervisedLoader(
        cases(3, "l", labelled=True), cases(12, "u", labelled=False), batch_size=4, seed=SEED, burn_in=BURN_IN
    )
    optimizer = torch.optim.AdamW(pair.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    iteration = 0
    for epoch, decay in zip((1, 2, 3, 4), (0.8, 0.85, 0.9, 0.95), strict=True):
        EpochSeeds(SEED, loader)(SimpleNamespace(state=SimpleNamespace(epoch=epoch, rank=0)))
        for step in loader:
            iteration += 1
            pair.train()
            given = [{key: step["labelled"][key].as_subclass(Tensor) for key in ("image", "text")}]
            batch = {"label": step["labelled"]["label"]}
            if epoch > BURN_IN:
                weak = {key: step["unlabelled"][key] for key in ("image", "text")}
                with torch.no_grad():
                    probability = teacher(**weak).sigmoid()
                generator = np.random.default_rng(np.random.SeedSequence((SEED, epoch, iteration, 0)))
                strong = view(weak["image"], probability, step["unlabelled"]["sentence"], generator=generator)
                given += [{"image": strong.image, "text": strong.text}, weak]
                batch["unlabelled"] = {"label": strong.label}
            optimizer.zero_grad()
            torch.stack(list(objective(pair(*given), batch, epoch).values())).sum().backward()
            optimizer.step()
            for name, tensor in teacher.state_dict().items():
                new = pair.network.state_dict()[name]
                tensor.copy_(decay * tensor + (1 - decay) * new if tensor.is_floating_point() else new)
        scheduler.step()

    for name, tensor in pair.state_dict().items():
        assert_close(trainer.network.state_dict()[name], tensor, rtol=0, atol=1e-5)
    for name, tensor in teacher.state_dict().items():
        assert_close(trainer.teacher.network.state_dict()[name], tensor, rtol=0, atol=1e-5)


def test_the_teacher_runs_without_autograd_and_never_has_a_gradient(tmp_path: Path) -> None:
    trainer = training(tmp_path, 3)
    seen: list[tuple[bool, bool]] = []
    trainer.teacher.network.register_forward_hook(
        lambda module, _, output: seen.append((torch.is_inference_mode_enabled(), module.training))
    )
    trainer.run()
    assert seen == [(True, False)] * 6
    for parameter in trainer.teacher.network.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
    trained = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in trainer.teacher.network.parameters()}


def test_the_teacher_has_the_students_autocast_and_the_view_full_precision(tmp_path: Path) -> None:
    trainer = training(tmp_path, 2)
    seen: list[torch.dtype] = []
    trainer.teacher.network.register_forward_hook(lambda *hooked: seen.append(hooked[2].dtype))
    trainer.network.network.register_forward_hook(lambda *hooked: seen.append(hooked[2].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trainer.run()
    assert seen == [torch.bfloat16] * 6  # teacher and student take turns
    assert trainer.view.autocast == [False] * 3
    assert trainer.objective.batches[-1]["unlabelled"]["label"].dtype == torch.float32


@pytest.mark.parametrize("kill_at", [2, 7, 8])
def test_a_killed_and_resumed_training_ends_as_if_never_stopped(
    tmp_path: Path, kill_at: int, assert_same: Callable[..., None]
) -> None:
    whole = training(tmp_path / "whole", 4)
    whole.run()
    with pytest.raises(KilledError):
        training(tmp_path / "parts", 4, kill_at=kill_at).run()
    torch.rand(100)
    resumed = training(tmp_path / "parts", 4)
    resumed.run()
    for name in ("last.pt", "model.pt"):
        assert_same(*(read_tensors(tmp_path / run / name) for run in ("whole", "parts")))
    assert read_tensors(tmp_path / "whole" / "last.pt")["teacher"]["steps"] == 12
    assert resumed.view.drawn == whole.view.drawn[-len(resumed.view.drawn) :]
    assert len(set(whole.view.drawn)) == 9


def test_the_weights_of_the_teacher_can_be_the_ones_that_are_kept(
    tmp_path: Path, assert_same: Callable[..., None]
) -> None:
    trainer = training(tmp_path, 2)
    trainer.run()
    kept = read_tensors(tmp_path / "model.pt")
    assert_same(kept, trainer.teacher.network.state_dict())
    assert not torch.equal(kept["head.weight"], trainer.network.network.head.weight)


def test_the_teacher_starts_from_weights_that_were_loaded_when_the_training_started(tmp_path: Path) -> None:
    trainer = training(tmp_path, 1)
    seen: list[Tensor] = []

    def load(engine: SemiSupervisedTrainer) -> None:
        engine.network.network.head.weight.data.fill_(3.0)

    trainer.add_event_handler(Events.STARTED, load)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=1),
        lambda engine: seen.append(
            (engine.teacher.network.head.weight - engine.network.network.head.weight).detach()
        ),
    )
    trainer.run()
    # the student's first step of AdamW is 0.02 at most, and the teacher follows by a fifth of it
    assert float(seen[0].abs().max()) < 0.03


def test_without_ssl_the_steps_are_as_many_and_nothing_unlabelled_is_looked_at(tmp_path: Path) -> None:
    supervised, taught = training(tmp_path / "off", 3, ssl="off"), training(tmp_path / "ema", 3)
    supervised.run()
    taught.run()
    assert supervised.teacher is None
    assert supervised.state.iteration == taught.state.iteration == 9
    assert supervised.network.calls == [(False, False)] * 9
    seen = [[list(batch["id"][:4]) for batch in run.objective.batches] for run in (supervised, taught)]
    assert seen[0] == seen[1]


def test_with_every_label_the_steps_are_supervised_and_the_teacher_follows(tmp_path: Path) -> None:
    trainer = training(tmp_path, 3, unlabelled=None)
    trainer.run()
    assert trainer.network.calls == [(False, False)] * 3
    assert trainer.teacher.steps == 3
    assert set(loss_terms(trainer.state.output)) == {"loss", "bce", "contrast"}


def test_the_student_learns_from_the_masks_of_its_teacher(tmp_path: Path) -> None:
    trainer = training(tmp_path, 12)
    trainer.run()
    data = cases(12, "u", labelled=True)
    images, texts, labels = (
        torch.stack([data[i][key] for i in range(12)]) for key in ("image", "text", "label")
    )
    trainer.network.eval()
    for network in (trainer.network.network, trainer.teacher.network):
        right = (network(images, texts) > 0) == (labels > 0)
        assert float(right.float().mean()) > 0.75
    assert "train_unlabelled_bce" in trainer.state.metrics


def test_loggers_and_progress_read_the_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = training(tmp_path, 2)
    Progress("train").attach(trainer)
    StatsHandler(output_transform=lambda output: loss_terms(output)["loss"]).attach(trainer)
    trainer.run()
    loss = from_engine(["loss"], first=True)(trainer.state.output)
    assert not loss.requires_grad
    assert float(loss) == pytest.approx(
        sum(value for name, value in loss_terms(trainer.state.output).items() if name != "loss"), abs=1e-6
    )
    assert "loss=" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_loss_that_is_not_finite_names_the_cases_of_both_kinds(tmp_path: Path) -> None:
    trainer = training(tmp_path, 2)
    dataset = trainer.data_loader.unlabelled
    for case in dataset._cache:
        case["image"] = case["image"] * float("nan")
    with pytest.raises(
        FloatingPointError, match=r"unlabelled_bce = nan.* in epoch 2 for cases \['l.*'u\d+'\]"
    ):
        trainer.run()


def test_a_loader_without_labelled_batches_is_refused(tmp_path: Path) -> None:
    trainer = training(tmp_path, 1)
    trainer.data_loader = [{"image": torch.zeros(2, 1, 8, 8), "label": torch.zeros(2, 1, 8, 8)}]
    with pytest.raises(ValueError, match=r"must hold 'labelled', got \['image', 'label'\]: use common.data"):
        trainer.run()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ssl": "mean"}, "ssl must be one of off, ema, got 'mean'"),
        ({"teacher": None}, "teacher must be given for ssl 'ema', got None"),
        ({"view": None}, "view must be given for ssl 'ema', got None"),
        ({"burn_in": -1}, "burn_in must be 0 or more epochs, got -1"),
        ({"burn_in": 0}, "burn_in of the loader must be at most that of the trainer, got 1 and 0"),
        ({"accumulation_steps": 2}, "accumulation_steps must be 1 with a teacher, got 2"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    pair = Pair()
    given: dict[str, Any] = {
        "device": "cpu",
        "max_epochs": 1,
        "train_data_loader": SemiSupervisedLoader(cases(2, "l", labelled=True), batch_size=2, burn_in=1),
        "network": pair,
        "optimizer": torch.optim.SGD(pair.parameters(), lr=0.1),
        "objective": Objective(),
        "teacher": MeanTeacher(pair.network),
        "view": View(),
        "burn_in": 1,
    }
    with pytest.raises(ValueError, match=message):
        SemiSupervisedTrainer(**(given | arguments))


# Every rank trains 3 epochs at once, then 2 and, with another start of everything, on to 3.
PROCESS = """
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

folder, rank, tests = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
sys.path.insert(0, tests)
from test_semi_supervised import training

dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
states = {}
for name, epochs in (("whole", [3]), ("parts", [2, 3])):
    for count in epochs:
        trainer = training(folder / name, count, wrap=DistributedDataParallel)
        trainer.run()
        dist.barrier()
    states[name] = {
        "student": trainer.network.module.state_dict(),
        "teacher": trainer.teacher.state_dict(),
        "first": list(trainer.objective.batches[0]["id"]),
        "drawn": trainer.view.drawn,
        "calls": len(trainer.network.module.calls),
    }
torch.save(states, folder / f"{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_have_one_student_and_one_teacher_also_when_resumed(
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
    assert one["whole"]["calls"] == 6  # 12 unlabelled cases over two ranks, batches of 4: 2 steps an epoch
    assert one["whole"]["first"] != other["whole"]["first"]
    assert one["whole"]["drawn"] != other["whole"]["drawn"]
    parameters = dict(Pair().named_parameters())
    for name in parameters:
        assert torch.equal(one["whole"]["student"][name], other["whole"]["student"][name]), name
    # the buffers too, though the ranks' batches have statistics of their own
    assert_same(one["whole"]["teacher"], other["whole"]["teacher"])
    for state in (one, other):
        assert_same(state["whole"]["teacher"], state["parts"]["teacher"])
        for name in parameters:
            assert torch.equal(state["whole"]["student"][name], state["parts"]["student"][name]), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU for mixed precision")
def test_mixed_precision_reaches_student_and_teacher_alike(tmp_path: Path) -> None:
    pair = Pair().cuda()
    teacher = MeanTeacher(pair.network)
    seen: list[torch.dtype] = []
    for network in (pair.network, teacher.network):
        network.register_forward_hook(lambda *hooked: seen.append(hooked[2].dtype))
    loader = SemiSupervisedLoader(cases(3, "l", labelled=True), cases(12, "u", labelled=False), batch_size=4)
    trainer = SemiSupervisedTrainer(
        device="cuda",
        max_epochs=2,
        train_data_loader=loader,
        network=pair,
        optimizer=torch.optim.AdamW(pair.parameters(), lr=0.01),
        objective=Objective(),
        teacher=teacher,
        view=View(),
        burn_in=0,
        amp=True,
        train_handlers=[EpochSeeds(SEED, loader)],
    )
    trainer.run()
    assert seen == [torch.float16] * 12
    assert trainer.view.autocast == [False] * 6
    assert torch.isfinite(trainer.state.output[0]["loss"])

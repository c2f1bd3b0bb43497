"""The supervised trainer: named terms, clipping, refusal of a loss that is not finite."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.handlers import from_engine
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.engines import TextGuidedTrainer, loss_terms


class Scale(nn.Module):
    """Multiplies the image by one number; the sum of the text's ids is added."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, image: Tensor, text: Tensor | None = None) -> dict[str, Tensor]:
        offset = 0.0 if text is None else text[:, 0].sum(1).float().view(-1, 1, 1, 1)
        return {"logits": self.factor * image + offset}


def cases(count: int = 4) -> list[dict[str, object]]:
    return [
        {
            "id": f"c{i}",
            "image": torch.full((1, 2, 2), float(i + 1)),
            "label": torch.zeros(1, 2, 2),
            "text": torch.tensor([[i, 0], [1, 0]]),
        }
        for i in range(count)
    ]


def two_terms(outputs: dict[str, Tensor], batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
    return {"mean": outputs["logits"].mean(), "epoch": outputs["logits"].sum() * 0 + float(epoch)}


def trainer(network: nn.Module, objective: object = two_terms, **kwargs: object) -> TextGuidedTrainer:
    return TextGuidedTrainer(
        device="cpu",
        max_epochs=kwargs.pop("max_epochs", 1),
        train_data_loader=DataLoader(cases(), batch_size=2),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=kwargs.pop("lr", 0.0)),
        objective=objective,
        **kwargs,
    )


def test_terms_are_summed_and_averaged_under_their_names() -> None:
    engine = trainer(Scale(), max_epochs=2)
    engine.run()
    # factor 2: images 1..4 give means 2, 4, 6, 8; texts 0..3 add 0, 1, 2, 3
    assert engine.state.metrics["train_mean"] == pytest.approx(5 + 1.5)
    assert engine.state.metrics["train_epoch"] == pytest.approx(2.0)
    assert engine.state.metrics["train_loss"] == pytest.approx(8.5)
    assert loss_terms(engine.state.output) == pytest.approx({"loss": 11.5, "mean": 9.5, "epoch": 2.0})


class Log:
    """A handler of the trainer, attached where MONAI attaches its loggers."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def attach(self, engine: TextGuidedTrainer) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: TextGuidedTrainer) -> None:
        self.seen.append(engine.state.metrics["train_epoch"])


def test_loggers_see_the_terms_of_the_epoch_that_has_ended() -> None:
    log = Log()
    trainer(Scale(), max_epochs=3, train_handlers=[log]).run()
    assert log.seen == [1.0, 2.0, 3.0]


def test_the_output_is_what_monai_loggers_read() -> None:
    engine = trainer(Scale())
    engine.run()
    loss = from_engine(["loss"], first=True)(engine.state.output)
    assert float(loss) == pytest.approx(10.5)
    assert not loss.requires_grad


def test_the_gradient_is_clipped_by_its_norm() -> None:
    network = Scale()
    seen: list[float] = []
    engine = trainer(network, gradient_clip=0.5)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: seen.append(float(network.factor.grad.abs()))
    )
    engine.run()
    assert seen == pytest.approx([0.5, 0.5])


def test_a_step_follows_the_gradient_of_the_sum() -> None:
    network = Scale()
    trainer(network, lr=0.1).run()
    # d mean / d factor = mean image: 1.5 in the first batch, 3.5 in the second
    assert float(network.factor.detach()) == pytest.approx(2.0 - 0.1 * (1.5 + 3.5))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_loss_that_is_not_finite_stops_with_the_terms_and_cases() -> None:
    def explode(outputs: dict[str, Tensor], batch: object, epoch: int) -> dict[str, Tensor]:
        return {"good": outputs["logits"].mean(), "bad": outputs["logits"].mean() / 0}

    with pytest.raises(FloatingPointError, match=r"bad = inf in epoch 1 for cases \['c0', 'c1'\]"):
        trainer(Scale(), explode).run()


def test_negative_clipping_is_refused() -> None:
    with pytest.raises(ValueError, match="gradient_clip must be 0"):
        trainer(Scale(), gradient_clip=-1.0)


def test_no_term_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one named term"):
        trainer(Scale(), lambda outputs, batch, epoch: {}).run()

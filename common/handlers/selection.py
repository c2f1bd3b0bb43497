"""What may choose the weights of a domain adaptation, and what may only be reported."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import IgniteMetricHandler, from_engine

from ..metrics.class_dice import MeanClassDice
from .evaluation import write_text

logger = logging.getLogger(__name__)

SELECTIONS = ("source_validation", "last")


class MeanClassDiceMetric(IgniteMetricHandler):
    """Mean over classes of the Dice of all pixels of the set, as MONAI's engines take a metric.

    Reads ``pred`` and ``label`` of decollated cases, see `MeanClassDice`.

    Args:
        num_classes: background included, >= 2.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(
            metric_fn=MeanClassDice(num_classes),
            output_transform=from_engine(["pred", "label"]),
            save_details=False,
        )


def chosen_validator(selection: str, validator: Evaluator) -> Evaluator | None:
    """Return the evaluator whose best epoch is kept, or None where the last epoch is.

    For the ``validator`` of the handlers that keep weights, stop early and save the state of a training.

    Args:
        selection: "source_validation" or "last".
        validator: of the source's validation cases, see `common.engines.DomainEvaluator`.

    Raises:
        ValueError: if `selection` is another, such as one by the target, or `validator` sees target cases.
    """
    if selection not in SELECTIONS:
        raise ValueError(
            f"selection must be one of {', '.join(SELECTIONS)}, got {selection!r}: the target's labels choose nothing; "
            "ReportOracle tells what they would have chosen"
        )
    if getattr(validator, "domain", "source") != "source":
        raise ValueError(
            f"validator must see source cases, got one of the {validator.domain}: labels of the target choose nothing"
        )
    return validator if selection == "source_validation" else None


class ReportOracle:
    """Measure the target with its labels now and then, and write down what they would have chosen; they choose nothing.

    Neither the weights nor anything else of the training depends on what is measured. `state_dict` makes it a part of
    a `TrainingState`, so that a resumed training reports all of its epochs.

    Args:
        evaluator: of labelled target cases; its key metric is written.
        path: a JSON file; written anew after each measurement.
        interval: epochs from one measurement to the next, >= 0; 0: none is made.

    Raises:
        ValueError: if `interval` is negative.

    Reference:
        The published numbers of TCSA-UDA and of what it is compared with are chosen by the target's test volumes; this
        is that number, to be named beside one that is not.
    """

    def __init__(self, *, evaluator: Evaluator, path: str | Path, interval: int = 0) -> None:
        if interval < 0:
            raise ValueError(f"interval must be 0 (off) or more epochs, got {interval}")
        self.evaluator = evaluator
        self.path = Path(path)
        self.interval = interval
        self.scores: dict[int, float] = {}

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, before the handler that saves the state of a training."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Measure the epoch that has just ended, if it is one of those; only rank 0 writes."""
        epoch = engine.state.epoch
        if not self.interval or epoch % self.interval:
            return
        self.evaluator.run(epoch)
        name = self.evaluator.state.key_metric_name
        self.scores[epoch] = float(self.evaluator.state.metrics[name])
        best = max(self.scores, key=lambda number: self.scores[number])
        logger.info(
            "oracle (chooses nothing): %s of the target is %.4f, at best %.4f in epoch %d",
            name,
            self.scores[epoch],
            self.scores[best],
            best,
        )
        if engine.state.rank == 0:
            self._write(str(name), best)

    def _write(self, name: str, best: int) -> None:
        content = {
            "note": "an oracle: measured with the target's labels, which chose no weights",
            "metric": name,
            "best_epoch": best,
            "best": self.scores[best],
            "last": self.scores[max(self.scores)],
            "epochs": self.scores,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(json.dumps(content, indent=2) + "\n", self.path)

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured."""
        return {"scores": dict(self.scores)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.scores = {int(epoch): float(score) for epoch, score in state["scores"].items()}

"""Throughput of `tools.predict` beside the bare network, and beside MONAI's bundle runner on the same files."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from tools.benchmarks.timing import describe_device

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "baseline_segmentation"
SENTENCE = "Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung."
DRAWN = 32  # distinct pictures


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        name: of the rows.
        overlays: of the bundle.
        cases: pictures.
        size: rows and columns of the pictures.
        batch: of the network, and of the bare one.
    """

    name: str
    overlays: tuple[str, ...]
    cases: int
    size: int = 224
    batch: int = 8


SETTINGS = (Setting("light", ("light",), cases=96), Setting("full", (), cases=24))


def prediction_benchmarks(
    *, settings: tuple[Setting, ...] = SETTINGS, repeats: int = 9
) -> list[dict[str, Any]]:
    """Measure seconds a case in three ways, in turns; of each the time in which cases go through, without the start.

    - ours: `tools.predict`, from the first file to the last mask and its line in the journal;
    - the bare network on tensors that are ready, in batches of the same size;
    - `monai.bundle`'s workflow on the same folder, with the bundle's own `inference.json`, a case at a time.

    All have the threads that PyTorch has by default (``OMP_NUM_THREADS``); ours has a thread that loads and one that
    saves beside them.

    Args:
        settings: what is measured.
        repeats: rounds; medians are reported.

    Returns:
        Two rows a setting; `ratio` is the median over the rounds of the reference's time / ours: what a busy machine
        does to a round, it does to all three ways.
    """
    rows = []
    for setting in settings:
        with tempfile.TemporaryDirectory() as folder:
            ways = _ways(setting, Path(folder))
            times = [[way() for way in ways] for _ in range(repeats + 1)][1:]  # the first round warms up
        ours, bare, runner = zip(*times, strict=True)
        rows += [_row(setting, "network", ours, bare), _row(setting, "bundle_run", ours, runner)]
    return rows


def _row(setting: Setting, against: str, ours: Sequence[float], reference: Sequence[float]) -> dict[str, Any]:
    ratios = [theirs / own for own, theirs in zip(ours, reference, strict=True)]
    sizes = {
        "cases": setting.cases,
        "image": [setting.size] * 2,
        "batch": setting.batch,
        "repeats": len(ratios),
    }
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "name": f"predict_{setting.name}_beside_{against}",
        "ours": median(ours) / setting.cases * 1e3,
        "reference": median(reference) / setting.cases * 1e3,
        "ratio": median(ratios),
        "sizes": sizes,
        "device": describe_device(device),
        "unit": "ms per case",
    }


def _ways(setting: Setting, folder: Path) -> tuple[Callable[[], float], ...]:
    """Return the three ways; each returns the seconds that all cases took."""
    from common.inference import load_bundle

    _draw(folder / "in", setting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # weights do not matter for the speed
        segmenter = load_bundle(BUNDLE, overlays=setting.overlays, allow_random=True)
    weights = folder / "model.pt"
    torch.save(segmenter.network.state_dict(), weights)
    prepared = [
        segmenter.prepare({"image": path, "text": SENTENCE})
        for path in sorted((folder / "in").iterdir())[: setting.batch]
    ]
    return (
        lambda: _predict(setting, folder, weights),
        lambda: _network(setting, segmenter, prepared),
        lambda: _bundle_run(setting, folder, weights),
    )


def _draw(folder: Path, setting: Setting) -> None:
    """Write pictures of soft spots with a little noise, as radiographs have."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[: setting.size, : setting.size] / setting.size
    for index in range(setting.cases):
        if index < DRAWN:
            y, x = generator.random(2)
            spot = 60 + 120 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 0.05)
            values = np.clip(spot + generator.normal(0, 3, spot.shape), 0, 255).astype(np.uint8)
            Image.fromarray(values).save(folder / f"{index:05}.png")
        else:
            (folder / f"{index:05}.png").write_bytes((folder / f"{index % DRAWN:05}.png").read_bytes())


def _predict(setting: Setting, folder: Path, weights: Path) -> float:
    from tools.prediction import PredictRequest, predict

    spent: list[float] = []

    @contextmanager
    def watch(total: int) -> Iterator[Callable[[str], None]]:
        start = time.perf_counter()
        yield lambda status: None
        spent.append(time.perf_counter() - start)

    request = PredictRequest(
        bundle=BUNDLE,
        inputs=(folder / "in",),
        output=folder / "out",
        overlays=setting.overlays,
        weights=weights,
        text=SENTENCE,
        batch=setting.batch,
        previews=-1,
        overwrite=True,
    )
    outcome = predict(request, watch=watch)
    if outcome.done != setting.cases:
        raise RuntimeError(f"all {setting.cases} cases must be segmented, got {outcome.done}")
    return spent[0]


def _network(setting: Setting, segmenter: Any, prepared: list[Any]) -> float:
    images = torch.stack([case["image"].as_tensor() for case in prepared]).to(segmenter.device)
    texts = torch.stack([torch.as_tensor(case["text"]) for case in prepared]).to(segmenter.device)
    with torch.inference_mode(), torch.autocast(segmenter.device.type, enabled=segmenter.amp):
        start = time.perf_counter()
        for _ in range(setting.cases // setting.batch):
            segmenter.network(images, texts)
        if segmenter.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def _bundle_run(setting: Setting, folder: Path, weights: Path) -> float:
    from monai.bundle import ConfigWorkflow

    configs = BUNDLE / "configs"
    files = [
        configs / "inference.json",
        *(configs / "overlays" / f"{name}.json" for name in setting.overlays),
    ]
    with tempfile.TemporaryDirectory() as output, _quiet_logging():
        workflow = ConfigWorkflow(
            config_file=[str(file) for file in files],
            workflow_type="inference",
            logging_file=False,
            bundle_root=str(BUNDLE),
            ckpt_path=str(weights),
            image=str(folder / "in"),
            text=SENTENCE,
            output_dir=output,
        )
        workflow.initialize()
        start = time.perf_counter()
        workflow.run()
        return time.perf_counter() - start


@contextmanager
def _quiet_logging() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)

"""From a request to the files of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.handlers.evaluation import write_table, write_text
from common.inference import Segmenter, load_bundle
from common.inference.configuration import BundleRequest, read_configuration
from tools.experiments import commit, machine, versions
from tools.experiments.results import describe_data
from tools.experiments.runner import now

from .cases import IMAGE_SEED, TEXT_SEED, Cases
from .measuring import measure_cell, metrics_of
from .request import CLEAN, MIRRORED, RobustnessError, RobustnessRequest, cells
from .roc import mirrored_roc
from .store import Store

RESULTS, TABLE = "robustness.json", "robustness.csv"
METRICS = (
    *(
        "count",
        "dice_micro",
        "iou_micro",
        "dice_image",
        "iou_image",
        "dice_image_empty_one",
        "iou_image_empty_one",
    ),
    *("side_prediction", "side_truth", "zones_prediction", "zones_truth", "count_prediction", "count_truth"),
    *("ece", "ece_foreground", "brier"),
)
TABLE_COLUMNS = ("fraction", "corruption", "perturbation", "auc", *METRICS)
Watch = Callable[[int], AbstractContextManager[Callable[[int], object]]]


def robustness(request: RobustnessRequest, *, watch: Watch) -> dict[str, Any]:
    """Measure every cell that is not finished and write ``robustness.json`` and ``robustness.csv``.

    Args:
        request: the options.
        watch: given the number of cases that are to be segmented, a context that takes how many more are done.

    Returns:
        The content of the JSON file.

    Raises:
        RobustnessError: when the request is refused, or the folder holds another run.
        ValueError: when bundle, weights or data cannot be used.
        OSError: when the data set has not been prepared or the folder cannot be written.
    """
    request.check()
    results = _grid(request, watch)
    results["curve"] = [_point(request, share, file, watch) for share, file in request.curve]
    write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", request.output / RESULTS)
    write_table(_table(results), request.output / TABLE, TABLE_COLUMNS)
    return results


def _grid(request: RobustnessRequest, watch: Watch) -> dict[str, Any]:
    segmenter = _segmenter(request)
    cases = Cases(request, segmenter)
    store = Store(request.output, _identity(request, segmenter, cases), overwrite=request.overwrite)
    wanted = cells(request)
    missing = [cell for cell in wanted if store.read(cell, scored=request.is_scored(cell)) is None]
    with watch(len(missing) * len(cases)) as on_case:
        for cell in missing:
            scored = request.is_scored(cell)
            measured = measure_cell(
                segmenter, cases, cell, scored=scored, batch=request.batch, on_case=on_case
            )
            store.write(cell, measured, scored=scored)
    found = [content for cell in wanted if (content := store.read(cell, scored=False)) is not None]
    return {
        **_facts(request, segmenter, cases),
        "cells": [
            {
                "corruption": content["corruption"],
                "perturbation": content["perturbation"],
                "metrics": {"count": content["summary"]["count"], **metrics_of(content)},
                "one_sided": content["summary"]["subsets"]["one_sided"],
                "reliability": content["calibration"],
            }
            for content in found
        ],
        "roc": _rocs(request, store),
    }


def _rocs(request: RobustnessRequest, store: Store) -> list[dict[str, Any]]:
    """One for each corruption whose cells with true and with mirrored sentences have scores."""
    rocs = []
    for true in (cell for cell in cells(request) if cell.perturbation == CLEAN.perturbation):
        mirrored = replace(true, perturbation=MIRRORED.perturbation)
        if all(store.read(cell, scored=True) for cell in (true, mirrored)):
            roc = mirrored_roc(store.rows(true), store.rows(mirrored))
            rocs += [{"corruption": true.corruption, **roc}] if roc else []
    return rocs


def _point(request: RobustnessRequest, share: float, file: Path, watch: Watch) -> dict[str, Any]:
    """The clean cell of other weights: a point of the low-data curve."""
    own = replace(
        request,
        weights=file,
        output=request.output / "curve" / f"{share:g}",
        corruptions=(),
        perturbations=(CLEAN.perturbation,),
        scored="off",
    )
    results = _grid(own, watch)
    clean = results["cells"][0]
    return {"fraction": share, "weights": results["weights"], "metrics": clean["metrics"]}


def _segmenter(request: RobustnessRequest) -> Segmenter:
    return load_bundle(
        request.bundle, overlays=request.overlays, weights=request.weights, device=request.device
    )


def _identity(request: RobustnessRequest, segmenter: Segmenter, cases: Cases) -> dict[str, Any]:
    bundle = BundleRequest(folder=str(request.bundle.resolve()), overlays=request.overlays)
    configuration = json.dumps(read_configuration(bundle), sort_keys=True, default=str)
    listed = json.dumps([[case["id"], case.get("text")] for case in cases.cases])
    return {
        "bundle": segmenter.info.name,
        "configuration": hashlib.sha256(configuration.encode()).hexdigest(),
        "weights": segmenter.info.weights_sha256,
        "data": describe_data(request.dataset_dir)["sha256"],
        "section": request.section,
        "cases": hashlib.sha256(listed.encode()).hexdigest(),
    }


def _facts(request: RobustnessRequest, segmenter: Segmenter, cases: Cases) -> dict[str, Any]:
    """Everything that the numbers depend on, and no folder of one machine."""
    info, data = segmenter.info, describe_data(request.dataset_dir)
    return {
        "title": f"Robustness of {info.name} ({info.network}): {data['dataset']}, {request.section}",
        "bundle": info.name,
        "network": info.network,
        "overlays": [Path(name).name for name in request.overlays],
        "section": request.section,
        "cases": len(cases),
        "protocol": {
            "dice": "of masks on the grid of the image file, against labels turned as the image is",
            "calibration": "probabilities of foreground on that grid, 20 equal bins",
            "corruptions": "of images in [0, 1] after resizing, before normalisation",
            "seeds": {"sentences": TEXT_SEED, "images": IMAGE_SEED},
        },
        "data": data,
        "weights": {
            "file": None if request.weights is None else request.weights.name,
            "sha256": info.weights_sha256,
        },
        "device": info.device,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(Path(__file__).resolve().parents[2]),
        "written": now(),
    }


def _table(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    areas = {roc["corruption"]: roc["auc"] for roc in results["roc"]}
    rows = []
    for cell in results["cells"]:
        area = areas.get(cell["corruption"]) if cell["perturbation"] == MIRRORED.perturbation else None
        rows.append(_flat(cell["metrics"], cell["corruption"], cell["perturbation"], auc=area))
    rows += [
        _flat(point["metrics"], CLEAN.corruption, CLEAN.perturbation, fraction=point["fraction"])
        for point in results["curve"]
    ]
    return rows


def _flat(metrics: Mapping[str, Any], corruption: str, perturbation: str, **more: Any) -> dict[str, Any]:
    known = {name: metrics.get(name) for name in METRICS}
    return {
        "fraction": None,
        "auc": None,
        **known,
        "corruption": corruption,
        "perturbation": perturbation,
        **more,
    }


def read_results(folder: Path) -> dict[str, Any]:
    """Return what a run wrote.

    Args:
        folder: of the run, or its ``robustness.json``.

    Raises:
        RobustnessError: when there is none that can be read.
    """
    file = folder / RESULTS if folder.is_dir() else folder
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not {"cells", "roc", "curve", "title"} <= set(content):
            raise ValueError("keys are missing")
    except (OSError, ValueError, TypeError) as error:
        raise RobustnessError(
            f"{file} must be what tools.robustness wrote, got none that can be read"
        ) from error
    return dict(content)

"""From a request to the three files: numbers, page and picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from common.checks import file_sha256
from common.data import read_datalist
from common.text.findings import ANATOMIES
from tools.experiments import commit, machine, versions
from tools.experiments.results import describe_data
from tools.experiments.runner import now

from .grouping import GROUPINGS, choose_cases, group_names
from .measures import measure, protocol
from .page import markdown, write_together
from .picture import MOST_GROUPS, draw
from .stages import VECTORS, SeparationRequest, StageOne, read_stage_one

SUFFIXES = (".json", ".md", ".png")
DRAWN = "projected"


def separate(request: SeparationRequest, output: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Measure and draw, and write ``<output>.json``, ``.md`` and ``.png``, or nothing.

    Args:
        request: what is measured.
        output: path of the three files; an ending that is one of theirs is left out.

    Returns:
        What stands in the JSON file, and the three paths.

    Raises:
        ValueError: missing or foreign weights, a bundle without stage I, too few groups, a case that cannot be read.
        OSError: the data set has not been prepared, or the output cannot be written.

    Reference:
        C2Seg, section 4.3 and figure 6.

    Differences from the paper:
        The figure shows three pretraining strategies in an unnamed projection; here a network is compared with itself
        before stage I, and what the eye sees is measured.
    """
    if request.groups > MOST_GROUPS:
        raise ValueError(
            f"groups must be at most {MOST_GROUPS}, got {request.groups}: more cannot be told apart"
        )
    stage = read_stage_one(request)
    names = _names(stage, request.dataset_dir)
    chosen = {  # before the vectors, so that too few groups are told at once
        grouping: choose_cases(of, groups=request.groups, what=GROUPINGS[grouping])
        for grouping, of in names.items()
    }
    paths = _paths(output)
    vectors = stage.image_vectors()
    rows = measure(vectors, names, groups=request.groups, seed=stage.seed)
    places = chosen["sentence"]["largest"]
    labels = [str(names["sentence"][place]) for place in places]
    results = {**_facts(request, stage, paths[0]), "rows": rows, "pictured": _pictured(labels)}
    picture = _picture(results, {of: v[places] for of, v in vectors[DRAWN].items()}, labels)
    content = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    page = markdown(results, picture=paths[2].name)
    write_together(dict(zip(paths, (content.encode(), page.encode(), picture), strict=True)))
    return results, paths


def _names(stage: StageOne, dataset_dir: Path) -> dict[str, list[str | None]]:
    said = read_datalist(dataset_dir)[1].get("anatomy")
    anatomy = said if said in ANATOMIES else "auto"
    return {grouping: group_names(stage.sentences, grouping, anatomy=anatomy) for grouping in GROUPINGS}


def _paths(output: Path) -> tuple[Path, Path, Path]:
    """The three files, in a folder that exists."""
    stem = output.with_suffix("") if output.suffix in SUFFIXES else output
    stem.parent.mkdir(parents=True, exist_ok=True)
    first, second, third = (stem.with_name(stem.name + suffix) for suffix in SUFFIXES)
    return first, second, third


def _pictured(labels: Sequence[str]) -> list[dict[str, Any]]:
    return [{"sentence": name, "cases": count} for name, count in Counter(labels).most_common()]


def _facts(request: SeparationRequest, stage: StageOne, target: Path) -> dict[str, Any]:
    """Everything that the numbers depend on, and no folder of one machine."""
    bundle = request.bundle.absolute().name
    data = describe_data(request.dataset_dir)
    overlays = [Path(name).name for name in request.overlays]
    return {
        "title": f"Images of one sentence before and after stage I of {bundle}: {data['dataset']}, {request.section}",
        "reference": "C2Seg, figure 6, measured",
        "bundle": bundle,
        "overlays": overlays,
        "configuration_sha256": stage.configuration,
        "section": request.section,
        "cases": len(stage.cases),
        "seed": stage.seed,
        "protocol": {**protocol(), "groups": request.groups, "vectors": VECTORS, "drawn": DRAWN},
        "data": data,
        "weights": {"file": request.weights.name, "sha256": file_sha256(request.weights)},
        "same_start": stage.same_start,
        "command": _command(request, overlays, stage.seed, target),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(Path(__file__).resolve().parents[2]),
        "written": now(),
    }


def _command(request: SeparationRequest, overlays: Sequence[str], seed: int, target: Path) -> list[str]:
    """The call as anyone can give it."""
    layers = ["--overlay", *overlays] if overlays else []
    output = (target.name if target.is_absolute() else target.as_posix()).removesuffix(target.suffix)
    options = {"section": request.section, "groups": request.groups, "seed": seed, "output": output}
    return [
        *("python", "-m", "tools.separation", request.bundle.absolute().name, *layers),
        *("--dataset-dir", "DATASET_DIR", "--weights", request.weights.name),
        *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
    ]


def _picture(results: Mapping[str, Any], vectors: Mapping[str, Tensor], labels: Sequence[str]) -> bytes:
    wanted = ("sentence", "largest", DRAWN)
    row = next(r for r in results["rows"] if (r["grouping"], r["cases_of"], r["vector"]) == wanted)
    title = f"{results['bundle']}, {results['data']['dataset']}, {results['section']}: "
    title += f"{row['cases']} images of the {row['groups']} most frequent sentences"
    return draw(vectors, labels, row, title=title, vector=VECTORS[DRAWN])

"""What can only be seen by running a bundle: one program for all of it, since its imports cost seconds.

A program of its own, started with ``python -I`` by `tools.verification.process`. For a packed bundle it imports nothing
of the project but the packed code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pydoc import locate
from types import ModuleType
from typing import Any

MARK = "PROBED "
SMALL = {"image_size": 64, "width": 0.125, "batch_size": 2, "max_epochs": 1, "patience": 0, "cache_rate": 0.0}
SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."
CELLS, DECIMALS = 8, 3
PHANTOMS = "data.phantom_chest.write_phantom_dataset"
VOLUMES = "data.phantom_volume.write_volume_phantom_dataset"

Fact = dict[str, Any]


def main(folder: Path, scratch: Path, repository: str) -> None:
    """Probe the bundle in `folder` and print one fact a line of JSON.

    Args:
        folder: of the bundle; nothing is written into it.
        scratch: an empty folder for whatever a bundle writes.
        repository: root of the checkout for its own bundles; empty: the bundle is packed.
    """
    warnings.simplefilter("ignore")
    isolated = packing_program()
    if repository:
        sys.path.insert(0, repository)
    else:
        isolated.isolate(folder)
    logging.disable(logging.WARNING)
    probes: dict[str, Callable[[], Any]] = {
        "components": lambda: f"{isolated.check_configs(folder)} targets, and every reference",
        "network in and out": lambda: net_in_out(folder),
        "network run": lambda: network_run(folder, scratch),
        "TorchScript": lambda: torchscript(folder, scratch),
        "properties of train": lambda: properties(folder, scratch, "train"),
        "properties of evaluate": lambda: properties(folder, scratch, "train", "evaluate"),
        "inference elsewhere": lambda: inference(folder, scratch),
    }
    if not repository:
        probes["code of the bundle"] = lambda: f"{isolated.check_modules(folder)} modules, all of the bundle"
    for name, probe in probes.items():
        print(MARK + json.dumps(observed(name, probe)), flush=True)


def observed(name: str, probe: Callable[[], Any]) -> Fact:
    """Return what a probe saw, or why it failed."""
    try:
        return {"name": name, "seen": probe()}
    except Exception as error:  # whatever a bundle raises is a finding
        return {"name": name, "problem": reason(error)}


def reason(error: BaseException) -> str:
    """The first cause of an error: MONAI wraps what a component raised."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
    return text[:600]


def packing_program() -> ModuleType:
    """Return `tools.packing.isolated`."""
    return _program("packing", "isolated")


def net_in_out(folder: Path) -> str:
    """Let MONAI compare the network with the metadata.

    Raises:
        ValueError: when channels or type of its output are others.
    """
    from monai.bundle import verify_net_in_out

    config = folder / "configs" / "inference.json"
    known = _read(config)
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(folder / "configs" / "metadata.json"),
        config_file=str(config),
        device="cpu",
        n=2,
        bundle_root=str(folder),
        **{key: SMALL[key] for key in ("image_size", "width") if key in known},
    )
    return "as the metadata say"


def network_run(folder: Path, scratch: Path) -> Fact:
    """Run inference's network on the fixed picture with the fixed sentence and without one.

    Returns:
        Whether weights were loaded, strictly; whether the sentence changed the output (None: there is none to read);
        and the golden output.

    Raises:
        ValueError: when the weights do not fit, or the output is not finite.
    """
    import torch

    torch.manual_seed(0)
    parts = packing_program().inference_parts(folder, _of_bundle(folder, "checks.load_weights"))
    network = parts["network"]
    outputs = []
    with torch.inference_mode():
        for case in _fixed_cases(parts, scratch):
            output = parts["inferer"](case["image"][None], network, text=packing_program().text_of(case))
            outputs.append(torch.as_tensor(output).float())
    if not all(bool(output.isfinite().all()) for output in outputs):
        raise ValueError("the output must be finite, got numbers that are not")
    changed = None if parts["volumes"] else not torch.equal(*outputs)
    return {"weights": parts["weights"], "text_changes_output": changed, "golden": golden_output(outputs[0])}


def torchscript(folder: Path, scratch: Path) -> str | Fact:
    """Export the network with its weights as the model zoo does, by scripting; where that fails, by tracing.

    Raises:
        ValueError: when neither gives the network's own output.
    """
    import torch
    from monai.bundle import ckpt_export

    weights = folder / "models" / "model.pt"
    if not weights.is_file():
        return {"skipped": "there are no weights"}
    configs, path = folder / "configs", scratch / "model.ts"
    try:
        ckpt_export(
            net_id="network_def",
            filepath=str(path),
            ckpt_file=str(weights),
            meta_file=str(configs / "metadata.json"),
            config_file=str(configs / "inference.json"),
            bundle_root=str(folder),
        )
        torch.jit.load(str(path))
        return "scripted by ckpt_export, and loads"
    except Exception as error:  # whatever the compiler does not understand
        refused = " ".join(reason(error).split())[:120]
    parts = packing_program().inference_parts(folder, _of_bundle(folder, "checks.load_weights"))
    cases = list(_fixed_cases(parts, scratch))
    if parts["volumes"]:
        image, text = _program("verification", "volumes").slices_of(cases[0]["image"])
    else:
        image, text = (torch.stack([torch.as_tensor(c[key]) for c in cases]) for key in ("image", "text"))
        image = image.as_tensor() if hasattr(image, "as_tensor") else image
    program = _program("exporting", "torchscript")
    difference = program.traced_difference(parts["network"], image, text, path)
    return f"traced: same output within {difference:.1g}, one case and two; not scriptable ({refused})"


def golden_output(logits: Any) -> Fact:
    """Return probabilities as means over a grid, rounded, and the SHA-256 of that.

    Means over an 8 × 8 grid with three decimals hardly ever differ between machines, as single pixels would.
    """
    import torch

    shares = (
        logits.softmax(1).mean(-1) if logits.ndim == 5 else logits.sigmoid()
    )  # of a volume, over its slices
    means = torch.nn.functional.adaptive_avg_pool2d(shares.double(), CELLS)
    values = [round(value, DECIMALS) + 0.0 for value in means.flatten().tolist()]
    content = {"shape": list(logits.shape), "values": values}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {"sentence": SENTENCE, **content, "sha256": digest}


def properties(folder: Path, scratch: Path, *names: str) -> str:
    """Build the workflow of training or evaluation and let MONAI check its properties.

    Raises:
        ValueError: when a property is missing or has another name.
    """
    data = scratch / "phantoms"
    known = _read(folder / "configs" / "train.json")
    if not data.is_dir() and packing_program().is_of_volumes(known):
        _program("verification", "volumes").write_volumes(_of_bundle(folder, VOLUMES), data, known)
    elif not data.is_dir():
        _of_bundle(folder, PHANTOMS)(data, count=20, size=64, seed=1)
    small = {key: value for key, value in SMALL.items() if key in known}
    paths = {"dataset_dir": str(data), "model_dir": str(scratch / "train_models")}
    flow = _workflow(folder, "train", names, **small, **paths, output_dir=str(scratch / "+".join(names)))
    _check_properties(flow)
    return "complete"


def inference(folder: Path, scratch: Path) -> str:
    """Segment one picture as a host does, with ``logging.conf``, and check the properties.

    Random weights, of a small network, stand in where the bundle has none.

    Raises:
        ValueError: when a property is missing, or no prediction is written.
    """
    import torch

    config = _read(folder / "configs" / "inference.json")
    image = _fixed_input(scratch, volumes=packing_program().is_of_volumes(config))
    overrides: dict[str, Any] = {"image": str(image), "text": SENTENCE}
    has_weights = (folder / "models" / "model.pt").is_file()
    if not has_weights:
        (scratch / "models").mkdir(exist_ok=True)
        overrides |= {key: SMALL[key] for key in ("image_size", "width") if key in config}
        overrides["model_dir"] = str(scratch / "models")
    output = scratch / "inference"
    flow = _workflow(folder, "infer", ("inference",), **overrides, output_dir=str(output))
    _check_properties(flow)
    if not has_weights:
        network = flow.parser.get_parsed_content("network")
        torch.save(network.state_dict(), scratch / "models" / "model.pt")
    flow.run()
    written = [path.name for path in output.glob("predictions/*") if path.is_file()]
    if not written:
        raise ValueError(
            f"inference must write a prediction below output_dir, got {sorted(output.rglob('*'))}"
        )
    return f"wrote {', '.join(written)} from another folder"


def _workflow(folder: Path, kind: str, names: tuple[str, ...], **overrides: Any) -> Any:
    from monai.bundle import ConfigWorkflow

    flow = ConfigWorkflow(
        config_file=[str(folder / "configs" / f"{name}.json") for name in names],
        meta_file=str(folder / "configs" / "metadata.json"),
        logging_file=str(folder / "configs" / "logging.conf"),
        workflow_type=kind,
        bundle_root=str(folder),
        **overrides,
    )
    flow.initialize()
    return flow


def _check_properties(flow: Any) -> None:
    problems = flow.check_properties()
    if problems:
        raise ValueError(
            f"properties must be complete, but these are missing or wrong: {', '.join(problems)}"
        )


def _fixed_cases(parts: Mapping[str, Any], scratch: Path) -> Iterator[Mapping[str, Any]]:
    path = _fixed_input(scratch, volumes=parts["volumes"])
    for extra in [{}] if parts["volumes"] else [{"text": text} for text in (SENTENCE, "")]:
        yield parts["preprocessing"]({"id": "fixed", "image": str(path), **extra})


def _fixed_input(scratch: Path, *, volumes: bool) -> Path:
    fixed = packing_program()
    write, name = (fixed.write_volume, "fixed.nii.gz") if volumes else (fixed.write_picture, "fixed.png")
    return Path(write(scratch / name))


def _program(package: str, name: str) -> ModuleType:
    """Return `tools.<package>.<name>` by its file: the package would import the repository's code."""
    path = Path(__file__).resolve().parents[1] / package / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} must be a module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _of_bundle(folder: Path, name: str) -> Any:
    """A function of the shared code, from where this bundle has it."""
    package = "scripts.common" if (folder / "scripts" / "common").is_dir() else "common"
    found = locate(f"{package}.{name}")
    if found is None:
        raise ValueError(f"{package}.{name} must be importable")
    return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

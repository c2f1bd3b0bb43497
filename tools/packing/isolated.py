"""Run a packed bundle as a host does: from its own folder, without the repository.

A program of its own, started with ``python -I`` by `tools.packing.proof`; it imports nothing of the project but the
packed code.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from pydoc import locate
from typing import Any

REPOSITORY = ("common", "tools")
SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."
ROWS, COLUMNS, SLICES = 90, 70, 3  # neither square nor a multiple of 32: preprocessing has something to do
MARK = "PROVEN "
STANDING_ALONE = (("train",), ("inference",), ("train", "evaluate"))
SEVERAL_PROCESSES = (("train", "multi_gpu_train"), ("train", "evaluate", "multi_gpu_evaluate"))


class RepositoryRefused(MetaPathFinder):
    """Keeps an editable installation from lending its code to the packed bundle."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Refuse the packages of the repository, leave every other to the finders behind.

        Raises:
            ModuleNotFoundError: for a package of the repository.
        """
        if name.partition(".")[0] in REPOSITORY:
            raise ModuleNotFoundError(f"a packed bundle must not import {name}", name=name)


def isolate(folder: str | Path) -> None:
    """Put `folder` first on the path of modules and refuse those of the repository."""
    sys.meta_path.insert(0, RepositoryRefused())
    sys.path.insert(0, str(folder))


def check_configs(folder: Path) -> int:
    """Parse every configuration, look up what it names, and return how many targets were found.

    Raises:
        ValueError: at a reference to nothing or a target that cannot be imported.
    """
    from monai.bundle import ConfigParser

    for names in (*STANDING_ALONE, *SEVERAL_PROCESSES):
        files = [folder / "configs" / f"{name}.json" for name in names]
        if not all(file.is_file() for file in files):
            continue
        parser = ConfigParser()
        parser.read_config(files)
        parser.parse()
        _check_references(parser, where=" + ".join(names))
    for overlay in sorted(folder.glob("configs/overlays/*.json")):
        for name in ("train", "inference"):
            ConfigParser().read_config([folder / "configs" / f"{name}.json", overlay])
    targets = sorted({t for file in folder.glob("configs/**/*.json") for t in _targets(_read(file))})
    _check_targets(targets)
    return len(targets)


def inference_parts(folder: Path, load_weights: Callable[[Any, Path], object]) -> dict[str, Any]:
    """Return inference's preprocessing, network and inferer on the CPU, and whether there were weights to load."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser.update({"bundle_root": str(folder), "device": "$torch.device('cpu')", "amp": False})
    parts = {name: parser.get_parsed_content(name) for name in ("preprocessing", "network", "inferer")}
    parts["network"].eval()
    weights = folder / "models" / "model.pt"
    if weights.is_file():
        load_weights(parts["network"], weights)
    return parts | {"weights": weights.is_file(), "volumes": is_of_volumes(parser)}


def is_of_volumes(inference: Any) -> bool:
    """Whether ``inference.json`` reads volumes of one modality and no sentence."""
    return "plane" in inference


def write_picture(path: Path) -> Path:
    """Write a picture of whole numbers alone, which are the same on every machine, unless it is there."""
    import numpy as np
    from PIL import Image

    if not path.is_file():
        rows, columns = np.mgrid[:ROWS, :COLUMNS]
        pixels = abs(rows * 7 % 200 - 100) + abs(columns * 5 % 200 - 100)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def write_volume(path: Path) -> Path:
    """Write a volume of whole numbers likewise, unless it is there."""
    import nibabel
    import numpy as np

    if not path.is_file():
        rows, columns, slices = np.mgrid[:ROWS, :COLUMNS, :SLICES]
        values = abs(rows * 7 % 200 - 100) + abs(columns * 5 % 200 - 100) + 20 * slices
        image = nibabel.Nifti1Image(values.astype(np.int16), np.diag([2.0, 2.0, 5.0, 1.0]))
        image.set_sform(image.affine, code=1)
        nibabel.save(image, path)
    return path


def text_of(case: Any) -> Any:
    """The sentence of a case as a batch of one, None where there is none."""
    return case["text"][None] if "text" in case else None


def run_network(folder: Path) -> dict[str, Any]:
    """Run inference's own parts on a picture with a sentence and without, and return what came out.

    Raises:
        ValueError: when the weights do not fit, or the output is none of the network's.
    """
    import torch

    parts = inference_parts(folder, locate("scripts.common.checks.load_weights"))
    network = parts["network"]
    outputs = []
    started = time.perf_counter()
    with torch.inference_mode():
        for case in _cases(parts["preprocessing"], volumes=parts["volumes"]):
            image, text = case["image"][None], text_of(case)
            output = torch.as_tensor(parts["inferer"](image, network, text=text))
            if output.shape[-2:] != image.shape[-2:] or not bool(output.isfinite().all()):
                raise ValueError(
                    f"the network must give finite numbers for images of {tuple(image.shape)}, "
                    f"got {tuple(output.shape)}"
                )
            outputs.append(output)
    return {
        "network": type(network).__name__,
        "output": list(outputs[0].shape),
        "weights": parts["weights"],
        "text_changes_output": None if parts["volumes"] else not torch.equal(*outputs),
        "seconds_per_case": round((time.perf_counter() - started) / len(outputs), 3),
    }


def check_modules(folder: Path) -> int:
    """Return how many modules of the packed code were imported.

    Raises:
        ValueError: when code of the repository was imported, or the packed code came from elsewhere.
    """
    strangers = sorted(name for name in sys.modules if name.partition(".")[0] in REPOSITORY)
    if strangers:
        raise ValueError(f"the packed bundle must run alone, but {', '.join(strangers[:5])} were imported")
    packed = [m for name, m in sys.modules.items() if f"{name}.".startswith("scripts.common.")]
    outside = [
        m.__name__ for m in packed if not Path(str(m.__file__)).resolve().is_relative_to(folder.resolve())
    ]
    if not packed or outside:
        raise ValueError(f"scripts.common must come from the packed folder, got {outside or 'no import'}")
    return len(packed)


def _cases(preprocessing: Any, *, volumes: bool) -> Iterator[Any]:
    import numpy as np
    from PIL import Image

    if volumes:
        with tempfile.TemporaryDirectory() as folder:
            yield preprocessing({"id": "case", "image": str(write_volume(Path(folder) / "case.nii.gz"))})
        return
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    pixels = (128 + 60 * np.sin(rows / 9) + 60 * np.cos(columns / 7)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.png"
        Image.fromarray(pixels).save(path)
        for text in (SENTENCE, ""):
            yield preprocessing({"id": "case", "image": str(path), "text": text})


def _check_references(parser: Any, *, where: str) -> None:
    from monai.bundle.reference_resolver import ReferenceResolver

    for text in _strings(parser.get()):
        for name in ReferenceResolver.match_refs_pattern(text):
            if name not in parser:
                raise ValueError(f"{where}: {text!r} refers to {name}, which is not there")


def _check_targets(targets: list[str]) -> None:
    from monai.bundle.config_item import ComponentLocator

    locator = ComponentLocator()
    for target in targets:
        if locator.get_component_module_name(target) is None and locate(target) is None:
            raise ValueError(f"the target {target} cannot be imported")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and isinstance(value.get("_target_"), str):
        yield value["_target_"]
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _targets(item)


def main(folder: Path) -> None:
    """Prove that `folder` runs alone and print what was found, as one line of JSON."""
    isolate(folder)
    warnings.simplefilter("ignore")
    facts = {"targets": check_configs(folder), **run_network(folder), "modules": check_modules(folder)}
    print(MARK + json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

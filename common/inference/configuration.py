"""A bundle's ``inference.json`` with overlays and overrides, and the code that it names."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from .info import read_object

POSTPROCESSING = {  # what is not for a caller who saves results himself, by the function that builds it
    "segmentation_postprocessing": {"output_dir": None, "file_grid": False, "keep_probability": True},
    "volume_postprocessing": {"output_dir": None, "file_grid": False},
}


@dataclass(frozen=True)
class BundleRequest:
    """Which bundle is meant, in plain values, so that another process can build its parts again.

    Args:
        folder: absolute path of a packed bundle, or of one of the repository.
        overlays: names in its ``configs/overlays``, or JSON files.
        overrides: values for keys of ``inference.json``, such as ``{"image_size": 64}``; after the overlays.
        device: as for `torch.device`; None for what the configuration says.
        force_modality: only warn of a DICOM modality that the bundle is not for.
    """

    folder: str
    overlays: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    force_modality: bool = False

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.folder)


def read_configuration(request: BundleRequest) -> dict[str, Any]:
    """Return ``inference.json`` with the overlays and overrides of a request merged by MONAI's rules.

    Keys of overlays that inference does not have belong to training and are left out.

    Raises:
        ValueError: when a file is missing or no JSON object, or an override names a key that is not there.
    """
    file = request.path / "configs" / "inference.json"
    if not file.is_file():
        raise ValueError(
            f"{request.path} must be a bundle with configs/inference.json, got a folder without: name the folder that "
            "holds configs/"
        )
    parser = ConfigParser(config=read_object(file))
    known = set(parser.get())
    for overlay in request.overlays:
        source = overlay_file(request.path, overlay)
        _merge(
            parser, {k: v for k, v in read_object(source).items() if _first(k) in known}, where=str(source)
        )
    unknown = sorted(key for key in request.overrides if _first(key) not in known)
    if unknown:
        raise ValueError(
            f"overrides must be keys of {file}, got {', '.join(unknown)}; it has {sorted(known)}"
        )
    _merge(parser, request.overrides, where="overrides")
    config: dict[str, Any] = parser.get()
    return config


def build_parser(request: BundleRequest, config: Mapping[str, Any]) -> ConfigParser:
    """Return a parser that builds the parts of inference; nothing of it writes.

    Args:
        request: which bundle.
        config: as `read_configuration` returns it; not changed.
    """
    provide_code(request.path)
    settings: dict[str, Any] = {**config, "bundle_root": request.folder}
    if request.device is not None:
        settings["device"] = f"$torch.device({request.device!r})"
    postprocessing = settings.get("postprocessing")
    if isinstance(postprocessing, Mapping):
        plain = POSTPROCESSING.get(str(postprocessing.get("_target_")).rpartition(".")[2], {})
        settings["postprocessing"] = {**postprocessing, **plain}
    return ConfigParser(config=json.loads(json.dumps(settings)))


def parsed(parser: ConfigParser, name: str, *, request: BundleRequest) -> Any:
    """Return a part of the configuration, built.

    Raises:
        ValueError: when it is missing or cannot be built; the bundle, the key and the reason are named.
    """
    if name not in parser:
        raise ValueError(f"{request.path / 'configs' / 'inference.json'} must have the key {name}, got none")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MONAI and PyTorch, about how they are called
            return parser.get_parsed_content(name)
    except Exception as error:  # whatever a constructor raises, MONAI wraps it
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ValueError(f"{name} of {request.path} cannot be built: {cause}") from error


def overlay_file(folder: Path, overlay: str) -> Path:
    """Return the JSON file of an overlay.

    Raises:
        ValueError: when there is none; the bundle's overlays are listed.
    """
    named = folder / "configs" / "overlays" / f"{overlay}.json"
    for candidate in (named, Path(overlay)):
        if candidate.is_file():
            return candidate
    available = sorted(path.stem for path in named.parent.glob("*.json"))
    raise ValueError(
        f"overlays must be JSON files or names of {named.parent} ({', '.join(available) or 'it has none'}), "
        f"got {overlay!r}"
    )


def is_packed(folder: Path) -> bool:
    """Whether a bundle brings its own code."""
    return (folder / "scripts" / "common" / "__init__.py").is_file()


def provide_code(folder: Path) -> None:
    """Make the code of a packed bundle importable, which is called `scripts` in every packed bundle.

    Raises:
        ValueError: when this process already runs the code of another packed bundle.
    """
    if not is_packed(folder):
        return
    loaded = sys.modules.get("scripts.common") or sys.modules.get("scripts")
    if loaded is None:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        loaded = importlib.import_module("scripts.common")
    places = [getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", [])), "")]
    if not Path(places[0]).resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{folder} must be the only packed bundle of its process, got {Path(places[0]).parent} before: the code "
            "of packed bundles has one name, scripts; use one process for each"
        )


def _first(key: str) -> str:
    return key.removeprefix("+").replace("#", "::").split("::")[0]


def _merge(parser: ConfigParser, values: Mapping[str, Any], *, where: str) -> None:
    for key, value in values.items():
        try:
            merge_kv(parser, key, value)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ValueError(f"{where}: {key} cannot be merged into inference.json: {error}") from error

"""Loading a bundle for inference: a packed folder with its own code, or one of the repository."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import file_sha256, load_weights
from ..transforms.preprocessing import checked_size
from .configuration import BundleRequest, build_parser, overlay_file, parsed, read_configuration
from .info import BundleInfo, read_facts
from .preparation import CasePreparation
from .segmenter import Segmenter


def load_bundle(
    path: str | Path,
    *,
    overlays: Sequence[str | Path] = (),
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    overrides: Mapping[str, Any] | None = None,
    allow_random: bool = False,
    force_modality: bool = False,
    slice_batch: int = 8,
) -> Segmenter:
    """Load a bundle's network, preprocessing and postprocessing.

    A packed bundle runs its own code; a process can run that of one packed bundle only.

    Args:
        path: folder of the bundle, which holds ``configs/inference.json``.
        overlays: names in its ``configs/overlays``, or JSON files: those that the weights were trained with.
        weights: a state dict; default the configuration's ``ckpt_path``, ``models/model.pt``.
        device: where the network runs; default what the configuration says.
        overrides: values for keys of ``inference.json``, after the overlays.
        allow_random: run untrained where there are no weights, and say so in every result.
        force_modality: only warn of DICOM modalities that the bundle is not for.
        slice_batch: slices of a volume that the network sees at a time.

    Raises:
        ValueError: when the folder is no bundle, an overlay or override is unknown, weights are missing or belong to
            another network, the device is not there, or another packed bundle runs in this process.
    """
    folder = Path(path).expanduser().resolve()
    request = BundleRequest(
        folder=str(folder),
        overlays=tuple(_overlay_name(folder, overlay) for overlay in overlays),
        overrides=dict(overrides or {}),
        device=None if device is None else str(checked_device(device)),
        force_modality=force_modality,
    )
    config = read_configuration(request)
    parser = build_parser(request, config)
    image_size = checked_size(parsed(parser, "image_size", request=request))
    network = _network(parser, request)
    sha256 = _load(network, _weights_file(weights, parser, request), allow_random=allow_random)
    info = BundleInfo(
        laterality=str(parsed(parser, "laterality", request=request)),
        weights_sha256=sha256,
        network=type(network).__name__,
        image_size=image_size,
        device=str(parsed(parser, "device", request=request)),
        **read_facts(folder, config, request.overlays),
    )
    preparation = CasePreparation(request, info)
    preparation.build()
    return Segmenter(
        info=info,
        preparation=preparation,
        network=network,
        inferer=parsed(parser, "inferer", request=request),
        postprocessing=parsed(parser, "postprocessing", request=request),
        amp=bool(parsed(parser, "amp", request=request)),
        slice_batch=slice_batch,
    )


def checked_device(device: str | torch.device) -> torch.device:
    """Return a device that is there.

    Raises:
        ValueError: when it is unknown or not on this machine.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be cpu, cuda or cuda:<number>, got {device!r}") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device must be on this machine, got {found} of {torch.cuda.device_count()} CUDA devices"
        )
    return found


def _overlay_name(folder: Path, overlay: str | Path) -> str:
    """Return an overlay's name, or the absolute path of its file: workers may have another working folder."""
    file = overlay_file(folder, str(overlay))
    return str(overlay) if file.parent == folder / "configs" / "overlays" else str(file.resolve())


def _network(parser: Any, request: BundleRequest) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # an untrained network is the same each time
        torch.manual_seed(0)
        network = parsed(parser, "network", request=request)
    return network.eval().requires_grad_(False)


def _weights_file(weights: str | Path | None, parser: Any, request: BundleRequest) -> Path:
    return Path(parsed(parser, "ckpt_path", request=request) if weights is None else weights)


def _load(network: nn.Module, file: Path, *, allow_random: bool) -> str | None:
    """Load the weights and return their SHA-256, or None when there are none and that is allowed.

    Raises:
        ValueError: when they are missing and must not be, or belong to another network.
    """
    if not file.is_file():
        if allow_random:
            warnings.warn(f"{file} does not exist: the network runs untrained", UserWarning, stacklevel=3)
            return None
        raise ValueError(
            f"the weights must be a file, got {file}, which does not exist: train the bundle first, name another file "
            "(weights=, --weights), or run it untrained with allow_random=True"
        )
    load_weights(network, file)
    return file_sha256(file)

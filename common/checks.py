"""Loading of weights, with the errors that a user can act on."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint file holds, without ever running code from it.

    Args:
        path: a file that `torch.save` wrote.

    Raises:
        ValueError: when the file is missing, is no checkpoint, or holds pickled objects other than tensors and
            plain containers.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(
            f"the weights must be a file, got {file}, which does not exist: train the bundle first, or name "
            "another file with --ckpt_path"
        )
    try:
        with warnings.catch_warnings():
            # about pickle protocols, of files that are refused below
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"the weights must be tensors alone, got {file}, which holds pickled Python objects and was not "
            "loaded: save network.state_dict() instead of the network"
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"the weights must be a file that torch.save wrote, got {file}: {error}") from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"the weights must be a mapping of names to tensors, got a {type(content).__name__} in {file}"
        )
    return dict(content)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a raw state dict into `network`, strictly.

    Args:
        network: the network, possibly wrapped by DistributedDataParallel.
        path: file with the state dict of the bare network.

    Raises:
        ValueError: as `read_tensors`, and when names or shapes differ; the first differing ones are named.
    """
    load_state(network, read_tensors(path), source=str(path))


def load_state(network: nn.Module, state: Mapping[str, Any], *, source: str) -> None:
    """Load `state` into `network`, strictly; `source` names where it came from in errors."""
    target = bare(network)
    problems = differences(target.state_dict(), state)
    if problems:
        shown = "\n  ".join(problems[:5])
        more = f"\n  … and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(
            f"{source} must hold the weights of {type(target).__name__} as it is configured, but {len(problems)} "
            f"entries differ:\n  {shown}{more}\nUse the overlays that the weights were trained with, or another "
            "file (--ckpt_path, --model_dir)."
        )
    target.load_state_dict(dict(state), strict=True)


def differences(expected: Mapping[str, Tensor], given: Mapping[str, Any]) -> list[str]:
    """Return a line for every name or shape in which two state dicts differ, in the order of `expected`."""
    lines = []
    for name, tensor in expected.items():
        if name not in given:
            lines.append(f"{name}: missing")
        elif not isinstance(given[name], Tensor):
            lines.append(f"{name}: must be a tensor, got {type(given[name]).__name__}")
        elif given[name].shape != tensor.shape:
            lines.append(f"{name}: must be {tuple(tensor.shape)}, got {tuple(given[name].shape)}")
    lines += [f"{name}: unknown to the network" for name in given if name not in expected]
    return lines


def bare(network: nn.Module) -> nn.Module:
    """Return the network inside a DistributedDataParallel or DataParallel wrapper, or `network` itself."""
    wrapped = isinstance(network, (nn.parallel.DistributedDataParallel, nn.DataParallel))
    return network.module if wrapped else network


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()

"""Weights of a Hugging Face folder: tensors only, whatever heads and prefixes they were saved with."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

_FILES = ("model.safetensors", "pytorch_model.bin")
_PREFIXES = ("module.", "model.", "bert.", "roberta.", "text_model.")
_FIRST_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # BERT of 2019


def load_weights(model: nn.Module, tensors: dict[str, Tensor], *, source: str) -> None:
    """Load saved tensors into a text model.

    Weights of heads that the model lacks are passed over; every parameter of the model must be there.

    Args:
        model: The model; changed in place.
        tensors: What `read_weights` gave.
        source: Where they come from, for messages.

    Raises:
        ValueError: If they are another model's.
    """
    saved = {_plain(key): value for key, value in tensors.items()}
    wanted = model.state_dict()
    missing = [key for key in wanted if _plain(key) not in saved]
    if missing:
        raise ValueError(f"weights in {source} must be this model's, got none for {_first(missing)}")
    differing = [key for key, value in wanted.items() if saved[_plain(key)].shape != value.shape]
    if differing:
        shapes = tuple(saved[_plain(differing[0])].shape), tuple(wanted[differing[0]].shape)
        raise ValueError(
            f"weights in {source} must have the shapes of its config.json, got {shapes[0]} instead of "
            f"{shapes[1]} for {_first(differing)}"
        )
    model.load_state_dict({key: saved[_plain(key)].float() for key in wanted})


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a folder; safetensors where there are both.

    Args:
        folder: Where `model.safetensors` or `pytorch_model.bin` is, whole or in shards.

    Returns:
        Tensors by name.

    Raises:
        ValueError: If there are none, or a file holds pickled objects.
    """
    for name in _FILES:
        if (folder / name).is_file():
            return _read_file(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            parts = [_read_file(folder / Path(shard).name) for shard in shards]
            return {key: value for part in parts for key, value in part.items()}
    raise ValueError(
        f"{folder} must hold weights ({' or '.join(_FILES)}), found none; pretrained=False takes random ones"
    )


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} must hold tensors alone and could not be read as such; pickled objects are refused: "
            "save the weights as safetensors"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{path} must hold a dictionary of tensors, got {type(tensors).__name__}")
    return tensors


def _plain(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    for old, new in _FIRST_NAMES.items():
        key = key.replace(old, new)
    return key


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")

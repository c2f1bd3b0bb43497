"""Hugging Face text models by folder or id: offline, and without running any code of their authors."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from torch import nn
from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModel, RobertaConfig, RobertaModel

from .frozen import FrozenBackbone
from .huggingface import HuggingFaceBackbone
from .weights import load_weights, read_weights

BUILT_IN = ("embedded", "zones")
_FAMILIES = {
    "bert": "bert",
    "cxr-bert": "bert",  # CXR-BERT's own classes add heads for pre-training to a plain BERT
    "roberta": "roberta",
    "clip": "clip",
    "clip_text_model": "clip",
}
_NOT_A_SIZE = ("auto_map", "model_type", "architectures", "_name_or_path", "transformers_version")


def find_model_folder(name: str) -> Path:
    """Find the folder of a Hugging Face model on this machine.

    Args:
        name: A folder, or an id such as "organisation/model" that is in the local Hugging Face cache.

    Returns:
        The folder.

    Raises:
        ValueError: If there is neither; the message names the nearest known names.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        near = difflib.get_close_matches(name, BUILT_IN, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        known = ", ".join(repr(known_name) for known_name in BUILT_IN)
        raise ValueError(
            f"text encoder must be one of {known}, a folder, or a Hugging Face id in the local cache, got "
            f"{name!r}: {hint}no such folder and not in the cache; nothing is downloaded here, so fetch it "
            "once on a machine with a network (hf download) and pass its folder"
        ) from error


def read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """Read a model's `config.json` as data.

    Args:
        folder: The model's folder.

    Returns:
        Its family, "bert", "roberta" or "clip", and the fields that describe its text model.

    Raises:
        ValueError: If the file is missing, no JSON object, or of a model that is no text encoder known here.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} must hold a config.json to be a text encoder, found none")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(fields).__name__}")
    first_bert = "bert" if "type_vocab_size" in fields else None  # the first configs named no type
    kind = fields.get("model_type") or first_bert
    if kind not in _FAMILIES:
        raise ValueError(f"{path}: model_type must be one of {', '.join(_FAMILIES)}, got {kind!r}")
    family = _FAMILIES[kind]
    described = fields.get("text_config") or fields if kind == "clip" else fields
    return family, {key: value for key, value in described.items() if key not in _NOT_A_SIZE}


def build_model(name: str, *, pretrained: bool = True) -> tuple[str, nn.Module]:
    """Build the text model of a folder or id from plain `transformers` classes.

    Args:
        name: A folder, or an id in the local cache.
        pretrained: Whether its weights must be there; False: random weights.

    Returns:
        Its family and the model.

    Raises:
        ValueError: If there is no such model, it is of an unknown kind, or its weights are missing,
            another model's, or pickled objects rather than tensors.
    """
    folder = find_model_folder(name)
    family, fields = read_config(folder)
    saved = read_weights(folder) if pretrained else None  # first: a large model takes long to initialise
    if family == "bert":
        model: nn.Module = BertModel(BertConfig(**fields), add_pooling_layer=False)
    elif family == "roberta":
        model = RobertaModel(RobertaConfig(**fields), add_pooling_layer=False)
    else:
        model = CLIPTextModel(CLIPTextConfig(**fields))
    if saved is not None:
        load_weights(model, saved, source=str(folder))
    return family, model


def build_backbone(
    name: str,
    *,
    trainable: bool = False,
    max_tokens: int = 24,
    mask_padding: bool = True,
    pretrained: bool = True,
    half_precision: bool = False,
    cache_size: int = 1024,
) -> HuggingFaceBackbone | FrozenBackbone:
    """Build a Hugging Face backbone of `TextEncoder`; the arguments are explained there.

    Raises:
        ValueError: If the model cannot be built, or cannot read `max_tokens` tokens.
    """
    if name == "zones":
        raise ValueError("text encoder must read words, got 'zones': a tokenizer for networks without one")
    family, model = build_model(name, pretrained=pretrained)
    backbone = HuggingFaceBackbone(model, family=family, mask_padding=mask_padding)
    if max_tokens > backbone.max_positions:
        most = backbone.max_positions
        raise ValueError(f"max_tokens must be at most {most} for {name!r}, got {max_tokens}")
    if trainable:
        return backbone
    return FrozenBackbone(backbone, half_precision=half_precision, cache_size=cache_size)

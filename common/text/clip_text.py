"""Vectors of sentences in the common space of CLIP and BiomedCLIP: text half and projection, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from ..checks import read_tensors
from .encoder import TextEncoder
from .pretrained import find_model_folder, read_config
from .tokenizer import Tokenizer, build_tokenizer
from .weights import load_weights, read_weights

_PROJECTION = "text_projection.weight"
_OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_BERT_HEAD = 64  # channels of an attention head in every BERT of this kind


@torch.no_grad()
def clip_vectors(folder: str, sentences: Sequence[str], *, max_tokens: int = 64) -> Tensor:
    """Encode sentences with the text half of a CLIP and its projection.

    Args:
        folder: of a Hugging Face CLIP, or its id in the local cache.
        sentences: of at most `max_tokens` tokens.
        max_tokens: at most what the model reads, 77 for the published ones.

    Returns:
        `(sentences, E)`, as `CLIPModel.get_text_features` gives them.

    Raises:
        ValueError: if there is no such model, it is no CLIP or lacks its projection, or a sentence is too long.
    """
    place = find_model_folder(folder)
    family, _ = read_config(place)
    tensors = read_weights(place)
    if family != "clip" or _PROJECTION not in tensors:
        raise ValueError(f"{place} must hold a CLIP with {_PROJECTION}, got a {family} without it")
    encoder = TextEncoder(folder, max_tokens=max_tokens)
    summary = encoder(_encoded(build_tokenizer(folder, max_tokens=max_tokens), sentences)).summary
    return summary @ tensors[_PROJECTION].float().T


@torch.no_grad()
def biomedclip_vectors(folder: str, sentences: Sequence[str], *, max_tokens: int = 64) -> Tensor:
    """Encode sentences with the text half of BiomedCLIP, a PubMedBERT, and its projection.

    Args:
        folder: with the files of OpenCLIP: `open_clip_model.safetensors` or `open_clip_pytorch_model.bin`, and
            `vocab.txt`; or its id in the local cache.
        sentences: of at most `max_tokens` tokens.
        max_tokens: at most what the model reads, 256 for the published one.

    Returns:
        `(sentences, E)`: the `[CLS]` token's last state through Linear, GELU, Linear.

    Raises:
        ValueError: if there is no such model, its weights are another's, or a sentence is too long.
    """
    place = find_model_folder(folder)
    tensors = {
        name.removeprefix("text."): tensor
        for name, tensor in _open_clip(place).items()
        if name.startswith("text.")
    }
    missing = [
        name
        for name in ("proj.0.weight", "proj.2.weight", "transformer.embeddings.word_embeddings.weight")
        if name not in tensors
    ]
    if missing:
        raise ValueError(f"{place} must hold a BiomedCLIP, got weights without text.{missing[0]}")
    model = _bert(tensors, str(place))
    text = _encoded(build_tokenizer(folder, max_tokens=max_tokens), sentences)
    states = model(input_ids=text[:, 0], attention_mask=text[:, 1]).last_hidden_state
    hidden = F.gelu(states[:, 0] @ tensors["proj.0.weight"].float().T)
    return hidden @ tensors["proj.2.weight"].float().T


def _encoded(tokenizer: Tokenizer, sentences: Sequence[str]) -> Tensor:
    long = [sentence for sentence in sentences if tokenizer.is_truncated(sentence)]
    if long:
        raise ValueError(f"a sentence must have at most {tokenizer.max_tokens} tokens, got {long[0]!r}")
    return torch.stack([tokenizer.encode(sentence) for sentence in sentences])


def _open_clip(folder: Path) -> dict[str, Tensor]:
    for name in _OPEN_CLIP_FILES:
        if (folder / name).is_file():
            try:
                return load_file(folder / name) if name.endswith("s") else read_tensors(folder / name)
            except SafetensorError as error:
                raise ValueError(
                    f"{folder / name} must be safetensors, and could not be read: {error}"
                ) from error
    raise ValueError(f"{folder} must hold {' or '.join(_OPEN_CLIP_FILES)}, found neither")


def _bert(tensors: dict[str, Tensor], source: str) -> BertModel:
    """Build the BERT whose sizes the weights have."""
    saved = {
        name.removeprefix("transformer."): tensor
        for name, tensor in tensors.items()
        if name.startswith("transformer.")
    }
    words = saved["embeddings.word_embeddings.weight"]
    layers = {int(name.split(".")[2]) for name in saved if name.startswith("encoder.layer.")}
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=words.shape[1],
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, words.shape[1] // _BERT_HEAD),
        intermediate_size=len(saved.get("encoder.layer.0.intermediate.dense.bias", words[0])),
        max_position_embeddings=len(saved.get("embeddings.position_embeddings.weight", words)),
        type_vocab_size=len(saved.get("embeddings.token_type_embeddings.weight", words[:2])),
    )
    model = BertModel(config, add_pooling_layer=False)
    load_weights(model, saved, source=source)
    return model.eval()

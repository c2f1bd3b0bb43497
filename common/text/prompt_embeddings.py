"""Vectors of the sentences that describe the classes, computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from .class_prompts import class_sentences
from .clip_text import biomedclip_vectors, clip_vectors
from .encoder import TextEncoder
from .tokenizer import build_tokenizer

TEXTS = ("random", "embedded", "clip", "biomedclip", "file")

_DEFAULT_FOLDERS = {
    "clip": "openai/clip-vit-base-patch32",
    "biomedclip": "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
}
_MAX_TOKENS = 64
_TENSOR = "class_embeddings"


def class_embeddings(
    classes: Sequence[str],
    modalities: Sequence[str],
    *,
    text: str = "random",
    prompt: str = "v3",
    folder: str | None = None,
    size: int = 512,
    seed: int = 0,
) -> Tensor:
    """Turn the descriptions of the classes into vectors, for `common.networks.TCSA.set_class_embeddings`.

    The same arguments give the same numbers, whatever was drawn before.

    Args:
        classes: see `common.text.class_sentences`.
        modalities: see `class_sentences`.
        text: what makes a vector of a sentence. "random": nothing but the seed, a direction of its own for every
            sentence. "embedded": the transformer of `common.text` as it starts at random; sentences lie near each
            other by the words they share, and all are nearly parallel, so that only a loss that centres them tells
            them apart. "clip" or "biomedclip": that model's text half with its projection. "file": what
            `save_class_embeddings` wrote, on a machine that has the model.
        prompt: see `class_sentences`.
        folder: of the model, or its id in the local cache (None: the published one); for "file" the file.
        size: numbers of a vector of "random" and "embedded"; of the others it is the model's.
        seed: of "random" and "embedded".

    Returns:
        `(modalities, classes, size)` float32, each vector of length 1.

    Raises:
        ValueError: if an argument is none of the above, or the model or file is not on this machine or not of these
            sentences.

    Reference:
        TCSA-UDA's code: CLIP ViT-B/32, frozen; 512 numbers a sentence.
    """
    if text not in TEXTS:
        raise ValueError(f"text must be one of {', '.join(TEXTS)}, got {text!r}")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    prompts = class_sentences(classes, modalities, prompt=prompt)
    if text == "file":
        return _read(folder, prompts)
    sentences = list(dict.fromkeys(sentence for row in prompts for sentence in row))
    vectors = F.normalize(_vectors(sentences, text, folder, size, seed).float(), dim=1)
    places = {sentence: place for place, sentence in enumerate(sentences)}
    return vectors[torch.tensor([[places[sentence] for sentence in row] for row in prompts])].clone()


def save_class_embeddings(
    path: str | Path,
    embeddings: Tensor,
    classes: Sequence[str],
    modalities: Sequence[str],
    *,
    prompt: str = "v3",
) -> None:
    """Write vectors and their sentences as safetensors, for `class_embeddings(text="file", folder=path)`.

    Args:
        path: file to write.
        embeddings: `(modalities, classes, size)`.
        classes: see `class_sentences`.
        modalities: see `class_sentences`.
        prompt: see `class_sentences`.

    Raises:
        ValueError: if there is not one vector per sentence.
    """
    prompts = class_sentences(classes, modalities, prompt=prompt)
    _check_shape(embeddings, prompts, "embeddings")
    save_file({_TENSOR: embeddings.contiguous().cpu()}, path, metadata={"prompts": json.dumps(prompts)})


def _vectors(sentences: list[str], text: str, folder: str | None, size: int, seed: int) -> Tensor:
    if text == "random":
        return torch.stack([_random_vector(sentence, size, seed) for sentence in sentences])
    if text == "embedded":
        return _embedded_vectors(sentences, size, seed)
    place = folder or _DEFAULT_FOLDERS[text]
    read = clip_vectors if text == "clip" else biomedclip_vectors
    return read(place, sentences, max_tokens=_MAX_TOKENS)


def _random_vector(sentence: str, size: int, seed: int) -> Tensor:
    # by the sentence and not by its place, so that a class keeps its vector when another is added
    digest = hashlib.sha256(f"{seed} {sentence}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randn(size, generator=generator)


def _embedded_vectors(sentences: list[str], size: int, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        encoder = TextEncoder("embedded", trainable=False, hidden_size=size, max_tokens=_MAX_TOKENS).eval()
        tokenizer = build_tokenizer("embedded", max_tokens=_MAX_TOKENS)
        return encoder(torch.stack([tokenizer.encode(sentence) for sentence in sentences])).pooled


def _read(path: str | None, prompts: list[list[str]]) -> Tensor:
    if path is None or not Path(path).is_file():
        raise ValueError(f"folder must be a file of class embeddings with text 'file', got {path!r}")
    try:
        with safe_open(path, framework="pt") as file:
            saved = json.loads((file.metadata() or {}).get("prompts", "null"))
            tensor = file.get_tensor(_TENSOR)
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path} must be a file that save_class_embeddings wrote, and could not be read as such: {error}"
        ) from error
    if saved != prompts:
        raise ValueError(
            f"{path} must be of the sentences {prompts[0]} …, got {(saved or [None])[0]} …: classes, modalities and "
            "prompt must be those it was written with"
        )
    _check_shape(tensor, prompts, str(path))
    return tensor.float()


def _check_shape(embeddings: Tensor, prompts: list[list[str]], what: str) -> None:
    wanted = (len(prompts), len(prompts[0]))
    if embeddings.ndim != 3 or embeddings.shape[:2] != wanted:
        raise ValueError(f"{what} must be ({wanted[0]}, {wanted[1]}, size), got {tuple(embeddings.shape)}")

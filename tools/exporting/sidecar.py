"""The file beside the exports that says how to feed them, for users without this project's code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from pydoc import locate
from typing import Any

from .opened import SENTENCES, OpenedModel

VOCABULARIES = ("vocab.txt", "tokenizer.json", "vocab.json")


def sidecar(model: OpenedModel, *, uses_text: bool, files: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a user in another language needs to know.

    Args:
        model: that was exported.
        uses_text: whether the sentence changes the output.
        files: by format, what was written.
    """
    return {
        "name": model.name,
        "bundle": model.source.name,
        "version": model.source.version,
        "overlays": list(model.overlays),
        "network": type(model.network).__name__,
        "weights": {"sha256": model.weights, "random": model.weights is None},
        "laterality": model.config.get("laterality"),
        "inputs": [_image(model), _text(model, uses_text=uses_text)],
        "outputs": [_output(model)],
        "tokenizer": None if model.tokenizer is None else _tokenizer(model),
        "examples": [] if model.tokenizer is None else _examples(model),
        "files": dict(files),
    }


def _examples(model: OpenedModel) -> list[dict[str, Any]]:
    return [
        {"sentence": sentence, "ids": ids.tolist(), "mask": mask.tolist()}
        for sentence, (ids, mask) in zip(SENTENCES.values(), model.text, strict=True)
    ]


def _image(model: OpenedModel) -> dict[str, Any]:
    channels, rows, columns = model.image.shape[1:]
    if model.tokenizer is None:
        return {
            "name": "image",
            "dtype": "float32",
            "shape": ["batch", channels, rows, columns],
            "modality": model.network.modality,
            "preprocessing": [_said(model, key) for key in ("windows", "percentiles", "plane")]
            + [
                "of the whole volume: clip to the window of its modality, else to the percentiles; subtract the mean; "
                "divide by three standard deviations",
                f"slices of the plane, bicubic so that the longer side fits {rows} x {columns}, the rest the darkest "
                "value; gray repeated in every channel",
            ],
        }
    return {
        "name": "image",
        "dtype": "float32",
        "shape": ["batch", channels, rows, columns],
        "preprocessing": [
            "rows and columns as displayed, top row first; MONOCHROME1 inverted; grey repeated in every channel",
            f"resize to {rows} x {columns}: bicubic, half-pixel centres, anti-aliased when it shrinks",
            "z-score per image and channel: (x - mean) / standard deviation (biased); a flat channel is 0",
        ],
    }


def _said(model: OpenedModel, key: str) -> str:
    return f"{key}: {model.config[key]}"


def _text(model: OpenedModel, *, uses_text: bool) -> dict[str, Any]:
    return {
        "name": "text",
        "dtype": "int64",
        "shape": ["batch", 2, model.text.shape[2]],
        "content": "row 0 token ids, row 1 their mask: 1 a token, 0 padding on the right",
        "used": uses_text,
    }


def _output(model: OpenedModel) -> dict[str, Any]:
    if model.threshold is None:
        labels = model.config["labels"]
        return {
            "name": "logits",
            "dtype": "float32",
            "shape": ["batch", len(labels), *model.image.shape[2:]],
            "postprocessing": ["softmax", "resize the probabilities: bilinear", "the most probable class"],
            "labels": labels,
        }
    return {
        "name": "logits",
        "dtype": "float32",
        "shape": ["batch", 1, *model.image.shape[2:]],
        "postprocessing": [
            "sigmoid",
            "resize the probabilities to the rows and columns of the picture: bilinear, half-pixel centres",
            f"the mask is where they are at least {model.threshold}",
        ],
        "threshold": model.threshold,
    }


def _tokenizer(model: OpenedModel) -> dict[str, Any]:
    from common.checks import file_sha256  # imported here: `--help` should not load PyTorch

    tokenizer = model.tokenizer
    path = _vocabulary(tokenizer)
    return {
        "name": Path(tokenizer.name).name,
        "kind": type(tokenizer).__name__,
        "max_tokens": int(model.text.shape[2]),
        "pad_id": int(tokenizer.pad_id),
        "vocabulary_size": int(tokenizer.vocab_size),
        "vocabulary": None if path is None else {"file": path.name, "sha256": file_sha256(path)},
    }


def _vocabulary(tokenizer: Any) -> Path | None:
    """The file with the tokenizer's words; None for one without words."""
    if tokenizer.name == "zones":
        return None
    module = type(tokenizer).__module__
    if tokenizer.name == "embedded":
        return Path(str(sys.modules[module].__file__)).with_name("vocab.txt")
    find: Any = locate(f"{module.rpartition('.')[0]}.pretrained.find_model_folder")
    folder = Path(find(tokenizer.name))
    return next((folder / name for name in VOCABULARIES if (folder / name).is_file()), None)

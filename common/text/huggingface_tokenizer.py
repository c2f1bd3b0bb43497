"""Hugging Face tokenizers by folder or id: offline, and without running any code of their authors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from .pretrained import find_model_folder, read_config
from .tokenizer import Tokenizer, token_list

_BERT_OPTIONS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")


class HuggingFaceTokenizer(Tokenizer):
    """The tokenizer of a Hugging Face model: BERT's WordPiece, CLIP's and RoBERTa's byte pairs.

    A folder may ask for a tokenizer class of its own (CXR-BERT does); where its model is a BERT the plain
    BERT tokenizer reads its vocabulary, and any other such wish is refused. Special tokens written in a
    sentence are read as plain text. CLIP pads with its end-of-text token: only the mask tells them apart.

    Args:
        name: A folder, or an id in the local cache.
        max_tokens: Length of every encoding, at least 2.

    Raises:
        ValueError: If there is no such folder or id, or it holds no tokenizer known here.
    """

    def __init__(self, name: str, *, max_tokens: int = 24) -> None:
        super().__init__(name, max_tokens=max_tokens)
        self._tokenizer = _load(find_model_folder(name))
        self.vocab_size = len(self._tokenizer)
        fallbacks = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, 0)
        self.pad_id = next(index for index in fallbacks if index is not None)
        self._special = frozenset(self._tokenizer.all_special_ids)

    def token_ids(self, sentence: str, limit: int | None = None) -> list[int]:
        """The ids of a whole sentence with the model's opening and closing tokens."""
        whole = sentence.encode("utf-8", "replace").decode()
        return self._tokenizer(whole, verbose=False, split_special_tokens=True)["input_ids"]

    def decode(self, ids: Tensor | list[int]) -> str:
        """The text that ids stand for, as the model's tokenizer spells it."""
        return self._tokenizer.decode(token_list(ids), skip_special_tokens=True)

    def fit(self, ids: list[int]) -> list[int]:
        """Cut ids to `max_tokens`, the model's closing token last."""
        if len(ids) <= self.max_tokens:
            return ids
        closing = ids[-1:] if ids[-1] in self._special else []
        return ids[: self.max_tokens - len(closing)] + closing


def _load(folder: Path) -> PreTrainedTokenizerBase:
    family = read_config(folder)[0] if (folder / "config.json").is_file() else None
    if family in ("bert", None) and (folder / "vocab.txt").is_file():
        return BertTokenizer(vocab=str(folder / "vocab.txt"), **_bert_options(folder))
    try:
        chosen = BertTokenizer if family == "bert" else AutoTokenizer
        return chosen.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder} must hold a tokenizer that `transformers` reads without remote code: {error}"
        ) from error


def _bert_options(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be JSON: {error}") from error
    return {key: options[key] for key in _BERT_OPTIONS if key in options}

"""From a case's sentence to the token tensor that the network reads."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from ..text.laterality import translate_sentence
from ..text.tokenizer import build_tokenizer

LATERALITIES = ("image", "patient")
LONGEST_SENTENCE = 100_000  # characters
CACHED_SENTENCES = 4096


class TokenizeTextd(MapTransform):
    """Write the token tensor `(2, max_tokens)` of a case's sentence under "text", and the sentence itself.

    Reads "text" (a string, None or missing: the empty prompt) and, when the case has it, "laterality":
    whether the sentence's left is the left of the image or of the patient. A sentence in the other laterality
    than the bundle's is translated. Afterwards "text" is the tensor, "sentence" the sentence that the network
    reads, and "laterality" the bundle's. The tensor also rides in the meta data of "image", for hosts that
    pass on the image alone.

    Args:
        image_key: key of the image whose meta data gets the tensor.
        max_tokens: length of the token sequence, >= 1.
        text_encoder: name of the tokenizer, as for `build_tokenizer`.
        laterality: "image" or "patient": what the network was trained with.

    Raises:
        ValueError: when a laterality is none of the two.
        TypeError: when the sentence is no string.
    """

    def __init__(
        self,
        *,
        image_key: str = "image",
        max_tokens: int = 24,
        text_encoder: str = "embedded",
        laterality: str = "image",
    ) -> None:
        super().__init__("text", allow_missing_keys=True)
        self.image_key = image_key
        self.laterality = _checked(laterality)
        self.tokenizer = build_tokenizer(text_encoder, max_tokens=max_tokens)
        self._known: dict[str, Tensor] = {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Tokenise the sentence of one case into a new dictionary."""
        case = dict(data)
        sentence = read_sentence(case.get("text"))
        spoken = _checked(case.get("laterality") or self.laterality)
        if sentence and spoken != self.laterality:
            sentence = translate_sentence(sentence, source=spoken, target=self.laterality)
        case["sentence"], case["laterality"] = sentence, self.laterality
        self.write(case, sentence)
        return case

    def write(self, case: dict[Hashable, Any], sentence: str) -> None:
        """Put the tokens of `sentence` into the case and into the meta data of a copy of its image."""
        tokens = self.encode(sentence)
        case["text"] = tokens
        image = case.get(self.image_key)
        if isinstance(image, MetaTensor):
            meta, trace = {**image.meta, "text": tokens}, list(image.applied_operations)
            case[self.image_key] = MetaTensor(image, meta=meta, applied_operations=trace)

    def encode(self, sentence: str) -> Tensor:
        """Return the tokens `(2, max_tokens)` of a sentence; recent sentences are remembered."""
        tokens = self._known.get(sentence)
        if tokens is None:
            if len(self._known) >= CACHED_SENTENCES:
                self._known.clear()
            tokens = self._known[sentence] = self.tokenizer.encode(sentence)
        return tokens.clone(memory_format=torch.contiguous_format)


def read_sentence(text: Any) -> str:
    """Return the sentence of a case as a string; None is the empty prompt.

    Raises:
        TypeError: when `text` is neither a string nor None.
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        raise TypeError(f"text must be a string or None, got {type(text).__name__}")
    if len(text) > LONGEST_SENTENCE:
        warnings.warn(
            f"text has {len(text)} characters and was cut to {LONGEST_SENTENCE}", UserWarning, stacklevel=3
        )
        return text[:LONGEST_SENTENCE]
    return text


def _checked(laterality: Any) -> str:
    if laterality not in LATERALITIES:
        raise ValueError(f"laterality must be image or patient, got {laterality!r}")
    return str(laterality)

"""A WordPiece coder over this package's own vocabulary that loses no character of a sentence."""

from __future__ import annotations

import re
import string
import unicodedata
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer as _Coder
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import WhitespaceSplit

VOCABULARY_FILE = Path(__file__).with_name("vocab.txt")
PAD, UNKNOWN, START, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
NO_POSITION = "[UNK_POS]"  # the one entry of this kind that a sentence may contain: a place left open

_CONTINUATION = "##"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_BYTE_BASE = 0xE000  # one private-use character stands for each byte while WordPiece runs
_SPACED = re.compile(f"([{re.escape(string.punctuation)}])")
_SPACED_NO_POSITION = "[ unk _ pos ]"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DASHES = dict.fromkeys((*range(0x2010, 0x2016), 0x2212), "-")
_QUOTES = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}
_TYPOGRAPHY = _DASHES | _QUOTES


def normalise(sentence: str) -> str:
    """Bring a sentence to the form that the vocabulary spells: what decoding an encoded sentence gives.

    Compatibility characters are folded (NFKC), letters lowered, dashes and quotes made ASCII, control
    characters and runs of spaces made one space, lone surrogates replaced by U+FFFD, and every ASCII
    punctuation mark stands alone; "[UNK_POS]" stays one word. Accents, scripts and emoji are kept.

    Args:
        sentence: Any string.

    Returns:
        The normal form; normalising it again changes nothing.
    """
    whole = sentence.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    text = whole.translate(_TYPOGRAPHY)
    while (folded := unicodedata.normalize("NFKC", text).translate(_TYPOGRAPHY).lower()) != text:
        text = folded
    spaced = " ".join(_SPACED.sub(r" \1 ", _CONTROL.sub(" ", text)).split())
    return spaced.replace(_SPACED_NO_POSITION, NO_POSITION.lower())


def read_vocabulary(path: Path = VOCABULARY_FILE) -> list[str]:
    """Read a vocabulary file: one entry a line, the line's number being the entry's id.

    Args:
        path: The file; UTF-8.

    Returns:
        The entries in order.

    Raises:
        ValueError: If an entry repeats or a special entry is missing.
    """
    entries = path.read_text(encoding="utf-8").splitlines()
    if repeats := len(entries) - len(set(entries)):
        raise ValueError(f"{path}: every entry must occur once, got {repeats} repeats")
    missing = [name for name in (PAD, UNKNOWN, START, END, MASK, NO_POSITION) if name not in entries]
    if missing:
        raise ValueError(f"{path}: the special entries must be present, got none of {missing}")
    return entries


class WordPieceCoder:
    """Sentence to token ids and back, with the bytes of a character where no word piece spells it.

    ASCII letters, digits and punctuation are entries of the vocabulary, so that no ASCII word is unknown;
    any other character becomes its UTF-8 bytes, entries ``<0xNN>`` and ``##<0xNN>``. WordPiece itself is
    the ``tokenizers`` library's.

    Args:
        path: The vocabulary file.
    """

    def __init__(self, path: Path = VOCABULARY_FILE) -> None:
        self.entries = read_vocabulary(path)
        self.ids = {entry: index for index, entry in enumerate(self.entries)}
        spelled = {_BYTE.sub(_byte_character, entry): index for entry, index in self.ids.items()}
        spelled[NO_POSITION.lower()] = self.ids[NO_POSITION]
        self._longest = max(len(entry) for entry in self.entries)
        model = WordPiece(spelled, unk_token=UNKNOWN, max_input_chars_per_word=1 << 40)
        self._coder = _Coder(model)
        self._coder.pre_tokenizer = WhitespaceSplit()

    def encode(self, sentence: str, limit: int | None = None) -> list[int]:
        """Encode the first ``limit`` word pieces of a sentence, without special entries.

        Args:
            sentence: Any string; its normal form is encoded.
            limit: The most ids wanted, so that an endless sentence is not encoded to its end; None: all.

        Returns:
            Up to ``limit`` ids.
        """
        words = normalise(sentence).split()[:limit]
        longest = None if limit is None else limit * self._longest  # no piece spells more than `_longest`
        spelled = " ".join(_spell_bytes(word[:longest]) for word in words)
        return self._coder.encode(spelled, add_special_tokens=False).ids[:limit]

    def decode(self, ids: list[int]) -> str:
        """Spell ids as a sentence in normal form; special entries are left out.

        Args:
            ids: Token ids.

        Returns:
            The text; bytes that a truncation cut in two become U+FFFD.
        """
        words: list[bytes] = []
        for entry in (self.entries[index] for index in ids):
            if entry in (PAD, START, END, MASK):
                continue
            continues = entry.startswith(_CONTINUATION) and entry != _CONTINUATION
            piece = entry[len(_CONTINUATION) :] if continues else entry
            match = _BYTE.fullmatch(piece)
            spelled = bytes([int(match[1], 16)]) if match else piece.lower().encode()
            if continues and words:
                words[-1] += spelled
            else:
                words.append(spelled)
        return b" ".join(words).decode("utf-8", "replace")


@lru_cache(maxsize=1)
def embedded_coder() -> WordPieceCoder:
    """The coder of the vocabulary beside this module, read once."""
    return WordPieceCoder()


def _byte_character(match: re.Match[str]) -> str:
    return chr(_BYTE_BASE + int(match[1], 16))


def _spell_bytes(word: str) -> str:
    if word.isascii():
        return word
    return "".join(
        character
        if character.isascii()
        else "".join(chr(_BYTE_BASE + byte) for byte in character.encode("utf-8"))
        for character in word
    )

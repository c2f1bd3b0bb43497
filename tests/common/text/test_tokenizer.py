"""Tokenizers: the embedded vocabulary, Hugging Face folders, and zones."""

from __future__ import annotations

import copy
import json
import pickle
import string
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.text.tokenizer import build_tokenizer
from common.text.wordpiece import UNKNOWN, embedded_coder, normalise, read_vocabulary

CAPTION = "Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung."
POISON = "raise RuntimeError('remote code ran')\n"


@pytest.fixture
def cxr_bert_like(tmp_path):
    """A folder as CXR-BERT's: a BERT vocabulary, special ids 2 and 3, and a wish for code of its own."""
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] , . lower left right lung rul l ##ung up ##per ##s a ##b"
    (tmp_path / "vocab.txt").write_text("\n".join(words.split()) + "\n")
    remote = {"AutoConfig": "poison.Config", "AutoModel": "poison.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "cxr-bert", "auto_map": remote}))
    wishes = {
        "tokenizer_class": "Other",
        "auto_map": {"AutoTokenizer": ["poison.T", None]},
        "do_lower_case": True,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(wishes))
    (tmp_path / "poison.py").write_text(POISON)
    return tmp_path


@pytest.fixture
def clip_folder(tmp_path):
    """A CLIP tokenizer with byte pairs for one word, as `transformers` saves it."""
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase + string.digits + ",."
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "le", "ft</w>", "left</w>"]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    ids = {entry: index for index, entry in enumerate(vocabulary)}
    tokenizer = CLIPTokenizer(vocab=ids, merges=[("l", "e"), ("f", "t</w>"), ("le", "ft</w>")])
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def entries(sentence: str, **options) -> list[str]:
    tokenizer = build_tokenizer("embedded", **options)
    ids, mask = tokenizer.encode(sentence)
    return [embedded_coder().entries[int(index)] for index in ids[mask.bool()]]


def test_encoding_has_ids_then_mask():
    encoding = build_tokenizer("embedded", max_tokens=8).encode("left lung")
    ids = embedded_coder().ids
    assert encoding.dtype == torch.int64
    expected = [ids["[CLS]"], ids["left"], ids["lung"], ids["[SEP]"], 0, 0, 0, 0]
    assert encoding.tolist() == [expected, [1, 1, 1, 1, 0, 0, 0, 0]]


def test_words_of_captions_are_whole():
    words = "bilateral pulmonary infection , two infected areas , lower left lung and upper right lung ."
    assert entries(CAPTION) == ["[CLS]", *words.split(), "[SEP]"]


@pytest.mark.parametrize("abbreviation", ["RUL", "RML", "RLL", "LUL", "LLL", "bibasilar", "GGO"])
def test_abbreviations_are_whole(abbreviation):
    assert entries(abbreviation) == ["[CLS]", abbreviation.lower(), "[SEP]"]


@pytest.mark.parametrize("nothing", [None, "", "   ", "\n\t", "\x00"])
def test_empty_prompt_is_the_two_special_tokens(nothing):
    assert entries(nothing, max_tokens=6) == ["[CLS]", "[SEP]"]


def test_truncation_keeps_the_closing_token_last():
    tokenizer = build_tokenizer("embedded", max_tokens=6)
    assert entries(CAPTION, max_tokens=6) == ["[CLS]", "bilateral", "pulmonary", "infection", ",", "[SEP]"]
    assert tokenizer.is_truncated(CAPTION)
    assert not tokenizer.is_truncated("all left lung")
    assert not tokenizer.is_truncated("all left lung .")  # exactly six
    assert tokenizer.is_truncated("all left lung ..")


def test_special_entries_cannot_be_written_by_a_user():
    assert entries("[PAD] [SEP] ##left") == [
        *("[CLS]", "[", *entries("pad")[1:-1], "]", "[", *entries("sep")[1:-1], "]"),
        *("#", "#", "left", "[SEP]"),
    ]


def test_an_open_place_is_one_entry():
    assert entries("lesion in the [UNK_POS] lung")[4] == "[UNK_POS]"
    tokenizer = build_tokenizer()
    assert tokenizer.decode(tokenizer.encode("a[UNK_POS].")) == normalise("a[UNK_POS].") == "a [unk_pos] ."


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Größe", ["gr", "##<0xC3>", "##<0xB6>", "##<0xC3>", "##<0x9F>", "##e"]),
        ("左", ["<0xE5>", "##<0xB7>", "##<0xA6>"]),
        ("left\u2013right", ["left", "-", "right"]),
    ],
)
def test_other_characters_are_bytes(sentence, expected):
    assert entries(sentence)[1:-1] == expected


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_sentence_comes_back(sentence):
    tokenizer = build_tokenizer("embedded", max_tokens=1500)
    encoding = tokenizer.encode(sentence)
    assert not tokenizer.is_truncated(sentence)
    assert tokenizer.decode(encoding) == normalise(sentence)
    assert embedded_coder().ids[UNKNOWN] not in encoding[0]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=0x2FFFF, categories=None), max_size=60))
def test_normal_form_is_stable_and_utf8(sentence):
    normal = normalise(sentence)
    assert normalise(normal) == normal
    normal.encode("utf-8")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.integers(2, 40))
def test_cut_encoding_is_the_beginning_of_the_whole(sentence, max_tokens):
    tokenizer = build_tokenizer("embedded", max_tokens=max_tokens)
    whole = tokenizer.token_ids(sentence)
    ids, mask = tokenizer.encode(sentence)
    kept = ids[mask.bool()].tolist()
    assert kept[:-1] == whole[: len(kept) - 1]
    assert kept[-1] == whole[-1]
    assert tokenizer.is_truncated(sentence) == (len(whole) > max_tokens)


def test_case_and_spacing_do_not_matter():
    tokenizer = build_tokenizer()
    assert torch.equal(tokenizer.encode("LOWER  left\tlung ."), tokenizer.encode(" lower left lung."))


@pytest.mark.parametrize("sentence", ["left lung " * 100_000, "l" * 1_000_000, "🫁" * 250_000])
def test_a_megabyte_is_encoded_at_once(sentence):
    tokenizer = build_tokenizer()
    begun = time.perf_counter()
    assert int(tokenizer.encode(sentence)[1].sum()) == tokenizer.max_tokens
    assert time.perf_counter() - begun < 5


def test_encodings_are_independent():
    tokenizer = build_tokenizer()
    tokenizer.encode(CAPTION).zero_()
    assert tokenizer.encode(CAPTION).sum() > 0


def test_same_arguments_same_tokenizer_also_when_copied():
    tokenizer = build_tokenizer("embedded", max_tokens=12)
    assert build_tokenizer(max_tokens=12) is tokenizer
    assert copy.deepcopy(tokenizer) is tokenizer
    assert pickle.loads(pickle.dumps(tokenizer)) is tokenizer


def test_vocabulary_spells_ascii():
    names = read_vocabulary()
    letters = string.ascii_lowercase + string.digits
    needed = {*string.punctuation, *letters, *("##" + letter for letter in letters)}
    assert needed <= set(names)
    assert 500 <= len(names) <= 2500
    assert build_tokenizer().vocab_size == len(names)
    assert build_tokenizer().pad_id == names.index("[PAD]") == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[PAD]\n[UNK]\n[CLS]\n[MASK]\n", "special entries must be present"),
        ("a\na\n", "must occur once, got 1"),
    ],
)
def test_broken_vocabulary_is_refused(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_vocabulary(path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "embeded"}, ValueError, "did you mean 'embedded'"),
        ({"name": "zone"}, ValueError, "did you mean 'zones'"),
        ({"name": "no-one/nothing"}, ValueError, "no such folder and not in the cache"),
        ({"name": "/nowhere/at/all"}, ValueError, "no such folder"),
        ({"name": 3}, TypeError, "must be a string, got int"),
        ({"max_tokens": 1}, ValueError, "must be at least 2, got 1"),
        ({"max_tokens": 2.5}, TypeError, "must be an integer, got 2.5"),
    ],
)
def test_wrong_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        build_tokenizer(**options)


def test_wrong_sentence_is_named():
    with pytest.raises(TypeError, match="sentence must be a string or None, got list"):
        build_tokenizer().encode(["left"])


def test_cxr_bert_folder_is_read_as_plain_bert(cxr_bert_like):
    tokenizer = build_tokenizer(str(cxr_bert_like), max_tokens=6)
    assert tokenizer.encode("Lower left").tolist() == [[2, 7, 8, 3, 0, 0], [1, 1, 1, 1, 0, 0]]
    assert tokenizer.encode("lower left lung , rul").tolist() == [[2, 7, 8, 10, 5, 3], [1] * 6]
    assert tokenizer.is_truncated("lower left lung , rul")
    assert tokenizer.encode(None).tolist() == [[2, 3, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert (tokenizer.pad_id, tokenizer.vocab_size) == (0, 19)
    assert tokenizer.decode(tokenizer.encode("lower left")) == "lower left"


def test_bert_special_tokens_in_a_sentence_are_text(cxr_bert_like):
    tokenizer = build_tokenizer(str(cxr_bert_like), max_tokens=12)
    ids, mask = tokenizer.encode("left [SEP] right")
    assert ids[mask.bool()].tolist().count(3) == 1


def test_remote_tokenizer_without_plain_counterpart_is_refused(tmp_path):
    (tmp_path / "poison.py").write_text(POISON)
    wish = {"tokenizer_class": "Odd", "auto_map": {"AutoTokenizer": ["poison.Odd", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(wish))
    with pytest.raises(ValueError, match="without remote code"):
        build_tokenizer(str(tmp_path))


def test_clip_folder(clip_folder):
    tokenizer = build_tokenizer(str(clip_folder), max_tokens=8)
    start, end = tokenizer.vocab_size - 2, tokenizer.vocab_size - 1
    ids, mask = tokenizer.encode("Left")
    assert ids[:3].tolist() == [start, tokenizer.vocab_size - 3, end]
    assert mask.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert set(ids[3:].tolist()) == {tokenizer.pad_id}
    long_ids, long_mask = tokenizer.encode("left left left left left left left left")
    assert long_mask.tolist() == [1] * 8
    assert int(long_ids[-1]) == end
    assert int(tokenizer.encode("")[1].sum()) == 2


def test_real_cxr_bert_tokenizer(real_data):
    tokenizer = build_tokenizer(str(real_data / "text" / "cxr_bert"), max_tokens=24)
    ids, mask = tokenizer.encode("Lower left lung, RUL")
    assert ids[mask.bool()].tolist() == [2, 2425, 2279, 2572, 16, 12495, 3]
    assert tokenizer.vocab_size == 30522


def test_real_captions_fit(real_data):
    import csv

    with (real_data / "text" / "qata_captions_train.csv").open(newline="", encoding="utf-8") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    tokenizer = build_tokenizer("embedded", max_tokens=24)
    whole = [caption for caption in captions if not tokenizer.is_truncated(caption)]
    assert len(whole) >= 0.98 * len(captions)
    assert len({tuple(tokenizer.encode(normal)[0].tolist()) for normal in map(normalise, whole)}) == len(
        {normalise(caption) for caption in whole}
    )


@pytest.mark.parametrize(
    ("sentence", "ids"),
    [
        ("Unilateral pulmonary infection, one infected area, lower left lung.", [3]),
        ("Bilateral pulmonary infection, two infected areas, upper left lung and middle right lung.", [1, 5]),
        ("No pulmonary infection, zero infected areas.", [16]),
        ("", []),
        (None, []),
    ],
)
def test_zone_ids(sentence, ids):
    tokenizer = build_tokenizer("zones", max_tokens=10)
    encoding = tokenizer.encode(sentence)
    assert encoding.shape == (2, 10)
    assert encoding[0].tolist() == ids + [0] * (10 - len(ids))
    assert encoding[1].tolist() == [1] * len(ids) + [0] * (10 - len(ids))
    assert (tokenizer.vocab_size, tokenizer.pad_id) == (17, 0)


def test_zone_ids_of_polyps_follow_the_lungs():
    tokenizer = build_tokenizer("zones", max_tokens=10)
    ids, mask = tokenizer.encode("one small round polyp, located in top left of the image")
    (only,) = ids[mask.bool()].tolist()
    assert 7 <= only <= 15
    assert tokenizer.decode([only]) == "upper left"

"""Sentences of the classes, and their vectors from every kind of encoder."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, CLIPTokenizer

from common.data.domains import MODALITIES
from common.text import MODALITY_NAMES, PROMPTS, class_sentences
from common.text.prompt_embeddings import TEXTS, class_embeddings, save_class_embeddings
from common.text.tokenizer import build_tokenizer

ABDOMEN = ["background", "liver", "right kidney", "left kidney", "spleen"]
CARDIAC = ["background", "MYO", "LAC", "LVC", "AA"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}

NAMES = st.lists(
    st.text(alphabet=string.ascii_letters + " _", min_size=1, max_size=20), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with both halves and its tokenizer."""
    folder = tmp_path_factory.mktemp("clip")
    letters = string.ascii_lowercase + string.digits + ",."
    entries = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={entry: index for index, entry in enumerate(entries)}, merges=[])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    ends = {
        "bos_token_id": len(entries) - 2,
        "eos_token_id": len(entries) - 1,
        "pad_token_id": len(entries) - 1,
    }
    text = SIZES | {"vocab_size": len(entries), "max_position_embeddings": 77} | ends
    vision = SIZES | {"image_size": 8, "patch_size": 4}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def biomedclip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BiomedCLIP with the names of OpenCLIP; the text half is a BERT."""
    folder = tmp_path_factory.mktemp("biomedclip")
    words = (
        "[PAD] [UNK] [CLS] [SEP] [MASK] a of imaging tomography computed magnetic resonance liver spleen ."
    )
    (folder / "vocab.txt").write_text("\n".join(words.split()) + "\n")
    torch.manual_seed(0)
    sizes = SIZES | {"hidden_size": 64, "num_attention_heads": 1}
    bert = BertModel(BertConfig(vocab_size=len(words.split()), **sizes), add_pooling_layer=False)
    tensors = {f"text.transformer.{name}": value for name, value in bert.state_dict().items()}
    tensors |= {"text.proj.0.weight": torch.randn(40, 64), "text.proj.2.weight": torch.randn(6, 40)}
    tensors |= {"visual.trunk.cls_token": torch.zeros(1, 1, 4)}
    torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    return folder


def test_the_three_templates() -> None:
    sentences = {prompt: class_sentences(ABDOMEN, ["mr", "ct"], prompt=prompt) for prompt in PROMPTS}
    assert sentences["v3"][0][1] == "A magnetic resonance imaging of a liver."
    assert sentences["v2"][1][2] == "There is a right kidney in this computed tomography imaging."
    assert sentences["v1"][0] == sentences["v1"][1]
    assert sentences["v1"][0][0] == "A photo of a background."
    assert class_sentences(ABDOMEN, ["mr", "ct"]) == sentences["v3"]


def test_every_modality_has_a_name() -> None:
    assert tuple(MODALITY_NAMES) == MODALITIES
    rows = class_sentences(["background", "tumour"], MODALITIES)
    assert len({row[1] for row in rows}) == len(MODALITIES)


def test_abbreviations_are_written_out_and_spelling_does_not_matter() -> None:
    assert class_sentences(CARDIAC, ["ct"], prompt="v1")[0][1:] == [
        "A photo of a left ventricular myocardium.",
        "A photo of a left atrium.",
        "A photo of a left ventricle.",
        "A photo of a ascending aorta.",
    ]
    assert class_sentences(["background", "Right_Kidney"], ["ct"]) == class_sentences(
        ["Background", " right  kidney "], ["ct"]
    )


@given(names=NAMES, prompt=st.sampled_from(sorted(PROMPTS)))
@settings(max_examples=50, deadline=None)
def test_any_names_are_sentences_or_one_clear_error(names: list[str], prompt: str) -> None:
    try:
        rows = class_sentences(["background", *names], ["ct", "t2"], prompt=prompt)
    except ValueError as error:
        assert "each once, got" in str(error)  # noqa: PT017 (sentences or an error: both may come)
        return
    assert [len(row) for row in rows] == [len(names) + 1] * 2
    assert all(len(set(row)) == len(row) for row in rows)
    assert all("{" not in sentence and sentence.endswith(".") for row in rows for sentence in row)


@given(names=NAMES)
@settings(max_examples=25, deadline=None)
def test_random_vectors_belong_to_the_sentence_and_not_to_its_place(names: list[str]) -> None:
    classes = list(
        dict.fromkeys(name for name in (" ".join(n.replace("_", " ").lower().split()) for n in names))
    )
    classes = [name for name in classes if name not in ("", "background", "myo", "lac", "lvc", "aa")]
    if not classes:
        return
    alone = class_embeddings(["background", classes[0]], ["ct"], size=8)
    among = class_embeddings(["background", *reversed(classes)], ["mr", "ct"], size=8)
    assert_close(alone[0, 0], among[1, 0], rtol=0, atol=0)
    assert_close(alone[0, 1], among[1, -1], rtol=0, atol=0)


@pytest.mark.parametrize("text", ["random", "embedded"])
def test_vectors_are_of_length_1_and_drawn_from_the_seed_alone(text: str) -> None:
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    first = class_embeddings(ABDOMEN, ["mr", "ct"], text=text, size=32)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's draws change
    torch.manual_seed(4)
    assert_close(class_embeddings(ABDOMEN, ["mr", "ct"], text=text, size=32), first, rtol=0, atol=0)
    assert first.shape == (2, 5, 32)
    assert not first.requires_grad
    assert_close(first.norm(dim=2), torch.ones(2, 5))
    assert not torch.allclose(class_embeddings(ABDOMEN, ["mr", "ct"], text=text, size=32, seed=1), first)
    assert len(torch.unique(first.flatten(0, 1), dim=0)) == 10  # all sentences differ
    same = class_embeddings(ABDOMEN, ["mr", "ct"], text=text, size=32, prompt="v1")
    assert_close(same[0], same[1], rtol=0, atol=0)


def test_embedded_vectors_know_shared_words_and_random_ones_do_not() -> None:
    """The kidneys share a word: around the mean of all classes they lie together."""

    def similarity(text: str) -> torch.Tensor:
        vectors = class_embeddings(ABDOMEN, ["ct"], text=text, size=128)[0]
        unit = F.normalize(vectors - vectors.mean(0), dim=1)
        return unit @ unit.T

    embedded = similarity("embedded")
    assert embedded[2, 3] == embedded.masked_fill(torch.eye(5, dtype=torch.bool), -1).max()
    assert embedded[2, 3] > 0.2
    assert similarity("random")[2, 3] < 0.2


def test_clip_is_its_text_half_and_projection(clip_folder: Path) -> None:
    vectors = class_embeddings(["background", "liver"], ["ct"], text="clip", folder=str(clip_folder))
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    whole = CLIPModel.from_pretrained(clip_folder, local_files_only=True).eval()
    given_text = tokenizer(
        class_sentences(["background", "liver"], ["ct"])[0], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        states = whole.text_model(**given_text).pooler_output
        expected = F.normalize(whole.text_projection(states), dim=1)
    assert vectors.shape == (1, 2, 6)
    assert_close(vectors[0], expected, rtol=0, atol=1e-5)


def test_biomedclip_is_its_bert_and_projection(biomedclip_folder: Path) -> None:
    classes = ["background", "liver", "spleen"]
    vectors = class_embeddings(classes, ["mr"], text="biomedclip", folder=str(biomedclip_folder))
    tensors = torch.load(biomedclip_folder / "open_clip_pytorch_model.bin", weights_only=True)
    names = "text.transformer."
    config = BertConfig(vocab_size=15, **SIZES | {"hidden_size": 64, "num_attention_heads": 1})
    bert = BertModel(config, add_pooling_layer=False).eval()
    bert.load_state_dict({k.removeprefix(names): v for k, v in tensors.items() if k.startswith(names)})
    project = nn.Sequential(nn.Linear(64, 40, bias=False), nn.GELU(), nn.Linear(40, 6, bias=False))
    project.load_state_dict({k.removeprefix("text.proj."): v for k, v in tensors.items() if ".proj." in k})
    tokenizer = build_tokenizer(str(biomedclip_folder), max_tokens=16)
    for vector, sentence in zip(vectors[0], class_sentences(classes, ["mr"])[0], strict=True):
        text = tokenizer.encode(sentence)
        ids = text[0][text[1].bool()][None]
        with torch.no_grad():
            expected = project(bert(ids).last_hidden_state[:, 0])
        assert_close(vector[None], F.normalize(expected, dim=1), rtol=0, atol=1e-5)


def test_vectors_go_to_a_machine_without_the_model(tmp_path: Path) -> None:
    path = tmp_path / "abdomen.safetensors"
    vectors = class_embeddings(ABDOMEN, ["mr", "ct"], text="embedded", size=16)
    save_class_embeddings(path, vectors, ABDOMEN, ["mr", "ct"])
    assert_close(
        class_embeddings(ABDOMEN, ["mr", "ct"], text="file", folder=str(path)), vectors, rtol=0, atol=0
    )
    with pytest.raises(
        ValueError, match=r"must be of the sentences .* classes, modalities and prompt must be"
    ):
        class_embeddings(ABDOMEN, ["ct", "mr"], text="file", folder=str(path))
    with pytest.raises(ValueError, match="must be of the sentences"):
        class_embeddings(ABDOMEN, ["mr", "ct"], text="file", folder=str(path), prompt="v2")
    with pytest.raises(ValueError, match=r"embeddings must be \(2, 5, size\), got \(1, 5, 16\)"):
        save_class_embeddings(path, vectors[:1], ABDOMEN, ["mr", "ct"])


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    with pytest.raises(ValueError, match=r"folder must be a file of class embeddings .* got None"):
        class_embeddings(ABDOMEN, ["ct"], text="file")
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="must be a file that save_class_embeddings wrote"):
        class_embeddings(ABDOMEN, ["ct"], text="file", folder=str(path))
    save_file({"weights": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="must be a file that save_class_embeddings wrote"):
        class_embeddings(ABDOMEN, ["ct"], text="file", folder=str(path))
    save_file({"class_embeddings": torch.zeros(1, 5, 2)}, path)
    with pytest.raises(ValueError, match=r"must be of the sentences .* got None"):
        class_embeddings(ABDOMEN, ["ct"], text="file", folder=str(path))


@pytest.mark.parametrize("text", ["clip", "biomedclip"])
def test_a_model_that_is_not_here_is_named(text: str, tmp_path: Path, clip_folder: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        class_embeddings(ABDOMEN, ["ct"], text=text, folder="nobody/nothing")
    other = clip_folder if text == "biomedclip" else tmp_path
    with pytest.raises(ValueError, match="must hold"):
        class_embeddings(ABDOMEN, ["ct"], text=text, folder=str(other))


def test_models_of_another_kind_are_refused(tmp_path: Path, clip_folder: Path) -> None:
    BertModel(BertConfig(vocab_size=40, **SIZES)).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"must hold a CLIP with text_projection\.weight, got a bert without it"
    ):
        class_embeddings(ABDOMEN, ["ct"], text="clip", folder=str(tmp_path))
    torch.save({"text.proj.0.weight": torch.zeros(2, 2)}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(
        ValueError, match=r"must hold a BiomedCLIP, got weights without text\.proj\.2\.weight"
    ):
        class_embeddings(ABDOMEN, ["ct"], text="biomedclip", folder=str(tmp_path))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="must be safetensors, and could not be read"):
        class_embeddings(ABDOMEN, ["ct"], text="biomedclip", folder=str(tmp_path))
    with pytest.raises(ValueError, match="a sentence must have at most 64 tokens, got"):
        class_embeddings(["background", "long " * 30], ["ct"], text="clip", folder=str(clip_folder))


@pytest.mark.parametrize(
    ("classes", "modalities", "options", "message"),
    [
        (ABDOMEN[1:], ["ct"], {}, r"classes must be 'background' and then at least one name, each once, got"),
        (["background"], ["ct"], {}, "classes must be 'background' and then"),
        (["background", "liver", "Liver"], ["ct"], {}, "classes must be .* each once"),
        (["background", "AA", "ascending aorta"], ["ct"], {}, "classes must be .* each once"),
        (["background", " "], ["ct"], {}, "classes must be .* each once"),
        (ABDOMEN, ["pet"], {}, r"modalities must be of ct, mr, flair, t2, each once, got \['pet'\]"),
        (ABDOMEN, ["ct", "ct"], {}, "modalities must be of"),
        (ABDOMEN, "ct", {}, "modalities must be of .* got 'ct'"),
        (ABDOMEN, [], {}, "modalities must be of"),
        (ABDOMEN, ["ct"], {"prompt": "v4"}, "prompt must be one of v1, v2, v3, got 'v4'"),
        (ABDOMEN, ["ct"], {"text": "bert"}, f"text must be one of {', '.join(TEXTS)}, got 'bert'"),
        (ABDOMEN, ["ct"], {"size": 0}, "size must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(classes: list[str], modalities: list[str], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_embeddings(classes, modalities, **options)

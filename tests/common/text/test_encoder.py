"""The text encoder: embedded, frozen and trainable Hugging Face models, and the sentence projection."""

from __future__ import annotations

import copy
import json
import pickle
import warnings

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    CLIPConfig,
    CLIPModel,
    RobertaConfig,
    RobertaModel,
)

from common.text.embedded import pool_layers
from common.text.encoder import SentenceProjection, TextEncoder
from common.text.frozen import FrozenBackbone
from common.text.pretrained import build_model
from common.text.tokenizer import build_tokenizer
from common.text.weights import read_weights

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
BERT = BertConfig(vocab_size=40, max_position_embeddings=32, **SIZES)
VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] lower left right lung upper"


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    """A tiny BERT with pooler, as `transformers` saves it."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    BertModel(BERT).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY.split()) + "\n")
    return folder


@pytest.fixture(scope="module")
def cxr_bert_folder(tmp_path_factory):
    """A tiny CXR-BERT: a masked-language BERT in a `.bin`, whose config asks for code that must not run."""
    folder = tmp_path_factory.mktemp("cxr_bert")
    torch.manual_seed(0)
    model = BertForMaskedLM(BERT)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    remote = {"AutoConfig": "poison.Config", "AutoModel": "poison.Model"}
    fields = BERT.to_dict() | {"model_type": "cxr-bert", "auto_map": remote, "projection_size": 8}
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "poison.py").write_text("raise RuntimeError('remote code ran')\n")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY.split()) + "\n")
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A tiny CLIP, both halves."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    ends = {"bos_token_id": 38, "eos_token_id": 39, "pad_token_id": 39}
    text = SIZES | {"vocab_size": 40, "max_position_embeddings": 20} | ends
    vision = SIZES | {"image_size": 8, "patch_size": 4}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    return folder


@pytest.fixture(params=["bert", "cxr_bert", "clip"])
def folder(request, bert_folder, cxr_bert_folder, clip_folder):
    """Each kind of Hugging Face folder."""
    return {"bert": bert_folder, "cxr_bert": cxr_bert_folder, "clip": clip_folder}[request.param]


def text_of(*lengths: int, tokens: int = 8, vocabulary: int = 40, seed: int = 1) -> torch.Tensor:
    """Random text tensors of given valid lengths, `(B, 2, tokens)`."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, vocabulary - 2, (len(lengths), tokens), generator=generator)
    mask = torch.arange(tokens)[None] < torch.tensor(lengths)[:, None]
    return torch.stack([ids * mask, mask.long()], dim=1)


def count_calls(encoder: TextEncoder) -> list[int]:
    """Record the batch size of every call of a frozen encoder's model from now on."""
    sizes: list[int] = []
    encoder.backbone.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    return sizes


# the embedded encoder


@pytest.fixture
def embedded():
    """A small embedded encoder in evaluation mode."""
    torch.manual_seed(0)
    return TextEncoder("embedded", hidden_size=32, num_layers=2, num_heads=4, max_tokens=12).eval()


@pytest.fixture
def captions():
    """Three captions, one of them empty, `(3, 2, 12)`."""
    tokenizer = build_tokenizer("embedded", max_tokens=12)
    return torch.stack(
        [tokenizer.encode(text) for text in ("lower left lung.", "upper right lung and RUL", None)]
    )


def test_embedded_shapes(embedded, captions):
    features = embedded(captions)
    assert features.tokens.shape == (3, 12, 32)
    assert features.pooled.shape == features.summary.shape == (3, 32)
    assert torch.equal(features.padding_mask, captions[:, 1].bool())
    assert embedded.hidden_size == 32


def test_embedded_padding_content_does_not_matter(embedded, captions):
    other = captions.clone()
    other[:, 0][captions[:, 1] == 0] = 99
    before, after = embedded(captions), embedded(other)
    valid = before.padding_mask
    torch.testing.assert_close(before.tokens[valid], after.tokens[valid], rtol=0, atol=1e-6)
    torch.testing.assert_close(before.pooled, after.pooled, rtol=0, atol=1e-6)


def test_embedded_amount_of_padding_does_not_matter(embedded, captions):
    short, long = embedded(captions[:2, :, :8]), embedded(captions[:2])
    valid = short.padding_mask
    torch.testing.assert_close(short.tokens[valid], long.tokens[:, :8][valid], rtol=0, atol=1e-5)
    torch.testing.assert_close(short.pooled, long.pooled, rtol=0, atol=1e-5)


def test_embedded_sees_padding_when_asked(captions):
    encoder = TextEncoder(hidden_size=32, max_tokens=12, mask_padding=False).eval()
    other = captions.clone()
    other[:, 0][captions[:, 1] == 0] = 99
    assert not torch.allclose(encoder(captions).pooled, encoder(other).pooled, atol=1e-4)


def test_embedded_tells_words_apart(embedded):
    tokenizer = build_tokenizer("embedded", max_tokens=12)
    texts = torch.stack(
        [tokenizer.encode(text) for text in ("lower left lung", "left lower lung", "lower right lung")]
    )
    pooled = embedded(texts).pooled
    assert torch.pdist(pooled).min() > 1e-3


def test_embedded_learns_and_is_saved(embedded, captions):
    embedded.train()
    features = embedded(captions)
    (features.tokens[:, 0].square().sum() + features.pooled.square().sum()).backward()
    assert embedded.trainable
    assert all(parameter.grad is not None for parameter in embedded.parameters())
    twin = TextEncoder("embedded", hidden_size=32, num_layers=2, max_tokens=12).eval()
    twin.load_state_dict(embedded.state_dict())
    torch.testing.assert_close(twin(captions).tokens, embedded.eval()(captions).tokens)


def test_max_tokens_alters_no_weight(embedded):
    shapes = {key: value.shape for key, value in embedded.state_dict().items()}
    longer = TextEncoder("embedded", hidden_size=32, num_layers=2, max_tokens=77)
    assert {key: value.shape for key, value in longer.state_dict().items()} == shapes


def test_embedded_that_does_not_learn_is_saved_and_stays_in_evaluation(captions):
    encoder = TextEncoder("embedded", trainable=False, hidden_size=32, max_tokens=12).train()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.state_dict()
    assert torch.equal(encoder(captions).tokens, encoder(captions).tokens)


def test_empty_prompt(embedded):
    prompt = embedded.empty_prompt(4, "cpu")
    assert prompt.shape == (4, 2, 12)
    assert torch.equal(prompt[3], build_tokenizer("embedded", max_tokens=12).encode(None))
    assert embedded(prompt).padding_mask.sum(dim=1).tolist() == [2] * 4


def test_row_of_padding_alone_is_one_valid_token(embedded, captions):
    features = embedded(torch.zeros_like(captions))
    assert features.padding_mask.sum(dim=1).tolist() == [1, 1, 1]
    assert all(torch.isfinite(part.float()).all() for part in features)


def test_embedded_can_be_traced(embedded, captions):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = embedded

        def forward(self, text):
            return self.encoder(text).pooled

    recorded = traced(Pooled().eval(), captions)
    torch.testing.assert_close(recorded(captions[:2].flip(0)), embedded(captions[:2].flip(0)).pooled)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 30}, "hidden_size must be a multiple of num_heads=4, got 30"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"name": "embeddded"}, "did you mean 'embedded'"),
        ({"name": "zones"}, "must read words, got 'zones'"),
        ({"name": "nobody/nothing-here"}, "no such folder and not in the cache"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(**options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (torch.zeros(2, 12, dtype=torch.int64), r"must be \(B, 2, L\) with L <= 12, got \(2, 12\)"),
        (torch.zeros(1, 2, 13, dtype=torch.int64), r"got \(1, 2, 13\)"),
        (torch.full((1, 2, 12), 99_999), "tokenise with build_tokenizer"),
        (torch.full((1, 2, 12), -1), r"must be in \[0"),
    ],
)
def test_wrong_text_is_named(embedded, text, message):
    with pytest.raises(ValueError, match=message):
        embedded(text)


# the mean over layers


def test_pool_layers_against_a_loop():
    states = tuple(torch.randn(2, 5, 3, dtype=torch.float64) for _ in range(6))
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    for row, length in enumerate((3, 5)):
        means = [
            torch.stack([states[layer][row, token] for token in range(length)]).mean(0) for layer in (1, 2, 5)
        ]
        torch.testing.assert_close(pool_layers(states, mask)[row], torch.stack(means).mean(0))


@pytest.mark.parametrize(("count", "layers"), [(2, (1,)), (3, (1, 2)), (4, (1, 2, 3))])
def test_pool_of_a_shallow_model_takes_each_layer_once(count, layers):
    states = tuple(torch.full((1, 2, 1), float(layer)) for layer in range(count))
    assert pool_layers(states, torch.ones(1, 2).bool()).item() == sum(layers) / len(layers)


# Hugging Face models


def test_frozen_matches_the_plain_model(bert_folder):
    encoder = TextEncoder(str(bert_folder), max_tokens=8)
    plain = BertModel.from_pretrained(bert_folder, local_files_only=True).eval()
    text = text_of(8, 3)
    with torch.no_grad():
        expected = plain(input_ids=text[:, 0], attention_mask=text[:, 1], output_hidden_states=True)
    features = encoder(text)
    torch.testing.assert_close(features.tokens, expected.last_hidden_state)
    torch.testing.assert_close(features.pooled, pool_layers(expected.hidden_states, text[:, 1].bool()))
    torch.testing.assert_close(features.summary, expected.last_hidden_state[:, 0])
    assert encoder.hidden_size == 16


def test_cxr_bert_is_its_bert_without_heads(cxr_bert_folder):
    family, model = build_model(str(cxr_bert_folder))
    saved = torch.load(cxr_bert_folder / "pytorch_model.bin", weights_only=True)
    assert family == "bert"
    for key, value in model.state_dict().items():
        assert torch.equal(value, saved[f"bert.{key}"]), key


def test_clip_is_its_text_half(clip_folder):
    encoder = TextEncoder(str(clip_folder), max_tokens=8)
    whole = CLIPModel.from_pretrained(clip_folder, local_files_only=True).eval()
    text = text_of(8, 4)
    text[0, 0, 7] = text[1, 0, 3] = 39
    text[1, 0, 4:] = 39  # CLIP pads with its end-of-text token
    with torch.no_grad():
        expected = whole.text_model(input_ids=text[:, 0], attention_mask=text[:, 1])
    features = encoder(text)
    torch.testing.assert_close(features.tokens, expected.last_hidden_state)
    torch.testing.assert_close(features.summary, expected.pooler_output)


def test_clip_with_an_image_half_only_in_config(clip_folder, tmp_path):
    (tmp_path / "config.json").write_text((clip_folder / "config.json").read_text())
    assert TextEncoder(str(tmp_path), pretrained=False, max_tokens=8).hidden_size == 16


def test_roberta_has_two_positions_less(tmp_path):
    config = RobertaConfig(vocab_size=40, max_position_embeddings=10, type_vocab_size=1, **SIZES)
    RobertaModel(config).save_pretrained(tmp_path)
    assert TextEncoder(str(tmp_path), max_tokens=8)(text_of(8, 2)).tokens.shape == (2, 8, 16)
    with pytest.raises(ValueError, match="max_tokens must be at most 8"):
        TextEncoder(str(tmp_path), max_tokens=9)


def test_frozen_is_no_part_of_the_network(folder):
    network = nn.Sequential(TextEncoder(str(folder), max_tokens=8)).train()
    assert network.state_dict() == {}
    assert list(network.parameters()) == []
    assert not network[0].training
    assert not network[0].backbone.backbone.training
    assert not any(part.requires_grad for part in network[0](text_of(5)) if part.is_floating_point())


def test_frozen_runs_once_per_distinct_sentence(folder):
    encoder = TextEncoder(str(folder), max_tokens=8)
    sizes = count_calls(encoder)
    text = text_of(8, 5, 3)
    encoder(text[[0, 1, 0, 1, 1]])
    assert sizes == [2]
    encoder(text[[1, 0]])
    assert sizes == [2]
    encoder(text[[2, 0, 2]])
    assert sizes == [2, 1]
    assert len(encoder.backbone) == 3


def test_same_ids_with_another_mask_are_another_sentence(bert_folder):
    encoder = TextEncoder(str(bert_folder), max_tokens=8)
    text = text_of(8)
    shorter = text.clone()
    shorter[:, 1, 5:] = 0
    assert not torch.allclose(encoder(text).pooled, encoder(shorter).pooled)
    assert len(encoder.backbone) == 2


def test_kept_features_equal_fresh_ones(folder):
    kept, fresh = TextEncoder(str(folder), max_tokens=8), TextEncoder(str(folder), max_tokens=8, cache_size=0)
    text = text_of(8, 5, 3, 2)
    for order in ([0, 1], [3, 1, 0, 2, 3], [2, 2, 0]):
        for got, expected in zip(kept(text[order]), fresh(text[order]), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    assert len(fresh.backbone) == 0


def test_cache_is_bounded_and_drops_the_longest_unused(bert_folder):
    encoder = TextEncoder(str(bert_folder), max_tokens=8, cache_size=2)
    sizes = count_calls(encoder)
    text = text_of(8, 5, 3)
    for row in (0, 1, 0, 2, 0, 1):
        encoder(text[[row]])
        assert len(encoder.backbone) <= 2
    assert len(sizes) == 4  # 0, 1, 2 and 1 again
    encoder(text)  # a batch larger than the cache
    assert len(encoder.backbone) == 2


def test_kept_features_cannot_be_changed_from_outside(bert_folder):
    encoder = TextEncoder(str(bert_folder), max_tokens=8)
    text = text_of(8)
    first = encoder(text).tokens.clone()
    encoder(text).tokens.zero_()
    assert torch.equal(encoder(text).tokens, first)


def test_half_precision_features_are_close(bert_folder):
    whole, half = (TextEncoder(str(bert_folder), max_tokens=8, half_precision=flag) for flag in (False, True))
    text = text_of(8, 4)
    assert half(text).tokens.dtype == torch.float32
    torch.testing.assert_close(half(text).tokens, whole(text).tokens, rtol=2e-3, atol=2e-3)


def test_copies_share_the_frozen_model(bert_folder):
    encoder = TextEncoder(str(bert_folder), max_tokens=8)
    encoder(text_of(8))
    assert copy.deepcopy(encoder).backbone is encoder.backbone
    sent = pickle.loads(pickle.dumps(encoder))
    assert len(sent.backbone) == 0
    assert torch.equal(sent(text_of(8)).tokens, encoder(text_of(8)).tokens)


def test_frozen_under_autocast_keeps_full_precision(bert_folder):
    encoder = TextEncoder(str(bert_folder), max_tokens=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = encoder(text_of(8, 3))
    assert torch.equal(features.tokens, TextEncoder(str(bert_folder), max_tokens=8)(text_of(8, 3)).tokens)


def test_gradient_passes_through_what_follows(bert_folder):
    encoder, head = TextEncoder(str(bert_folder), max_tokens=8), nn.Linear(16, 1)
    head(encoder(text_of(8, 3)).pooled).sum().backward()
    assert head.weight.grad is not None


def test_frozen_is_traced_without_its_cache(bert_folder):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = TextEncoder(str(bert_folder), max_tokens=8)

        def forward(self, text):
            return self.encoder(text).pooled

    module = Pooled().eval()
    recorded = traced(module, text_of(8, 3))
    assert len(module.encoder.backbone) == 0
    other = text_of(6, 2, seed=5)
    torch.testing.assert_close(recorded(other), module(other))


def test_trainable_model_learns_and_is_saved(folder):
    encoder = TextEncoder(str(folder), trainable=True, max_tokens=8).train()
    features = encoder(text_of(8, 3))
    (features.tokens.square().sum() + features.pooled.sum()).backward()
    without = [name for name, value in encoder.named_parameters() if value.grad is None]
    assert without == []
    assert encoder.training
    assert all(key.startswith("backbone.model.") for key in encoder.state_dict())
    assert len(encoder.state_dict()) >= len(list(encoder.parameters())) > 0


def test_trainable_starts_from_the_same_weights(folder):
    text = text_of(8, 3)
    frozen, trainable = (
        TextEncoder(str(folder), trainable=flag, max_tokens=8).eval() for flag in (False, True)
    )
    torch.testing.assert_close(frozen(text).tokens, trainable(text).tokens)


@pytest.mark.parametrize("folder_of", ["bert", "cxr_bert"])
def test_empty_prompt_of_a_folder(folder_of, bert_folder, cxr_bert_folder):
    folder = {"bert": bert_folder, "cxr_bert": cxr_bert_folder}[folder_of]
    encoder = TextEncoder(str(folder), max_tokens=8)
    prompt = encoder.empty_prompt(2)
    assert prompt.tolist() == [[[2, 3, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]]] * 2
    assert encoder(prompt).pooled.shape == (2, 16)


# weights


def test_folder_without_weights_needs_permission(bert_folder, tmp_path):
    (tmp_path / "config.json").write_text((bert_folder / "config.json").read_text())
    with pytest.raises(ValueError, match=r"must hold weights .* pretrained=False"):
        TextEncoder(str(tmp_path))
    assert TextEncoder(str(tmp_path), pretrained=False, max_tokens=8)(text_of(4)).tokens.shape == (1, 8, 16)


def traced(module: nn.Module, text: torch.Tensor) -> torch.jit.ScriptModule:
    """Trace a module; tracing is deprecated, yet MONAI's exporters use it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, text, check_trace=False)


class Evil:
    """Unpickling this raises; a safe loader never gets so far."""

    def __reduce__(self):
        return exec, ("raise RuntimeError('pickled code ran')",)


def test_pickled_objects_are_refused(bert_folder, tmp_path):
    (tmp_path / "config.json").write_text((bert_folder / "config.json").read_text())
    torch.save({"embeddings": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled objects are refused"):
        TextEncoder(str(tmp_path))


def test_weights_that_are_no_dictionary_are_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="must hold a dictionary of tensors, got list"):
        read_weights(tmp_path)


def test_weights_cut_short_are_refused(bert_folder, tmp_path):
    whole = (bert_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="could not be read"):
        read_weights(tmp_path)


def test_shards_are_joined(bert_folder, tmp_path):
    model = BertModel.from_pretrained(bert_folder, local_files_only=True)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    text = text_of(8, 3)
    sharded, whole = TextEncoder(str(tmp_path), max_tokens=8), TextEncoder(str(bert_folder), max_tokens=8)
    assert torch.equal(sharded(text).tokens, whole(text).tokens)


def test_first_bert_names_are_known(bert_folder, tmp_path):
    old = {
        f"bert.{key}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for key, value in read_weights(bert_folder).items()
    }
    torch.save(old, tmp_path / "pytorch_model.bin")
    fields = json.loads((bert_folder / "config.json").read_text())
    del fields["model_type"], fields["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    text = text_of(8, 3)
    old_names, new_names = (
        TextEncoder(str(tmp_path), max_tokens=8),
        TextEncoder(str(bert_folder), max_tokens=8),
    )
    assert torch.equal(old_names(text).tokens, new_names(text).tokens)


def test_weights_of_another_model_are_named(bert_folder, clip_folder, tmp_path):
    (tmp_path / "config.json").write_text((bert_folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((clip_folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"this model's, got none for embeddings.word_embeddings.weight"):
        TextEncoder(str(tmp_path))


def test_weights_of_another_size_are_named(bert_folder, tmp_path):
    fields = json.loads((bert_folder / "config.json").read_text()) | {"vocab_size": 41}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    (tmp_path / "model.safetensors").write_bytes((bert_folder / "model.safetensors").read_bytes())
    with pytest.raises(
        ValueError, match=r"got \(40, 16\) instead of \(41, 16\) for embeddings.word_embeddings"
    ):
        TextEncoder(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must hold a config.json"),
        ("{", "must be JSON"),
        ("[]", "must hold a JSON object, got list"),
        ('{"model_type": "gpt2"}', "model_type must be one of bert, .* got 'gpt2'"),
        ("{}", "got None"),
    ],
)
def test_wrong_config_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        TextEncoder(str(tmp_path), pretrained=False)


def test_negative_cache_is_refused():
    with pytest.raises(ValueError, match="cache_size must be at least 0, got -1"):
        FrozenBackbone(nn.Identity(), cache_size=-1)


def test_too_many_tokens_for_a_model(bert_folder):
    with pytest.raises(ValueError, match="max_tokens must be at most 32"):
        TextEncoder(str(bert_folder), max_tokens=33)


def test_real_cxr_bert_config_runs_no_remote_code(real_data):
    with pytest.raises(ValueError, match="must hold weights"):
        TextEncoder(str(real_data / "text" / "cxr_bert"))


@pytest.mark.gpu
def test_frozen_follows_the_device(bert_folder):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    encoder = TextEncoder(str(bert_folder), max_tokens=8)
    text = text_of(8, 3)
    expected = encoder(text)
    features = TextEncoder(str(bert_folder), max_tokens=8)(text.cuda())
    assert features.tokens.is_cuda
    torch.testing.assert_close(features.tokens.cpu(), expected.tokens, rtol=1e-3, atol=1e-3)


# the sentence projection


def test_projection_is_linear_norm_gelu_linear():
    projection = SentenceProjection(16, 8).double()
    pooled = torch.randn(3, 16, dtype=torch.float64)
    first, norm, _, last = projection.layers
    hidden = pooled @ first.weight.T + first.bias
    hidden = (hidden - hidden.mean(-1, keepdim=True)) / (
        hidden.var(-1, keepdim=True, unbiased=False) + norm.eps
    ).sqrt()
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(projection(pooled), hidden @ last.weight.T + last.bias)


def test_projection_parameter_count():
    count = sum(parameter.numel() for parameter in SentenceProjection(768, 784).parameters())
    assert count == 768 * 784 + 784 + 2 * 784 + 784 * 784 + 784

"""C2Seg beyond the contract of all networks: its switches, cases without a sentence, its pretraining, its size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from common.layers import BidirectionalComplementaryAttention, DualAttention, KANLinear, KGate
from common.losses import ClusterContrastiveObjective
from common.networks import UKAN, C2Seg, ContrastiveEncoder, ParameterCounts, count_parameters
from common.text.encoder import TextEncoder
from common.text.tokenizer import build_tokenizer

ENCODER = {"name": "embedded", "hidden_size": 32, "num_layers": 1, "num_heads": 2}
LEFT = "Unilateral pulmonary infection, one infected area, upper left lung."
RIGHT = "Unilateral pulmonary infection, one infected area, lower right lung."


def make(**arguments: object) -> C2Seg:
    torch.manual_seed(0)
    return C2Seg(**{"width": 0.125, "text_encoder": ENCODER, **arguments})


def texts(*sentences: str | None) -> Tensor:
    tokenizer = build_tokenizer("embedded", max_tokens=24)
    return torch.stack([tokenizer.encode(sentence) for sentence in sentences])


FROZEN = {"name": "embedded", "hidden_size": 512, "num_layers": 1, "trainable": False}


class TestSize:
    """Without the text encoder, which is frozen; features of 512 numbers a token, as CLIP's."""

    @pytest.mark.parametrize(
        ("options", "counts"),
        [
            ({}, ParameterCounts(true=61_654_241, thop_equivalent=10_863_841)),
            ({"width": 0.5}, ParameterCounts(true=15_582_577, thop_equivalent=2_884_977)),
            ({"bcam_proj": "linear"}, ParameterCounts(true=45_991_777, thop_equivalent=12_609_377)),
            ({"kgate": "off"}, ParameterCounts(true=44_246_241, thop_equivalent=10_863_841)),
        ],
    )
    def test_counts(self, options: dict, counts: ParameterCounts) -> None:
        assert count_parameters(C2Seg(text_encoder=FROZEN, **options)) == counts

    def test_counts_with_the_projection_of_stage_one(self) -> None:
        network = C2Seg(text_encoder=FROZEN)
        extra = count_parameters(ContrastiveEncoder(network).projection)
        assert extra.true == extra.thop_equivalent == 512 * 512 + 512

    def test_without_fusion_it_is_ukan(self) -> None:
        alone, ukan = make(fusion="off").eval(), UKAN(width=0.125).eval()
        assert alone.text_encoder is None
        shapes = [sorted(tuple(p.shape) for p in network.parameters()) for network in (alone, ukan)]
        assert shapes[0] == shapes[1]
        state = {key.removeprefix("network."): value for key, value in ukan.state_dict().items()}
        alone.load_state_dict(state, strict=True)
        image = torch.randn(2, 3, 64, 32)
        assert_close(alone(image, texts(LEFT, "")), ukan(image), rtol=0, atol=0)


class TestSwitches:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("encoder", value) for value in ("cnn", "kan")),
            *(("fusion", value) for value in ("duala", "off")),
            *(("kgate", value) for value in ("mlp", "off")),
            *(("bcam_proj", "linear"), ("bcam_scales", [4, 2]), ("fl_rescale", "none")),
        ],
    )
    def test_every_value_trains(self, option: str, value: object) -> None:
        network = make(**{option: value}).train()
        logits = network(torch.randn(2, 3, 64, 64), texts(LEFT, ""))["logits"]
        assert logits.shape == (2, 1, 64, 64)
        logits.square().mean().backward()
        assert [key for key, weight in network.named_parameters() if weight.grad is None] == []

    def test_they_choose_the_parts(self) -> None:
        network = make(bcam_scales=[3, 1], kgate="mlp", bcam_proj="linear")
        assert network.scales == (1, 3)
        assert [type(fusion) for fusion in network.fusions] == [BidirectionalComplementaryAttention] * 2
        assert not any(isinstance(part, KANLinear) for part in network.fusions.modules())
        assert any(isinstance(part, KGate) for part in network.fusions.modules())
        assert not any(isinstance(part, KGate) for part in make(kgate="off").modules())
        assert isinstance(make(fusion="duala").fusions[0], DualAttention)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"encoder": "vit"}, "encoder must be one of cnn, hybrid, kan, got 'vit'"),
            ({"fusion": "both"}, "fusion must be one of bcam, duala, off, got 'both'"),
            ({"kgate": True}, "kgate must be one of kan, mlp, off, got True"),
            ({"bcam_proj": "mlp"}, "bcam_proj must be one of kan, linear, got 'mlp'"),
            ({"bcam_scales": [0, 5]}, r"bcam_scales must be different numbers from 0 to 4.* got \[0, 5\]"),
            ({"bcam_scales": [1, 1]}, r"bcam_scales must be different numbers .* got \[1, 1\]"),
            ({"bcam_scales": []}, "set fusion to 'off'"),
            ({"fl_rescale": "N"}, "fl_rescale must be one of none, P, got 'N'"),
        ],
    )
    def test_unknown_values_are_refused(self, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make(**options)


class TestWithoutSentence:
    @pytest.mark.parametrize("mask_padding", [True, False])
    @pytest.mark.parametrize("fusion", ["bcam", "duala"])
    def test_it_is_the_visual_path_alone_whatever_the_tokens(self, fusion: str, mask_padding: bool) -> None:
        network, image = make(fusion=fusion, mask_padding=mask_padding).eval(), torch.randn(2, 3, 64, 64)
        visual = make(fusion="off").eval()
        shared = {key: network.state_dict()[key] for key in visual.state_dict()}
        visual.load_state_dict(shared)
        expected = visual(image)
        blank, nothing = texts("", None), torch.zeros(2, 2, 24, dtype=torch.long)
        other_ids = blank.clone()
        other_ids[:, 0] = torch.arange(24) + 7
        for text in (None, blank, texts("  ", "\n"), nothing, other_ids, blank[:, :, :3]):
            assert torch.equal(network(image, text), expected)

    def test_in_training_every_parameter_still_takes_part(self) -> None:
        network = make().train()
        network(torch.randn(2, 3, 64, 64))["logits"].mean().backward()
        assert [key for key, weight in network.named_parameters() if weight.grad is None] == []

    def test_a_neighbour_with_a_sentence_changes_nothing(self) -> None:
        network, image = make().eval(), torch.randn(2, 3, 64, 64)
        assert_close(network(image, texts("", LEFT))[:1], network(image)[:1], atol=1e-6, rtol=1e-5)
        assert (network(image, texts("", LEFT))[1:] - network(image)[1:]).abs().max() > 1e-4


class TestContrastiveEncoder:
    @pytest.mark.parametrize("sentence", ["summary", "mean"])
    def test_vectors_and_what_learns(self, sentence: str) -> None:
        network = make()
        wrapper = ContrastiveEncoder(network, sentence=sentence).train()
        assert not wrapper.text_encoder.training
        batch = {"sentence": [LEFT, RIGHT]}
        outputs = wrapper(torch.randn(2, 3, 64, 64), texts(LEFT, RIGHT))
        assert {name: tuple(vector.shape) for name, vector in outputs.items()} == {
            "image_vector": (2, 32),
            "sentence_vector": (2, 32),
        }
        assert not outputs["sentence_vector"].requires_grad
        ClusterContrastiveObjective(center_text=True)(outputs, batch)["contrast"].backward()
        learning = {key for key, weight in wrapper.named_parameters() if weight.requires_grad}
        assert {key.partition(".")[0] for key in learning} == {"encoder", "projection"}
        assert [key for key, w in wrapper.named_parameters() if key in learning and w.grad is None] == []
        assert all(weight.requires_grad for weight in network.text_encoder.parameters())
        assert wrapper.encoder is network.encoder

    def test_stage_two_starts_from_it(self, tmp_path: Path) -> None:
        first = make()
        wrapper = ContrastiveEncoder(first)
        with torch.no_grad():
            for weight in first.encoder.parameters():
                weight.add_(0.1)
        torch.save(wrapper.state_dict(), tmp_path / "pretrained.pt")
        torch.manual_seed(1)
        second = C2Seg(width=0.125, text_encoder=ENCODER)
        second.load_pretrained(tmp_path / "pretrained.pt")
        for part in ("encoder", "text_encoder"):
            mine, given = (getattr(network, part).state_dict() for network in (second, first))
            assert all(torch.equal(mine[key], given[key]) for key in given)
        alone = make(fusion="off")
        alone.load_pretrained(tmp_path / "pretrained.pt")
        assert torch.equal(next(alone.encoder.parameters()), next(first.encoder.parameters()))

    def test_another_network_is_refused(self, tmp_path: Path) -> None:
        torch.save(ContrastiveEncoder(make()).state_dict(), tmp_path / "pretrained.pt")
        with pytest.raises(ValueError, match=r"pretrained\.pt must hold the weights of UKANEncoder"):
            make(width=0.25).load_pretrained(tmp_path / "pretrained.pt")
        wider = make(text_encoder={**ENCODER, "hidden_size": 64})
        with pytest.raises(ValueError, match=r"pretrained\.pt must hold the weights of TextEncoder"):
            wider.load_pretrained(tmp_path / "pretrained.pt")

    def test_what_cannot_be_pretrained_is_refused(self) -> None:
        image = torch.zeros(2, 3, 64, 64)
        with pytest.raises(ValueError, match="fusion must not be 'off'"):
            ContrastiveEncoder(make(fusion="off"))(image, texts(LEFT, RIGHT))
        with pytest.raises(ValueError, match="text must be given for a pretraining, got None"):
            ContrastiveEncoder(make())(image, None)
        with pytest.raises(ValueError, match="sentence must be one of summary, mean, got 'last'"):
            ContrastiveEncoder(make(), sentence="last")

    def test_the_text_encoder_stays_in_evaluation(self) -> None:
        network = make(text_encoder=TextEncoder(**ENCODER))
        wrapper = ContrastiveEncoder(network)
        assert not wrapper.train().text_encoder.training
        assert wrapper.encoder.training
        assert isinstance(network.train().text_encoder, nn.Module)
        assert network.text_encoder.training


def test_it_learns_to_tell_sentences_apart() -> None:
    """One picture, two sentences, two masks: only the words can say which."""
    network = make(width=0.25).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    image, text = torch.randn(1, 3, 64, 64).expand(2, -1, -1, -1), texts(LEFT, RIGHT)
    target = torch.zeros(2, 1, 64, 64)
    target[0, :, :, :32] = target[1, :, :, 32:] = 1
    for _ in range(25):
        logits = network(image, text)["logits"]
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
    agreement = ((logits > 0) == target.bool()).float().mean()
    assert agreement > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["bcam", "duala"])
def test_torch_export_gives_the_same_for_any_batch(fusion: str) -> None:
    network = make(fusion=fusion).eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(
        network,
        (torch.randn(2, 3, 64, 64), texts(LEFT, RIGHT)),
        dynamic_shapes={"image": {0: batch}, "text": {0: batch}},
    )
    image, text = torch.randn(3, 3, 64, 64), texts(RIGHT, "", LEFT)
    assert_close(program.module()(image, text), network(image, text), atol=1e-5, rtol=1e-4)

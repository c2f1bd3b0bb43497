"""Tests of the strong view: its parts in order, true sentences, tokens and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.text.findings import read_findings
from common.text.zones import zone_regions
from common.transforms import TokenizeTextd
from common.transforms.mixing import PatchMix
from common.transforms.strong import MirrorAugmentation, StrongAugmentation
from common.transforms.views import StrongView

SIDE = 48
SENTENCES = [
    "Unilateral pulmonary infection, one infected area, upper left lung.",
    "Bilateral pulmonary infection, two infected areas, lower left lung and lower right lung.",
    "Unilateral pulmonary infection, two infected areas, upper lower right lung.",
    "Bilateral pulmonary infection, two infected areas, all left lung and all right lung.",
] * 2
STILL = {"color_probability": 0.0, "blur_probability": 0.0}


def teacher(sentences: list[str], laterality: str = "image") -> torch.Tensor:
    """Probabilities of a teacher that believes the sentences."""
    regions = zone_regions(SIDE, SIDE, laterality=laterality)
    probability = torch.full((len(sentences), 1, SIDE, SIDE), 0.1)
    for index, sentence in enumerate(sentences):
        for zone in read_findings(sentence).zones:
            probability[index, 0][torch.from_numpy(regions[zone])] = 0.9
    return probability


def batch_of(laterality: str = "image") -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.randn(len(SENTENCES), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return image, teacher(SENTENCES, laterality)


@pytest.mark.parametrize("laterality", ["image", "patient"])
def test_labels_and_tokens_belong_to_the_sentences(laterality: str) -> None:
    image, probability = batch_of(laterality)
    view_of = StrongView(pos_aug=False, spc=True, block=8, rate=1.0, laterality=laterality, max_tokens=28)
    tokenize, mixed = TokenizeTextd(max_tokens=28), 0
    for seed in range(10):
        view = view_of(image, probability, SENTENCES, generator=np.random.default_rng(seed))
        assert (
            torch.equal(view.label, (teacher(view.sentences, laterality) > 0.5).float()) or view.mixed.any()
        )
        regions = zone_regions(SIDE, SIDE, laterality=laterality)
        for label, sentence, text in zip(view.label, view.sentences, view.text, strict=True):
            shown = {zone for zone, region in regions.items() if label[0].numpy()[region].any()}
            assert read_findings(sentence).zones == shown
            assert torch.equal(text, tokenize.encode(sentence))
        mixed += int(view.mixed.sum())
    assert mixed > 10
    assert (view.text.shape, view.text.dtype) == ((8, 2, 28), torch.int64)
    assert view.label.shape == (8, 1, SIDE, SIDE)


def test_the_parts_come_in_order() -> None:
    image, probability = batch_of()
    view_of = StrongView(pos_aug=False, mix="probability", spc=True, block=8, rate=0.5)
    view = view_of(image, probability, SENTENCES, generator=np.random.default_rng(4))
    generator = np.random.default_rng(4)
    mirrored = MirrorAugmentation()(image, probability, SENTENCES, generator=generator)
    strong = StrongAugmentation()(mirrored[0], generator=generator)
    batch = PatchMix("probability", block=8, rate=0.5)(strong, mirrored[1], mirrored[2], generator=generator)
    assert torch.equal(view.image, batch.image)
    assert torch.equal(view.label, batch.label)
    assert view.sentences == batch.sentences == mirrored[2]
    assert torch.equal(view.mixed, batch.mixed)
    assert view.mixed.any()


def test_sentences_that_lost_their_place_are_not_mixed_by_position() -> None:
    image, probability = batch_of()
    taken = StrongView(pos_aug_probability=1.0, block=8, rate=1.0)
    for seed in range(5):
        view = taken(image, probability, SENTENCES, generator=np.random.default_rng(seed))
        assert not view.mixed.any()
        assert all(
            "[UNK_POS]" in sentence or "a region of the lung" in sentence for sentence in view.sentences
        )
    half = StrongView(block=8, rate=1.0)
    mixed = unplaced = 0
    for seed in range(20):
        view = half(image, probability, SENTENCES, generator=np.random.default_rng(seed))
        placeless = ["[UNK_POS]" in sentence or "a region" in sentence for sentence in view.sentences]
        assert not (view.mixed & torch.tensor(placeless)).any()
        mixed, unplaced = mixed + int(view.mixed.sum()), unplaced + sum(placeless)
    assert mixed > 10
    assert unplaced / (20 * len(SENTENCES)) == pytest.approx(0.5, abs=0.16)  # four deviations of 160 draws


def test_switches_off_leave_images_and_sentences_as_they_are() -> None:
    image, probability = batch_of()
    view = StrongView(pos_aug=False, mix="off", intensity=STILL)(
        image, probability, SENTENCES, generator=np.random.default_rng(0)
    )
    assert torch.equal(view.image, image)
    assert torch.equal(view.label, (probability >= 0.55).float())
    assert view.sentences == SENTENCES
    assert not view.mixed.any()


def test_words_are_dropped_and_swapped_when_asked() -> None:
    image, probability = batch_of()
    view = StrongView(pos_aug=False, mix="off", text_strong=True)(
        image, probability, SENTENCES, generator=np.random.default_rng(0)
    )
    changed = [after != before for after, before in zip(view.sentences, SENTENCES, strict=True)]
    assert sum(changed) > 0
    assert len(set(view.sentences)) > len(set(SENTENCES))


def test_views_repeat_with_the_seed_and_leave_the_inputs_alone() -> None:
    image, probability = batch_of()
    before = image.clone(), probability.clone()
    view_of = StrongView(spc=True, text_strong=True, block=8, rate=0.5)
    first, second = (
        view_of(MetaTensor(image), MetaTensor(probability), SENTENCES, generator=np.random.default_rng(2))
        for _ in range(2)
    )
    for name in ("image", "label", "text", "mixed"):
        assert torch.equal(getattr(first, name), getattr(second, name))
        assert type(getattr(first, name)) is torch.Tensor
    assert first.sentences == second.sentences
    assert torch.equal(image, before[0])
    assert torch.equal(probability, before[1])


def test_what_a_teacher_made_in_inference_mode_can_be_trained_with() -> None:
    image, _ = batch_of()
    with torch.inference_mode():
        probability = teacher(SENTENCES)
    view = StrongView(block=8, rate=1.0)(image, probability, SENTENCES, generator=np.random.default_rng(0))
    weight = torch.ones(1, requires_grad=True)
    loss = torch.nn.functional.mse_loss(weight * view.image[:, :1], view.label)
    loss.backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix": "patch"}, "mix must be one of off, position, probability, cutmix, got 'patch'"),
        ({"mix": "off", "threshold": 3}, "threshold must be between 0 and 1, got 3"),
        ({"mix": "off", "laterality": "viewer"}, "laterality must be image or patient, got 'viewer'"),
        ({"intensity": {"contrast": 2}}, "contrast must be between 0 and 1, got 2"),
        ({"rate": -1}, "rate must be between 0 and 1, got -1"),
    ],
)
def test_arguments_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StrongView(**options)


def test_batches_are_checked() -> None:
    image, probability = batch_of()
    with pytest.raises(ValueError, match=r"probability must lie in 0\.\.1"):
        StrongView(mix="off")(image, probability * 5, SENTENCES, generator=np.random.default_rng(0))

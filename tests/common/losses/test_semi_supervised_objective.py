"""The objective of Semi-MedRef: equation 5 term by term, its ramp, and the global batch of two processes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from common.losses import (
    SemiSupervisedObjective,
    bce_loss,
    dice_loss,
    image_text_contrastive,
    symmetric_info_nce,
    zone_affinity,
)
from common.text.zone_bits import zone_bits

SENTENCES = [
    "Unilateral pulmonary infection, one infected area, upper left lung.",
    "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung.",
    "Unilateral pulmonary infection, one infected area, all left lung.",
]
OTHERS = [SENTENCES[1], "No pulmonary infection.", SENTENCES[0], SENTENCES[2]]

# Rank r has the first or the last 2 of 4 labelled and of 4 unlabelled cases.
PROCESS = """
import sys
import torch
import torch.distributed as dist
from common.losses import SemiSupervisedObjective

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
outputs, batch = torch.load(f"{folder}/given.pt", weights_only=True)
own = slice(2 * rank, 2 * rank + 2)
for branch in outputs.values():
    for name, tensor in branch.items():
        branch[name] = tensor[own].clone().requires_grad_()
for entries in (batch, batch["unlabelled"]):
    entries.update(label=entries["label"][own], sentence=entries["sentence"][own])
terms = SemiSupervisedObjective(burn_in=0, ramp_epochs=0)(outputs, batch, 1)
sum(terms.values()).backward()
gradients = {branch: {name: t.grad for name, t in given.items()} for branch, given in outputs.items()}
torch.save(({name: float(term) for name, term in terms.items()}, gradients), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step(
    sentences: list[str | None] = SENTENCES, others: list[str | None] = OTHERS
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    known, unknown = len(sentences), len(others)
    outputs = {
        "labelled": {
            "logits": drawn(known, 1, 8, 8, seed=0),
            "image_vector": drawn(known, 5, seed=1),
            "text_vector": drawn(known, 5, seed=2),
        },
        "strong": {"logits": drawn(unknown, 1, 8, 8, seed=3)},
        "weak": {"image_vector": drawn(unknown, 5, seed=4), "text_vector": drawn(unknown, 5, seed=5)},
    }
    batch = {
        "label": (drawn(known, 1, 8, 8, seed=6) > 0).double(),
        "sentence": sentences,
        "unlabelled": {"label": (drawn(unknown, 1, 8, 8, seed=7) > 0).double(), "sentence": others},
    }
    return outputs, batch


def itcl(branch: dict[str, Tensor], sentences: list[str]) -> Tensor:
    affinity = zone_affinity(zone_bits(sentences))
    return image_text_contrastive(branch["image_vector"], branch["text_vector"], affinity)


def test_terms_are_those_of_equation_5() -> None:
    outputs, batch = step()
    terms = SemiSupervisedObjective()(outputs, batch, 11)  # 6 epochs after the burn-in of 5
    scale = 0.3 * 6 / 15
    labelled, strong, pseudo = outputs["labelled"], outputs["strong"]["logits"], batch["unlabelled"]["label"]
    expected = {
        "dice": dice_loss(labelled["logits"], batch["label"]),
        "bce": bce_loss(labelled["logits"], batch["label"]),
        "contrast": 0.02 * itcl(labelled, SENTENCES),
        "unlabelled_dice": scale * dice_loss(strong, pseudo),
        "unlabelled_bce": scale * bce_loss(strong, pseudo),
        "unlabelled_contrast": scale * 0.1 * itcl(outputs["weak"], OTHERS),
    }
    assert list(terms) == list(expected)
    for name, term in terms.items():
        assert term.item() == pytest.approx(expected[name].item(), abs=1e-12), name


def test_clip_takes_every_other_case_as_a_negative() -> None:
    outputs, batch = step()
    terms = SemiSupervisedObjective(contrastive="clip", burn_in=0, ramp_epochs=0, temperature=0.2)(
        outputs, batch, 1
    )
    weak = outputs["weak"]
    expected = symmetric_info_nce(weak["image_vector"], weak["text_vector"], temperature=0.2)
    assert terms["unlabelled_contrast"].item() == pytest.approx(0.3 * 0.1 * expected.item(), abs=1e-12)
    soft = SemiSupervisedObjective(burn_in=0, ramp_epochs=0, temperature=0.2)(outputs, batch, 1)
    assert abs(soft["unlabelled_contrast"] - terms["unlabelled_contrast"]) > 1e-4


def test_off_reads_no_vectors() -> None:
    outputs, batch = step()
    del outputs["weak"], outputs["labelled"]["image_vector"], outputs["labelled"]["text_vector"]
    objective = SemiSupervisedObjective(contrastive="off", kind="dice_only", weights={"dice": 2.0})
    assert not objective.needs_weak
    terms = objective(outputs, batch, 20)
    assert list(terms) == ["dice", "unlabelled_dice"]
    expected = 0.3 * 2 * dice_loss(outputs["strong"]["logits"], batch["unlabelled"]["label"])
    assert_close(terms["unlabelled_dice"], expected)


@pytest.mark.parametrize(
    ("epoch", "share"), [(1, 0), (5, 0), (6, 1 / 15), (12, 7 / 15), (19, 14 / 15), (20, 1), (99, 1)]
)
def test_the_weight_of_the_unlabelled_cases_grows_evenly(epoch: int, share: float) -> None:
    assert SemiSupervisedObjective().unsupervised_weight_at(epoch) == pytest.approx(0.3 * share)


def test_without_a_ramp_the_weight_is_there_after_the_burn_in() -> None:
    objective = SemiSupervisedObjective(burn_in=2, ramp_epochs=0, unsupervised_weight=0.5)
    assert [objective.unsupervised_weight_at(epoch) for epoch in range(1, 5)] == [0, 0, 0.5, 0.5]


def test_the_burn_in_is_the_labelled_cases_and_leaves_no_parameter_without_a_gradient() -> None:
    outputs, batch = step()
    vectors = [outputs["labelled"][name].requires_grad_() for name in ("image_vector", "text_vector")]
    terms = SemiSupervisedObjective()(outputs, batch, 5)
    assert list(terms) == ["dice", "bce", "contrast"]
    assert terms["contrast"] == 0
    terms["contrast"].backward()
    assert all(vector.grad is not None and not vector.grad.any() for vector in vectors)


def test_labels_alone_leave_segmentation_and_their_contrast() -> None:
    outputs, batch = step()
    terms = SemiSupervisedObjective()({"labelled": outputs["labelled"]}, batch, 6)
    assert list(terms) == ["dice", "bce", "contrast"]
    assert_close(terms["contrast"], 0.02 * itcl(outputs["labelled"], SENTENCES))


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({}, True),
        ({"contrastive": "clip"}, True),
        ({"contrastive": "off"}, False),
        ({"unlabelled_weight": 0.0}, False),
        ({"unsupervised_weight": 0.0}, False),
    ],
)
def test_the_weak_view_is_asked_for_where_a_term_reads_it(options: dict, needed: bool) -> None:
    outputs, batch = step()
    objective = SemiSupervisedObjective(**options)
    assert objective.needs_weak is needed
    assert ("unlabelled_contrast" in objective(outputs, batch, 10)) is needed
    del outputs["weak"]
    if needed:
        with pytest.raises(
            ValueError, match=r"outputs must hold 'weak', got the keys \['labelled', 'strong'\]"
        ):
            objective(outputs, batch, 10)
    else:
        objective(outputs, batch, 10)


@pytest.mark.parametrize("contrastive", ["clip", "itcl"])
def test_a_case_without_a_sentence_takes_no_part_in_the_contrast(contrastive: str) -> None:
    objective = SemiSupervisedObjective(contrastive=contrastive, burn_in=0)
    outputs, batch = step([SENTENCES[0], None, SENTENCES[1], " "])
    keep = [0, 2]
    fewer = {name: tensor[keep] for name, tensor in outputs["labelled"].items()}
    expected = objective({"labelled": fewer}, {"label": batch["label"][keep], "sentence": SENTENCES[:2]}, 1)
    assert_close(objective(outputs, batch, 1)["contrast"], expected["contrast"])


def test_no_sentence_at_all_costs_nothing() -> None:
    outputs, batch = step(["", None, ""], [None] * 4)
    vector = outputs["weak"]["image_vector"].requires_grad_()
    terms = SemiSupervisedObjective(burn_in=0)(outputs, batch, 1)
    assert terms["contrast"] == terms["unlabelled_contrast"] == 0
    terms["unlabelled_contrast"].backward()
    assert not vector.grad.any()


def test_polyps_have_their_own_zones() -> None:
    polyps = ["One small polyp located in the top left of the image.", "One polyp located in bottom right."]
    outputs, batch = step(polyps, OTHERS)
    affinity = zone_affinity(zone_bits(polyps, anatomy="polyp"))
    labelled = outputs["labelled"]
    expected = image_text_contrastive(labelled["image_vector"], labelled["text_vector"], affinity)
    terms = SemiSupervisedObjective(burn_in=0, anatomy="polyp")(
        {"labelled": labelled}, {key: batch[key] for key in ("label", "sentence")}, 1
    )
    assert_close(terms["contrast"], 0.02 * expected)


def test_it_stays_in_float32_under_autocast() -> None:
    outputs, batch = step()
    single = {
        branch: {name: tensor.float() for name, tensor in given.items()} for branch, given in outputs.items()
    }
    expected = SemiSupervisedObjective()(single, batch, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = SemiSupervisedObjective()(single, batch, 9)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert_close(term, expected[name], rtol=0, atol=0)


def test_the_loss_reaches_all_that_a_network_put_out() -> None:
    outputs, batch = step()
    for branch in outputs.values():
        for tensor in branch.values():
            tensor.requires_grad_()
    sum(SemiSupervisedObjective()(outputs, batch, 7).values()).backward()
    for branch in outputs.values():
        assert all(tensor.grad is not None and tensor.grad.any() for tensor in branch.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrastive": "ITCL"}, "contrastive must be one of off, clip, itcl, got 'ITCL'"),
        ({"kind": "ce"}, "kind must be one of"),
        ({"weights": {"contrast": 1.0}}, "weights must name terms of this objective"),
        ({"labelled_weight": -1}, "labelled_weight must be finite and not negative, got -1"),
        ({"unlabelled_weight": math.inf}, "unlabelled_weight must be finite and not negative, got inf"),
        ({"unsupervised_weight": math.nan}, "unsupervised_weight must be finite and not negative, got nan"),
        ({"ramp_epochs": -1}, "ramp_epochs must be finite and not negative, got -1"),
        ({"burn_in": -2}, "burn_in must be finite and not negative, got -2"),
        ({"temperature": 0}, "temperature must be positive and finite, got 0"),
        ({"anatomy": "liver"}, "anatomy must be 'auto', 'lung' or 'polyp', got 'liver'"),
    ],
)
def test_wrong_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SemiSupervisedObjective(**options)


def test_what_is_missing_is_named() -> None:
    objective, (outputs, batch) = SemiSupervisedObjective(), step()
    with pytest.raises(ValueError, match=r"outputs must hold 'labelled', got the keys \['strong', 'weak'\]"):
        objective({name: outputs[name] for name in ("strong", "weak")}, batch, 6)
    with pytest.raises(ValueError, match=r"outputs must hold 'image_vector', got the keys \['logits'\]"):
        objective({"labelled": {"logits": outputs["labelled"]["logits"]}}, batch, 6)
    with pytest.raises(
        ValueError, match=r"batch must hold 'unlabelled', got the keys \['label', 'sentence'\]"
    ):
        objective(outputs, {key: batch[key] for key in ("label", "sentence")}, 6)
    with pytest.raises(ValueError, match="sentence must hold 3 entries, one per image, got 2"):
        objective(outputs, batch | {"sentence": SENTENCES[:2]}, 6)
    with pytest.raises(ValueError, match="unlabelled must hold 'sentence'"):
        objective(outputs, batch | {"unlabelled": {"label": batch["unlabelled"]["label"]}}, 6)


def test_it_says_its_settings() -> None:
    assert repr(SemiSupervisedObjective(contrastive="clip")).splitlines()[1].strip() == (
        "contrastive='clip', labelled_weight=0.02, unlabelled_weight=0.1, unsupervised_weight=0.3, "
        "ramp_epochs=15, burn_in=5, temperature=0.07"
    )


@pytest.mark.slow
def test_two_processes_have_the_terms_and_gradients_of_one_with_the_global_batch(tmp_path: Path) -> None:
    """The contrast is the global one in each process; the mean over the processes is what one process has."""
    outputs, batch = step([*SENTENCES, ""], [OTHERS[0], "", *OTHERS[2:]])
    torch.save((outputs, batch), tmp_path / "given.pt")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path), str(rank)], env=environment)
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]

    for branch in outputs.values():
        for tensor in branch.values():
            tensor.requires_grad_()
    terms = SemiSupervisedObjective(burn_in=0, ramp_epochs=0)(outputs, batch, 1)
    sum(terms.values()).backward()
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, term in terms.items():
        assert sum(result[0][name] for result in results) / 2 == pytest.approx(term.item(), abs=1e-12), name
    assert results[0][0]["contrast"] == pytest.approx(terms["contrast"].item(), abs=1e-12)
    for branch, given in outputs.items():
        for name, tensor in given.items():
            gradient = torch.cat([result[1][branch][name] for result in results]) / 2
            assert_close(gradient, tensor.grad, rtol=0, atol=1e-12)

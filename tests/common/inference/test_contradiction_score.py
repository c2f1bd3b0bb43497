"""The contradiction score: its formula by hand, and that what a network is told alone does not move it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from common.inference import Segmenter, contradiction_score, contradiction_scores
from common.inference.contradiction import PEAK, PRIOR, evidence
from common.text import mirror_findings, mirror_sentence, read_findings
from common.text.rewording import drop_position

LEFT = "Unilateral pulmonary infection, one infected area, lower left lung."
RIGHT = "Unilateral pulmonary infection, one infected area, lower right lung."
BOTH = "Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung."
NONE = "No pulmonary infection, zero infected areas."
UNPLACED = "Pulmonary infection, one infected area."
SENTENCES = st.sampled_from([LEFT, RIGHT, BOTH, NONE])


def score(probability: Any, sentence: str, **options: Any) -> float | None:
    return contradiction_score(probability, read_findings(sentence), **options)


def halves(left: float, right: float) -> np.ndarray:
    """100 x 100 pixels, of which each half holds the given sum."""
    values = np.zeros((100, 100))
    values[:, :50], values[:, 50:] = left / 5000, right / 5000
    return values


class Observer:
    """A segmenter whose network draws its image, and more on the side that its sentence names."""

    def __init__(self, *, obedience: float = 5.0, sight: float = 1.0) -> None:
        self.info = SimpleNamespace(anatomy="lung", laterality="image", name="observer")
        self.prepare = SimpleNamespace(steps=[object(), SimpleNamespace(encode=self.encode)])
        self.obedience, self.sight = obedience, sight
        self.calls: list[int] = []

    def encode(self, sentence: str) -> Tensor:
        sides = {side for side, _ in read_findings(sentence).zones}
        return torch.tensor(["left" in sides, "right" in sides]).float()

    def logits(self, cases: Sequence[Mapping[str, Any]]) -> list[Tensor]:
        self.calls.append(len(cases))
        found = []
        for case in cases:
            image, told = case["image"], case["text"]
            half = image.shape[2] // 2
            drawn = self.sight * image[:1].clone() - 4
            drawn[:, :, :half] += self.obedience * told[0]
            drawn[:, :, half:] += self.obedience * told[1]
            found.append(drawn)
        return found


def spot(side: str) -> Tensor:
    image = torch.zeros(3, 12, 16)
    image[:, 8:11, slice(2, 5) if side == "left" else slice(11, 14)] = 6.0
    return image


def case(image: Tensor, sentence: str) -> dict[str, Any]:
    return {"image": image, "sentence": sentence}


class TestFormula:
    def test_of_one_named_side_it_is_the_share_of_the_other(self) -> None:
        assert score(halves(30, 10), LEFT) == pytest.approx((10 + 1) / 42)
        assert score(halves(30, 10), RIGHT) == pytest.approx((30 + 1) / 42)
        prior = PRIOR * 10_000
        assert prior == pytest.approx(2)

    def test_of_two_it_is_how_unequal_they_are(self) -> None:
        assert score(halves(20, 20), BOTH) == pytest.approx(1 - 2 * (20 + 0.5) / 42)
        assert score(halves(40, 0), BOTH) == pytest.approx(1 - 2 * 0.5 / 42)
        assert score(halves(10, 30), BOTH) == score(halves(30, 10), BOTH)

    def test_of_denied_findings_it_is_the_highest_probability(self) -> None:
        values = np.zeros((100, 100))
        values[:5, :10] = 0.8
        assert PEAK * values.size == 100
        assert score(values, NONE) == pytest.approx(0.4)
        assert score(np.ones((4, 4)), NONE) == 1

    @pytest.mark.parametrize("sentence", [LEFT, RIGHT, BOTH])
    def test_without_evidence_it_is_a_half(self, sentence: str) -> None:
        assert score(np.zeros((60, 40)), sentence) == pytest.approx(0.5)
        assert score(np.zeros((60, 40)), NONE) == 0

    def test_a_sentence_of_no_side_has_none(self) -> None:
        assert score(halves(1, 2), UNPLACED) is None
        assert score(halves(1, 2), "Something is there.") is None

    def test_the_patients_left_is_drawn_on_the_right(self) -> None:
        expected = score(halves(30, 10), RIGHT)
        assert score(halves(30, 10), LEFT, laterality="patient") == pytest.approx(expected)

    def test_polyps_have_three_columns(self) -> None:
        values = np.zeros((90, 90))
        values[40, 70] = 1
        prior = PRIOR * values.size
        named = score(values, "One polyp in the right of the image.", anatomy="polyp")
        assert named == pytest.approx(1 - (1 + prior / 2) / (1 + prior))
        assert score(values, "One polyp in the center of the image.", anatomy="polyp") == pytest.approx(
            1 - named
        )

    def test_slices_of_a_volume_are_added_up(self) -> None:
        flat = halves(30, 10)
        assert score(np.stack([flat, flat], axis=2), LEFT) == pytest.approx(score(flat, LEFT))

    @settings(max_examples=60, deadline=None)
    @given(SENTENCES, st.integers(0, 10_000))
    def test_it_is_a_share_and_turns_with_the_sides(self, sentence: str, seed: int) -> None:
        values = np.random.default_rng(seed).random((6, 8)) ** 4
        findings = read_findings(sentence)
        found = contradiction_score(values, findings)
        assert 0 <= found <= 1
        flipped = contradiction_score(values[:, ::-1], mirror_findings(findings))
        assert flipped == pytest.approx(found, abs=1e-12)
        if sentence in (LEFT, RIGHT):
            assert contradiction_score(values, mirror_findings(findings)) == pytest.approx(
                1 - found, abs=1e-12
            )

    def test_other_shapes_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"must be \(rows, columns\[, slices\]\), got \(3,\)"):
            score(np.zeros(3), LEFT)


class TestQuestions:
    @pytest.mark.parametrize("side", ["left", "right"])
    def test_a_network_that_draws_what_it_is_told_is_still_seen_through(self, side: str) -> None:
        observer, image = Observer(obedience=5, sight=1), spot(side)
        told = observer.logits(
            [{"image": image, "text": observer.encode(RIGHT if side == "left" else LEFT)}]
        )[0]
        columns = torch.sigmoid(told)[0].sum(dim=0)
        # what it draws lies where the wrong sentence says
        assert (columns[:8].sum() < columns[8:].sum()) == (side == "left")
        right, wrong = contradiction_scores(observer, [case(image, LEFT), case(image, RIGHT)])
        right, wrong = (right, wrong) if side == "left" else (wrong, right)
        assert right < 0.4 < 0.6 < wrong
        assert right + wrong == pytest.approx(1, abs=1e-6)

    def test_a_network_that_sees_nothing_has_no_evidence(self) -> None:
        scores = contradiction_scores(
            Observer(sight=0), [case(spot("left"), LEFT), case(spot("left"), RIGHT)]
        )
        assert scores == pytest.approx([0.5, 0.5], abs=1e-6)

    @pytest.mark.parametrize("sentence", [LEFT, RIGHT, BOTH])
    def test_the_flipped_image_with_the_mirrored_sentence_has_the_same_score(self, sentence: str) -> None:
        image = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(1)) * 6
        cases = [case(image, sentence), case(image.flip(2), mirror_sentence(sentence))]
        first, second = contradiction_scores(Observer(), cases)
        assert first == pytest.approx(second, abs=1e-6)

    @pytest.mark.parametrize("batch", [1, 2, 8])
    def test_the_evidence_is_the_mean_of_six_answers(self, batch: int) -> None:
        observer = Observer()
        images = [torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(k)) for k in range(3)]
        cases = [case(image, text) for image, text in zip(images, (LEFT, BOTH, RIGHT), strict=True)]
        found = list(evidence(observer, cases, batch=batch))
        assert max(observer.calls) == min(batch, 3)
        for each, logits in zip(cases, found, strict=True):
            text, answers = each["sentence"], []
            for told in (text, mirror_sentence(text), drop_position(text)):
                for image, back in ((each["image"], False), (each["image"].flip(2), True)):
                    answer = observer.logits([{"image": image, "text": observer.encode(told)}])[0][0]
                    answers.append(answer.flip(1) if back else answer)
            torch.testing.assert_close(logits, torch.stack(answers).mean(dim=0), rtol=0, atol=1e-5)

    def test_nothing_is_asked_where_the_sentence_says_nothing(self) -> None:
        observer = Observer()
        cases = [case(spot("left"), text) for text in ("", UNPLACED, "  ")]
        assert contradiction_scores(observer, cases) == [None, None, None]
        assert observer.calls == []
        mixed = contradiction_scores(observer, [cases[0], case(spot("left"), LEFT), cases[1]])
        assert mixed[0] is mixed[2] is None
        assert mixed[1] < 0.5

    def test_impossible_calls_are_refused(self) -> None:
        observer = Observer()
        with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
            contradiction_scores(observer, [], batch=0)
        observer.prepare.steps.pop()
        with pytest.raises(ValueError, match="observer must tokenise sentences"):
            contradiction_scores(observer, [case(spot("left"), LEFT)])


class TestBundles:
    def test_scores_are_those_of_six_calls_with_files(
        self, baseline: Segmenter, images: dict[str, Path], tmp_path: Path
    ) -> None:
        with Image.open(images["gray"]) as picture:
            flipped = tmp_path / "flipped.png"
            Image.fromarray(np.asarray(picture)[:, ::-1]).save(flipped)
        answers = []
        for told in (LEFT, RIGHT, drop_position(LEFT)):
            for file in (images["gray"], flipped):
                logits = baseline.logits([baseline.prepare({"image": file, "text": told})])[0][0]
                answers.append(logits.flip(1) if file == flipped else logits)
        mean = torch.sigmoid(torch.stack(answers).mean(dim=0))
        expected = contradiction_score(mean, read_findings(LEFT))
        prepared = [baseline.prepare({"image": images["gray"], "text": text}) for text in (LEFT, RIGHT, "")]
        left, right, blank = contradiction_scores(baseline, prepared)
        assert left == pytest.approx(
            expected, abs=1e-4
        )  # flipping before and after resizing differs by rounding
        assert right == pytest.approx(1 - left, abs=1e-5)
        assert blank is None

    def test_volumes_have_one_score(self, baseline: Segmenter, images: dict[str, Path]) -> None:
        prepared = baseline.prepare({"image": images["volume"], "text": LEFT})
        (found,) = contradiction_scores(baseline, [prepared])
        assert 0 <= found <= 1

"""How far what a network sees speaks against the sentence that it was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ..metrics.text_mask_consistency import named_sides
from ..text.findings import Findings, read_findings
from ..text.laterality import mirror_sentence
from ..text.rewording import drop_position
from ..text.zones import zone_regions
from .measuring import anatomy_of_case
from .segmenter import Segmenter

FLAGGED = 0.5
PRIOR = 2e-4  # of all pixels
PEAK = 0.01  # of all pixels
_COLUMNS = 1  # of (rows, columns[, slices])


def contradiction_scores(
    segmenter: Segmenter, prepared: Sequence[Mapping[str, Any]], *, batch: int = 8
) -> list[float | None]:
    """Score how far what the network sees in images speaks against their sentences.

    A network that listens to its sentence draws a mask where the sentence says, right or wrong: mask and sentence
    agree either way. So it is asked six times: with the sentence, with its mirror image and without words of place,
    each of the image and of the flipped image with the mirrored sentence. The mean of the logits no longer depends on
    which side was said; see `contradiction_score` for what is read from it.

    Args:
        segmenter: the bundle.
        prepared: cases from its `prepare`.
        batch: pictures that the network sees at a time, >= 1.

    Returns:
        For each case a score in [0, 1], above 0.5 where the evidence is against the sentence; None where the sentence
        names no side and denies nothing.

    Raises:
        ValueError: when `batch` is below 1 or the bundle has no text.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    readings = [_findings(case["sentence"], segmenter.info.anatomy) for case in prepared]
    wanted = [place for place, read in enumerate(readings) if read is not None]
    scores: list[float | None] = [None] * len(prepared)
    maps = evidence(segmenter, [prepared[place] for place in wanted], batch=batch)
    for place, logits in zip(wanted, maps, strict=True):
        findings = readings[place]
        if findings is not None:
            anatomy = anatomy_of_case(segmenter.info.anatomy, findings)
            scores[place] = contradiction_score(
                torch.sigmoid(logits).numpy(),
                findings,
                anatomy=anatomy,
                laterality=segmenter.info.laterality,
            )
    return scores


def contradiction_score(
    probability: Any, findings: Findings, *, anatomy: str = "lung", laterality: str = "image"
) -> float | None:
    r"""Score how far probabilities of foreground speak against what a sentence says.

    With `m_s` the sum of the probabilities on side `s`, `S` the sides that the sentence names and a prior of
    `p` = 0.02 % of the pixels, of which half lies on the named sides,

    .. math::
        c = 1 - |S| \min_{s \in S} \frac{m_s + p / 2 |S|}{\sum_t m_t + p}

    For one named side this is the share of the other ones, for both lungs how unequal they are. Where findings are
    denied it is the mean of the highest 1 % of the probabilities.

    Args:
        probability: `(rows, columns)` or `(rows, columns, slices)` as displayed, in [0, 1], of an observer that does
            not depend on the sides that the sentence names; see `contradiction_scores`.
        findings: of the sentence.
        anatomy: "lung" or "polyp": which sides there are.
        laterality: "image" or "patient": whose left the findings mean.

    Returns:
        The score in [0, 1], 0.5 for no evidence; None where the sentence names no side and denies nothing.

    Raises:
        ValueError: when the shape is another.
    """
    values = np.asarray(probability, dtype=np.float64)
    if values.ndim not in (2, 3) or not values.size:
        raise ValueError(f"probability must be (rows, columns[, slices]), got {values.shape}")
    sides = named_sides(findings)
    if sides is None:
        return None
    if not sides:
        return _peak(values)
    masses = _masses(values, anatomy=anatomy, laterality=laterality)
    prior = PRIOR * values.size
    total = sum(masses.values()) + prior
    least = min((masses.get(side, 0.0) + prior / (2 * len(sides))) / total for side in sides)
    return float(np.clip(1 - len(sides) * least, 0.0, 1.0))


def evidence(
    segmenter: Segmenter, prepared: Sequence[Mapping[str, Any]], *, batch: int = 8
) -> Iterator[Tensor]:
    """Yield the mean logits of every case over the six questions of `contradiction_scores`.

    Args:
        segmenter: the bundle.
        prepared: cases from its `prepare`.
        batch: pictures that the network sees at a time.

    Yields:
        `(h, w[, slices])` float32 on the network's grid.

    Raises:
        ValueError: when the bundle has no text.
    """
    encode = _encoder(segmenter)
    for start in range(0, len(prepared), batch):
        cases = prepared[start : start + batch]
        sums: list[Tensor] = [torch.zeros(())] * len(cases)
        for flipped in (False, True):
            images = [_plain(case["image"]) for case in cases]
            images = [image.flip(_COLUMNS + 1) for image in images] if flipped else images
            for sentences in zip(*(_questions(str(case["sentence"])) for case in cases), strict=True):
                asked = [
                    {"image": image, "text": encode(sentence)}
                    for image, sentence in zip(images, sentences, strict=True)
                ]
                found = [logits[0] for logits in segmenter.logits(asked)]
                found = [logits.flip(_COLUMNS) for logits in found] if flipped else found
                sums = [total + logits for total, logits in zip(sums, found, strict=True)]
        yield from (total / 6 for total in sums)


def _questions(sentence: str) -> tuple[str, str, str]:
    """The same three sentences for a flipped image: its mirrored sentence is there the sentence."""
    return sentence, mirror_sentence(sentence), drop_position(sentence)


def _findings(sentence: str, anatomy: str) -> Findings | None:
    """Read a sentence; None where it is blank, names no side and denies nothing."""
    if not sentence.strip():
        return None
    findings = read_findings(sentence, anatomy=anatomy)
    return None if named_sides(findings) is None else findings


def _masses(values: np.ndarray, *, anatomy: str, laterality: str) -> dict[str, float]:
    flat = values.sum(axis=2) if values.ndim == 3 else values
    masses: dict[str, float] = {}
    for (side, _), region in zone_regions(*flat.shape, anatomy=anatomy, laterality=laterality).items():
        masses[side] = masses.get(side, 0.0) + float(flat[region].sum())
    return masses


def _peak(values: np.ndarray) -> float:
    count = max(1, round(PEAK * values.size))
    return float(np.clip(np.partition(values.ravel(), -count)[-count:].mean(), 0.0, 1.0))


def _encoder(segmenter: Segmenter) -> Any:
    """What turns a sentence into tokens, found by what it does: a packed bundle brings its own class."""
    for step in segmenter.prepare.steps:
        if callable(getattr(step, "encode", None)):
            return step.encode
    raise ValueError(
        f"the preprocessing of {segmenter.info.name} must tokenise sentences (TokenizeTextd), got none that does"
    )


def _plain(values: Tensor) -> Tensor:
    return values.as_tensor() if isinstance(values, MetaTensor) else values

"""The places that sentences name, drawn as Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..text import Findings
from ..text.lexicon import LEVELS
from ..text.zones import LATERALITIES, zones_of

_SIGMA_OF_COLUMN = 0.5  # of a column's width: 0.25 of the box for lungs
_SIGMA_OF_ROW = 0.6  # of a row's height: 0.20 of the box


def directional_prior(
    findings: Sequence[Findings],
    size: Sequence[int],
    *,
    laterality: str = "image",
    boxes: Tensor | None = None,
) -> Tensor:
    r"""Draw the zones that sentences name as the maximum of one Gaussian per zone.

    In coordinates :math:`u, v \in [0, 1]` of the box,

    .. math:: G(u, v) = \max_k \exp\left(-\frac{(u - \mu_k)^2}{2\sigma_u^2} - \frac{(v - \nu_k)^2}{2\sigma_v^2}\right)

    with the centres of the named zones (lungs: two columns, polyps: three; three rows each),
    :math:`\sigma_u` half a column's width and :math:`\sigma_v` 0.6 of a row's height. All phrases of a sentence
    count; one without a level names all three. A sentence without direction gives 1 in the whole box.

    Args:
        findings: one per image, as `read_findings` returns them.
        size: rows H and columns W.
        laterality: what the sentences call left: "image" (the left of the picture) or "patient" (drawn on the
            right).
        boxes: `(B, 4)` first row, last row + 1, first column, last column + 1; None is the whole image.

    Returns:
        `(B, 1, H, W)` in float32, values in [0, 1], 0 outside the box; on the device of `boxes`. A flipped box
        with the mirrored findings gives exactly the flipped prior.

    Raises:
        ValueError: if the laterality is unknown, or the boxes are not one per image.

    Reference:
        Liao et al., SSA, section II.B.

    Differences from the paper:
        It names a composite Gaussian without formula; centres, widths and the maximum are ours.
    """
    if laterality not in LATERALITIES:
        raise ValueError(f"laterality must be 'image' or 'patient', got {laterality!r}.")
    height, width = size
    if boxes is None:
        boxes = torch.tensor([[0, height, 0, width]]).expand(len(findings), 4)
    if boxes.shape != (len(findings), 4):
        raise ValueError(f"boxes must be ({len(findings)}, 4), one per image, got {tuple(boxes.shape)}.")
    zones = _zones(findings, laterality, boxes.device)
    rows, in_rows = _box_coordinates(height, boxes[:, 0], boxes[:, 1])
    columns, in_columns = _box_coordinates(width, boxes[:, 2], boxes[:, 3])
    # (B, K, H) and (B, K, W) -> (B, K, H, W) -> (B, H, W)
    vertical = _gaussian(rows, zones.rows, zones.row_sigma)
    horizontal = _gaussian(columns, zones.columns, zones.column_sigma) * zones.named[:, :, None]
    prior = (vertical[:, :, :, None] * horizontal[:, :, None, :]).amax(dim=1)
    prior = torch.where(zones.named.any(dim=1)[:, None, None], prior, 1.0)
    return (prior * in_rows[:, :, None] * in_columns[:, None, :])[:, None]


class _Zones(NamedTuple):
    """Named zones of a batch, from the centre of the box: `(B, K)`, sigmas `(B, 1)`."""

    rows: Tensor
    columns: Tensor
    named: Tensor
    row_sigma: Tensor
    column_sigma: Tensor


def _zones(findings: Sequence[Findings], laterality: str, device: torch.device) -> _Zones:
    entries, sigmas = [], []
    sign = 1.0 if laterality == "image" else -1.0
    for found in findings:
        sides = list(dict.fromkeys(side for side, _ in zones_of(found.anatomy)))
        places = [
            (_centre(LEVELS.index(level), len(LEVELS)), sign * _centre(sides.index(side), len(sides)), 1.0)
            for side, level in sorted(found.zones)
        ]
        entries.append(places + [(0.0, 0.0, 0.0)] * (len(sides) * len(LEVELS) - len(places)))
        sigmas.append((_SIGMA_OF_ROW / len(LEVELS), _SIGMA_OF_COLUMN / len(sides)))
    most = max((len(places) for places in entries), default=1)
    padded = [places + [(0.0, 0.0, 0.0)] * (most - len(places)) for places in entries]
    zones = torch.tensor(padded, device=device).reshape(len(findings), most, 3)
    sigma = torch.tensor(sigmas, device=device).reshape(len(findings), 2)
    return _Zones(zones[..., 0], zones[..., 1], zones[..., 2] > 0, sigma[:, :1], sigma[:, 1:])


def _centre(index: int, count: int) -> float:
    """Centre of a part, from the middle of the whole: symmetric to the last bit, so that mirrors are exact."""
    return (2 * index + 1 - count) / (2 * count)


def _box_coordinates(length: int, first: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel centres from the middle of the box in units of its length, and which are inside: `(B, length)`."""
    pixels = 2 * torch.arange(length, device=first.device) + 1
    doubled = pixels[None] - (first + end)[:, None]
    extent = (end - first)[:, None]
    return doubled.float() / (2 * extent).float(), doubled.abs() < extent


def _gaussian(coordinates: Tensor, centres: Tensor, sigma: Tensor) -> Tensor:
    distance = (coordinates[:, None, :] - centres[:, :, None]) / sigma[:, :, None]
    return torch.exp(-0.5 * distance**2)

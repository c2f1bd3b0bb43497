"""Healthy chest radiographs drawn from formulas: the background of the chest phantoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Field = np.ndarray


@dataclass(frozen=True)
class ChestAnatomy:
    """Everything that describes one chest, in fractions of the picture, whatever the picture's size.

    `pose` holds rotation (rad), scale, shift right and shift down; `lungs` and `vessels` hold one row of
    parameters for the left half of the picture and one for the right half.
    """

    pose: tuple[float, float, float, float]
    lungs: tuple[dict[str, float], dict[str, float]]
    heart: dict[str, float]
    ribs: dict[str, float]
    clavicle: tuple[float, float]
    vessels: tuple[np.ndarray, np.ndarray]
    body: dict[str, float]
    bubble: tuple[float, float, float, float]
    texture_seed: int


def sample_anatomy(rng: np.random.Generator) -> ChestAnatomy:
    """Draw one chest.

    Args:
        rng: source of randomness; it is advanced.

    Returns:
        The anatomy. The heart lies to the right of the midline of the picture, as in a frontal radiograph.
    """
    uniform = rng.uniform
    dome = uniform(0.80, 0.86)
    lungs = tuple(
        {
            "apex": uniform(0.05, 0.09),
            "dome": dome + lower,
            "lateral": uniform(0.375, 0.415),
            "medial": uniform(0.055, 0.075),
            "curve": uniform(1.6, 2.6),
        }
        for lower in (uniform(-0.025, 0.0), uniform(-0.005, 0.02))
    )
    heart = {
        "u": uniform(0.545, 0.57),
        "v": uniform(0.645, 0.685),
        "a": uniform(0.165, 0.205),
        "b": uniform(0.11, 0.135),
        "tilt": uniform(0.5, 0.85),
        "atrium": uniform(0.085, 0.11),
        "knob": uniform(0.075, 0.095),
        "bright": uniform(0.10, 0.19),
    }
    return ChestAnatomy(
        pose=(uniform(-0.06, 0.06), uniform(0.94, 1.05), uniform(-0.015, 0.015), uniform(-0.015, 0.02)),
        lungs=lungs,
        heart=heart,
        ribs=_sample_ribs(rng),
        clavicle=(uniform(0.15, 0.19), uniform(0.07, 0.13)),
        vessels=(_sample_vessels(rng), _sample_vessels(rng)),
        body=_sample_body(rng),
        bubble=(uniform(0.17, 0.26), uniform(0.03, 0.07), uniform(0.02, 0.04), uniform(0.0, 0.16)),
        texture_seed=int(rng.integers(2**31)),
    )


def _sample_ribs(rng: np.random.Generator) -> dict[str, float]:
    """Spacing, phase, slope and brightness of the ribs."""
    return {
        "spacing": rng.uniform(0.078, 0.092),
        "phase": rng.uniform(0, 1),
        "front": rng.uniform(0, 1),
        "strength": rng.uniform(0.025, 0.06),
        "slope": rng.uniform(0.35, 0.6),
    }


def _sample_body(rng: np.random.Generator) -> dict[str, float]:
    """Outline of the trunk and what lies in front of it."""
    return {
        "width": rng.uniform(0.455, 0.53),
        "shoulder": rng.uniform(0.35, 0.6),
        "abdomen": rng.uniform(0.12, 0.24),
        "depth": rng.uniform(0.34, 0.46),
        "breast": rng.uniform(0.02, 0.06) * (rng.random() < 0.35),
        "spine": rng.uniform(0.02, 0.06),
    }


def _sample_vessels(rng: np.random.Generator) -> np.ndarray:
    """Rows of (angle, bend, width, strength), one a branch; angle 0 points away from the midline."""
    count = 9
    angles = np.linspace(-1.35, 1.35, count) + rng.normal(0, 0.08, count)
    bends = rng.normal(0, 1.2, count)
    widths, strengths = rng.uniform(0.006, 0.012, count), rng.uniform(0.05, 0.13, count)
    return np.stack([angles, bends, widths, strengths], 1).astype(np.float32)


def picture_grid(size: int) -> tuple[Field, Field]:
    """Centres of the pixels as fractions of the picture.

    Args:
        size: rows and columns of the picture.

    Returns:
        x (rightwards) and y (downwards), each `(size, size)`, in (0, 1).
    """
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(centres, centres)
    return x, y


def body_grid(anatomy: ChestAnatomy, size: int) -> tuple[Field, Field]:
    """Body coordinates of every pixel: the picture's grid with the chest's rotation, scale and shift undone.

    Returns:
        u (rightwards, midline at 0.5) and v (downwards), each `(size, size)`.
    """
    x, y = picture_grid(size)
    angle, scale, right, down = anatomy.pose
    dx, dy = (x - 0.5 - right) / scale, (y - 0.5 - down) / scale
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return 0.5 + cos * dx + sin * dy, 0.5 - sin * dx + cos * dy


def step(distance: Field, softness: float) -> Field:
    """A soft step: 0 where `distance` is far below zero, 1 far above, 0.5 at zero."""
    return 1 / (1 + np.exp(-np.clip(distance / softness, -30, 30)))


def _bump(distance: Field, width: float) -> Field:
    return np.exp(-0.5 * (distance / width) ** 2)


def _lung_distance(offset: Field, v: Field, lung: dict[str, float]) -> Field:
    """About the distance inwards from the outline of one lung; `offset` grows away from the midline."""
    t = np.clip((v - lung["apex"]) / (lung["dome"] - lung["apex"]), 0, 1)
    lateral = 0.13 + (lung["lateral"] - 0.13) * (1 - (1 - t**0.7) ** lung["curve"])
    medial = lung["medial"] + 0.07 * np.exp(-t / 0.035)
    base = lung["dome"] + 2.2 * (offset - 0.18) ** 2
    edges = np.minimum(offset - medial, lateral - offset)
    return np.minimum(edges, np.minimum(v - lung["apex"], base - v))


def _heart_distance(u: Field, v: Field, heart: dict[str, float]) -> Field:
    """About the distance inwards from the outline of heart, right atrium and aortic arch, smoothly joined."""
    du, dv = u - heart["u"], v - heart["v"]
    cos, sin = np.cos(heart["tilt"]), np.sin(heart["tilt"])
    along, across = float(cos) * du + float(sin) * dv, -float(sin) * du + float(cos) * dv
    ventricle = (1 - np.sqrt((along / heart["a"]) ** 2 + (across / heart["b"]) ** 2)) * heart["b"]
    atrium = heart["atrium"] - np.hypot(u - 0.49, (v - 0.66) * 0.75)
    arch = heart["knob"] - np.hypot(u - 0.5, (v - 0.29) * 1.3)
    waist = 0.068 + 0.05 * np.clip(v - 0.3, 0, 0.3) - np.abs(u - 0.512)
    trunk = np.minimum(waist, v - 0.24)
    parts = np.stack([ventricle, atrium, arch, trunk]) / 0.012
    return 0.012 * np.log(np.exp(np.clip(parts, -30, 30)).sum(0))


def lung_field(anatomy: ChestAnatomy, size: int) -> Field:
    """How much each pixel belongs to aerated lung that no heart shadow covers.

    Returns:
        `(size, size)` in [0, 1]; 0.5 is the outline.
    """
    u, v = body_grid(anatomy, size)
    left, right = (
        _lung_distance(side * (u - 0.5), v, lung)
        for side, lung in zip((-1.0, 1.0), anatomy.lungs, strict=True)
    )
    heart = _heart_distance(u, v, anatomy.heart)
    return step(np.minimum(np.maximum(left, right), -heart), 0.006)


def render_chest(anatomy: ChestAnatomy, lung: Field) -> Field:
    """Draw the healthy chest, before opacities, exposure and noise.

    Args:
        anatomy: what to draw.
        lung: its `(size, size)` lung field (see `lung_field`).

    Returns:
        `(size, size)` brightness, about 0 (air) to 1 (bone, abdomen), as MONOCHROME2 shows it.
    """
    size = lung.shape[0]
    u, v = body_grid(anatomy, size)
    offset = np.abs(u - 0.5)
    picture = _torso(anatomy, u, v, offset)
    picture -= anatomy.body["depth"] * lung * (0.82 + 0.18 * _bump(offset - 0.24, 0.11))
    picture += _shadows(anatomy, u, v, lung)
    picture += _skeleton(anatomy, offset, v)
    for side, branches in zip((-1.0, 1.0), anatomy.vessels, strict=True):
        picture += lung * _vessel_tree(side * (u - 0.5), v, branches)
    haze = smooth_noise(np.random.default_rng(anatomy.texture_seed), size, 6)
    mottle = smooth_noise(np.random.default_rng(anatomy.texture_seed + 1), size, 28)
    return picture + 0.018 * haze + 0.012 * lung * mottle


def _torso(anatomy: ChestAnatomy, u: Field, v: Field, offset: Field) -> Field:
    """Soft tissue on an unattenuated (black) background, brighter towards the abdomen."""
    body = anatomy.body
    shoulder = body["shoulder"] * np.clip(offset - 0.13, 0, None) ** 1.4 - 0.01
    flank = body["width"] + 0.05 * _bump(v - 0.15, 0.16) - offset
    inside = step(np.minimum(v - shoulder, flank), 0.01)
    diaphragm = np.where(u < 0.5, anatomy.lungs[0]["dome"], anatomy.lungs[1]["dome"])
    tissue = 0.66 + body["abdomen"] * step(v - diaphragm, 0.05) - 0.25 * _bump(body["width"] - offset, 0.05)
    breast = body["breast"] * step(0.17 - np.hypot(offset - 0.26, (v - 0.66) * 0.9), 0.012)
    return inside * (tissue + breast)


def _shadows(anatomy: ChestAnatomy, u: Field, v: Field, lung: Field) -> Field:
    """Heart, great vessels, hila, windpipe and the stomach's air."""
    heart = anatomy.heart
    centre = _heart_distance(u, v, heart)
    picture = 0.6 * heart["bright"] * step(centre - 0.02, 0.025)
    picture += 0.6 * heart["bright"] * _bump(u - 0.505, 0.05) * step(0.95 - v, 0.05)
    for side in (-1.0, 1.0):
        picture += 0.09 * lung * _bump(np.hypot(side * (u - 0.5) - 0.085, (v - 0.44) * 0.6), 0.03)
    windpipe = 0.012 + 0.003 * np.sin(40 * v)
    picture -= 0.1 * step(windpipe - np.abs(u - 0.497), 0.004) * step(0.33 - v, 0.02)
    offset, below, radius, depth = anatomy.bubble
    air = np.hypot(u - 0.5 - offset, (v - anatomy.lungs[1]["dome"] - below) * 1.4)
    return picture - depth * step(radius - air, 0.01)


def _skeleton(anatomy: ChestAnatomy, offset: Field, v: Field) -> Field:
    """Spine, ribs (posterior and fainter anterior arcs) and clavicles."""
    ribs, spine = anatomy.ribs, anatomy.body["spine"]
    picture = spine * _bump(offset, 0.03) * (1 + 0.35 * np.sin(2 * np.pi * v / 0.052))
    cage = step(0.43 - offset, 0.015) * step(offset - 0.035, 0.01) * step(0.93 - v, 0.02)
    back = (v - 1.1 * (offset - 0.1) ** 2 - ribs["slope"] * 0.2 * offset) / ribs["spacing"] + ribs["phase"]
    front = (v + ribs["slope"] * 0.9 * offset) / (ribs["spacing"] * 1.15) + ribs["front"]
    picture += ribs["strength"] * cage * _band(back)
    picture += 0.6 * ribs["strength"] * cage * _band(front) * step(offset - 0.15, 0.04)
    inner, outer = anatomy.clavicle
    line = inner + (outer - inner) * np.clip((offset - 0.04) / 0.34, 0, 1) - 0.05 * (offset - 0.2) ** 2
    length = step(0.4 - offset, 0.01) * step(offset - 0.035, 0.006)
    return picture + 0.09 * length * (step(0.013 - np.abs(v - line), 0.004))


def _band(phase: Field) -> Field:
    """A rib's profile: flat, with brighter rims, once per unit of `phase`."""
    position = np.abs(phase - np.round(phase))
    return step(0.2 - position, 0.035) * (0.7 + 0.5 * _bump(position - 0.16, 0.045))


def _vessel_tree(offset: Field, v: Field, branches: np.ndarray) -> Field:
    """Branching vessels of one lung, fading with the distance from the hilum."""
    du, dv = offset - 0.07, v - 0.45
    radius = np.hypot(du, dv) + 1e-3
    angle = np.arctan2(dv, du)
    picture = np.zeros_like(radius)
    for direction, bend, width, strength in branches:
        across = radius * (angle - direction - bend * radius)
        picture += strength * np.exp(-0.5 * (across / width) ** 2)
    fade = np.exp(-radius / 0.17) * (1 - np.exp(-((radius / 0.05) ** 2)))
    return picture * fade * (offset > 0)


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Field:
    """Noise that varies over about 1 / `cells` of the picture; the same pattern at every size.

    Returns:
        `(size, size)`, mean about 0, standard deviation about 0.7.
    """
    coarse = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    positions = 1 + (np.arange(size, dtype=np.float32) + 0.5) / size * cells
    return _spline_surface(coarse, positions)


def _spline_surface(coarse: Field, positions: Field) -> Field:
    """Cubic B-spline surface over the coarse values, evaluated on a regular grid by two matrix products."""
    knots = np.arange(coarse.shape[0], dtype=np.float32)
    distance = np.abs(positions[:, None] - knots[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    return 1.6 * weights @ coarse @ weights.T

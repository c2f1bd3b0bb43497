"""Checks of what stands in the configurations, without running them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tools.packing.configs import strings

from .checking import Skipped, check
from .opened import OpenedBundle
from .rules import ALLOWED_EXPRESSIONS, EXPRESSION_LENGTH, LINE_BUDGETS, SHARED_KEYS, SWITCHES

NAMES_COMMON = re.compile(r"\bcommon\b")
OVERLAY_KEY = re.compile(r"^\+?(\w+)")


@check("expressions", fix="put the logic into a function and name it as a _target_")
def expressions(bundle: OpenedBundle) -> Iterator[str]:
    """Only expressions of the kinds in `ALLOWED_EXPRESSIONS`, none of which names ``common``."""
    for name, text in _expressions(bundle):
        if not any(re.fullmatch(pattern, text[1:]) for pattern in ALLOWED_EXPRESSIONS):
            yield f"{name}: {text[:EXPRESSION_LENGTH]} is none of the allowed kinds"
        elif NAMES_COMMON.search(text):
            yield f"{name}: {text} names common, which packing does not move"


@check("short expressions", fix="put the logic into a function and name it as a _target_")
def expression_lengths(bundle: OpenedBundle) -> Iterator[str]:
    """An expression that a reader takes in at a glance."""
    for name, text in _expressions(bundle):
        if len(text) > EXPRESSION_LENGTH:
            yield f"{name}: {text[:40]}… has {len(text)} characters, at most {EXPRESSION_LENGTH}"


@check("configurations stand alone", fix="write the value itself: hosts resolve neither of the two")
def foreign_references(bundle: OpenedBundle) -> Iterator[str]:
    """No ``%`` reference to another file and none to the metadata."""
    for name, text in _strings(bundle):
        if text.startswith("%"):
            yield f"{name}: {text} refers to another file"
        elif "@_meta_" in text:
            yield f"{name}: {text} refers to the metadata"


@check("line budgets", fix="move logic into Python, and put short values on one line")
def line_budgets(bundle: OpenedBundle) -> Iterator[str]:
    """Configurations that a person reads in one go."""
    if bundle.packed:
        raise Skipped("overlays are merged into a packed bundle; its source has the budgets")
    for name, budget in LINE_BUDGETS.items():
        lines = len(bundle.text(f"configs/{name}").splitlines())
        if lines > budget:
            yield f"{name} has {lines} lines, at most {budget}"


@check("train and inference agree", fix="give the key the same value in train.json and inference.json")
def shared_keys(bundle: OpenedBundle) -> Iterator[str]:
    """What must be the same so that weights and pictures fit."""
    train, inference = bundle.read("configs/train.json"), bundle.read("configs/inference.json")
    for key in [*SHARED_KEYS, *(switch for switch in SWITCHES if switch in train or switch in inference)]:
        sides = [config.get(key, "nothing") for config in (train, inference)]
        if "nothing" in sides or sides[0] != sides[1]:
            yield f"{key}: {_short(sides[0])} in train.json, {_short(sides[1])} in inference.json"


@check("overlays", fix="correct the key, or add it to train.json or inference.json")
def overlay_keys(bundle: OpenedBundle) -> Iterator[str]:
    """Overlays set keys that the configurations have."""
    known = {*bundle.read("configs/train.json"), *bundle.read("configs/inference.json")}
    for name in bundle.configs():
        if name.startswith("configs/overlays/"):
            for key in bundle.read(name):
                match = OVERLAY_KEY.match(key)
                if match is None or match[1] not in known:
                    yield f"{name}: {key} is in neither configuration"


def _strings(bundle: OpenedBundle) -> Iterator[tuple[str, str]]:
    for name in bundle.configs():
        for text in strings(bundle.read(name)):
            yield name.removeprefix("configs/"), text


def _expressions(bundle: OpenedBundle) -> Iterator[tuple[str, str]]:
    return ((name, text) for name, text in _strings(bundle) if text.startswith("$"))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"

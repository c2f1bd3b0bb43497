"""Checks of a packed bundle: its manifest, and that its code needs nothing of the repository."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.packing import PackError, manifest_differences, repository_only
from tools.packing.configs import strings
from tools.packing.isolated import REPOSITORY

from .checking import Skipped, check
from .opened import OpenedBundle


@check("manifest", fix="pack the bundle again with tools.pack_bundle: never change a packed one by hand")
def manifest(bundle: OpenedBundle) -> Iterator[str]:
    """Every file is there with the size and SHA-256 that the manifest says, and no other."""
    _only_packed(bundle)
    try:
        yield from manifest_differences(bundle.folder)
    except PackError as error:
        yield str(error)


@check(
    "needs no repository", fix="pack the bundle with tools.pack_bundle, which moves common to scripts.common"
)
def standing_alone(bundle: OpenedBundle) -> Iterator[str]:
    """No code and no configuration names a package of the repository."""
    _only_packed(bundle)
    for name in bundle.files():
        if name.endswith(".py"):
            yield from _imports(name, bundle.text(name))
    for name in bundle.configs():
        for text in strings(bundle.read(name)):
            if text.startswith(tuple(f"{package}." for package in REPOSITORY)):
                yield f"{name}: {text}"


@check(
    "card of a packed bundle", fix="pack the bundle with tools.pack_bundle, which writes its commands anew"
)
def card(bundle: OpenedBundle) -> Iterator[str]:
    """No command or link of the model card works in the repository alone."""
    _only_packed(bundle)
    for found in repository_only(bundle.text("docs/README.md")):
        yield f"docs/README.md: {found} works in the repository alone"


def _only_packed(bundle: OpenedBundle) -> None:
    if not bundle.packed:
        raise Skipped("for packed bundles")


def _imports(name: str, code: str) -> Iterator[str]:
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError as error:
        yield f"{name} is no Python: {error.msg}"
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        else:
            continue
        for module in modules:
            if module.partition(".")[0] in REPOSITORY:
                yield f"{name}:{node.lineno} imports {module}"

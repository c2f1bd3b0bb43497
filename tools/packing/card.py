"""The model card of a packed bundle: what only the repository can do is left out, and a block says how to use it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .manifest import WEIGHTS
from .sources import BundleSource, PackError

CARD = "docs/README.md"
USE = "Train and infer"  # the heading below which the packed folder is explained
MARKED = re.compile(r"\n?[ \t]*<!-- repository -->.*?<!-- /repository -->", re.DOTALL)
MARK = re.compile(r"<!-- /?repository -->")
SECTION = re.compile(rf"^## {USE}\n", re.MULTILINE)
ONLY_THERE = re.compile(r"\btools\.[a-z]\w*|\bbundles/\w+|\]\((?:\.\./)+[^)]*\)")
FENCE = "```"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a packed bundle is made of, as far as its card says so.

    Attributes:
        overlays: names of those that were merged.
        laterality: what the packed ``inference.json`` says.
        weights: SHA-256; None: there are none.
        training_data: name and SHA-256 of the list of cases; None: unknown.
        volumes: whether it segments volumes into classes and reads no sentence.
    """

    overlays: tuple[str, ...]
    laterality: str | None
    weights: str | None
    training_data: Mapping[str, str] | None
    volumes: bool = False


def packed_card(source: BundleSource, contents: Contents) -> str:
    """Return the text of ``docs/README.md`` for the packed folder.

    What stands between ``<!-- repository -->`` and ``<!-- /repository -->`` is left out, and the section "Train and
    infer" begins with what the folder is made of and the commands that work in it.

    Args:
        source: the bundle in the repository.
        contents: what is packed.

    Raises:
        PackError: when the card has no such section, a mark has no partner, or a command or link is left that works in
            the repository alone.
    """
    text = MARKED.sub("", (source.folder / CARD).read_text(encoding="utf-8"))
    if MARK.search(text):
        raise PackError(f"{CARD}: every <!-- repository --> must have its <!-- /repository --> behind it")
    if not SECTION.search(text):
        raise PackError(f"{CARD} must have the section '## {USE}'")
    text = SECTION.sub(lambda match: f"{match[0]}\n{_use(source, contents)}", text, count=1)
    text = re.sub(r"\n{3,}", "\n\n", text)
    left = repository_only(text)
    if left:
        raise PackError(
            f"{CARD}: {left[0]} works in the repository alone: put it between <!-- repository --> and "
            "<!-- /repository -->"
        )
    return text


def repository_only(card: str) -> list[str]:
    """Return the commands, folders and links of a card that only the repository has."""
    return [match[0] for match in ONLY_THERE.finditer(card)]


def _use(source: BundleSource, contents: Contents) -> str:
    overlays = ", ".join(contents.overlays)
    merged = f", with the overlays {overlays} merged" if overlays else ""
    paragraphs = [
        f"This folder is version {source.version}{merged}.\n{_weights(contents)}\n"
        f"It calls left what `laterality` says: `{contents.laterality}`.\n"
        "It needs the packages that `configs/metadata.json` names and nothing else: its code is in `scripts`, and\n"
        "`manifest.json` has the SHA-256 of every file.",
        "In this folder, with `DATA` a folder of images with a `dataset.json` (lists `training`, `validation` and "
        f"`test` of\ncases with `image`, `label` and `{'modality' if contents.volumes else 'text'}`):",
        f"{FENCE}bash\n" + "\n".join(_commands(source.folder, volumes=contents.volumes)) + f"\n{FENCE}",
        f"MONAI Label: copy the folder to `model/{source.name}` of the app `monaibundle`.",
    ]
    return "\n\n".join(paragraphs)


def _weights(contents: Contents) -> str:
    if contents.weights is None:
        return "It holds no weights: train it first."
    data = contents.training_data
    trained = (
        "with data that nobody named"
        if data is None
        else f"on {data['name']}, list SHA-256 `{data['sha256']}`"
    )
    return f"Its weights, `{WEIGHTS}` (SHA-256 `{contents.weights}`), were trained {trained}."


def _commands(folder: Path, *, volumes: bool) -> list[str]:
    run, own = "python -m monai.bundle run", "--bundle_root ."
    case = '--image chest.png --text "Infection, lower left lung."'
    lines = [
        f"{run} --config_file configs/inference.json {own} {'--image volume.nii.gz' if volumes else case}",
        f"{run} --config_file configs/train.json {own} --dataset_dir DATA",
        f"{run} --config_file \"['configs/train.json','configs/evaluate.json']\" {own} --dataset_dir DATA",
    ]
    if (folder / "configs" / "multi_gpu_train.json").is_file():
        several = "torchrun --standalone --nproc_per_node 2 -m monai.bundle run"
        files = "\"['configs/train.json','configs/multi_gpu_train.json']\""
        lines.append(f"{several} --config_file {files} {own} --dataset_dir DATA")
    return lines


def contents_of(
    *, overlays: list[str], inference: Mapping[str, Any], weights: Path | None, data: Mapping[str, str] | None
) -> Contents:
    """Return what `packed_card` says of a bundle that is about to be packed."""
    from common.checks import file_sha256  # imported here: `--help` should not load PyTorch

    return Contents(
        overlays=tuple(overlays),
        laterality=inference.get("laterality"),
        weights=None if weights is None else file_sha256(weights),
        training_data=data,
        volumes="plane" in inference,
    )

"""Checks of a bundle's files: which there are, how large, and what none of them may hold."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator

from tools.packing import PackError

from .checking import Skipped, Status, check
from .opened import OpenedBundle
from .rules import EXPORTS, LARGE_FILE, LARGEST_FILE, README_HEADINGS, REQUIRED_FILES, WEIGHTS

TEXT = (".json", ".md", ".txt", ".conf", ".py", ".yaml", ".yml", ".toml", ".csv", ".html")
# A folder of a person or of one machine, in front of a name; the last for drives of Windows.
PERSONAL = re.compile(
    r"(?<![\w.}-])/(?:home|Users|root|work|workspace|mnt|media|scratch|tmp)/\w|\b[A-Za-z]:(?:\\{1,2}|/)Users\b"
)
PICKLED = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin")
PICKLE_PROTOCOLS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


@check("required files", fix="add the file under exactly this name")
def required_files(bundle: OpenedBundle) -> Iterator[str]:
    """Files that the hosts, the model zoo and this project expect."""
    present = set(bundle.files())
    yield from (f"{name} is missing" for name in REQUIRED_FILES if name not in present)


@check("folder name", fix="rename the folder: MONAI Label takes the kind of a model from its name")
def folder_name(bundle: OpenedBundle) -> Iterator[str]:
    """The word by which MONAI Label tells a segmentation."""
    if "segmentation" not in bundle.name:
        yield f"the name must contain 'segmentation', got {bundle.name!r}"


@check(
    "licence and model card", fix="copy LICENSE from the repository; write the heading into docs/README.md"
)
def documents(bundle: OpenedBundle) -> Iterator[str]:
    """Texts that a user looks for in every bundle."""
    if not bundle.text("LICENSE").strip():
        yield "LICENSE is empty"
    if not bundle.text("docs/data_license.txt").strip():
        yield "docs/data_license.txt is empty"
    headings = HEADING.findall(bundle.text("docs/README.md"))
    found = [next((i for i, text in enumerate(headings) if text.startswith(h)), -1) for h in README_HEADINGS]
    missing = [h for h, position in zip(README_HEADINGS, found, strict=True) if position < 0]
    yield from (f"docs/README.md has no heading '## {heading}…'" for heading in missing)
    if not missing and found != sorted(found):
        yield f"the headings of docs/README.md must come in the order {', '.join(README_HEADINGS)}"


@check("file sizes", fix="leave the file out, or host it and name it in large_files.yml")
def largest_files(bundle: OpenedBundle) -> Iterator[str]:
    """The model zoo's limit of one file."""
    yield from _larger(bundle, LARGEST_FILE, spared=())


@check("small files", status=Status.WARNING, fix="the model zoo's hook refuses such a file in a commit")
def large_files(bundle: OpenedBundle) -> Iterator[str]:
    """The limit of the model zoo's commit hook; weights are spared."""
    yield from _larger(bundle, LARGE_FILE, spared=(WEIGHTS, *EXPORTS))


@check("no personal paths", fix="write the path relative to @bundle_root, or a placeholder")
def personal_paths(bundle: OpenedBundle) -> Iterator[str]:
    """Folders of a person or of one machine."""
    for name in bundle.files():
        if not name.endswith(TEXT):
            continue
        for number, line in enumerate(bundle.text(name).splitlines(), 1):
            found = PERSONAL.search(line)
            if found:
                yield f"{name}:{number}: {line[found.start() :].split()[0][:60]}"


@check("JSON layout", fix="indent by four spaces, end with one newline, use \\n, name no key twice")
def json_layout(bundle: OpenedBundle) -> Iterator[str]:
    """The style that the model zoo's hooks ask for, and keys that would silently win."""
    for name, path in bundle.configs().items():
        text = path.read_bytes().decode("utf-8", errors="replace")
        try:
            json.loads(text, object_pairs_hook=_without_twins)
        except ValueError as error:
            yield f"{name}: {error}"
        if not text.endswith("\n") or text.endswith("\n\n") or "\r" in text:
            yield f"{name} must end with one newline, and its lines with \\n"
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip() or (len(line) - len(line.lstrip())) % 4:
                yield f"{name}:{number} is not indented by four spaces, or ends with spaces"
                break


@check(
    "no pickles", fix="remove the file, or store its tensors with torch.save(state_dict) as models/model.pt"
)
def pickles(bundle: OpenedBundle) -> Iterator[str]:
    """Files that run code when they are read; the weights have a check of their own."""
    for name in bundle.files():
        if name not in (WEIGHTS, *EXPORTS) and _holds_pickle(bundle, name):
            yield f"{name} is a pickle"


@check("weights are tensors", fix="torch.save(network.state_dict(), 'models/model.pt')")
def weights_are_tensors(bundle: OpenedBundle) -> Iterator[str]:
    """A raw state dict, which loads without running code."""
    if not (bundle.folder / WEIGHTS).is_file():
        raise Skipped(f"there is no {WEIGHTS}")
    from torch import Tensor

    from common.checks import read_tensors  # imported here: most bundles of a repository have no weights

    try:
        state = read_tensors(bundle.folder / WEIGHTS)
    except ValueError as error:
        yield str(error)
        return
    others = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if others:
        yield f"every entry must be a tensor, but {', '.join(others[:5])} are not"


def _larger(bundle: OpenedBundle, limit: int, *, spared: tuple[str, ...]) -> Iterator[str]:
    for name in bundle.files():
        size = (bundle.folder / name).stat().st_size
        if size > limit and name not in spared:
            yield f"{name} has {size / 2**20:.1f} MiB, at most {limit / 2**20:.0f}"


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    twins = sorted({key for key in keys if keys.count(key) > 1})
    if twins:
        raise PackError(f"the key {', '.join(twins)} stands twice in one object")
    return dict(pairs)


def _holds_pickle(bundle: OpenedBundle, name: str) -> bool:
    path = bundle.folder / name
    if name.endswith(PICKLED):
        return True
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(PICKLE_PROTOCOLS):
        return True
    if not start.startswith(b"PK") or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(entry.endswith(".pkl") for entry in archive.namelist())

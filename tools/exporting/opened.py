"""The network of a bundle and the cases that it is compared on, built from ``inference.json``."""

from __future__ import annotations

import inspect
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pydoc import locate
from typing import TYPE_CHECKING, Any

from tools.packing import BundleSource, merged_configs, read_source
from tools.packing.isolated import SENTENCE, is_of_volumes, write_volume

from .request import ExportError, ExportRequest

if TYPE_CHECKING:
    from torch import Tensor, nn

SENTENCES = {
    "a sentence": SENTENCE,
    "blank": "",
    "longer than max_tokens": " ".join([SENTENCE] * 12),
}
ROWS, COLUMNS = 90, 70  # neither square nor a multiple of 32: preprocessing has something to do
INFERENCE = "configs/inference.json"


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A network that is ready to be exported.

    Attributes:
        source: the bundle.
        overlays: names of those that were merged.
        network: in evaluation mode, on the CPU, maps `(B, C, H, W)` and `(B, 2, L)` to logits.
        image: `(3, C, H, W)` float32, three different pictures, preprocessed.
        text: `(3, 2, L)` int64, the sentences of `SENTENCES`; zeros, L 1, for a network that reads none.
        tokenizer: of the preprocessing; None for a network that reads no sentence.
        config: content of ``inference.json`` with the overlays merged.
        weights: SHA-256 of the weights; None: random ones.
        threshold: of the probabilities, where the mask begins; None where the most probable class counts.
    """

    source: BundleSource
    overlays: tuple[str, ...]
    network: nn.Module
    image: Tensor
    text: Tensor
    tokenizer: Any
    config: Mapping[str, Any]
    weights: str | None
    threshold: float | None

    @property
    def name(self) -> str:
        """Of the exported files, without suffix: bundle, version, overlays."""
        return "-".join([self.source.name, self.source.version, *self.overlays])


@contextmanager
def opened_model(request: ExportRequest) -> Iterator[OpenedModel]:
    """Build the network and its cases; a packed bundle lends its own code until the block ends.

    Raises:
        ExportError: when there are no weights, they do not fit, or a component cannot be built.
        PackError: when bundle or overlays cannot be read.
    """
    source = read_source(request.bundle, bundles=request.bundles)
    overlays = [source.overlay(name) for name in request.overlays]
    config = merged_configs(source, overlays)[INFERENCE]
    weights = _weights(request, source)
    with code_of(source.folder):
        yield _built(source, tuple(overlay.name for overlay in overlays), config, weights)


@contextmanager
def code_of(folder: Path) -> Iterator[None]:
    """Put a packed bundle's folder first on the path, with no other bundle's ``scripts`` imported; else do nothing."""
    if not (folder / "scripts" / "common").is_dir():
        yield
        return
    _forget_scripts()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _forget_scripts()


def _forget_scripts() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
        del sys.modules[name]


def _weights(request: ExportRequest, source: BundleSource) -> Path | None:
    weights = request.weights or source.weights
    if weights is None and not request.random_weights:
        raise ExportError(
            f"{source.name} must have weights to be exported, but has no models/model.pt: train it first, name a "
            "file (--weights), or export it untrained (--random-weights)"
        )
    if weights is not None and not weights.is_file():
        raise ExportError(f"the weights must be a file, got {weights}, which does not exist (--weights)")
    return weights


def _built(
    source: BundleSource, overlays: tuple[str, ...], config: Mapping[str, Any], weights: Path | None
) -> OpenedModel:
    import torch
    from monai.bundle import ConfigParser

    from common.checks import file_sha256, load_weights  # imported here: `--help` should not load PyTorch

    parser = ConfigParser(config=dict(config))
    parser.update({"bundle_root": str(source.folder), "device": "$torch.device('cpu')", "amp": False})
    torch.manual_seed(0)
    network = _component(parser, "network_def").eval()
    preprocessing = _component(parser, "preprocessing")
    if weights is not None:
        try:
            load_weights(network, weights)
        except ValueError as error:
            raise ExportError(f"{error}\nOverlays: {', '.join(overlays) or 'none'} (--overlay)") from error
    image, text = (_slices if is_of_volumes(config) else _cases)(preprocessing)
    return OpenedModel(
        source=source,
        overlays=overlays,
        network=network.requires_grad_(False),
        image=image,
        text=text,
        tokenizer=next((t.tokenizer for t in preprocessing.transforms if hasattr(t, "tokenizer")), None),
        config=config,
        weights=None if weights is None else file_sha256(weights),
        threshold=_threshold(parser),
    )


def _component(parser: Any, name: str) -> Any:
    logging.getLogger("common.networks").setLevel(logging.WARNING)  # that encoders start at random
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parser.get_parsed_content(name)
    except Exception as error:  # whatever a constructor raises, MONAI wraps it
        raise ExportError(f"{name} of inference.json cannot be built: {error.__cause__ or error}") from error


def _threshold(parser: Any) -> float | None:
    """The threshold that the postprocessing is given, else the default of the function that makes it, if any."""
    if "postprocessing#threshold" in parser:
        return float(parser.get_parsed_content("postprocessing#threshold"))
    made_by: Any = locate(str(parser["postprocessing#_target_"]))
    default = inspect.signature(made_by).parameters.get("threshold")
    return None if default is None else float(default.default)


def _slices(preprocessing: Any) -> tuple[Tensor, Tensor]:
    """Three slices of a volume, and a text that is not read."""
    import torch

    with tempfile.TemporaryDirectory(prefix="cases_") as folder:
        case = preprocessing({"id": "case", "image": str(write_volume(Path(folder) / "case.nii.gz"))})
    image = case["image"].as_tensor().to(torch.float32).movedim(-1, 0).repeat(1, 3, 1, 1)
    return image.contiguous(), torch.zeros(len(image), 2, 1, dtype=torch.int64)


def _cases(preprocessing: Any) -> tuple[Tensor, Tensor]:
    import numpy as np
    import torch
    from PIL import Image

    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    images, texts = [], []
    with tempfile.TemporaryDirectory(prefix="cases_") as folder:
        for index, sentence in enumerate(SENTENCES.values()):
            pixels = (128 + 60 * np.sin(rows / (7 + 2 * index)) + 60 * np.cos(columns / (9 - index))).astype(
                np.uint8
            )
            path = Path(folder) / f"{index}.png"
            Image.fromarray(pixels).save(path)
            case = preprocessing({"id": path.stem, "image": str(path), "text": sentence})
            images.append(case["image"].as_tensor().to(torch.float32))
            texts.append(torch.as_tensor(case["text"]).to(torch.int64))
    return torch.stack(images).contiguous(), torch.stack(texts)

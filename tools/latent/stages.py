"""Stage I of a bundle: its cases, its network as initialised and as trained, and the vectors that both give."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn
from tqdm import tqdm

from common.checks import load_weights
from common.data import load_cases
from common.data.dataset import case_error
from common.inference.configuration import BundleRequest, overlay_file, parsed, provide_code
from common.text import translate_sentence

STAGES = ("before", "after")
VECTORS = {"pooled": "GAP(V_4)", "projected": "v = W_v GAP(V_4)"}
_BATCH_SIZE = 16
_NETWORK = "stage_one#network"


@dataclass(frozen=True)
class SeparationRequest:
    """What is to be measured.

    Attributes:
        bundle: folder with ``configs/train.json``.
        weights: what its pretraining wrote.
        dataset_dir: folder of ``dataset.json``.
        overlays: names in the bundle's ``configs/overlays``, or JSON files: those of the pretraining.
        section: "training", "validation" or "test".
        groups: number of most frequent sentences that are measured and drawn by themselves, >= 2.
        seed: of the initialisation; None: the configuration's.
    """

    bundle: Path
    weights: Path
    dataset_dir: Path
    overlays: tuple[str, ...] = ()
    section: str = "test"
    groups: int = 5
    seed: int | None = None


@dataclass(frozen=True)
class StageOne:
    """Both ends of a pretraining and the cases that they are shown.

    Attributes:
        networks: `ContrastiveEncoder` "before" and "after", in evaluation.
        preprocessing: of a case.
        cases: those of the section that have a sentence.
        sentences: of the cases, as the network reads them.
        device: of the networks.
        seed: that the network "before" was initialised with.
        configuration: SHA-256 of the configuration with its overlays.
    """

    networks: Mapping[str, nn.Module]
    preprocessing: Any
    cases: Sequence[Mapping[str, Any]]
    sentences: Sequence[str]
    device: torch.device
    seed: int
    configuration: str

    @property
    def same_start(self) -> bool | None:
        """Whether the text encoder, which stage I leaves alone, is the same in both; None without one.

        With an embedded text encoder this tells whether the weights were trained from this initialisation.
        """
        encoders = [self.networks[stage].text_encoder for stage in STAGES]
        if None in encoders:
            return None
        before, after = (encoder.state_dict() for encoder in encoders)
        return all(torch.equal(before[name], after[name]) for name in before)

    def image_vectors(self) -> dict[str, dict[str, Tensor]]:
        """Compute the vectors of all cases, with a progress bar.

        Returns:
            For each of `VECTORS`, `(n, D)` on the CPU "before" and "after".

        Raises:
            ValueError: when a case cannot be read; it is named.
        """
        rows: dict[str, dict[str, list[Tensor]]] = {kind: {stage: [] for stage in STAGES} for kind in VECTORS}
        starts = range(0, len(self.cases), _BATCH_SIZE)
        with torch.inference_mode():
            for start in tqdm(starts, desc="image vectors", unit="batch", disable=None):
                batch = self.cases[start : start + _BATCH_SIZE]
                images = torch.stack([self._image(case) for case in batch]).to(self.device)
                for stage, network in self.networks.items():
                    pooled = network.encoder(images)[-1].mean(dim=(2, 3))
                    rows["pooled"][stage].append(pooled.cpu())
                    rows["projected"][stage].append(network.projection(pooled).cpu())
        return {kind: {stage: torch.cat(parts) for stage, parts in of.items()} for kind, of in rows.items()}

    def _image(self, case: Mapping[str, Any]) -> Tensor:
        """`(C, H, W)`; the label is not needed and not read."""
        try:
            image = self.preprocessing({key: value for key, value in case.items() if key != "label"})["image"]
        except (RuntimeError, OSError) as error:
            raise case_error(case, error) from error
        return torch.as_tensor(image).as_subclass(Tensor)


def read_stage_one(request: SeparationRequest) -> StageOne:
    """Read the cases and build the networks.

    Raises:
        ValueError: when the bundle has no stage I, a part of it cannot be built, the weights are missing or belong to
            another network, or no case has a sentence.
        FileNotFoundError: when the data set has not been prepared.
    """
    if not request.weights.is_file():
        raise ValueError(
            f"weights must be what stage I wrote (models/pretrained.pt), got {request.weights}, which does not exist: "
            "run 'pretrain' of the bundle first, or name another file with --weights"
        )
    config = _read_configuration(request)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    cases, sentences = _spoken(request, laterality=str(config.get("laterality", "image")))
    bundle = BundleRequest(folder=str(request.bundle.absolute()))
    provide_code(bundle.path)
    places = {"bundle_root": bundle.folder, "dataset_dir": str(request.dataset_dir.absolute())}
    parser = ConfigParser(config={**config, **places})
    with torch.random.fork_rng(devices=[]):
        parsed(parser, "initialize", request=bundle)
        before = parsed(parser, _NETWORK, request=bundle).eval()
    after = copy.deepcopy(before)
    load_weights(after, request.weights)
    return StageOne(
        networks={"before": before, "after": after},
        preprocessing=parsed(parser, "preprocessing", request=bundle),
        cases=cases,
        sentences=sentences,
        device=next(before.parameters()).device,
        seed=int(config["seed"]),
        configuration=digest,
    )


def _read_configuration(request: SeparationRequest) -> dict[str, Any]:
    """``train.json`` with the overlays, merged as MONAI's runner merges them."""
    train = request.bundle / "configs" / "train.json"
    if not train.is_file():
        raise ValueError(
            f"{request.bundle} must be a bundle with configs/train.json, got a folder without: name the folder "
            "that holds configs/"
        )
    files = [train, *(overlay_file(request.bundle, overlay) for overlay in request.overlays)]
    try:
        config: dict[str, Any] = ConfigParser.load_config_files([str(file) for file in files])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{names} of {request.bundle} must be JSON that merges, got: {error}") from error
    if not isinstance(config.get("stage_one"), Mapping) or "network" not in config["stage_one"]:
        raise ValueError(
            f"{train} must have stage_one with a network, got none: the bundle has no contrastive pretraining"
        )
    missing = [key for key in ("seed", "initialize", "preprocessing") if key not in config]
    if missing:
        raise ValueError(f"{train} must have {', '.join(missing)}, got none")
    return config if request.seed is None else {**config, "seed": request.seed}


def _spoken(request: SeparationRequest, *, laterality: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Cases with a sentence, and the sentences in the bundle's laterality."""
    found = load_cases(request.dataset_dir / "dataset.json", request.section)
    cases = [case for case in found if case["text"].strip()]
    if not cases:
        raise ValueError(
            f"{request.section} must hold cases with a sentence, got none among {len(found)}: images are grouped by "
            "their sentences; choose another section with --section"
        )
    sentences = [
        case["text"]
        if case["laterality"] == laterality
        else translate_sentence(case["text"], source=case["laterality"], target=laterality)
        for case in cases
    ]
    return cases, sentences

"""Pictures of where the text looks and where the sentence points, written during an evaluation."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.networks import eval_mode
from PIL import Image
from torch import Tensor, nn

from ..checks import bare
from ..transforms.saving import safe_name

logger = logging.getLogger(__name__)

KINDS = ("attention", "prior", "guide")
_KEYS = ("id", "image", "text", "sentence")


class Maps(Protocol):
    """The maps of a batch, each `(B, 1, H, W)` with values in [0, 1]."""

    @property
    def attention(self) -> Tensor:
        """Where the text looks."""
        ...

    @property
    def prior(self) -> Tensor:
        """Where the sentence points."""
        ...

    @property
    def guide(self) -> Tensor:
        """What the two make together."""
        ...


class Guidance(Protocol):
    """What draws the maps of a batch, such as `common.losses.DirectionalGuidance`."""

    def maps(
        self, attention: Tensor, text_mask: Tensor, sentences: Sequence[str | None], size: Sequence[int]
    ) -> Maps:
        """Draw the maps of a batch."""
        ...


class SaveGuidanceMaps:
    """Write the text attention, the directional prior and their product for the first cases of an evaluation.

    The files are ``maps/<id>.attention.png``, ``.prior.png`` and ``.guide.png``: 8-bit grey, 0 to 255 for 0 to
    1, on the grid of the network's input, which covers the whole image. The name of a case is made fit for a
    file as that of its prediction is. The network runs once more for each of these cases, in full precision
    and as in evaluation. Volumes have no maps. Under `torch.distributed` each rank writes its own cases, which
    together are the first `limit`. What an earlier evaluation left in the folder is removed at the start. A
    case whose maps cannot be written is warned of and passed over.

    Args:
        output_dir: folder in which ``maps`` is made.
        network: has ``text_attention(image, text)``, which returns the attention `(B, heads, L, h, w)` and the
            mask of real tokens `(B, L)`; possibly wrapped by DistributedDataParallel.
        guidance: draws the maps; its laterality must be that of the sentences which the network sees.
        limit: number of cases, over all ranks; 0 writes nothing.

    Raises:
        ValueError: if `limit` is negative; in `attach`, if the network cannot tell where its text looks.
    """

    def __init__(
        self, *, output_dir: str | Path, network: nn.Module, guidance: Guidance, limit: int = 60
    ) -> None:
        if limit < 0:
            raise ValueError(f"limit must be 0 (off) or more, got {limit}")
        self.folder = Path(output_dir) / "maps"
        self.network = network
        self.guidance = guidance
        self.limit = limit
        self._left = 0

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        network = bare(self.network)
        if self.limit and not callable(getattr(network, "text_attention", None)):
            raise ValueError(
                "network must have a method text_attention(image, text), which says where the text looks, got "
                f"{type(network).__name__}, which has none: use a network that has one, or limit=0"
            )
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        """Remove what an earlier evaluation wrote, and find out how many of the cases are this rank's."""
        distributed = dist.is_available() and dist.is_initialized()
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
        if rank == 0:
            for kind in KINDS:
                for path in self.folder.glob(f"*.{kind}.png"):
                    path.unlink()
        if distributed:
            dist.barrier()  # no rank writes before the folder is empty
        self._left = len(range(rank, self.limit, ranks))

    def write(self, engine: Engine) -> None:
        """Write the maps of the cases that `engine` has just processed, as far as the limit goes."""
        for case in _cases(engine.state.batch)[: self._left] if self._left else []:
            self._left -= 1
            image, text = _plain(case["image"]), _plain(case["text"])
            if image.ndim == 3:
                self._write(str(case.get("id", "")), self._maps(image, text, case.get("sentence"), engine))

    def _maps(self, image: Tensor, text: Tensor, sentence: str | None, engine: Engine) -> Maps:
        """Draw the maps of one case, each `(1, 1, H, W)`."""
        device = torch.device(engine.state.device)
        network: Any = bare(self.network)
        with eval_mode(network), torch.autocast(device_type=device.type, enabled=False):
            attention, mask = network.text_attention(image[None].to(device).float(), text[None].to(device))
            return self.guidance.maps(attention, mask, [sentence], tuple(image.shape[1:]))

    def _write(self, name: str, maps: Maps) -> None:
        try:
            for kind in KINDS:
                write_map(getattr(maps, kind)[0, 0], self.folder / f"{safe_name(name)}.{kind}.png")
        except (OSError, ValueError) as error:
            logger.warning("the maps of case %r could not be written: %s", name, error)


def write_map(values: Tensor, path: Path) -> None:
    """Write a map `(H, W)` with values in [0, 1] as an 8-bit grey PNG, under a temporary name, and rename it.

    Raises:
        ValueError: if a value is NaN or infinite.
    """
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{path.name} must hold finite values, got NaN or infinity")
    pixels = (values.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        Image.fromarray(pixels).save(temporary, format="PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _cases(batch: Any) -> list[Mapping[str, Any]]:
    """Return the cases of a batch, which an evaluator has decollated or not."""
    if not isinstance(batch, Mapping):
        return list(batch)
    return [{key: batch[key][k] for key in _KEYS if key in batch} for k in range(len(batch["image"]))]


def _plain(values: Tensor) -> Tensor:
    return values.as_tensor() if isinstance(values, MetaTensor) else values

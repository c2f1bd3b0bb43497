"""Evaluation of a network in one of two domains."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import SupervisedEvaluator, default_prepare_batch
from torch import Tensor, nn

from ..data.domains import DOMAINS, modalities_of
from ..volume_inferer import VolumeInferer


class DomainEvaluator(SupervisedEvaluator):
    """MONAI's evaluator that tells the network each case's modality, and refuses cases of the other domain.

    Images `(B, C, H, W)` and volumes `(B, C, H, W, slices)`, slice by slice, alike.

    Args:
        device: where to evaluate.
        val_data_loader: yields batches with ``image``, ``label``, ``id`` and perhaps ``modality`` and ``domain``.
        network: maps ``(image, text, modality=names)`` to logits in evaluation.
        domain: of the cases, "source", which may choose weights, or "target", which may be reported alone.
        direction: gives their modality to cases that name none, see `common.data.modalities_of`; None: they have the
            network's own.
        inferer: as `VolumeInferer`, which is the default: takes the keyword ``modality``.
        amp: mixed precision, on CUDA devices.
        kwargs: passed to `monai.engines.SupervisedEvaluator`.

    Attributes:
        domain: as given.

    Raises:
        ValueError: if `domain` is unknown; in a run, if a case is of the other one.
    """

    def __init__(
        self,
        *,
        device: str | torch.device,
        val_data_loader: Any,
        network: nn.Module,
        domain: str = "source",
        direction: str | None = None,
        inferer: Any = None,
        amp: bool = False,
        **kwargs: Any,
    ) -> None:
        if domain not in DOMAINS:
            raise ValueError(f"domain must be one of {', '.join(DOMAINS)}, got {domain!r}")
        device = torch.device(device)
        inner = kwargs.pop("prepare_batch", None) or default_prepare_batch
        super().__init__(
            device=device,
            val_data_loader=val_data_loader,
            network=network,
            prepare_batch=inner,
            inferer=self._forward,
            amp=amp and device.type == "cuda",
            **kwargs,
        )
        self.domain = domain
        self._modality = (
            dict(zip(DOMAINS, modalities_of(direction), strict=True))[domain] if direction else None
        )
        self._inferer = VolumeInferer() if inferer is None else inferer

    def run(self, global_epoch: int = 1) -> None:
        """Evaluate all cases; where there are none, nothing happens.

        Args:
            global_epoch: of the training that asks.
        """
        if len(getattr(self.data_loader, "dataset", self.data_loader)):
            super().run(global_epoch)

    def _forward(self, image: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Run the inferer with the modality of each case; what the base calls in place of it."""
        batch = self.state.batch
        strangers = [
            str(case)
            for case, domain in zip(batch.get("id", []), batch.get("domain", []), strict=False)
            if domain != self.domain
        ]
        if strangers:
            raise ValueError(
                f"this evaluation must see {self.domain} cases alone, got {', '.join(strangers)} of the other domain: "
                "what chooses weights is the source's validation, never the target's volumes"
            )
        names = [str(name) for name in batch.get("modality", [])]
        if not names and self._modality:
            names = [self._modality] * len(image)
        if names:
            kwargs["modality"] = names
        return self._inferer(image, network, *args, **kwargs)

"""Text-guided networks by name, for methods that stand on either of them."""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from .guide_decoder import GuideDecoder
from .mmi_unet import MMIUNet

BACKBONES: dict[str, type[nn.Module]] = {"guide_decoder": GuideDecoder, "mmi_unet": MMIUNet}


def build_backbone(name: str, **kwargs: Any) -> nn.Module:
    """Build a text-guided network by name: the switch `backbone` of bundles whose method stands on either.

    Each has the methods `forward(image, text=None)` and `text_attention(image, text=None)` and the attribute
    `token_channels`; in training each returns `logits`, `image_tokens`, `text_tokens` and `text_mask`, and
    `text_attention` where it is built with `return_attention=True`.

    Args:
        name: "guide_decoder" or "mmi_unet".
        **kwargs: arguments of `GuideDecoder` or `MMIUNet`.

    Returns:
        The network.

    Raises:
        ValueError: if there is no network of that name; the message names the nearest.
        TypeError: if the network does not have one of the arguments.
    """
    if name not in BACKBONES:
        near = difflib.get_close_matches(str(name), BACKBONES, n=1, cutoff=0.4)
        hint = f": did you mean {near[0]!r}?" if near else ""
        known = ", ".join(repr(choice) for choice in BACKBONES)
        raise ValueError(f"backbone must be one of {known}, got {name!r}{hint}")
    return BACKBONES[name](**kwargs)

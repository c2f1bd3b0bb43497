"""Overlays merged into a configuration, by MONAI's own rules."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .sources import Overlay, PackError


def merged(config: Mapping[str, Any], overlay: Overlay, *, where: str) -> dict[str, Any]:
    """Return `config` with the keys of `overlay` whose first part it has.

    ``key`` replaces, ``key#sub`` goes one level down, ``+key`` merges objects and lengthens lists, as with
    ``--config_file "['train.json', 'overlay.json']"`` of MONAI's runner.

    Args:
        config: content of ``train.json`` or ``inference.json``; not changed.
        overlay: what is merged.
        where: name of `config` in errors.

    Raises:
        PackError: when a key leads through something that `config` does not have, or merges what cannot be merged.
    """
    from monai.bundle import ConfigParser  # imported here: `--help` should not load MONAI
    from monai.bundle.utils import merge_kv

    parser = ConfigParser(config=copy.deepcopy(dict(config)))
    for key, value in overlay.values.items():
        if key_path(key)[0] not in config:
            continue
        try:
            with warnings.catch_warnings():
                # `+key` of a key that is missing is copied, which is what is wanted here
                warnings.filterwarnings("ignore", message="Can't merge entry", category=UserWarning)
                merge_kv(parser, key, copy.deepcopy(value))
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise PackError(
                f"overlay {overlay.name}: {key} cannot be merged into {where}: {error}"
            ) from error
    result: dict[str, Any] = parser.get()
    return result


def merged_into_evaluate(config: Mapping[str, Any], overlay: Overlay) -> dict[str, Any]:
    """Return ``evaluate.json`` such that the overlay still wins where both set the same key.

    A packed ``evaluate.json`` is merged after what was the overlay, in the repository it is merged before.

    Raises:
        PackError: when one of the two sets a part of what the other sets as a whole.
    """
    result = dict(config)
    for key, value in overlay.values.items():
        path = key_path(key)
        for other in config:
            common = min(len(path), len(key_path(other)))
            if path[:common] != key_path(other)[:common]:
                continue
            if path != key_path(other) or key.startswith("+") or other.startswith("+"):
                raise PackError(
                    f"overlay {overlay.name} sets {key} and evaluate.json sets {other}: one is a part of the other, "
                    "so the order decides. Set the same key in both"
                )
            result[other] = copy.deepcopy(value)
    return result


def check_known(overlays: Sequence[Overlay], *configs: Iterable[str]) -> None:
    """Refuse keys that no configuration has.

    Args:
        overlays: what is merged.
        configs: the top-level keys of the configurations.

    Raises:
        PackError: naming the overlay and its unknown keys.
    """
    known = {key for config in configs for key in config}
    for overlay in overlays:
        strange = [key for key in overlay.values if key_path(key)[0] not in known]
        if strange:
            raise PackError(
                f"overlay {overlay.name} sets {', '.join(strange)}, which neither train.json nor inference.json has"
            )


def key_path(key: str) -> list[str]:
    """Return the parts of ``a#b`` (or ``a::b``), without the ``+`` in front."""
    return key.removeprefix("+").replace("#", "::").split("::")

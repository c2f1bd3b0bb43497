"""Every check of a bundle, the quick ones by reading and the others in one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .checking import Check, Result, failures
from .configs import (
    expression_lengths,
    expressions,
    foreign_references,
    line_budgets,
    overlay_keys,
    shared_keys,
)
from .files import (
    documents,
    folder_name,
    json_layout,
    large_files,
    largest_files,
    personal_paths,
    pickles,
    required_files,
    weights_are_tensors,
)
from .golden import check_may_have_golden, write_golden
from .logging_conf import logging_conf
from .metadata import inputs, outputs, pins, schema_result, structure, version_in_changelog
from .opened import OpenedBundle, opened_bundle
from .packed import card, manifest, standing_alone
from .process import observe
from .running import running_results

STATIC_CHECKS: tuple[Check, ...] = (
    *(required_files, folder_name, documents, json_layout, logging_conf),
    *(structure, version_in_changelog, pins, inputs, outputs),
    *(expressions, expression_lengths, foreign_references, line_budgets, shared_keys, overlay_keys),
    *(largest_files, large_files, personal_paths, pickles, weights_are_tensors),
    *(manifest, standing_alone, card),
)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found about one bundle.

    Attributes:
        bundle: name of its folder.
        packed: whether it is a packed one.
        results: of every check, in order.
    """

    bundle: str
    packed: bool
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not failures(self.results)


def static_results(bundle: OpenedBundle, *, schema: Path | None = None) -> list[Result]:
    """Return the results of all checks that only read files.

    Args:
        bundle: an opened bundle.
        schema: a copy of MONAI's metadata schema; None: the bundle's own, or that check is skipped.

    Raises:
        PackError: when `schema` is named and cannot be read.
    """
    return [*(check(bundle) for check in STATIC_CHECKS), schema_result(bundle, schema)]


def verify_bundle(
    path: Path, *, schema: Path | None = None, golden: bool = False, timeout: float = 900
) -> Verification:
    """Run every check on a bundle's folder, a packed folder or a packed zip.

    The bundle runs from another folder, as a read-only copy, offline and on the CPU.

    Args:
        path: the folder or the zip.
        schema: as in `static_results`.
        golden: write ``models/golden.json`` before it is compared.
        timeout: seconds that the bundle may run.

    Raises:
        PackError: when `path` is no bundle, `schema` cannot be read, or a golden output is asked of a bundle that is
            packed or has no weights.
    """
    with opened_bundle(path) as bundle:
        if golden:
            check_may_have_golden(bundle)
        results = static_results(bundle, schema=schema)
        observed = observe(bundle, timeout=timeout)
        run = observed.facts.get("network run", {}).get("seen")
        if golden and run is not None:
            write_golden(bundle, run["golden"])
        results += running_results(bundle, observed)
        return Verification(bundle=bundle.name, packed=bundle.packed, results=tuple(results))

"""Which cases teach with labels and which without: a data list of two modalities read for domain adaptation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .datalist import load_datalist, read_datalist
from .splits import SECTIONS, draw_subset

MODALITIES = ("ct", "mr", "flair", "t2")
DIRECTIONS = ("mr_to_ct", "ct_to_mr", "flair_to_t2", "t2_to_flair")
DOMAINS = ("source", "target")
DEFAULT_DOMAINS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"training": DOMAINS, "validation": ("source",), "test": ("target",)}
)


def modalities_of(direction: str) -> tuple[str, str]:
    """Return the modality of the source and of the target.

    Args:
        direction: one of `DIRECTIONS`; or one modality twice, such as "ct_to_ct": labels where the test is, the upper
            bound of adaptation.

    Raises:
        ValueError: when it is no such text.
    """
    source, _, target = str(direction).partition("_to_")
    if f"{source}_to_{target}" in DIRECTIONS or (source == target and source in MODALITIES):
        return source, target
    raise ValueError(
        f"direction must be one of {', '.join(DIRECTIONS)}, or a modality twice such as 'ct_to_ct', got {direction!r}"
    )


def load_domain_cases(
    path: str | Path,
    section: str,
    *,
    direction: str,
    domain: str | None = None,
    labels: Mapping[str, str] | None = None,
    fraction: float = 1.0,
    seed: int = 42,
) -> list[dict[str, Any]]:
    """Read the cases of a section for one direction of adaptation.

    The modality of a case decides its domain. Training has source cases with labels and target cases whose labels, if
    the list has any, are taken away; validation has source cases; the test has target cases with labels. Cases of
    other modalities are left out.

    Args:
        path: a ``dataset.json``, or the folder that holds one, whose cases have a "modality" (see `MODALITIES`) and,
            where patients are known, a "subject".
        section: ``training``, ``validation`` or ``test``.
        direction: see `modalities_of`.
        domain: "source" or "target" alone, also where the section has the other one by default (target cases of the
            validation section for an oracle number, say, keep their labels); None: as described.
        labels: names of the classes by number, which the list must have too; None: they are not compared.
        fraction: share of each domain's cases of the section, in (0, 1].
        seed: of that share.

    Returns:
        Cases as `load_datalist` returns them with their "domain", source before target.

    Raises:
        ValueError: when a case has no known modality, contradicts its own "domain", lacks a label that it needs, when
            a patient is in both domains or in two sections of a domain, a domain has no case, or the classes are
            others.
        FileNotFoundError: as `load_datalist`.
    """
    modalities = dict(zip(DOMAINS, modalities_of(direction), strict=True))
    wanted = _wanted(section, domain)
    if section == "training" and domain is None and len(set(modalities.values())) == 1:
        wanted = ("source",)  # the upper bound has no cases without labels
    everything = load_datalist(path, section)
    if labels is not None:
        _check_classes(path, labels)
    _check_patients(path, modalities)
    cases: list[dict[str, Any]] = []
    for name in wanted:
        chosen = _of_domain(everything, name, modalities, where=f"{path}: {section}")
        cases += chosen if fraction == 1.0 else draw_subset(chosen, fraction, seed=seed)
    return [_checked(case, section) for case in cases]


def load_target_cases(
    path: str | Path,
    *,
    direction: str,
    labels: Mapping[str, str] | None = None,
    enabled: bool = True,
    fraction: float = 1.0,
    seed: int = 42,
) -> list[dict[str, Any]]:
    """Read the target cases of a training, without labels; none where there is nothing to adapt to.

    Args:
        path: see `load_domain_cases`. Where no such list is, a host has given the source cases, and there is no target.
        direction: see `modalities_of`; the upper bound, a modality twice, has no target.
        labels: see `load_domain_cases`.
        enabled: False: none, for a training on the source alone.
        fraction: see `load_domain_cases`.
        seed: see `load_domain_cases`.

    Raises:
        ValueError: as `load_domain_cases`.
    """
    source, target = modalities_of(direction)
    if not enabled or source == target or not Path(path).exists():
        return []
    options: dict[str, Any] = {"labels": labels, "fraction": fraction, "seed": seed}
    return load_domain_cases(path, "training", direction=direction, domain="target", **options)


def load_validation_cases(
    path: str | Path, *, direction: str, selection: str, labels: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Read the source cases of the validation section; none where the list has none and nothing is chosen by them.

    Args:
        path: see `load_domain_cases`.
        direction: see `modalities_of`.
        selection: "source_validation", which needs such cases, or "last", which does not.
        labels: see `load_domain_cases`.

    Raises:
        ValueError: as `load_domain_cases`.
    """
    if selection == "last" and Path(path).exists():
        modality, _ = modalities_of(direction)
        cases = read_datalist(path)[1].get("validation", ())
        if not any(case.get("modality") == modality for case in cases):
            return []
    return load_domain_cases(path, "validation", direction=direction, labels=labels)


def load_oracle_cases(path: str | Path, *, direction: str, interval: int) -> list[dict[str, Any]]:
    """Read the labelled target cases of the test for `common.handlers.ReportOracle`; none with the interval 0."""
    return load_domain_cases(path, "test", direction=direction) if interval else []


def _check_classes(path: str | Path, labels: Mapping[str, str]) -> None:
    given = {str(number): str(name) for number, name in read_datalist(path)[1].get("labels", {}).items()}
    wanted = {str(number): str(name) for number, name in labels.items()}
    if given != wanted:
        raise ValueError(
            f"{path} must have the classes {', '.join(wanted.values())}, in this order, got "
            f"{', '.join(given.values()) or 'none'}: choose the overlay of the data, or set labels"
        )


def _wanted(section: str, domain: str | None) -> tuple[str, ...]:
    if section not in SECTIONS:
        raise ValueError(f"section must be one of {', '.join(SECTIONS)}, got {section!r}")
    if domain is None:
        return DEFAULT_DOMAINS[section]
    if domain not in DOMAINS:
        raise ValueError(f"domain must be 'source', 'target' or None, got {domain!r}")
    return (domain,)


def _of_domain(
    cases: Iterable[Mapping[str, Any]], domain: str, modalities: Mapping[str, str], *, where: str
) -> list[dict[str, Any]]:
    chosen = []
    for case in cases:
        modality = case.get("modality")
        if modality not in MODALITIES:
            raise ValueError(
                f"{where}: {case['id']} must have a modality among {', '.join(MODALITIES)}, got {modality!r}"
            )
        if modality != modalities[domain]:
            continue
        if len(set(modalities.values())) == 2 and case.get("domain", domain) != domain:
            raise ValueError(
                f"{where}: {case['id']} must be of the {domain} domain, as its modality {modality} is, "
                f"got {case['domain']!r}: choose another direction"
            )
        chosen.append({**case, "domain": domain})
    if not chosen:
        raise ValueError(f"{where} must have a case of modality {modalities[domain]} ({domain}), got none")
    return chosen


def _checked(case: dict[str, Any], section: str) -> dict[str, Any]:
    if section == "training" and case["domain"] == "target":
        return {key: value for key, value in case.items() if key != "label"}
    if "label" not in case:
        raise ValueError(f"{section}: {case['id']} ({case['domain']}) must have a label, got none")
    return case


def _check_patients(path: str | Path, modalities: Mapping[str, str]) -> None:
    """Refuse a patient who is in both domains of a direction, or in two sections of one."""
    _, document = read_datalist(path)
    homes: dict[str, dict[tuple[str, str], str]] = {}
    for section in SECTIONS:
        for case in document.get(section, ()):
            for domain in DEFAULT_DOMAINS[section]:
                if case.get("subject") and case.get("modality") == modalities[domain]:
                    homes.setdefault(str(case["subject"]), {}).setdefault((section, domain), str(case["id"]))
    for places in homes.values():
        if len(places) > 1 and not _same_training(places, modalities):
            told = ", ".join(f"{name} ({section}, {domain})" for (section, domain), name in places.items())
            raise ValueError(
                f"{path}: a patient must be in one domain and one section, got {told}: prepare the data again, or "
                "leave all but one of them out"
            )


def _same_training(places: Mapping[tuple[str, str], str], modalities: Mapping[str, str]) -> bool:
    """Whether one modality is both domains and the training section is the only place."""
    return len(set(modalities.values())) == 1 and {section for section, _ in places} == {"training"}

"""What was found while a data set was written, and the ``dataset.json`` that says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .sentences import LONG_CAPTION, CaptionReport, LateralityMeasurement
from .source import SECTIONS, SourceData, SourceOptions

FORMAT_VERSION = 1
KEPT_WORDS = 50
SHOWN_GROUPS = 5


@dataclass
class Findings:
    """Counts over a data set, gathered one case at a time.

    Attributes:
        counts: cases written, by section.
        captions: what the captions say.
        laterality: which half of the image "left" is.
        unlabelled: cases without a mask.
        empty_masks: masks without foreground.
        left_out: one sentence for every case left out because another section holds its image.
        repeated: images that repeat another one of their section.
        copied_instead: images copied where a hard link was wanted.
        groups: sections in which each subject occurs.
        warnings: what the user should know.
        document: the content of the ``dataset.json``.
    """

    counts: dict[str, int] = field(default_factory=dict)
    captions: CaptionReport = field(default_factory=CaptionReport)
    laterality: LateralityMeasurement = field(default_factory=LateralityMeasurement)
    unlabelled: int = 0
    empty_masks: int = 0
    left_out: list[str] = field(default_factory=list)
    repeated: int = 0
    copied_instead: int = 0
    groups: dict[str, set[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def shared_groups(self) -> list[str]:
        """Subjects that are in more than one section."""
        return sorted(name for name, sections in self.groups.items() if len(sections) > 1)


def build_document(
    data: SourceData,
    options: SourceOptions,
    found: Findings,
    entries: dict[str, list[dict[str, Any]]],
    *,
    sha256: dict[str, str],
) -> dict[str, Any]:
    """Build the content of ``dataset.json``, and complete the warnings.

    Args:
        data: the source's header.
        options: what the user said, which stands above what was measured.
        found: the counts; its warnings are added to.
        entries: entries of each section.
        sha256: digest of each written file.

    Returns:
        A JSON object.
    """
    decision = found.laterality.decide(data.default_laterality, told=options.laterality)
    found.warnings.extend([decision.doubt] if decision.doubt else [])
    found.warnings.extend(_warnings(found))
    return {
        "name": data.name,
        "format_version": FORMAT_VERSION,
        "modality": data.modality,
        "anatomy": _anatomy(data, options, found),
        "labels": {"0": "background", "1": data.target},
        "laterality": decision.laterality,
        "laterality_evidence": {"source": decision.source, **_evidence(found.laterality)},
        "split": data.split,
        "caption_version": data.caption_version,
        "license": data.license,
        "mask_threshold": data.mask_threshold if options.mask_threshold is None else options.mask_threshold,
        "statistics": _statistics(found),
        "warnings": found.warnings,
        **{section: entries.get(section, []) for section in SECTIONS},
        "sha256": sha256,
    }


def _evidence(measured: LateralityMeasurement) -> dict[str, float | None]:
    return {
        "one_sided_captions": measured.one_sided,
        "left_is_image_left": measured.image_side,
        "share": None if measured.share is None else round(measured.share, 4),
    }


def _anatomy(data: SourceData, options: SourceOptions, found: Findings) -> str:
    anatomy = options.anatomy or data.anatomy
    if anatomy != "auto":
        return anatomy
    votes = found.captions.anatomies
    return votes.most_common(1)[0][0] if votes else "lung"


def _statistics(found: Findings) -> dict[str, Any]:
    captions = found.captions
    return {
        "cases": {section: found.counts.get(section, 0) for section in SECTIONS},
        "distinct_captions": len(captions.distinct),
        "missing_captions": captions.missing,
        "contradictory_captions": captions.contradictory,
        "unknown_words": dict(captions.unknown_words.most_common(KEPT_WORDS)),
        "cases_without_mask": found.unlabelled,
        "empty_masks": found.empty_masks,
        "left_out": len(found.left_out),
        "repeated_images_in_a_section": found.repeated,
        "subjects": len(found.groups),
        "subjects_in_two_sections": found.shared_groups,
    }


def _warnings(found: Findings) -> list[str]:
    warnings = list(found.left_out)
    warnings += [f"the {section} section is empty" for section in SECTIONS if not found.counts.get(section)]
    if found.repeated:
        warnings.append(f"{found.repeated} images repeat another image of their section")
    shared = found.shared_groups
    if shared:
        shown = ", ".join(shared[:SHOWN_GROUPS]) + (" …" if len(shared) > SHOWN_GROUPS else "")
        warnings.append(f"{len(shared)} subjects are in two sections ({shown}): scores will be too good")
    if found.captions.long:
        warnings.append(
            f"{found.captions.long} captions are longer than {LONG_CAPTION} characters: kept whole, though a "
            "model reads their first words only"
        )
    if found.copied_instead:
        warnings.append(f"{found.copied_instead} images could not be hard-linked and were copied")
    return warnings

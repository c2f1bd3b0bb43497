"""Sentences that describe a class in a modality."""

from __future__ import annotations

from collections.abc import Sequence

PROMPTS = {
    "v1": "A photo of a {name}.",
    "v2": "There is a {name} in this {modality}.",
    "v3": "A {modality} of a {name}.",
}
MODALITY_NAMES = {
    "ct": "computed tomography imaging",
    "mr": "magnetic resonance imaging",
    "flair": "fluid attenuated inversion recovery magnetic resonance imaging",
    "t2": "T2 weighted magnetic resonance imaging",
}
BACKGROUND = "background"

_ABBREVIATIONS = {
    "myo": "left ventricular myocardium",
    "lac": "left atrium",
    "lvc": "left ventricle",
    "aa": "ascending aorta",
}


def class_sentences(
    classes: Sequence[str], modalities: Sequence[str], *, prompt: str = "v3"
) -> list[list[str]]:
    """Describe every class in every modality.

    The abbreviations of the cardiac data sets (MYO, LAC, LVC, AA) are written out, underscores are spaces, and
    capitals do not count.

    Args:
        classes: names of the classes, "background" first.
        modalities: of "ct", "mr", "flair" and "t2".
        prompt: "v1" does not say the modality, so that all modalities have the same sentences; "v2" and "v3" do.

    Returns:
        The sentences, by modality and then by class.

    Raises:
        ValueError: if a name is unknown, missing or there twice.

    Reference:
        MulModSeg's three templates, which TCSA-UDA's code uses.

    Differences from the paper:
        "v3" is the default; the paper's own file of sentences is not published. The names of the two brain
        modalities, and of the classes written out, are ours.
    """
    if prompt not in PROMPTS:
        raise ValueError(f"prompt must be one of {', '.join(PROMPTS)}, got {prompt!r}")
    _check_modalities(modalities)
    names = [_spoken(name) for name in classes]
    if len(names) < 2 or names[0] != BACKGROUND or "" in names or len(set(names)) != len(names):
        raise ValueError(
            f"classes must be {BACKGROUND!r} and then at least one name, each once, got {list(classes)}"
        )
    return [
        [PROMPTS[prompt].format(name=name, modality=MODALITY_NAMES[modality]) for name in names]
        for modality in modalities
    ]


def _check_modalities(modalities: Sequence[str]) -> None:
    unknown = [name for name in modalities if name not in MODALITY_NAMES]
    if isinstance(modalities, str) or unknown or not modalities or len(set(modalities)) != len(modalities):
        raise ValueError(f"modalities must be of {', '.join(MODALITY_NAMES)}, each once, got {modalities!r}")


def _spoken(name: str) -> str:
    spoken = " ".join(name.replace("_", " ").lower().split())
    return _ABBREVIATIONS.get(spoken, spoken)

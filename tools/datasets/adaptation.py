"""Readers of the public benchmarks of cross-modality adaptation: their layouts, test patients and label values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .layouts import walk_folders
from .source import SourceError, SourceOptions, require_inside
from .volumes import ABDOMEN, CARDIAC, TUMOUR, VolumeCase, VolumeSource

MMWHS_TEST = {"ct": (1003, 1008, 1014, 1019), "mr": (1007, 1009, 1018, 1019)}
MMWHS_VALUES = {205: 1, 420: 2, 500: 3, 820: 4, 421: 2, 550: 0, 600: 0, 850: 0}
CHAOS_TEST = (1, 13, 32, 38)
BTCV_TEST = (1, 9, 30, 32, 33, 39)
# of 8-bit pictures: the ranges that CHAOS names around 63, 126, 189 and 252
CHAOS_VALUES = {
    **dict.fromkeys(range(55, 71), 1),
    **dict.fromkeys(range(110, 136), 2),
    **dict.fromkeys(range(175, 201), 3),
    **dict.fromkeys(range(240, 256), 4),
}
BTCV_VALUES = {6: 1, 2: 2, 3: 3, 1: 4}
VALIDATION = 0.1
TEST = 0.2
NIFTI = (".nii.gz", ".nii")


def read_mmwhs(source: Path, options: SourceOptions) -> VolumeSource:
    """Read MM-WHS: ``ct_train_1001_image.nii.gz`` and ``…_label.nii.gz``, ``mr_train_…`` alike, at any depth.

    Args:
        source: folder of the data set.
        options: what the user said; the seed of the validation.

    Returns:
        20 + 20 unpaired patients: test CT 1003, 1008, 1014, 1019 and MR 1007, 1009, 1018, 1019; of the others a tenth
        of each modality at random for validation.

    Raises:
        SourceError: when nothing is found, an image has no label, or a test patient is missing.
    """
    found: dict[str, list[tuple[int, VolumeCase]]] = {"ct": [], "mr": []}
    for file in _files(source):
        match = re.fullmatch(r"(ct|mr)_train_(\d+)_image", _stem(file), flags=re.IGNORECASE)
        if match:
            modality, number = match[1].lower(), int(match[2])
            label = _beside(file, f"{match[1]}_train_{match[2]}_label")
            name = f"{modality}_{number}"
            found[modality].append((number, VolumeCase(name, file, modality, name, label, str(file))))
    _check_found(
        found, source, "ct_train_1001_image.nii.gz and ct_train_1001_label.nii.gz, and mr_train_… alike"
    )
    return VolumeSource(
        name="mmwhs",
        anatomy="heart",
        labels=CARDIAC,
        values={"*": MMWHS_VALUES},
        sections=_sections(found, MMWHS_TEST, seed=options.seed, source=source),
        protocol="test CT 1003, 1008, 1014, 1019, MR 1007, 1009, 1018, 1019 (PnP-AdaNet, SIFA); whole volumes; "
        + _validation(options.seed),
        license="MM-WHS: terms of its authors, for research",
    )


def read_chaos_btcv(source: Path, options: SourceOptions) -> VolumeSource:
    """Read CHAOS (T2-SPIR) as MR and BTCV as CT from one folder.

    Args:
        source: folder with, at any depth, ``<number>/T2SPIR/DICOM_anon`` and ``Ground`` of CHAOS, and
            ``img0001.nii.gz`` and ``label0001.nii.gz`` of BTCV.
        options: what the user said; the seed of the validation.

    Returns:
        Test MR 1, 13, 32, 38 and CT 1, 9, 30, 32, 33, 39; of the others a tenth of each modality at random for
        validation.

    Raises:
        SourceError: as `read_mmwhs`.
    """
    found: dict[str, list[tuple[int, VolumeCase]]] = {"ct": [], "mr": []}
    for folder in walk_folders(source):
        if folder.name.upper() == "T2SPIR" and folder.parent.name.isdigit():
            case = _chaos_case(folder, source)
            found["mr"].append((int(folder.parent.name), case))
    for file in _files(source):
        match = re.fullmatch(r"img(\d{4})(-avg)?", _stem(file), flags=re.IGNORECASE)
        if match:
            number, name = int(match[1]), f"btcv_{match[1]}"
            label = _label_of_btcv(file, f"label{match[1]}{match[2] or ''}")
            found["ct"].append((number, VolumeCase(name, file, "ct", name, label, str(file))))
    _check_found(
        found,
        source,
        "CHAOS's 1/T2SPIR/DICOM_anon with Ground, and BTCV's img0001.nii.gz with label0001.nii.gz",
    )
    return VolumeSource(
        name="chaos_btcv",
        anatomy="abdomen",
        labels=ABDOMEN,
        values={"ct": BTCV_VALUES, "mr": CHAOS_VALUES},
        sections=_sections(found, {"ct": BTCV_TEST, "mr": CHAOS_TEST}, seed=options.seed, source=source),
        protocol="test MR 1, 13, 32, 38, CT 1, 9, 30, 32, 33, 39 (SIFA's authors); whole volumes, 3-D scores; "
        + _validation(options.seed),
        license="CHAOS: CC BY-NC-SA 4.0; BTCV: terms of its authors, for research",
        others_are_background=True,
    )


def _chaos_case(folder: Path, source: Path) -> VolumeCase:
    image, label = folder / "DICOM_anon", folder / "Ground"
    for part in (image, label):
        require_inside(part, source, "a series")
        if not part.is_dir():
            raise SourceError(f"{folder} must hold DICOM_anon and Ground, got no {part.name}")
    name = f"chaos_{int(folder.parent.name):02d}"
    return VolumeCase(name, image, "mr", name, label, str(folder))


def _label_of_btcv(image: Path, name: str) -> Path:
    for folder in (image.parent, image.parent.parent / "label", image.parent.parent / "labelsTr"):
        for suffix in NIFTI:
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    raise SourceError(
        f"{image} must have a label {name}.nii.gz beside it, or in label/ or labelsTr/, got none"
    )


def read_brats(source: Path, options: SourceOptions) -> VolumeSource:
    """Read BraTS (2018 to 2023) as FLAIR and T2 of different patients, with the whole tumour as the only class.

    Args:
        source: folder that holds, at any depth, a folder for each patient with ``…_flair``, ``…_t2`` and ``…_seg``
            (``-t2f``, ``-t2w`` and ``-seg`` in 2023).
        options: what the user said; the seed of the split.

    Returns:
        80 % of the patients for training, a tenth of them for validation: half of them with FLAIR alone, half with T2
        alone. 20 % for the test, with both: only one of the two is read for a direction.

    Raises:
        SourceError: when fewer than ten patients are found, or one lacks a file.
    """
    from common.data.splits import random_sections  # its package imports MONAI, which takes seconds

    patients = _brats_patients(source)
    if len(patients) < 10:
        raise SourceError(
            f"{source} must hold at least 10 patients with NAME_flair, NAME_t2 and NAME_seg (.nii or .nii.gz), got "
            f"{len(patients)}"
        )
    fractions = (1 - TEST - VALIDATION * (1 - TEST), VALIDATION * (1 - TEST), TEST)
    split = random_sections(sorted(patients), fractions=fractions, seed=options.seed)
    sections: dict[str, list[VolumeCase]] = {}
    for section, names in split.items():
        halves = random_sections(names, fractions=(0.5, 0.0, 0.5), seed=options.seed)
        chosen = {"flair": halves["training"], "t2": halves["test"]}
        if section == "test":
            chosen = {"flair": names, "t2": names}
        sections[section] = [
            VolumeCase(
                f"{name}_{modality}", patients[name][modality], modality, name, patients[name]["seg"], name
            )
            for modality, members in chosen.items()
            for name in members
        ]
    return VolumeSource(
        name="brats_uda",
        anatomy="brain",
        labels=TUMOUR,
        values={"*": {1: 1, 2: 1, 3: 1, 4: 1}},
        sections=sections,
        protocol=f"80/20 by patient, a tenth of the 80 for validation, seed {options.seed}; training and validation "
        "patients are split between FLAIR and T2, test patients have both, of which a direction reads one",
        license="BraTS: terms of its authors, for research",
    )


def _brats_patients(source: Path) -> dict[str, dict[str, Path]]:
    kinds = {"flair": "flair", "t2f": "flair", "t2": "t2", "t2w": "t2", "seg": "seg"}
    patients: dict[str, dict[str, Path]] = {}
    for file in _files(source):
        match = re.fullmatch(r"(.+)[_-](flair|t2f|t2w|t2|seg)", _stem(file), flags=re.IGNORECASE)
        if match:
            patients.setdefault(match[1], {})[kinds[match[2].lower()]] = file
    for name, files in patients.items():
        missing = {"flair", "t2", "seg"} - set(files)
        if missing:
            raise SourceError(
                f"{next(iter(files.values())).parent}: {name} must have a {sorted(missing)[0]}, got none"
            )
    return patients


def _sections(
    found: Mapping[str, Sequence[tuple[int, VolumeCase]]],
    test: Mapping[str, Sequence[int]],
    *,
    seed: int,
    source: Path,
) -> dict[str, list[VolumeCase]]:
    """Test patients by number, then a tenth of the others of each modality, at least one, for validation."""
    from common.data.splits import random_sections  # its package imports MONAI, which takes seconds

    sections: dict[str, list[VolumeCase]] = {"training": [], "validation": [], "test": []}
    for modality, cases in found.items():
        numbers = {number for number, _ in cases}
        missing = [number for number in test[modality] if number not in numbers]
        if missing:
            raise SourceError(
                f"{source} must hold the test patients {', '.join(map(str, test[modality]))} of {modality}, got no "
                f"{', '.join(map(str, missing))}"
            )
        ordered = sorted(cases, key=lambda pair: pair[0])
        sections["test"] += [case for number, case in ordered if number in test[modality]]
        rest = [case for number, case in ordered if number not in test[modality]]
        share = max(VALIDATION, 1 / max(len(rest), 1))
        held = random_sections(rest, fractions=(1 - share, share, 0.0), seed=seed)
        for section in ("training", "validation"):
            sections[section] += held[section]
    return sections


def _validation(seed: int) -> str:
    return f"validation is a tenth of the other patients of each modality at random, seed {seed}"


def _files(source: Path) -> Iterable[Path]:
    """The NIfTI files of a source at any depth, in a stable order."""
    for folder in walk_folders(source):
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.name.lower().endswith(NIFTI) and not file.name.startswith("."):
                yield require_inside(file, source, "a volume")


def _stem(file: Path) -> str:
    name = file.name
    return next((name[: -len(suffix)] for suffix in NIFTI if name.lower().endswith(suffix)), name)


def _beside(image: Path, name: str) -> Path:
    for suffix in NIFTI:
        if (image.parent / f"{name}{suffix}").is_file():
            return image.parent / f"{name}{suffix}"
    raise SourceError(f"{image} must have its label {name}.nii.gz beside it, got none")


def _check_found(found: Mapping[str, Sequence[tuple[int, VolumeCase]]], source: Path, layout: str) -> None:
    for modality, cases in found.items():
        if not cases:
            raise SourceError(f"{source} must hold {layout}, got no {modality} volume")

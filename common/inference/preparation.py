"""From the files of a case to the tensors that the network reads, in any process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.data import MetaTensor
from pydicom.dataset import Dataset

from ..dicom.files import check_modality, is_dicom, number_of_frames, read_dataset
from ..dicom.laterality import usual_laterality
from ..dicom.rescaled import load_rescaled_series
from ..dicom.volume import load_series, series_files
from ..transforms.loading import DICOM_SUFFIXES
from ..transforms.text import read_sentence
from .configuration import BundleRequest, build_parser, parsed, read_configuration
from .info import BundleInfo
from .sentences import (
    UNKNOWN_DISPLAY,
    found_sentence,
    in_laterality,
    sentence_warnings,
)

CASE_KEYS = ("id", "image", "text", "laterality", "text_source", "sidecar", "report", "modality")
OF_DICOM = {"CT": "ct", "MR": "mr"}  # what DICOM itself says of a volume
TEXT_SOURCES = ("given", "dicom")
REMEMBERED = 4096  # sentences


@dataclass(frozen=True)
class _Text:
    """The sentence of a case as given, as the network is to read it, and what is uncertain about it."""

    given: str
    given_laterality: str
    source: str
    sentence: str
    warnings: tuple[str, ...]


class CasePreparation:
    """Load and preprocess one case on the CPU, with the bundle's own preprocessing.

    Holds no network and can be pickled for worker processes, which build the preprocessing again.

    Args:
        request: which bundle.
        info: of the bundle.
    """

    def __init__(self, request: BundleRequest, info: BundleInfo) -> None:
        self.request = request
        self.info = info
        self._steps: list[Any] | None = None
        self._said: dict[str, tuple[str, ...]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return CasePreparation, (self.request, self.info)

    @property
    def steps(self) -> list[Any]:
        """The bundle's preprocessing, transform by transform."""
        return self._steps or self.build()

    def build(self) -> list[Any]:
        """Build the preprocessing now, not with the first case, and return it.

        Raises:
            ValueError: when the bundle's configuration does not allow it.
        """
        parser = build_parser(self.request, read_configuration(self.request))
        self._steps = list(parsed(parser, "preprocessing", request=self.request).flatten().transforms)
        return self._steps

    def __call__(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Prepare one case.

        Args:
            case: ``image`` (a picture, NIfTI or DICOM file, a folder with one DICOM series, or its files), and
                optionally ``id`` (default: the name of the image), ``text`` (None: the empty sentence),
                ``laterality`` (whose left ``text`` means, default: as the bundle), ``text_source`` "dicom" to take
                the sentence from the DICOM file when ``text`` is None, with ``sidecar`` and ``report`` as for
                `sentence_for_file`. A volume of classes may have a ``modality`` (default: what a DICOM series says,
                if the bundle knows it, else as the bundle).

        Returns:
            A dictionary for `Segmenter.infer`.

        Raises:
            ValueError: when the image cannot be read or is not for this bundle; the file is named.
            TypeError: when the text is no string.
        """
        unknown = sorted(set(case) - set(CASE_KEYS))
        if unknown:
            raise ValueError(f"a case must have keys of {CASE_KEYS}, got {', '.join(unknown)}")
        image, files, header, warnings = self._opened(case.get("image"))
        text = self._text(case, header, files[0])
        prepared = self._transformed(image, text, files, modality=self._contrast(case, header))
        warnings += [*text.warnings, *self._read_warnings(text.sentence)]
        if header is None and text.sentence != text.given and not is_oriented(prepared["image"].meta):
            warnings.append(UNKNOWN_DISPLAY)
        return {
            "id": str(case.get("id") or case_name(files)),
            "files": tuple(str(file) for file in files),
            "image": prepared["image"],
            "text": prepared.get("text"),
            "sentence": str(prepared.get("sentence", text.sentence)),
            "given": text.given,
            "given_laterality": text.given_laterality,
            "text_source": text.source,
            "warnings": tuple(dict.fromkeys(warning for warning in warnings if warning)),
        }

    def _opened(self, image: Any) -> tuple[str | MetaTensor, tuple[Path, ...], Dataset | None, list[str]]:
        """Return an image's path, or a series as a volume; its files, DICOM header, and warnings."""
        path = checked_path(image)
        header = None if path is None or path.is_dir() else dicom_header(path)
        if path is not None and not path.is_dir() and (header is None or number_of_frames(header) == 1):
            warning = "" if header is None else self._modality(header, path)
            return str(path), (path,), header, [warning]
        force = self.request.force_modality
        if self.info.labels:  # classes are found in the values of the modality, not in those of a window
            volume = load_rescaled_series(image)
        else:
            volume = load_series(image, modalities=() if force else self.info.modalities)
        files = tuple(series_files(volume.meta))
        header = read_dataset(files[0], header=True)
        return volume, files, header, [self._modality(header, files[0]), str(volume.meta.get("warnings", ""))]

    def _contrast(self, case: Mapping[str, Any], header: Dataset | None) -> str | None:
        """Return the modality of a volume of classes, as given or as its DICOM header says."""
        given: str | None = case.get("modality")
        if given and not self.info.labels:
            raise ValueError(
                f"modality must be left out for {self.info.name}, which reads sentences, got {given!r}"
            )
        if given or not self.info.labels:
            return given
        named = OF_DICOM.get(str(header.get("Modality") or "")) if header is not None else None
        return named if named in self.info.contrasts else None

    def _modality(self, header: Dataset, file: Path) -> str:
        """Check the modality of a DICOM file; where that is forced, return a warning instead of the error."""
        try:
            check_modality(header, self.info.modalities, where=file.name)
        except ValueError as error:
            if not self.request.force_modality:
                raise ValueError(f"{error}: use a bundle for it, or force_modality=True") from error
            return f"{error} (force_modality)"
        return ""

    def _text(self, case: Mapping[str, Any], header: Dataset | None, file: Path) -> _Text:
        target = self.info.laterality
        source = case.get("text_source") or "given"
        if source not in TEXT_SOURCES:
            raise ValueError(f"text_source must be one of {TEXT_SOURCES}, got {source!r}")
        text, laterality = read_sentence(case.get("text")), case.get("laterality") or target
        if source == "dicom" and case.get("text") is None:
            if header is None:
                raise ValueError(
                    f"{file} must be a DICOM file for a sentence from DICOM, got another: give the text"
                )
            text, source = found_sentence(header, sidecar=case.get("sidecar"), report=case.get("report"))
            laterality = usual_laterality(str(header.get("Modality") or ""))
        else:
            source = "given"
        sentence, warning = in_laterality(text, laterality, target, header=header)
        warnings = [warning]
        if source == "none":
            warnings.append("the DICOM file has no sentence: the network was given none")
        return _Text(text, laterality, source, sentence, tuple(warnings))

    def _transformed(
        self, image: Any, text: _Text, files: Sequence[Path], *, modality: str | None
    ) -> dict[str, Any]:
        """Run the transforms one by one: `Compose` costs time and hides which error it was."""
        data: Any = {"id": "case", "image": image, "text": text.sentence, "laterality": self.info.laterality}
        data |= {"modality": modality} if modality else {}
        for step in self.steps:
            data = step(data)
        if not isinstance(data.get("image"), MetaTensor) or data["image"].ndim not in (3, 4):
            raise ValueError(f"preprocessing must give an image (C, rows, columns[, slices]) of {files[0]}")
        return dict(data)

    def _read_warnings(self, sentence: str) -> tuple[str, ...]:
        """Say what of a sentence could not be read; recent answers are remembered, for cases share sentences."""
        said = self._said.get(sentence)
        if said is None:
            if len(self._said) >= REMEMBERED:
                self._said.clear()
            said = self._said[sentence] = tuple(self._new_warnings(sentence))
        return said

    def _new_warnings(self, sentence: str) -> list[str]:
        warnings = sentence_warnings(sentence, anatomy=self.info.anatomy)
        for step in self.steps:
            tokenizer = getattr(step, "tokenizer", None)
            if tokenizer is not None and tokenizer.is_truncated(sentence):
                warnings.append(
                    f"the sentence is longer than {tokenizer.max_tokens} tokens: its end was not read"
                )
        return warnings


def dicom_header(file: Path) -> Dataset | None:
    """Return the header of a DICOM file, None for any other file and for one that is not there.

    Raises:
        ValueError: when it should be DICOM, but is not or cannot be read; the file is named.
    """
    try:
        dicom = is_dicom(file) or file.name.lower().endswith(DICOM_SUFFIXES)
    except OSError:
        return None  # the reader of images says why
    return read_dataset(file, header=True) if dicom else None


def is_oriented(meta: Mapping[str, Any]) -> bool:
    """Whether a file that is no DICOM says how the patient lies in it: NIfTI with an affine that is meant."""
    return meta.get("file_format") == "nifti" and max(meta.get("file_codes", (0,))) > 0


def checked_path(image: Any) -> Path | None:
    """Return the path of an image, None for several files.

    Raises:
        ValueError: when there are none.
        TypeError: when `image` is no path and no sequence of paths.
    """
    if isinstance(image, (str, Path)) and str(image):
        return Path(image)
    if not isinstance(image, Sequence) or not all(isinstance(each, (str, Path)) for each in image):
        raise TypeError(f"image must be a path or a sequence of paths, got {type(image).__name__}")
    if not image:
        raise ValueError("image must be a path or a sequence of paths, got none")
    return Path(image[0]) if len(image) == 1 else None


def case_name(files: Sequence[Path]) -> str:
    """Return the name of a case: its file's up to the first dot, or the folder's of a series."""
    if len(files) == 1:
        return files[0].name.split(".")[0] or files[0].name
    return files[0].resolve().parent.name

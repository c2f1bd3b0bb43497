"""The attributes of one frame, wherever a file keeps them: at its root or in its functional groups."""

from __future__ import annotations

from pydicom.dataset import Dataset

_PER_FRAME = "PerFrameFunctionalGroupsSequence"
_SHARED = "SharedFunctionalGroupsSequence"
# The attributes that place a frame and give it its brightness, by the functional group that holds them.
_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
}
_ROOT = (
    "Modality",
    "PatientOrientation",
    "ImagerPixelSpacing",
    "PixelSpacingCalibrationType",
    "PhotometricInterpretation",
    "PresentationLUTShape",
    "PixelRepresentation",
    "BitsAllocated",
    "BitsStored",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)
# What a file of several frames says at its root says nothing of any one frame.
_PLACED = ("ImagePositionPatient", "ImageOrientationPatient")


def has_functional_groups(dataset: Dataset) -> bool:
    """Tell whether a file keeps the attributes of its frames in functional groups."""
    return bool(dataset.get(_PER_FRAME) or dataset.get(_SHARED))


def frame_attributes(dataset: Dataset, frame: int = 0) -> Dataset:
    """Return what places a frame and gives it its brightness, as a single-frame file would say it.

    Args:
        dataset: an image, or its header.
        frame: index from 0.

    Returns:
        The dataset itself when it is of a single frame without functional groups, else a dataset of few
        attributes; position and orientation come from the functional groups alone.

    Reference:
        DICOM PS3.3, C.7.6.16 (Multi-frame Functional Groups).
    """
    if int(dataset.get("NumberOfFrames") or 1) == 1 and not has_functional_groups(dataset):
        return dataset
    flat = Dataset()
    names = [name for group in _GROUPS.values() for name in group if name not in _PLACED]
    for keyword in (*_ROOT, *names):
        if keyword in dataset:
            flat[keyword] = dataset[keyword]
    for groups, index in ((_SHARED, 0), (_PER_FRAME, frame)):  # the frame's own word comes last
        items = dataset.get(groups)
        if items and index < len(items):
            _take(items[index], flat)
    return flat


def _take(group: Dataset, flat: Dataset) -> None:
    for macro, keywords in _GROUPS.items():
        items = group.get(macro)
        for keyword in keywords if items else ():
            if keyword in items[0]:
                flat[keyword] = items[0][keyword]

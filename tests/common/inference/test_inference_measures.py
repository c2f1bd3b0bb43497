"""What a mask measures, and when it contradicts its sentence."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from common.inference import BundleInfo, Segmentation, measures
from common.inference.info import anatomy_of
from common.text import mirror_sentence

SIZE = 60
PLACES = {  # rows, columns, as displayed
    "upper left": (slice(5, 15), slice(5, 15)),
    "middle left": (slice(25, 35), slice(5, 15)),
    "lower left": (slice(45, 55), slice(5, 15)),
    "upper right": (slice(5, 15), slice(45, 55)),
    "lower right": (slice(45, 55), slice(45, 55)),
    "center": (slice(25, 35), slice(25, 35)),
}
INFO = BundleInfo(
    name="some_segmentation",
    version="1.2.3",
    title="Some",
    laterality="image",
    weights_sha256="ab" * 32,
    network="Net",
    image_size=(64, 64),
    device="cpu",
)


def segmentation(sentence: str, *places: str, mask: np.ndarray | None = None, **values: Any) -> Segmentation:
    info = BundleInfo(**{**vars(INFO), **values.pop("info", {})})
    if mask is None:
        mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
        for place in places:
            mask[PLACES[place]] = 1
    meta = {"spacing": np.full(3, np.nan), "spacing_kind": "unknown", "file_format": "png"}
    return Segmentation(
        id="case",
        image="case.png",
        text=sentence,
        sentence=sentence,
        laterality=info.laterality,
        given_laterality=info.laterality,
        text_source="given",
        mask=mask,
        probability=np.where(mask, 0.75, 0.25).astype(np.float32),
        threshold=0.5,
        meta={**meta, **values.pop("meta", {})},
        warnings=values.pop("warnings", ()),
        info=info,
    )


NAMED = "One infected area, lower left lung."
TRUTH = [  # sentence, where the mask lies, why the two contradict each other
    (NAMED, ["lower left"], ()),
    (NAMED, ["lower left", "upper right"], ()),
    (NAMED, ["middle left"], ()),  # "lower" is not a clean third
    (NAMED, ["lower right"], ("names left, but the mask lies lower right",)),
    (NAMED, ["upper left"], ("names lower left, but the mask lies upper left",)),
    (NAMED, [], ("names findings, but the mask is empty",)),
    ("Bilateral pulmonary infection.", ["lower left"], ()),
    ("No infected areas.", [], ()),
    ("No infected areas.", ["lower left"], ("denies findings, but the mask is not empty",)),
    ("", ["lower left"], ()),
    ("", [], ()),
    ("A chest radiograph.", [], ()),
    ("A chest radiograph.", ["upper right"], ()),
    ("Two infected areas.", [], ("names findings, but the mask is empty",)),
    ("One polyp in the center.", ["center"], ()),
    ("One polyp in the center.", ["lower left"], ()),  # the next cell of the grid
    ("One polyp in the upper left.", ["lower left"], ("names upper left, but the mask lies lower left",)),
    ("One polyp in the upper left.", ["upper right"], ("names left, but the mask lies upper right",)),
]


@pytest.mark.parametrize("laterality", ["image", "patient"])
@pytest.mark.parametrize(("sentence", "places", "reasons"), TRUTH)
def test_contradictions(sentence: str, places: list[str], reasons: tuple[str, ...], laterality: str) -> None:
    """In the patient's laterality all is the same with the mirrored sentence."""
    if laterality == "patient":
        sentence = mirror_sentence(sentence)
        reasons = tuple(mirror_sentence(reason) for reason in reasons)
    found = measures(segmentation(sentence, *places, info={"laterality": laterality}))
    assert found.contradiction == bool(reasons)
    assert len(found.reasons) == len(reasons)
    for reason, expected in zip(found.reasons, reasons, strict=True):
        assert expected in reason


def test_a_sentence_that_contradicts_itself() -> None:
    found = measures(
        segmentation(
            "Unilateral infection, lower left lung and upper right lung.", "lower left", "upper right"
        )
    )
    assert found.contradiction
    assert found.reasons[0].startswith("the sentence contradicts itself: ")


def test_a_picture() -> None:
    found = measures(
        segmentation(
            NAMED,
            "lower left",
            meta={"spacing": np.array([0.5, 0.2, np.nan]), "spacing_kind": "patient"},
            warnings=("one", "two"),
        )
    )
    assert found.area_mm2 == pytest.approx(100 * 0.1)
    assert found.volume_ml is None
    assert found.share == pytest.approx(100 / SIZE**2)
    assert (found.side, found.zones, found.count) == ("left", ("lower left",), 1)
    assert found.mean_probability == pytest.approx(0.75)
    assert (found.side_agreement, found.zones_agreement, found.count_agreement) == (1.0, 1.0, 1.0)
    assert found.convention == "left and right are the halves of the picture as displayed"
    row = found.row()
    assert json.loads(json.dumps(row)) == row
    assert (row["zones"], row["warnings"], row["version"]) == ("lower left", "one; two", "1.2.3")
    assert row["weights_sha256"] == "ab" * 32


def test_an_empty_mask() -> None:
    found = measures(segmentation("No infected areas."))
    assert (found.side, found.zones, found.count, found.mean_probability) == (None, (), 0, None)
    assert (found.area_mm2, found.size_note) == (None, "the image has no pixel spacing")
    assert (found.side_agreement, found.count_agreement) == (1.0, 1.0)


def test_left_and_right_are_the_bundle_s() -> None:
    places = ("lower left", "upper right")
    assert measures(segmentation("", places[0])).side == "left"
    assert measures(segmentation("", places[0], info={"laterality": "patient"})).side == "right"
    both = measures(segmentation("", *places, info={"laterality": "patient"}))
    assert (both.side, set(both.zones)) == ("bilateral", {"lower right", "upper left"})
    assert "the patient's left is the right half" in both.convention


def test_polyps_lie_in_a_grid_of_nine() -> None:
    found = measures(segmentation("", "center", "lower left", info={"anatomy": "polyp"}))
    assert (found.side, found.count) == ("left+center", 2)
    assert set(found.zones) == {"middle center", "lower left"}


def test_specks_lie_nowhere_in_the_grid() -> None:
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    mask[2, 2] = 1
    found = measures(segmentation("One polyp in the lower right.", mask=mask, info={"anatomy": "polyp"}))
    assert (found.side, found.zones, found.count, found.reasons) == (None, (), 0, ())


def test_the_plane_of_the_detector_is_said() -> None:
    meta = {"spacing": np.array([0.2, 0.2, np.nan]), "spacing_kind": "detector"}
    found = measures(segmentation("", "center", meta=meta))
    assert found.area_mm2 == pytest.approx(4.0)
    assert "the area in the patient is smaller" in found.size_note


def test_a_volume() -> None:
    mask = np.zeros((20, 30, 4), dtype=np.uint8)
    mask[5:15, 2:12, 1:3] = 1
    meta = {"spacing": np.array([0.5, 0.4, 5.0]), "spacing_kind": "patient", "file_format": "nifti"}
    found = measures(segmentation("upper right lung", mask=mask, meta=meta))
    assert found.volume_ml == pytest.approx(200 * 1.0 / 1000)
    assert found.area_mm2 is None
    assert (found.side, found.zones, found.zones_agreement, found.count) == ("left", (), None, 1)
    assert found.reasons == ("the sentence names right, but the mask lies left",)
    unknown = measures(segmentation("", mask=mask, meta={"spacing": np.array([0.5, 0.4, np.nan])}))
    assert unknown.volume_ml is None
    assert "all three directions" in unknown.size_note


def test_data_tell_the_anatomy() -> None:
    assert anatomy_of(["qata_cov19", "light"]) == "lung"
    assert anatomy_of(["cvc_clinicdb"]) == "polyp"
    assert anatomy_of(["light"]) == anatomy_of(["kvasir_seg", "qata_cov19"]) == "auto"
    assert INFO.codes_for("polyp") == "polyp"
    assert INFO.codes_for("lung") == "pulmonary_infiltrate"

"""Slices of volumes as training cases: places, order of augmentation, cache, and errors that name the volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from common.data import CaseLoader, SliceDataset, load_domain_cases
from common.data.phantom_volume import write_volume_phantom_dataset
from common.transforms import RandAlignedAffined, RandIntensityd, volume_preprocessing

SHAPES = {"a": 4, "b": 6, "c": 3}


class Drawn:
    """Volumes of the number of slices that `SHAPES` tells, whose values tell volume and slice."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    def __call__(self, case: dict[str, Any]) -> dict[str, Any]:
        self.reads.append(case["id"])
        slices = SHAPES[case["id"]]
        number = 10 * sorted(SHAPES).index(case["id"])
        image = (torch.arange(slices) + number).float().expand(1, 8, 8, slices)
        if "label" not in case:
            return {**case, "image": MetaTensor(image)}
        label = torch.zeros(1, 8, 8, slices, dtype=torch.uint8)
        label[..., 1:3] = 2
        return {**case, "image": MetaTensor(image), "label": MetaTensor(label)}


class Shift(RandomizableTransform, MapTransform):
    """Adds a random number to the image."""

    def __init__(self) -> None:
        MapTransform.__init__(self, ("image",))
        RandomizableTransform.__init__(self, 1.0)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "image": data["image"] + self.R.uniform()}


def cases(*, label: bool = True) -> list[dict[str, Any]]:
    shown = {"label": "x"} if label else {}
    return [{"id": name, "image": "x", "modality": "ct", "domain": "source", **shown} for name in SHAPES]


def test_slices_follow_one_another_in_the_order_of_the_volumes() -> None:
    data = SliceDataset(cases(), Drawn(), progress=False)
    assert len(data) == 13
    assert [data[index]["id"] for index in (0, 3, 4, 12)] == ["a:000", "a:003", "b:000", "c:002"]
    item = data[5]
    assert (item["case"], item["slice"], item["modality"], item["domain"]) == ("b", 1, "ct", "source")
    assert item["image"].shape == (3, 8, 8)
    assert (item["image"] == 11).all()
    assert item["label"].dtype == torch.float32
    assert (item["label"] == 2).all()


def test_labelled_slices_alone_and_all_of_unlabelled_volumes() -> None:
    kept = SliceDataset(cases(), Drawn(), keep="labelled", progress=False)
    assert [(item["case"], item["slice"]) for item in kept] == [(n, s) for n in SHAPES for s in (1, 2)]
    unlabelled = SliceDataset(cases(label=False), Drawn(), keep="labelled", progress=False)
    assert len(unlabelled) == 13
    assert "label" not in unlabelled[0]


def test_augmentation_depends_on_seed_epoch_slice_and_repeat_alone() -> None:
    def value(index: int, *, epoch: int = 1, repeat: int = 0, seed: int = 0, threads: int = 2) -> float:
        data = SliceDataset(
            cases(), Drawn(), augmentation=[Shift()], seed=seed, num_workers=threads, progress=False
        )
        data.set_epoch(epoch)
        return float(data.drawn(index, repeat)["image"][0, 0, 0])

    assert value(4) == value(4, threads=1)
    others = {value(4), value(4, epoch=2), value(4, repeat=1), value(4, seed=1)}
    assert len(others) == 4


@pytest.mark.parametrize(("kept", "reads"), [(None, 3), (1, 3 + 2), (2, 3 + 1)])
def test_volumes_are_read_once_unless_memory_is_limited(kept: int | None, reads: int) -> None:
    drawn = Drawn()
    data = SliceDataset(cases(), drawn, cache_volumes=kept, num_workers=1, progress=False)
    assert len(drawn.reads) == 3
    assert [data[index]["case"] for index in (4, 5, 0)] == ["b", "b", "a"]
    assert len(drawn.reads) == reads
    assert (data[4]["image"] == 10).all()


def test_real_transforms_loader_and_workers_give_the_same_batches(tmp_path: Path) -> None:
    path = write_volume_phantom_dataset(tmp_path / "d", count=5, size=32, slices=4)
    listed = load_domain_cases(path, "training", direction="ct_to_mr", domain="source")
    batches = []
    for workers in (0, 2):
        data = SliceDataset(
            listed,
            volume_preprocessing(classes=5, image_size=32),
            augmentation=[RandAlignedAffined(prob=1.0), RandIntensityd("image", prob=1.0)],
            seed=3,
            progress=False,
        )
        loader = CaseLoader(data, batch_size=5, shuffle=True, seed=1, num_workers=workers)
        loader.set_epoch(2)
        batches.append(list(loader))
    for one, two in zip(*batches, strict=True):
        assert one["id"] == two["id"]
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["label"], two["label"])
    first = batches[0][0]
    assert first["image"].shape == (5, 3, 32, 32)
    assert first["modality"] == ["ct"] * 5
    assert set(torch.cat([batch["label"].unique() for batch in batches[0]]).tolist()) == {0, 1, 2, 3, 4}


def test_a_bad_volume_is_named_before_training_starts(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 1), np.float32), np.eye(4)), tmp_path / "flat.nii.gz")
    case = {"id": "flat", "image": str(tmp_path / "flat.nii.gz"), "modality": "ct"}
    with pytest.raises(ValueError, match=r"case flat: .*flat\.nii\.gz must be a volume of at least 2 slices"):
        SliceDataset([case], volume_preprocessing(classes=2, image_size=32), progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": "some"}, "keep must be 'all' or 'labelled'"),
        ({"cache_volumes": 0}, "cache_volumes must be at least 1"),
        ({"channels": 0}, "channels and cache_volumes must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SliceDataset(cases(), Drawn(), progress=False, **arguments)

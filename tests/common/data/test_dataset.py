"""Cases for training: order and augmentation depend on the seed alone; broken files are passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import Compose, MapTransform, RandomizableTransform

from common.data import CaseDataset, CaseLoader, TolerantDataset, single_case
from common.data.dataset import collate_cases


class ToTensor(MapTransform):
    """Makes a tensor of a number and counts how often it did."""

    calls = 0

    def __init__(self) -> None:
        super().__init__("image")

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        type(self).calls += 1
        if data["image"] < 0:
            raise ValueError(f"{data['image']} is no picture")
        return {**data, "image": torch.tensor([float(data["image"])])}


class RandomNumber(RandomizableTransform, MapTransform):
    def __init__(self) -> None:
        RandomizableTransform.__init__(self, 1.0)
        MapTransform.__init__(self, "image")

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "noise": torch.tensor([self.R.rand()])}


def cases(count: int) -> list[dict[str, Any]]:
    return [{"id": str(i), "image": i} for i in range(count)]


def dataset(count: int = 5, **kwargs: Any) -> CaseDataset:
    return CaseDataset(
        cases(count), Compose([Compose([ToTensor()]), RandomNumber()]), progress=False, **kwargs
    )


def noise(data: CaseDataset, epoch: int) -> dict[str, float]:
    data.set_epoch(epoch)
    return {item["id"]: float(item["noise"]) for item in (data[i] for i in range(len(data)))}


def test_augmentation_depends_on_seed_epoch_and_case() -> None:
    first = noise(dataset(seed=1), 3)
    assert len(set(first.values())) == 5
    again = dataset(seed=1)
    again.set_epoch(3)
    backwards = {item["id"]: float(item["noise"]) for item in (again[i] for i in (4, 2, 0, 3, 1))}
    assert backwards == first
    assert noise(dataset(seed=1), 4) != first
    assert noise(dataset(seed=2), 3) != first


def test_deterministic_transforms_run_once() -> None:
    ToTensor.calls = 0
    data = dataset()
    for epoch in range(3):
        noise(data, epoch)
    assert ToTensor.calls == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    loader = CaseLoader(dataset(6, seed=1), batch_size=2, shuffle=True, seed=4, num_workers=workers)
    loader.set_epoch(2)
    batches = [(batch["id"], batch["noise"].flatten().tolist()) for batch in loader]
    reference = noise(dataset(6, seed=1), 2)
    assert sorted(name for names, _ in batches for name in names) == sorted(reference)
    for names, values in batches:
        assert values == pytest.approx([reference[name] for name in names])


def test_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[str]:
        loader = CaseLoader(dataset(20), shuffle=True, seed=seed)
        loader.set_epoch(epoch)
        return [batch["id"][0] for batch in loader]

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)
    assert [batch["id"][0] for batch in CaseLoader(dataset(20))] == [str(i) for i in range(20)]


def test_a_case_that_cannot_be_cached_is_named() -> None:
    with pytest.raises(ValueError, match="case bad: -1 is no picture"):
        CaseDataset([{"id": "bad", "image": -1}], Compose([ToTensor()]), progress=False)


def test_batches_keep_what_all_cases_have() -> None:
    one, two = {"id": "a", "image": torch.zeros(1), "subject": "s"}, {"id": "b", "image": torch.ones(1)}
    batch = collate_cases([one, two])
    assert set(batch) == {"id", "image"}


def test_a_batch_with_some_labels_is_refused() -> None:
    labelled = {"id": "a", "image": torch.zeros(1), "label": torch.zeros(1)}
    with pytest.raises(ValueError, match="every case of a batch must have a label, got none for b"):
        collate_cases([labelled, {"id": "b", "image": torch.zeros(1)}])


def test_a_broken_case_among_others_is_recorded() -> None:
    data = TolerantDataset(
        [*cases(2), {"id": "bad", "image": -3}, {"id": "last", "image": 7}], Compose([ToTensor()])
    )
    assert [item["id"] for item in data] == ["0", "1", "last"]
    assert data.failures == [{"id": "bad", "image": "-3", "error": "case bad: -3 is no picture"}]


def test_a_broken_case_alone_is_an_error() -> None:
    with pytest.raises(ValueError, match="case bad: -3 is no picture"):
        list(TolerantDataset([{"id": "bad", "image": -3}], Compose([ToTensor()])))


def test_nothing_to_segment_is_an_error() -> None:
    with pytest.raises(ValueError, match="name an image or a folder with --image"):
        list(TolerantDataset([], Compose([ToTensor()])))


def test_an_image_or_a_folder_becomes_cases(tmp_path: Path) -> None:
    for name in ("b.png", "a.nii.gz", "c.txt"):
        (tmp_path / name).touch()
    assert single_case(None, "left") == []
    assert single_case(tmp_path / "b.png", None, laterality="patient") == [
        {"id": "b", "image": str(tmp_path / "b.png"), "text": "", "laterality": "patient"}
    ]
    assert [case["id"] for case in single_case(tmp_path, "left")] == ["a", "b"]
    for text, sentence in ((("polyp", "left"), "polyp, left"), (2, "2"), ("", "")):
        assert single_case(tmp_path / "b.png", text)[0]["text"] == sentence
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold images"):
        single_case(tmp_path / "empty", "")
    with pytest.raises(ValueError, match="does not exist: check --image"):
        single_case(tmp_path / "absent.png", "")


class Keep:
    """Reads nothing: what the data set makes of a case stays as it is."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return data


def test_cases_of_a_host_get_names_and_sentences_of_sidecars(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("upper left lung", encoding="utf-8")
    (tmp_path / "b.json").write_text('{"text": "no findings", "laterality": "patient"}', encoding="utf-8")
    data = [{"image": str(tmp_path / f"{name}.png")} for name in "abc"]
    with_sidecars = CaseDataset(data, Compose([Keep()]), progress=False, sidecar_text=True)
    assert with_sidecars.is_from_host
    assert [case["id"] for case in with_sidecars.data] == ["a", "b", "c"]
    assert [case.get("text") for case in with_sidecars.data] == ["upper left lung", "no findings", None]
    assert [case.get("laterality") for case in with_sidecars.data] == [None, "patient", None]
    without = CaseDataset(data, Compose([Keep()]), progress=False)
    assert not any("text" in case for case in without.data)
    assert not any("id" in case for case in data)


@pytest.mark.parametrize("text", ["", None, "lower right lung"])
def test_a_sentence_that_is_given_is_kept(text: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("upper left lung", encoding="utf-8")
    data = [{"id": "1", "image": str(tmp_path / "a.png"), "text": text}]
    dataset = CaseDataset(data, Compose([Keep()]), progress=False, sidecar_text=True)
    assert not dataset.is_from_host
    assert dataset.data == data


def test_more_processes_than_cases_to_evaluate_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    with pytest.raises(ValueError, match="must have a case to evaluate, got 2 cases for 3 processes"):
        CaseLoader([{"x": 1}, {"x": 2}])
    assert len(CaseLoader([{"x": 1}, {"x": 2}], shuffle=True)) == 1  # training repeats cases
    assert len(CaseLoader([])) == 0

"""Labelled and unlabelled cases, and the loader that draws from both."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from monai.transforms import Compose, MapTransform, RandomizableTransform

from common.data import CaseDataset, SemiSupervisedLoader, labelled_cases, load_cases, unlabelled_cases


def datalist(
    folder: Path, count: int, *, has_label: Callable[[int], bool] = lambda index: True, evaluated: int = 0
) -> Path:
    """Write a list whose files exist; validation and test have `evaluated` cases each."""
    (folder / "images").mkdir(parents=True)
    (folder / "label.png").touch()
    document: dict[str, Any] = {"name": "tiny", "laterality": "image"}
    for section, size in (("training", count), ("validation", evaluated), ("test", evaluated)):
        document[section] = []
        for index in range(size):
            name = f"images/{section}_{index}.png"
            (folder / name).write_bytes(name.encode())
            case = {"id": f"{section}_{index}", "image": name, "text": f"Sentence {index}."}
            if has_label(index):
                case["label"] = "label.png"
            document[section].append(case)
    path = folder / "dataset.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def names(cases: list[dict[str, Any]]) -> list[str]:
    return [case["id"] for case in cases]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(200, (2, 4, 10, 30)), pytest.param(5716, (57, 114, 286, 857), marks=pytest.mark.slow)],
)
def test_the_lists_have_the_published_counts_order_and_nesting(
    tmp_path: Path, count: int, sizes: tuple[int, ...]
) -> None:
    path = datalist(tmp_path, count)
    expected = [f"training_{index}" for index in range(count)]
    random.Random(42).shuffle(expected)
    for fraction, size in zip((0.01, 0.02, 0.05, 0.15), sizes, strict=True):
        # nested, for each is the start of one order
        assert names(labelled_cases(path, fraction=fraction)) == expected[:size]
    rest = unlabelled_cases(path, fraction=0.15)
    assert names(rest) == expected[sizes[-1] :]
    assert not any("label" in case for case in rest)


def test_the_labelled_cases_are_those_of_a_supervised_low_data_training(tmp_path: Path) -> None:
    path = datalist(tmp_path, 40)
    for seed in (42, 7):
        assert labelled_cases(path, fraction=0.2, seed=seed) == load_cases(
            path, "training", fraction=0.2, seed=seed
        )
    assert labelled_cases(path, fraction=0.2, seed=42) != labelled_cases(path, fraction=0.2, seed=7)


def test_cases_without_a_label_are_always_unlabelled(tmp_path: Path) -> None:
    path = datalist(tmp_path, 20, has_label=lambda index: index % 2 == 0)
    without = [f"training_{index}" for index in range(1, 20, 2)]
    labelled, unlabelled = labelled_cases(path, fraction=0.5), unlabelled_cases(path, fraction=0.5)
    assert len(labelled) == 5  # of the ten that have one
    assert all("label" in case for case in labelled)
    assert not any("label" in case for case in unlabelled)
    assert names(unlabelled)[-10:] == without
    assert sorted(names(labelled + unlabelled)) == sorted(f"training_{index}" for index in range(20))
    assert len(labelled_cases(path, fraction=1.0)) == 10
    assert names(unlabelled_cases(path, fraction=1.0)) == without


def test_with_every_label_nothing_is_unlabelled(tmp_path: Path) -> None:
    assert unlabelled_cases(datalist(tmp_path, 6), fraction=1.0) == []


def test_a_list_without_labels_is_refused(tmp_path: Path) -> None:
    path = datalist(tmp_path, 6, has_label=lambda index: False)
    with pytest.raises(
        ValueError, match=r"training in dataset\.json must hold at least one case with a label"
    ):
        labelled_cases(path, fraction=1.0)


def test_a_folder_of_images_and_sentences_joins_the_unlabelled(tmp_path: Path) -> None:
    path = datalist(tmp_path / "list", 6, evaluated=2)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("b", "a"):
        (folder / f"{name}.png").write_bytes(name.encode())
        (folder / f"{name}.txt").write_text(f"lung {name}", encoding="utf-8")
    cases = unlabelled_cases(path, fraction=0.5, images=folder)
    assert names(cases)[-2:] == ["a", "b"]
    assert names(cases)[:-2] == names(unlabelled_cases(path, fraction=0.5, images=""))
    dataset = CaseDataset(cases, Compose([Keep()]), progress=False, sidecar_text=True)
    assert [case["text"] for case in dataset.data[-2:]] == ["lung a", "lung b"]
    assert not dataset.is_from_host


def test_without_a_list_the_folder_alone_is_unlabelled(tmp_path: Path) -> None:
    (tmp_path / "new.png").touch()
    missing = tmp_path / "data" / "dataset.json"
    assert names(unlabelled_cases(missing, fraction=0.5, images=tmp_path)) == ["new"]
    assert unlabelled_cases(missing, fraction=0.5) == []
    with pytest.raises(FileNotFoundError, match="no data list at"):
        labelled_cases(missing, fraction=0.5)


@pytest.mark.parametrize("section", ["validation", "test"])
def test_an_image_of_the_evaluation_is_refused_under_another_name(tmp_path: Path, section: str) -> None:
    path = datalist(tmp_path / "list", 4, evaluated=2)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "new.png").write_bytes(f"images/{section}_1.png".encode())
    with pytest.raises(ValueError, match=r"images must hold no image of validation or test, got .*new\.png"):
        unlabelled_cases(path, fraction=0.5, images=folder)


class Keep:
    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        return data


class Noise(RandomizableTransform, MapTransform):
    """Adds a random number to a case, and counts how often it did."""

    def __init__(self) -> None:
        RandomizableTransform.__init__(self, 1.0)
        MapTransform.__init__(self, "image")
        self.calls = 0

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        return {**data, "image": torch.tensor([float(data["image"])]), "noise": torch.tensor(self.R.rand())}


def dataset(count: int, prefix: str) -> CaseDataset:
    cases: list[dict[str, Any]] = [{"id": f"{prefix}{index}", "image": index} for index in range(count)]
    if prefix == "l":
        cases = [{**case, "label": 0} for case in cases]
    return CaseDataset(cases, Compose([Noise()]), seed=3, progress=False)


def loader(labelled: int = 5, unlabelled: int | None = 10, **kwargs: Any) -> SemiSupervisedLoader:
    options = {"batch_size": 4, "seed": 1, **kwargs}
    return SemiSupervisedLoader(
        dataset(labelled, "l"), None if unlabelled is None else dataset(unlabelled, "u"), **options
    )


def epoch_of(source: SemiSupervisedLoader, epoch: int) -> list[dict[str, list[Any]]]:
    """Names and random numbers of every step of an epoch."""
    source.set_epoch(epoch)
    return [
        {part: list(zip(batch["id"], batch["noise"].tolist(), strict=True)) for part, batch in step.items()}
        for step in source
    ]


def ids(steps: list[dict[str, list[Any]]], part: str) -> list[str]:
    return [name for step in steps for name, _ in step.get(part, [])]


def test_an_epoch_is_one_pass_over_the_unlabelled_cases() -> None:
    source = loader()
    steps = epoch_of(source, 1)
    assert len(source) == len(steps) == 3
    assert sorted(ids(steps, "unlabelled")) == sorted(f"u{index}" for index in range(10))
    assert [len(step["unlabelled"]) for step in steps] == [4, 4, 2]
    assert [len(step["labelled"]) for step in steps] == [4, 4, 4]
    assert set(ids(steps, "labelled")) <= {f"l{index}" for index in range(5)}


def test_fewer_labelled_cases_than_a_batch_suffice() -> None:
    steps = epoch_of(loader(labelled=1, batch_size=8), 1)
    assert [len(step["labelled"]) for step in steps] == [8, 8]
    assert set(ids(steps, "labelled")) == {"l0"}


def test_labelled_cases_are_drawn_alike() -> None:
    drawn = ids(epoch_of(loader(unlabelled=None, epoch_cases=600, batch_size=100), 1), "labelled")
    shares = [drawn.count(f"l{index}") / len(drawn) for index in range(5)]
    assert shares == pytest.approx([0.2] * 5, abs=0.075)  # 4.5 standard deviations


def test_a_case_drawn_again_is_augmented_anew() -> None:
    source = loader(labelled=3, unlabelled=20, batch_size=10)
    drawn = [pair for step in epoch_of(source, 2) for pair in step["labelled"]]
    assert len({noise for _, noise in drawn}) == len(drawn) == 20
    source.dataset.set_epoch(2)
    for index in range(3):
        first = next(noise for name, noise in drawn if name == f"l{index}")
        assert first == float(source.dataset[index]["noise"])
        assert first == float(source.dataset.drawn(index, 0)["noise"])


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    source = loader()
    first = epoch_of(source, 3)
    epoch_of(source, 4)
    torch.rand(10)
    assert epoch_of(source, 3) == first == epoch_of(loader(), 3)
    for other in (epoch_of(loader(), 4), epoch_of(loader(seed=2), 3)):
        assert ids(other, "labelled") != ids(first, "labelled")
        assert ids(other, "unlabelled") != ids(first, "unlabelled")


def test_the_number_of_workers_changes_nothing() -> None:
    assert epoch_of(loader(num_workers=1), 2) == epoch_of(loader(), 2)


def test_during_the_burn_in_nothing_unlabelled_is_loaded_and_epochs_are_as_long() -> None:
    source = loader(burn_in=2)
    transform = source.unlabelled.transform.transforms[0]
    for epoch in (1, 2):
        steps = epoch_of(source, epoch)
        assert [list(step) for step in steps] == [["labelled"]] * 3
        assert ids(steps, "labelled") == ids(epoch_of(loader(), epoch), "labelled")
    assert transform.calls == 0
    assert epoch_of(source, 3) == epoch_of(loader(), 3)


def test_a_supervised_training_has_the_same_steps_and_labelled_cases() -> None:
    source = loader(unlabelled=None, epoch_cases=10)
    steps = epoch_of(source, 2)
    assert len(source) == len(steps) == 3
    assert [step["labelled"] for step in steps] == [step["labelled"] for step in epoch_of(loader(), 2)]
    assert ids(steps, "unlabelled") == []


@pytest.mark.parametrize("unlabelled", [None, 0])
def test_without_unlabelled_cases_every_labelled_one_is_seen_once(unlabelled: int | None) -> None:
    source = loader(labelled=9, unlabelled=unlabelled)
    steps = epoch_of(source, 1)
    assert len(source) == len(steps) == 3
    assert sorted(ids(steps, "labelled")) == [f"l{index}" for index in range(9)]
    assert ids(steps, "labelled") != sorted(ids(steps, "labelled"))


def test_batches_of_both_kinds_have_their_own_size() -> None:
    source = loader(batch_size=2, unlabelled_batch_size=5)
    steps = epoch_of(source, 1)
    assert len(source) == 2
    assert [(len(step["labelled"]), len(step["unlabelled"])) for step in steps] == [(2, 5), (2, 5)]


@pytest.mark.parametrize("count", [16, 9])
def test_two_ranks_see_step_by_step_what_one_process_sees_with_twice_the_batch(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    whole = epoch_of(loader(unlabelled=count, batch_size=8), 3)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    ranks = []
    for rank in range(2):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        source = loader(unlabelled=count)
        ranks.append(epoch_of(source, 3))
        assert len(source) == len(whole) == len(ranks[-1]) == 2
    for step, one, other in zip(whole, *ranks, strict=True):
        assert sorted(step["labelled"]) == sorted(one["labelled"] + other["labelled"])
        assert set(step["unlabelled"]) <= set(one["unlabelled"] + other["unlabelled"])
        assert len(one["unlabelled"]) == len(other["unlabelled"])
    seen = [name for rank in ranks for name in ids(rank, "unlabelled")]
    assert set(seen) == {f"u{index}" for index in range(count)}
    assert len(seen) == count + count % 2
    assert ids(ranks[0], "labelled") != ids(ranks[1], "labelled")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labelled": 0}, "labelled must hold at least one case, got none"),
        ({"batch_size": 0}, "must be at least 1, got 0 and 0"),
        ({"unlabelled_batch_size": 0}, "must be at least 1, got 4 and 0"),
        ({"burn_in": -1}, "burn_in and epoch_cases must be 0 or more, got -1 and 10"),
        ({"unlabelled": None, "epoch_cases": -3}, "got 0 and -3"),
        ({"epoch_cases": 7}, "epoch_cases must be None where there are unlabelled cases, got 7"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loader(**arguments)

"""Domains of a data list: who teaches with labels, who without, and no patient in both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.data import (
    load_domain_cases,
    load_oracle_cases,
    load_target_cases,
    load_validation_cases,
    modalities_of,
)


def write_list(folder: Path, cases: dict[str, list[dict[str, Any]]]) -> Path:
    for section in cases.values():
        for case in section:
            for key in ("image", "label"):
                if case.get(key):
                    (folder / case[key]).write_text(f"{case['id']} {key}", encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps({"name": "x", **cases}), encoding="utf-8")
    return folder / "dataset.json"


def case(name: str, modality: str, *, label: bool = True, **more: Any) -> dict[str, Any]:
    entry = {"id": name, "image": f"{name}.nii", "modality": modality, "subject": name, **more}
    return {**entry, "label": f"{name}_l.nii"} if label else entry


@pytest.fixture
def both(tmp_path: Path) -> Path:
    return write_list(
        tmp_path,
        {
            "training": [case("c1", "ct"), case("m1", "mr"), case("c2", "ct"), case("m2", "mr", label=False)],
            "validation": [case("c3", "ct"), case("m3", "mr")],
            "test": [case("c4", "ct"), case("m4", "mr")],
        },
    )


def names(cases: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in cases]


@pytest.mark.parametrize(("direction", "source", "target"), [("ct_to_mr", "c", "m"), ("mr_to_ct", "m", "c")])
def test_direction_says_which_modality_teaches(both: Path, direction: str, source: str, target: str) -> None:
    if source == "m":
        with pytest.raises(ValueError, match="m2 \\(source\\) must have a label"):
            load_domain_cases(both, "training", direction=direction)
        return
    cases = load_domain_cases(both, "training", direction=direction)
    assert names(cases) == ["c1", "c2", "m1", "m2"]
    assert [each["domain"] for each in cases] == ["source", "source", "target", "target"]
    assert names(load_domain_cases(both, "validation", direction=direction)) == [f"{source}3"]
    test = load_domain_cases(both, "test", direction=direction)
    assert names(test) == [f"{target}4"]
    assert "label" in test[0]


def test_target_labels_never_reach_the_training(both: Path) -> None:
    target = load_domain_cases(both, "training", direction="ct_to_mr", domain="target")
    assert names(target) == ["m1", "m2"]
    assert all("label" not in each for each in target)
    assert all(
        "label" in each for each in load_domain_cases(both, "training", direction="ct_to_mr", domain="source")
    )


def test_the_upper_bound_trains_and_tests_on_one_modality(both: Path) -> None:
    assert names(load_domain_cases(both, "training", direction="ct_to_ct")) == ["c1", "c2"]
    assert names(load_domain_cases(both, "validation", direction="ct_to_ct")) == ["c3"]
    assert names(load_domain_cases(both, "test", direction="ct_to_ct")) == ["c4"]


def test_oracle_cases_are_to_be_asked_for(both: Path) -> None:
    oracle = load_domain_cases(both, "validation", direction="ct_to_mr", domain="target")
    assert names(oracle) == ["m3"]
    assert "label" in oracle[0]


def test_fraction_is_of_each_domain_and_nested(tmp_path: Path) -> None:
    cases = [case(f"{modality[0]}{number}", modality) for modality in ("ct", "mr") for number in range(8)]
    path = write_list(tmp_path, {"training": cases})
    half = load_domain_cases(path, "training", direction="ct_to_mr", fraction=0.5)
    assert [each["domain"] for each in half] == ["source"] * 4 + ["target"] * 4
    quarter = load_domain_cases(path, "training", direction="ct_to_mr", fraction=0.25)
    assert set(names(quarter)) < set(names(half))


@pytest.mark.parametrize("direction", ["ct_to_flair", "ct", "us_to_us", "", "ct_to_mr_to_ct"])
def test_unknown_directions_are_refused(direction: str) -> None:
    with pytest.raises(ValueError, match="direction must be one of mr_to_ct"):
        modalities_of(direction)


def test_a_patient_in_both_domains_is_refused(tmp_path: Path) -> None:
    shared = {"subject": "p"}
    path = write_list(
        tmp_path,
        {
            "training": [{**case("c1", "ct"), **shared}, {**case("m1", "mr"), **shared}],
            "test": [case("m2", "mr")],
        },
    )
    for section in ("training", "test"):
        with pytest.raises(ValueError, match=r"one domain and one section, got c1 \(training, source\), m1"):
            load_domain_cases(path, section, direction="ct_to_mr")


def test_a_patient_in_two_sections_of_a_domain_is_refused(tmp_path: Path) -> None:
    path = write_list(
        tmp_path,
        {
            "training": [case("m1", "mr", subject="p"), case("c1", "ct")],
            "test": [case("m2", "mr", subject="p")],
        },
    )
    with pytest.raises(ValueError, match=r"m1 \(training, target\), m2 \(test, target\)"):
        load_domain_cases(path, "training", direction="ct_to_mr")


def test_a_test_patient_may_have_both_modalities(tmp_path: Path) -> None:
    path = write_list(
        tmp_path,
        {
            "training": [case("f1", "flair"), case("t1", "t2")],
            "test": [case("f2", "flair", subject="p"), case("t2", "t2", subject="p")],
        },
    )
    assert names(load_domain_cases(path, "test", direction="flair_to_t2")) == ["t2"]
    assert names(load_domain_cases(path, "test", direction="t2_to_flair")) == ["f2"]


@pytest.mark.parametrize(
    ("cases", "arguments", "message"),
    [
        ([case("a", "us")], {}, "a must have a modality among ct, mr, flair, t2, got 'us'"),
        ([case("a", "ct")], {}, r"must have a case of modality mr \(target\), got none"),
        ([case("a", "ct", domain="target"), case("b", "mr")], {}, "a must be of the source domain"),
        ([case("a", "ct"), case("b", "mr")], {"domain": "other"}, "domain must be 'source'"),
    ],
)
def test_bad_lists_are_refused(
    cases: list[dict[str, Any]], arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_list(tmp_path, {"training": cases})
    with pytest.raises(ValueError, match=message):
        load_domain_cases(path, "training", direction="ct_to_mr", **arguments)


def test_there_are_target_cases_only_where_there_is_something_to_adapt_to(both: Path, tmp_path: Path) -> None:
    assert names(load_target_cases(both, direction="ct_to_mr")) == ["m1", "m2"]
    assert all("label" not in each for each in load_target_cases(both, direction="ct_to_mr"))
    assert load_target_cases(both, direction="ct_to_mr", enabled=False) == []
    assert load_target_cases(both, direction="ct_to_ct") == []
    assert load_target_cases(tmp_path / "none.json", direction="ct_to_mr") == []  # a host gave the source


def test_an_oracle_is_read_only_when_it_is_asked(both: Path) -> None:
    assert load_oracle_cases(both, direction="ct_to_mr", interval=0) == []
    assert names(load_oracle_cases(both, direction="ct_to_mr", interval=2)) == ["m4"]


def test_validation_cases_may_be_missing_where_they_choose_nothing(both: Path, tmp_path: Path) -> None:
    for selection in ("last", "source_validation"):
        found = load_validation_cases(both, direction="mr_to_ct", selection=selection)
        assert found == load_domain_cases(both, "validation", direction="mr_to_ct")
    (tmp_path / "few").mkdir()
    none = {"training": [case("m1", "mr"), case("c1", "ct")], "validation": [case("c2", "ct")], "test": []}
    few = write_list(tmp_path / "few", none)
    assert load_validation_cases(few, direction="mr_to_ct", selection="last") == []
    assert names(load_validation_cases(few, direction="ct_to_mr", selection="last")) == ["c2"]
    with pytest.raises(ValueError, match=r"validation must have a case of modality mr \(source\), got none"):
        load_validation_cases(few, direction="mr_to_ct", selection="source_validation")


@pytest.mark.parametrize(
    "labels", [{"0": "background", "1": "spleen"}, {"0": "background", "1": "liver", "2": "spleen"}, {}]
)
def test_the_classes_must_be_those_of_the_list(labels: dict[str, str], both: Path) -> None:
    document = json.loads(both.read_text(encoding="utf-8"))
    both.write_text(json.dumps({**document, "labels": labels}), encoding="utf-8")
    with pytest.raises(ValueError, match="must have the classes background, liver, in this order, got"):
        load_domain_cases(both, "test", direction="ct_to_mr", labels={"0": "background", "1": "liver"})
    if labels:
        assert load_domain_cases(both, "test", direction="ct_to_mr", labels=labels)

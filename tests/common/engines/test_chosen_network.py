"""Which of student and teacher is validated and kept."""

from __future__ import annotations

import pytest
from torch import nn

from common.engines import MeanTeacher, chosen_network


def test_either_is_chosen_by_name() -> None:
    student = nn.Linear(2, 1)
    teacher = MeanTeacher(student)
    assert chosen_network("student", student=student, teacher=teacher) is student
    assert chosen_network("teacher", student=student, teacher=teacher) is teacher.network
    assert chosen_network("student", student=student, teacher=teacher, ssl="off") is student


@pytest.mark.parametrize(
    ("name", "ssl", "message"),
    [
        ("both", "ema", "chosen_weights must be one of student, teacher, got 'both'"),
        ("teacher", "off", "chosen_weights must be 'student' with ssl 'off', got 'teacher'"),
    ],
)
def test_what_is_not_trained_is_refused(name: str, ssl: str, message: str) -> None:
    student = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=message):
        chosen_network(name, student=student, teacher=MeanTeacher(student), ssl=ssl)

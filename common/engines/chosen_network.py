"""The network of a mean-teacher training that is validated and kept."""

from __future__ import annotations

from torch import nn

from .mean_teacher import MeanTeacher

CHOICES = ("student", "teacher")


def chosen_network(name: str, *, student: nn.Module, teacher: MeanTeacher, ssl: str = "ema") -> nn.Module:
    """Return the student, or the network that its teacher averages.

    Args:
        name: "student" or "teacher".
        student: what is trained.
        teacher: of it.
        ssl: "off" where nothing updates the teacher.

    Raises:
        ValueError: if `name` is unknown, or is that of a teacher which nothing updates.
    """
    if name not in CHOICES:
        raise ValueError(f"chosen_weights must be one of {', '.join(CHOICES)}, got {name!r}")
    if name == "student":
        return student
    if ssl == "off":
        raise ValueError(
            "chosen_weights must be 'student' with ssl 'off', got 'teacher': it would never be trained"
        )
    return teacher.network

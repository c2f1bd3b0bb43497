"""The teacher: its average in closed form, its ramp, and that no gradient ever reaches it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from common.engines import MeanTeacher
from common.text.frozen import FrozenBackbone

IMAGE = torch.linspace(0, 1, 48, dtype=torch.float64).view(3, 1, 4, 4)
TEXT = torch.tensor([[[1, 2], [1, 1]]]).expand(3, -1, -1)


class Student(nn.Module):
    """A convolution, normalisation and dropout; the text shifts the logits."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.words = nn.Embedding(4, 4)
        self.head = nn.Conv2d(4, classes, 1)
        self.double()

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return self.head(self.layers(image) + self.words(text[:, 0]).mean(1)[:, :, None, None])


def moved(student: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Set every parameter and float buffer of the student to noise, and return its state."""
    with torch.no_grad():
        for tensor in student.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
            else:
                tensor.add_(3)
    return {name: tensor.clone() for name, tensor in student.state_dict().items()}


def test_the_average_is_the_closed_form_after_n_steps() -> None:
    generator = torch.Generator().manual_seed(1)
    student = Student()
    states = [moved(student, generator)]
    teacher = MeanTeacher(student, start=0.6, end=0.9, burn_in=2, ramp_epochs=3)
    epochs = [1, 1, 2, 3, 3, 4, 5, 9]
    for epoch in epochs:
        states.append(moved(student, generator))
        teacher.update(student, epoch=epoch)
    factors = [teacher.decay(epoch) for epoch in epochs]
    for name, tensor in teacher.network.state_dict().items():
        if not tensor.is_floating_point():
            assert torch.equal(tensor, states[-1][name])
            continue
        expected = torch.zeros_like(tensor)
        for index, state in enumerate(states):
            weight = 1.0 if index == 0 else 1 - factors[index - 1]
            for factor in factors[index:]:
                weight *= factor
            expected += weight * state[name]
        assert_close(tensor, expected, rtol=0, atol=1e-12)
    assert teacher.steps == len(epochs)


def test_the_constant_factor_of_the_burn_in_has_its_own_closed_form() -> None:
    student = Student()
    teacher = MeanTeacher(student)
    with torch.no_grad():
        teacher.network.head.weight.fill_(1.0)
        student.head.weight.fill_(3.0)
    for _ in range(50):
        teacher.update(student, epoch=5)
    # theta_T = a^n theta_0 + (1 - a^n) theta_S
    assert_close(
        teacher.network.head.weight,
        torch.full_like(student.head.weight, 3 - 2 * 0.99**50),
        rtol=0,
        atol=1e-12,
        check_stride=False,
    )


def test_the_ramp_begins_after_the_burn_in_and_ends_at_its_end() -> None:
    teacher = MeanTeacher(Student())
    assert [teacher.decay(epoch) for epoch in (1, 5)] == [0.99, 0.99]
    assert teacher.decay(6) == pytest.approx(0.99 + 0.009 / 20)
    assert teacher.decay(15) == pytest.approx(0.9945)
    assert [teacher.decay(epoch) for epoch in (25, 26, 500)] == pytest.approx([0.999] * 3)
    steps = [teacher.decay(epoch + 1) - teacher.decay(epoch) for epoch in range(5, 25)]
    assert steps == pytest.approx([0.009 / 20] * 20)
    at_once = MeanTeacher(Student(), burn_in=0, ramp_epochs=0)
    assert at_once.decay(1) == 0.999


def test_no_gradient_reaches_the_teacher_and_its_mask_is_a_target() -> None:
    student = Student()
    teacher = MeanTeacher(student)
    seen: list[bool] = []
    teacher.network.register_forward_hook(lambda *_: seen.append(torch.is_inference_mode_enabled()))
    probability = teacher(IMAGE, TEXT)
    assert seen == [True]
    assert not probability.requires_grad
    assert not probability.is_inference()
    assert probability.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    F.binary_cross_entropy_with_logits(student(IMAGE, TEXT), probability.double()).backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.network.parameters())
    teacher.update(student, epoch=1)
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())


def test_the_teacher_is_a_copy_in_evaluation_mode() -> None:
    student = Student().train()
    teacher = MeanTeacher(student)
    first = teacher(IMAGE, TEXT)
    assert torch.equal(first, teacher(IMAGE, TEXT))
    assert not any(module.training for module in teacher.network.modules())
    moved(student, torch.Generator().manual_seed(0))
    assert torch.equal(first, teacher(IMAGE, TEXT))
    assert student.training


def test_the_teacher_starts_from_the_student_until_its_first_update() -> None:
    student = Student()
    teacher = MeanTeacher(student)
    later = moved(student, torch.Generator().manual_seed(0))
    teacher.start_from(student)
    assert torch.equal(teacher.network.head.weight, later["head.weight"])
    teacher.update(student, epoch=1)
    moved(student, torch.Generator().manual_seed(1))
    teacher.start_from(student)
    assert_close(teacher.network.head.weight.detach(), later["head.weight"], rtol=0, atol=1e-12)


def test_the_state_goes_through_a_file_of_tensors(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    student = Student()
    teacher = MeanTeacher(student)
    for _ in range(3):
        moved(student, generator)
        teacher.update(student, epoch=1)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    other = MeanTeacher(Student())
    other.load_state_dict(torch.load(tmp_path / "teacher.pt", weights_only=True))
    assert other.steps == 3
    for name, tensor in teacher.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name])
    wrong = MeanTeacher(Student(classes=2))
    with pytest.raises(ValueError, match=r"the saved teacher must hold the weights of Student"):
        wrong.load_state_dict(teacher.state_dict())


class FrozenWords(nn.Module):
    """Looks tokens up, in one layer."""

    hidden_size, vocab_size = 4, 8

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        return (self.table(ids),)


class FrozenStudent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = FrozenBackbone(FrozenWords())
        self.head = nn.Linear(4, 1)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        shift = self.head(self.words(text[:, 0], text[:, 1])[0].mean(1))
        return image + shift[:, :, None, None]


def test_a_frozen_text_encoder_and_its_sentences_are_shared_with_the_student() -> None:
    student = FrozenStudent()
    teacher = MeanTeacher(student)
    assert teacher.network.words is student.words
    # the teacher reads the sentence first; what it keeps must serve the student's backward pass
    probability = teacher(IMAGE.float(), TEXT)
    F.binary_cross_entropy_with_logits(student(IMAGE.float(), TEXT), probability).backward()
    assert student.head.weight.grad is not None
    assert len(student.words) == 1


def test_a_teacher_of_two_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be 1 for a teacher's mask, got 2"):
        MeanTeacher(Student(classes=2))(IMAGE, TEXT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 0.9, "end": 0.8}, "0 <= start <= end < 1, got 0.9 and 0.8"),
        ({"end": 1.0}, "0 <= start <= end < 1, got 0.99 and 1.0"),
        ({"burn_in": -1}, "burn_in and ramp_epochs must be 0 or more epochs, got -1 and 20"),
        ({"ramp_epochs": -2}, "got 5 and -2"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MeanTeacher(Student(), **arguments)


def test_another_student_is_refused() -> None:
    with pytest.raises(ValueError, match="the teacher's student must hold the weights of Student"):
        MeanTeacher(Student()).start_from(Student(classes=3))

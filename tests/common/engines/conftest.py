"""What tests of several trainers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor


def _assert_same(one: Any, other: Any, path: str = "state") -> None:
    """Refuse any difference between two nested states."""
    if isinstance(one, Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, Mapping):
        assert list(one) == list(other), path
        for key in one:
            _assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            _assert_same(left, right, f"{path}.{index}")
    else:
        assert one == other, path


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Refuse any difference between two nested states, such as those of a training and of the same one resumed."""
    return _assert_same

"""The number format in which losses are computed."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Drop a tensor's metadata, which a loss has no use for, and make it float32 unless it is float64."""
    tensor = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return tensor if tensor.dtype == torch.float64 else tensor.float()

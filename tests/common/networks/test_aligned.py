"""The projections that training alone has."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks import AlignedNetwork, build_backbone


@pytest.fixture
def backbone() -> nn.Module:
    torch.manual_seed(0)
    return build_backbone("mmi_unet", width=0.125, return_attention=True)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    text = torch.stack([torch.randint(5, 90, (2, 24)), torch.ones(2, 24, dtype=torch.long)], dim=1)
    return torch.randn(2, 3, 96, 64), text


def test_training_adds_the_embeddings(backbone: nn.Module) -> None:
    outputs = AlignedNetwork(backbone, channels=32).train()(*batch())
    assert outputs["image_embedding"].shape == (*outputs["image_tokens"].shape[:2], 32)
    assert outputs["text_embedding"].shape == (2, 24, 32)
    assert outputs["logits"].shape == (2, 1, 96, 64)


def test_in_evaluation_it_is_the_network_itself(backbone: nn.Module) -> None:
    image, text = batch()
    aligned = AlignedNetwork(backbone).eval()
    with torch.no_grad():
        torch.testing.assert_close(aligned(image, text), backbone.eval()(image, text), rtol=0, atol=0)


def test_the_network_keeps_its_own_state(backbone: nn.Module) -> None:
    names = set(backbone.state_dict())
    aligned = AlignedNetwork(backbone)
    assert set(backbone.state_dict()) == names
    extra = {name for name in aligned.state_dict() if not name.startswith("network.")}
    assert {name.split(".")[0] for name in extra} == {"image_projection", "text_projection"}


def test_at_full_width_it_adds_0_4_million_parameters() -> None:
    backbone = nn.Module()
    backbone.token_channels = 768
    extra = sum(parameter.numel() for parameter in AlignedNetwork(backbone).parameters())
    assert extra == 2 * (2 * 768 + 768 * 256 + 256)
    assert extra == pytest.approx(0.4e6, rel=0.01)


def test_without_comparison_there_is_no_projection(backbone: nn.Module) -> None:
    aligned = AlignedNetwork(backbone, enabled=False).train()
    assert sum(p.numel() for p in aligned.parameters()) == sum(p.numel() for p in backbone.parameters())
    assert "image_embedding" not in aligned(*batch())


def test_a_width_of_nothing_is_refused(backbone: nn.Module) -> None:
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        AlignedNetwork(backbone, channels=0)

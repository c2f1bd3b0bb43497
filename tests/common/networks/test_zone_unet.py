from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from common.networks import ZoneUNet
from common.networks.zone_unet import zone_multi_hot


def test_multi_hot_of_zone_ids() -> None:
    text = torch.tensor([[[1, 16, 3, 0], [1, 1, 1, 0]], [[5, 2, 2, 9], [1, 1, 0, 0]]])
    hot = zone_multi_hot(text)
    assert hot.shape == (2, 16)
    assert [(row.nonzero().flatten() + 1).tolist() for row in hot] == [[1, 3, 16], [2, 5]]


def test_ids_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(ValueError, match='zone ids 0 to 16, got 0 to 101: set text_encoder to "zones"'):
        zone_multi_hot(torch.tensor([[[101, 7, 0], [1, 1, 0]]]))


def test_order_and_repetition_of_zones_do_not_matter() -> None:
    network, image = ZoneUNet(width=0.25).eval(), torch.randn(1, 3, 32, 32)
    one = torch.tensor([[[2, 5, 0], [1, 1, 0]]])
    two = torch.tensor([[[5, 2, 2], [1, 1, 1]]])
    assert_close(network(image, one), network(image, two))


def test_zone_dropout_shows_the_empty_prompt_in_training_only() -> None:
    torch.manual_seed(0)
    network = ZoneUNet(width=0.25, zone_dropout=0.999)
    image, text = torch.randn(2, 3, 32, 32), torch.ones(2, 2, 3, dtype=torch.long)
    assert_close(network.train()(image, text)["logits"], network(image)["logits"])
    network.eval()
    assert not torch.allclose(network(image, text), network(image))


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_zone_dropout_is_a_probability(value: float) -> None:
    with pytest.raises(ValueError, match=rf"zone_dropout must be in \[0, 1\), got {value}"):
        ZoneUNet(zone_dropout=value)

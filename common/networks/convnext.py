"""ConvNeXt image encoder whose stages can be run one at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike

import torch
from torch import Tensor, nn
from transformers import AutoConfig, ConvNextConfig, ConvNextModel, PretrainedConfig

from ..layers import scale_channels

logger = logging.getLogger(__name__)

TINY_CHANNELS = (96, 192, 384, 768)
TINY_DEPTHS = (3, 3, 9, 3)


class ConvNextEncoder(nn.Module):
    """ConvNeXt-Tiny: a stem of stride 4 and four stages, at strides 4, 8, 16 and 32.

    Args:
        in_channels: channels of the image.
        pretrained: Hugging Face id in the local cache, or a folder with `config.json` and `model.safetensors`;
            it fixes channels and depths. None starts at random.
        width: factor on the channel counts 96, 192, 384, 768; 1 with `pretrained`.
        depths: blocks of each stage, without `pretrained`.
        drop_path: stochastic depth rate of the last block, in [0, 1).
        layer_scale: first value of the blocks' learnt residual scale, without `pretrained`.

    Attributes:
        channels: channels of the four stages.

    Raises:
        ValueError: if `pretrained` cannot be combined with the other arguments or is no ConvNeXt of four stages.
        FileNotFoundError: if the pretrained weights are not on this machine.

    Reference:
        Liu et al., "A ConvNet for the 2020s", 2022, table 9.

    Differences from the paper:
        No final norm and no classifier: the stages' features are what is used. A random start has a residual
        scale of 0.1 and not 1e-6, which a short training from scratch would not leave.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        pretrained: str | PathLike[str] | None = None,
        width: float = 1.0,
        depths: Sequence[int] = TINY_DEPTHS,
        drop_path: float = 0.0,
        layer_scale: float = 0.1,
    ) -> None:
        super().__init__()
        if len(depths) != 4:
            raise ValueError(f"depths must have 4 entries, got {list(depths)}")
        if pretrained is None:
            config = ConvNextConfig(
                num_channels=in_channels,
                hidden_sizes=[scale_channels(channels, width) for channels in TINY_CHANNELS],
                depths=list(depths),
                drop_path_rate=drop_path,
                layer_scale_init_value=layer_scale,
            )
            model = ConvNextModel(config)
            logger.info("ConvNeXt encoder starts at random: no pretrained weights named")
        else:
            model = _load(pretrained, in_channels, width, drop_path)
        self.channels: tuple[int, ...] = tuple(model.config.hidden_sizes)
        self.stem = model.embeddings
        self.stages = model.encoder.stages

    def load_pretrained(self, name: str | PathLike[str]) -> None:
        """Take over pretrained weights of the same shape.

        Args:
            name: as `pretrained`.

        Raises:
            ValueError: if it is not a ConvNeXt of this encoder's channels and depths.
            FileNotFoundError: if the weights are not on this machine.
        """
        model = _load(name, self.stem.num_channels, width=1.0, drop_path=0.0)
        depths = [len(stage.layers) for stage in self.stages]
        given = (list(model.config.hidden_sizes), list(model.config.depths))
        if given != (list(self.channels), depths):
            raise ValueError(
                f"pretrained must have the channels {list(self.channels)} and depths {depths} of the network, got "
                f"{given[0]} and {given[1]} in {str(name)!r}: set width to 1 or leave pretrained empty"
            )
        self.stem.load_state_dict(model.embeddings.state_dict())
        self.stages.load_state_dict(model.encoder.stages.state_dict())

    def stage(self, index: int, features: Tensor) -> Tensor:
        """Run one stage.

        Args:
            index: 0 to 3.
            features: the image for stage 0, else the stage before's features, `(B, channels[index - 1], H, W)`.

        Returns:
            `(B, channels[index], h, w)` at stride 4, 8, 16 or 32 of the image.
        """
        if index == 0:
            features = self.stem(features)
        return self.stages[index](features)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of all four stages, finest first."""
        features = [self.stage(0, image)]
        for index in range(1, 4):
            features.append(self.stage(index, features[-1]))
        return features


def _load(name: str | PathLike[str], in_channels: int, width: float, drop_path: float) -> ConvNextModel:
    if width != 1.0:
        raise ValueError(f"width must be 1 with pretrained weights, got {width}: drop width or pretrained")
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
        _check_config(config, str(name), in_channels)
        model, report = ConvNextModel.from_pretrained(
            name,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
            drop_path_rate=drop_path,
        )
    except OSError as error:
        raise FileNotFoundError(
            "pretrained must be a cached Hugging Face id or a folder with config.json and model.safetensors, "
            f"got {str(name)!r}: {error}"
        ) from error
    # the norm behind the pooling is not used here
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("layernorm."))
    if missing:
        raise ValueError(
            f"pretrained must hold all weights of a ConvNeXt, got {str(name)!r} without {missing[0]}"
        )
    return model


def _check_config(config: PretrainedConfig, name: str, in_channels: int) -> None:
    if config.model_type != "convnext" or len(config.hidden_sizes) != 4:
        raise ValueError(
            f"pretrained must be a ConvNeXt with 4 stages, got the model type {config.model_type!r} in {name!r}"
        )
    if config.num_channels != in_channels:
        raise ValueError(
            f"in_channels must be {config.num_channels} with the weights of {name!r}, got {in_channels}"
        )

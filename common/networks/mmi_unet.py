"""MMI-UNet: image and text interact at every stage of the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from torch import Tensor, nn

from ..layers import Bridger, BridgerOutput, SegmentationHead, UpBlock, masked_mean, scale_channels
from .checks import check_image
from .convnext import TINY_DEPTHS, ConvNextEncoder
from .prompt import PromptEncoder
from .referring_pair import Encoding


class MMIUNet(nn.Module):
    """ConvNeXt-Tiny whose stages exchange features with the text through Bridgers, and a U-Net decoder.

    After stage s, `image_s, text_s = Bridger_s(x_s, prompt + text_(s-1))`; stage s + 1 starts from
    `image_s + x_s`; the decoder joins `image_4 … image_1`.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the image.
        width: factor on all channel counts; 1 is the paper.
        text_encoder: name or arguments of `TextEncoder`.
        max_tokens: tokens of the prompt that stands in for a missing text.
        mask_padding: whether padded tokens are kept out of attention; False is the paper's code.
        dropout: in the Interactors and decoder, in [0, 1); None is the paper's 0.1 in the Interactors alone.
        pretrained: ConvNeXt weights, see `ConvNextEncoder`.
        depths: blocks of each ConvNeXt stage.
        layer_scale: first residual scale of a ConvNeXt that starts at random.
        return_attention: whether training outputs hold `text_attention`.

    Attributes:
        token_channels: channels C of `image_tokens` and `text_tokens`, and of the deepest features.
        sentence_channels: width D of the projected sentence.

    Reference:
        Bui et al., "MMI-UNet", QaTa-COV19 and MosMedData+ segmentation with text.

    Differences from the paper:
        The paper trains a sentence projection and the text output of the last Bridger, which nothing reads.
        Here their sum (the text output averaged over tokens) goes through the last Bridger's own text
        projection and is added to every pixel of the deepest features, with no further weight.
    """

    def __init__(
        self,
        num_classes: int = 1,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        text_encoder: str | Mapping[str, Any] | nn.Module = "embedded",
        max_tokens: int = 24,
        mask_padding: bool = True,
        dropout: float | None = None,
        pretrained: str | PathLike[str] | None = None,
        depths: Sequence[int] = TINY_DEPTHS,
        layer_scale: float = 0.1,
        return_attention: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.return_attention = return_attention
        self.encoder = ConvNextEncoder(
            in_channels, pretrained=pretrained, width=width, depths=depths, layer_scale=layer_scale
        )
        text_channels = scale_channels(768, width)
        self.prompt = PromptEncoder(
            text_encoder, channels=text_channels, max_tokens=max_tokens, mask_padding=mask_padding
        )
        channels = self.encoder.channels
        self.token_channels = channels[-1]
        self.sentence_channels = text_channels
        self.bridgers = nn.ModuleList(
            Bridger(
                count,
                text_channels,
                ffn_channels=scale_channels(128, width),
                dropout=0.1 if dropout is None else dropout,
            )
            for count in channels
        )
        self.decoder = nn.ModuleList(
            UpBlock(channels[s], channels[s - 1], dropout=dropout or 0.0) for s in (3, 2, 1)
        )
        self.head = SegmentationHead(channels[0], scale_channels(24, width), num_classes)

    def load_pretrained(self, name: str | PathLike[str]) -> None:
        """Start the image encoder from pretrained weights; see `ConvNextEncoder.load_pretrained`."""
        self.encoder.load_pretrained(name)

    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Segment what the text names.

        Args:
            image: `(B, in_channels, H, W)`, H and W multiples of 32.
            text: `(B, 2, L)` token ids and attention mask; None is the empty prompt.

        Returns:
            In evaluation, logits `(B, num_classes, H, W)`. In training, a dict with `logits`; `image_tokens`
            `(B, N, C)` and `text_tokens` `(B, L, C)` of the last Bridger; `text_mask` `(B, L)`; with
            `return_attention` also `text_attention` `(B, heads, L, H / 8, W / 8)` of the first Bridger.
        """
        wanted = self.return_attention and self.training
        bridged, sentence, mask = self._interact(image, text, return_attention=wanted)
        logits = self.decode(self._encoding(bridged, sentence, mask))
        if not self.training:
            return logits
        outputs = {
            "logits": logits,
            "image_tokens": bridged[-1].image_tokens,
            "text_tokens": bridged[-1].text_tokens,
            "text_mask": mask,
        }
        if bridged[0].text_attention is not None:
            outputs["text_attention"] = bridged[0].text_attention
        return outputs

    def encode(self, image: Tensor, text: Tensor | None = None) -> Encoding:
        """Run all but the decoder: the stages and their Bridgers.

        Args:
            image: as in `forward`.
            text: as in `forward`.

        Returns:
            The Bridgers' image features, with the sentence in every one of them; the context that the decoder adds
            to the deepest; and the projected sentence.
        """
        return self._encoding(*self._interact(image, text))

    def decode(self, encoding: Encoding) -> Tensor:
        """Run the decoder: `decode(encode(image, text))` are the logits of `forward`.

        Args:
            encoding: of `encode`, or cases of it.

        Returns:
            Logits `(B, num_classes, H, W)`.
        """
        *skips, features = encoding.features
        features = features + encoding.guide[:, :, None, None]
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            features = block(features, skip)
        return self.head(features)

    def text_attention(self, image: Tensor, text: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Show where in the image the text looks: `text_attention` of `forward`, in either mode.

        Only the first stage and its Bridger are computed. In training mode the result equals that of `forward`
        but for dropout, the text encoder's included.

        Args:
            image: as in `forward`.
            text: as in `forward`.

        Returns:
            `(B, heads, L, H / 8, W / 8)` weights that sum to 1 over the pixels, and the mask `(B, L)`, True
            where a token is real.
        """
        check_image(image, self.in_channels)
        prompt, _, mask = self.prompt(text, image.shape[0])
        attention_mask = mask if self.prompt.mask_padding else None
        features = self.encoder.stage(0, image)
        output = self.bridgers[0](features, prompt, text_mask=attention_mask, return_attention=True)
        return output.text_attention, mask

    def _interact(
        self, image: Tensor, text: Tensor | None, *, return_attention: bool = False
    ) -> tuple[list[BridgerOutput], Tensor, Tensor]:
        check_image(image, self.in_channels)
        prompt, sentence, mask = self.prompt(text, image.shape[0])
        attention_mask = mask if self.prompt.mask_padding else None
        bridged: list[BridgerOutput] = []
        features, tokens = image, prompt
        for index, bridger in enumerate(self.bridgers):
            features = self.encoder.stage(index, features)
            wanted = return_attention and index == 0
            output = bridger(features, tokens, text_mask=attention_mask, return_attention=wanted)
            bridged.append(output)
            features, tokens = output.image + features, prompt + output.text
        return bridged, sentence, mask

    def _encoding(self, bridged: list[BridgerOutput], sentence: Tensor, mask: Tensor) -> Encoding:
        attention_mask = mask if self.prompt.mask_padding else None
        context = masked_mean(bridged[-1].text, attention_mask) + sentence
        features = tuple(output.image for output in bridged)
        return Encoding(features, self.bridgers[-1].text_in(context), sentence)

"""The text encoder of every network: token features, their mean, and which tokens are padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .embedded import EmbeddedBackbone
from .pretrained import build_backbone
from .tokenizer import build_tokenizer


class TextFeatures(NamedTuple):
    """What a text encoder says of B sentences of L tokens, D numbers a token.

    Attributes:
        tokens: Last hidden state, `(B, L, D)`.
        pooled: Mean over valid tokens of the hidden states {1, 2, last}, then over these layers, `(B, D)`.
        summary: Last hidden state of the sentence token, `(B, D)`: `[CLS]`, or end-of-text for CLIP.
        padding_mask: Boolean `(B, L)`, True where a token is valid; at least one in every row.
    """

    tokens: Tensor
    pooled: Tensor
    summary: Tensor
    padding_mask: Tensor


class TextEncoder(nn.Module):
    """Encode token ids with the embedded transformer or with a Hugging Face model.

    "embedded" is a small BERT over this package's vocabulary, trained with the network and kept in its
    state_dict. Any other name is a Hugging Face model (folder, or id in the local cache): BERT and its
    kin, CXR-BERT, or the text half of CLIP; without download and without remote code. It is frozen unless
    `trainable` says otherwise, and a frozen model is no part of `parameters()` or `state_dict()`, always
    in evaluation mode, and runs once per distinct sentence: its features are kept in main memory.

    A row without any valid token is read as one valid padding token, so that no attention downstream
    meets a row of padding alone.

    Args:
        name: "embedded", a folder, or a Hugging Face id.
        trainable: Whether the encoder learns; None: True for "embedded", False for a Hugging Face model.
        hidden_size: D of the embedded encoder, a multiple of `num_heads`.
        num_layers: Layers of the embedded encoder, at least 1.
        num_heads: Attention heads of the embedded encoder.
        dropout: Dropout of the embedded encoder, in [0, 1).
        max_tokens: L, the most tokens that a sentence may have here.
        mask_padding: Whether padding is left out of attention and mean; False: the mean is over all L
            tokens, as in published code.
        pretrained: Whether a Hugging Face model needs its weights; False: random weights from its config.
        half_precision: Whether a frozen model computes in float16 on a GPU and keeps float16 features.
        cache_size: The most distinct sentences whose frozen features are kept.

    Raises:
        ValueError: If the name is unknown or an argument out of range.

    Reference:
        The mean over hidden states {1, 2, last}: BiomedVLP CXR-BERT as used by GuideDecoder and MMI-UNet.

    Differences from the paper:
        The published mean includes padding tokens; ours only with `mask_padding=False`. A model with fewer
        than three layers has fewer distinct states to average.
    """

    def __init__(
        self,
        name: str = "embedded",
        *,
        trainable: bool | None = None,
        hidden_size: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.1,
        max_tokens: int = 24,
        mask_padding: bool = True,
        pretrained: bool = True,
        half_precision: bool = False,
        cache_size: int = 1024,
    ) -> None:
        super().__init__()
        self.name = name
        self.max_tokens = max_tokens
        self.trainable = name == "embedded" if trainable is None else trainable
        if name == "embedded":
            self.backbone = EmbeddedBackbone(
                hidden_size=hidden_size,
                num_layers=num_layers,
                num_heads=num_heads,
                dropout=dropout,
                max_tokens=max_tokens,
                mask_padding=mask_padding,
            )
            self.backbone.requires_grad_(self.trainable)
        else:
            self.backbone = build_backbone(
                name,
                trainable=self.trainable,
                max_tokens=max_tokens,
                mask_padding=mask_padding,
                pretrained=pretrained,
                half_precision=half_precision,
                cache_size=cache_size,
            )

    @property
    def hidden_size(self) -> int:
        """D, the width of every feature."""
        return self.backbone.hidden_size

    def train(self, mode: bool = True) -> TextEncoder:
        """Set the mode; an encoder that does not learn stays in evaluation mode."""
        return super().train(mode and self.trainable)

    def forward(self, text: Tensor) -> TextFeatures:
        """Encode a batch.

        Args:
            text: `(B, 2, L)` integers: token ids, then the attention mask; `L <= max_tokens`.

        Returns:
            The features, on the device of `text`.

        Raises:
            ValueError: If the shape is another or an id lies outside the vocabulary.
        """
        ids, mask = self._checked(text)
        return TextFeatures(*self.backbone(ids, mask), padding_mask=mask)

    def empty_prompt(self, batch_size: int, device: torch.device | str | None = None) -> Tensor:
        """The text tensor of `batch_size` cases without a sentence, `(batch_size, 2, max_tokens)`.

        Args:
            batch_size: B.
            device: Where the tensor lies.
        """
        prompt = build_tokenizer(self.name, max_tokens=self.max_tokens).encode("")
        return prompt.to(device).expand(batch_size, -1, -1)

    def _checked(self, text: Tensor) -> tuple[Tensor, Tensor]:
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
            self._check(text)
        ids, mask = text[:, 0].long(), text[:, 1] != 0
        first = torch.zeros_like(mask)
        first[:, 0] = True
        return ids, mask | (first & ~mask.any(dim=1, keepdim=True))

    def _check(self, text: Tensor) -> None:
        if text.ndim != 3 or text.shape[1] != 2 or text.shape[2] > self.max_tokens:
            raise ValueError(f"text must be (B, 2, L) with L <= {self.max_tokens}, got {tuple(text.shape)}")
        if text.device.type != "cpu" or not text.numel():  # reading a value back would stall a GPU
            return
        low, high, known = int(text[:, 0].min()), int(text[:, 0].max()), self.backbone.vocab_size
        if low < 0 or high >= known:
            raise ValueError(
                f"text ids must be in [0, {known}) for the encoder {self.name!r}, got {low} to {high}: "
                f"tokenise with build_tokenizer({self.name!r})"
            )


class SentenceProjection(nn.Module):
    """Project pooled sentence features: Linear, LayerNorm, GELU, Linear.

    Args:
        in_features: D of the text encoder.
        out_features: d of the network.

    Reference:
        The sentence head of GuideDecoder, MMI-UNet and EF-UNet (d = 768, 768, 784).
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, out_features),
            nn.LayerNorm(out_features),
            nn.GELU(),
            nn.Linear(out_features, out_features),
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """Project `(B, D)` to `(B, d)`."""
        return self.layers(pooled)

"""What stage I of C2Seg trains: the visual encoder and a projection, against a text encoder that stands still."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..text.encoder import TextEncoder, TextFeatures
from .checks import check_image, check_text

SENTENCES = ("summary", "mean")


class ContrastiveEncoder(nn.Module):
    r"""One vector per image and one per sentence: :math:`v = W_v \, \text{GAP}(V_4)` and l of the text encoder.

    The text encoder is a frozen copy of the network's: sentences that the loss could move would soon all be one,
    and the targets, which are made of them, with them. An encoder of Hugging Face is frozen anyway; the embedded
    one stands at its random start, from which stage II trains it on. Its state is part of `state_dict`, so that
    stage II starts from the words that the images were trained with (`C2Seg.load_pretrained`).

    Args:
        network: has ``encoder``, an image to its feature maps with ``channels``, the deepest last; ``text_encoder``,
            a `TextEncoder` or None; and ``in_channels``. The encoder is shared with it, not copied.
        sentence: "summary", the sentence token (end-of-text of CLIP), or "mean", the mean over the tokens, which says
            more where no pretraining has taught the sentence token anything.

    Raises:
        ValueError: if `sentence` is unknown.

    Reference:
        C2Seg, sections 3.1 and 3.2.
    """

    def __init__(self, network: nn.Module, *, sentence: str = "summary") -> None:
        super().__init__()
        if sentence not in SENTENCES:
            raise ValueError(f"sentence must be one of {', '.join(SENTENCES)}, got {sentence!r}")
        self.sentence = sentence
        self.in_channels: int = network.in_channels
        self.encoder = network.encoder
        width = self.encoder.channels[-1]
        given: TextEncoder | None = network.text_encoder
        self.text_encoder = None if given is None else copy.deepcopy(given).requires_grad_(False).eval()
        # projection to the width of the sentence vectors, on the device of the encoder
        device = next(self.encoder.parameters()).device
        self.projection = nn.Linear(width, width if given is None else given.hidden_size).to(device)

    def train(self, mode: bool = True) -> ContrastiveEncoder:
        """Set the mode of all but the text encoder, which stays in evaluation."""
        super().train(mode)
        if self.text_encoder is not None:
            self.text_encoder.eval()
        return self

    def forward(self, image: Tensor, text: Tensor) -> dict[str, Tensor]:
        """Compute the vectors of a batch, in training and in evaluation alike.

        Args:
            image: `(B, in_channels, H, W)`, H and W multiples of 32.
            text: `(B, 2, L)` token ids and attention mask.

        Returns:
            ``image_vector`` and ``sentence_vector``, `(B, D)` each, D the width of the text encoder.

        Raises:
            ValueError: if there is no text or the network has no text encoder.
        """
        if self.text_encoder is None:
            raise ValueError(
                "fusion must not be 'off' for a pretraining: the network has no text encoder that images could be "
                "compared with"
            )
        if text is None:
            raise ValueError(
                "text must be given for a pretraining, got None: it compares images with sentences"
            )
        check_image(image, self.in_channels)
        check_text(text, image.shape[0])
        with torch.no_grad():
            sentence = self._sentence(self.text_encoder(text))
        deepest = self.encoder(image)[-1]
        return {"image_vector": self.projection(deepest.mean(dim=(2, 3))), "sentence_vector": sentence}

    def _sentence(self, features: TextFeatures) -> Tensor:
        return features.summary if self.sentence == "summary" else features.pooled

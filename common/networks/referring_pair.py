"""What Semi-MedRef trains: a text-guided network and the vectors in which its images and sentences are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

View = Mapping[str, Any]


class Encoding(NamedTuple):
    """What an encoder made of B images and sentences: all that the decoder reads, and what contrast compares.

    Attributes:
        features: maps `(B, C, H, W)` of the four stages, finest first, at strides 4, 8, 16 and 32.
        guide: what the decoder reads of the sentence, a vector `(B, C)` or tokens `(B, L, D)`.
        sentence: `(B, D)`, the projected sentence, before it meets the image.
    """

    features: tuple[Tensor, ...]
    guide: Tensor
    sentence: Tensor

    def image_vector(self) -> Tensor:
        """Average the deepest features over the image, `(B, C)`."""
        return self.features[-1].mean(dim=(2, 3))

    def split(self, sizes: Sequence[int]) -> list[Encoding]:
        """Cut the batch into parts, without copying.

        Args:
            sizes: cases of each part, in order; their sum is B.
        """
        features = zip(*(torch.split(level, list(sizes)) for level in self.features), strict=True)
        guides, sentences = torch.split(self.guide, list(sizes)), torch.split(self.sentence, list(sizes))
        return [Encoding(*parts) for parts in zip(features, guides, sentences, strict=True)]


class ReferringPair(nn.Module):
    """A text-guided network that, in training, sees up to three batches at once and compares images with sentences.

    The image vector is the mean of the network's deepest features (of MMI-UNet those that the last Bridger made, so
    that they know the sentence) through Linear and LayerNorm; the text vector is the network's own projected
    sentence. All batches go through the encoder together, which has no batch statistics, so that every case is
    encoded as it would be alone; each of those that need logits then goes through the decoder by itself, whose
    batch norms so never mix labelled cases with unlabelled ones.

    In evaluation it is the network itself: the head takes no part, and the network's own state dict is what
    inference loads.

    Args:
        network: has ``encode`` and ``decode`` (`Encoding`), ``token_channels`` and ``sentence_channels``, as
            `MMIUNet` and `GuideDecoder` have.
        channels: width of the two vectors, >= 1; None is that of the network's sentences. Any other adds a linear
            layer to the text vector.
        enabled: False adds no head, for objectives that compare nothing: there are no vectors then.

    Raises:
        ValueError: if there is no channel.

    Reference:
        Semi-MedRef, section 2.4.

    Differences from the paper:
        Its code takes GuideDecoder's image vector from a normalised mean and leaves the LayerNorm behind the linear
        layer out; here both networks have the same head.
    """

    def __init__(self, network: nn.Module, *, channels: int | None = None, enabled: bool = True) -> None:
        super().__init__()
        width = int(network.sentence_channels)
        channels = width if channels is None else channels
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}.")
        self.network = network
        self.image_head: nn.Sequential | None = None
        self.text_head: nn.Module | None = None
        if enabled:
            deepest = nn.Linear(int(network.token_channels), channels)
            self.image_head = nn.Sequential(deepest, nn.LayerNorm(channels))
            self.text_head = nn.Identity() if channels == width else nn.Linear(width, channels)

    def forward(
        self, labelled: View | Tensor, strong: View | Tensor | None = None, weak: View | None = None
    ) -> Any:
        """Run the batches of one step, or, with an image and its text, the network itself.

        The three are mappings with ``image`` `(B, in_channels, H, W)`, plain tensors of one size, and ``text``
        `(B, 2, L)` of one L; B may differ, and other keys are not read.

        Args:
            labelled: gets logits and vectors. Or an image, `(B, in_channels, H, W)`.
            strong: the strong view of the unlabelled cases: gets logits. Beside an image, its text, `(B, 2, L)`, or
                None for the empty prompt.
            weak: their weak view with its sentences as they are: gets vectors, without the decoder. None where no
                loss asks for them.

        Returns:
            A dict of those that were given: ``labelled`` with ``logits`` `(B, num_classes, H, W)`, ``image_vector``
            and ``text_vector`` `(B, channels)`; ``strong`` with ``logits``; ``weak`` with the two vectors. With an
            image, what the network returns for it.

        Raises:
            ValueError: if a view is incomplete, sizes differ, or `weak` is given without a head.
        """
        if isinstance(labelled, Tensor):
            _check_text_alone(strong, weak)
            return self.network(labelled, strong)
        if weak is not None and self.image_head is None:
            raise ValueError("weak must be None without a head, got a view: set enabled, or contrast nothing")
        given = {"labelled": labelled, "strong": strong, "weak": weak}
        views = {name: view for name, view in given.items() if view is not None}
        images, texts = _column(views, "image"), _column(views, "text")
        encoding = self.network.encode(torch.cat(images), torch.cat(texts))
        parts = encoding.split([len(image) for image in images])
        outputs: dict[str, dict[str, Tensor]] = {}
        for name, part in zip(views, parts, strict=True):
            outputs[name] = {} if name == "weak" else {"logits": self.network.decode(part)}
            if name != "strong" and self.image_head is not None and self.text_head is not None:
                outputs[name]["image_vector"] = self.image_head(part.image_vector())
                outputs[name]["text_vector"] = self.text_head(part.sentence)
        return outputs


def _column(views: Mapping[str, View], key: str) -> list[Tensor]:
    """The tensors of all views under one key, of one size but for the number of cases."""
    for name, view in views.items():
        if not isinstance(view, Mapping) or not isinstance(view.get(key), Tensor):
            raise ValueError(
                f"{name} must be a mapping with the tensors 'image' and 'text', got no {key!r} in it"
            )
    tensors = [view[key] for view in views.values()]
    if len({tensor.shape[1:] for tensor in tensors}) > 1:
        sizes = ", ".join(
            f"{tuple(tensor.shape)} of {name}" for name, tensor in zip(views, tensors, strict=True)
        )
        raise ValueError(
            f"{key} must have one size in all views, got {sizes}: prepare labelled and unlabelled cases alike"
        )
    return tensors


def _check_text_alone(text: View | Tensor | None, weak: View | None) -> None:
    if weak is not None or isinstance(text, Mapping):
        raise ValueError(
            "labelled must be a mapping with 'image' and 'text' where other views are given, got a tensor"
        )

"""Volumes through a network of slices: stacked in order, with their modality, in little memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from torch import Tensor, nn

from common.volume_inferer import VolumeInferer

GIBIBYTE = 2**30


class Pixels(nn.Module):
    """Logits of three classes that are functions of a pixel, its modality and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []

    def forward(self, image: Tensor, text: Tensor | None = None, *, modality: Any = None) -> Tensor:
        self.calls.append({"size": tuple(image.shape), "modality": modality, "text": text})
        shift = torch.zeros(len(image), 1, 1, 1)
        if modality is not None:
            shift = torch.tensor([10.0 * (name == "mr") for name in modality])[:, None, None, None]
        return torch.cat([image[:, :1] + shift, 2 * image[:, 1:2], image[:, 2:] ** 2], dim=1)


@pytest.mark.parametrize("batch", [1, 3, 7, 20])
def test_a_volume_is_its_slices_one_by_one(batch: int) -> None:
    volumes = torch.rand(2, 1, 16, 24, 7)
    network = Pixels()
    stacked = VolumeInferer(slice_batch=batch)(volumes, network, modality=["ct", "mr"])
    assert stacked.shape == (2, 3, 16, 24, 7)
    for case, name in enumerate(("ct", "mr")):
        for number in range(7):
            alone = Pixels()(volumes[case : case + 1, ..., number].expand(-1, 3, -1, -1), modality=[name])
            assert torch.equal(stacked[case, ..., number], alone[0])
    assert all(call["size"][0] <= 2 * batch and call["size"][1] == 3 for call in network.calls)


def test_modality_comes_from_keyword_then_meta_then_the_network() -> None:
    images = [MetaTensor(torch.rand(1, 8, 8, 3), meta={"modality": name}) for name in ("mr", "ct")]
    batch = list_data_collate([{"image": image} for image in images])["image"]
    network = Pixels()
    infer = VolumeInferer(slice_batch=2)
    infer(batch, network)
    assert network.calls[0]["modality"] == ["mr", "mr", "ct", "ct"]
    infer(batch, network, modality="flair")
    assert network.calls[-1]["modality"] == ["flair", "flair"]
    seen: list[dict[str, Any]] = []

    def knows_no_modality(image: Tensor, text: Tensor | None = None, **kwargs: Any) -> Tensor:
        seen.append(kwargs)
        return image

    infer(torch.rand(1, 1, 8, 8, 3), knows_no_modality)
    assert seen == [{}, {}]


def test_slices_in_training_pass_through() -> None:
    class Training(nn.Module):
        def forward(
            self, image: Tensor, text: Tensor | None = None, *, modality: Any = None
        ) -> dict[str, Tensor]:
            return {"logits": image}

    assert VolumeInferer()(torch.rand(2, 1, 8, 8), Training())["logits"].shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"must be in evaluation and return logits .* got a dict"):
        VolumeInferer()(torch.rand(2, 1, 8, 8, 3), Training())


def test_text_is_repeated_for_every_slice() -> None:
    network = Pixels()
    text = torch.stack([torch.zeros(2, 5), torch.ones(2, 5)]).long()
    VolumeInferer(slice_batch=3)(torch.rand(2, 1, 8, 8, 3), network, text=text)
    assert network.calls[0]["text"][:, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_sliding_window_of_a_pixelwise_network_changes_nothing() -> None:
    volume = torch.rand(1, 1, 40, 56, 3)
    whole = VolumeInferer()(volume, Pixels(), modality="mr")
    network = Pixels()
    slid = VolumeInferer(window=32, slice_batch=2)(volume, network, modality="mr")
    assert torch.allclose(slid, whole, atol=1e-5)
    assert {call["size"][-2:] for call in network.calls} == {(32, 32)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slice_batch": 0}, "slice_batch and channels must be at least 1"),
        ({"window": 0}, "window must be at least 1"),
        ({"overlap": 1.0}, "overlap must be in"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VolumeInferer(**arguments)


def test_bad_inputs_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"image must be \(B, 1 or 3, H, W\[, slices\]\), got \(1, 2, 8, 8, 3\)"
    ):
        VolumeInferer()(torch.rand(1, 2, 8, 8, 3), Pixels())
    with pytest.raises(ValueError, match="modality must be one name, or 2, got 3"):
        VolumeInferer()(torch.rand(2, 1, 8, 8, 3), Pixels(), modality=["ct"] * 3)


LARGE = """
    import resource, sys
    from pathlib import Path
    import nibabel, numpy as np, torch
    from monai.data import list_data_collate, decollate_batch
    from common.transforms import volume_preprocessing, volume_postprocessing
    from common.volume_inferer import VolumeInferer

    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    labels = {"0": "background", "1": "a", "2": "b", "3": "c", "4": "d"}
    network = torch.nn.Conv2d(3, 5, 1).eval()
    model = lambda image, text=None, *, modality=None: network(image)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    case = volume_preprocessing(classes=5, image_size=256, modality="ct")({"id": "big", "image": folder / "big.nii"})
    batch = list_data_collate([case])
    del case
    with torch.inference_mode():
        batch["pred"] = VolumeInferer(slice_batch=8, progress=True)(batch["image"], model)
    done = volume_postprocessing(labels=labels, output_dir=folder)(decollate_batch(batch)[0])
    written = nibabel.load(done["pred_path"])
    print(written.shape, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_large_volume_needs_less_than_four_gibibytes(tmp_path: Path, repository: Path) -> None:
    import nibabel
    import numpy as np

    values = np.random.default_rng(0).integers(-1000, 1000, (512, 512, 1), dtype=np.int16)
    volume = np.broadcast_to(values, (512, 512, 300))
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-0.7, -0.7, 1.5, 1.0])), tmp_path / "big.nii")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LARGE), str(tmp_path)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shape, _, used = done.stdout.strip().rpartition(" ")
    assert shape == "(512, 512, 300)"
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(used) * unit < 4 * GIBIBYTE, f"{int(used) * unit / GIBIBYTE:.2f} GiB"
